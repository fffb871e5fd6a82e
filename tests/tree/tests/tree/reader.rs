//! How imports are read, on a crate made for it.

use std::{collections::BTreeSet, fs};

use mainstay_tree::{crates, imports};

fn module(path: &str) -> Vec<String> {
    path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[test]
fn paths_lead_to_the_innermost_module_with_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    write("Cargo.toml", "");
    write("src/lib.rs", "mod plan; mod apply; pub use plan::{self, Plan};");
    write("src/plan/mod.rs", "mod types; pub use types::Plan; fn f() -> crate::apply::Done { todo!() }");
    write("src/plan/types.rs", "use super::super::apply; #[cfg(test)] mod tests { use crate::plan::Plan; }");
    write("src/apply.rs", "use crate::plan::{types::{Plan as P}, *}; use serde::plan;");
    let found = crates(folder.path());
    assert_eq!(found.len(), 1);
    let imports = imports(&found[0]);
    let of = |path: &str| imports[&module(path)].clone();
    let to = |paths: &[&str]| -> BTreeSet<_> { paths.iter().map(|path| module(path)).collect() };
    assert_eq!(of(""), to(&["plan"]));
    assert_eq!(of("plan"), to(&["plan::types", "apply"]));
    assert_eq!(of("plan::types"), to(&["apply"]), "tests do not count");
    assert_eq!(of("apply"), to(&["plan", "plan::types"]));
}
