//! What people read is in plain words: `words.txt` lists those to avoid, and what to write instead.

use std::{
    fs,
    path::{Path, PathBuf},
};

use mainstay_tree::{Avoided, avoided, files, prose, root};

#[test]
fn what_people_read_is_in_plain_words() {
    let root = root();
    let list = list();
    let found: Vec<_> = files(&root)
        .into_iter()
        .filter_map(|file| file.strip_prefix(&root).ok().map(Path::to_owned))
        .filter(|file| is_read(file))
        .flat_map(|file| complaints(&root, &file, &list))
        .collect();
    assert!(found.is_empty(), "write it in plain words (tests/tree/words.txt):\n{}", found.join("\n"));
}

#[test]
fn a_planted_word_is_found_wherever_people_read_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = avoided("way back -> rollback\na pass -> a reconcile\n");
    for (name, text, expected) in [
        ("a.md", "The Way\nback is long.", 1),
        ("code.md", "The field `way back` and\n\n```\nway back\n```\n", 0),
        ("values.yaml", "# The way back\nkey: value", 1),
        ("alerts.tpl", "summary: {{ \"the way back\" | quote }}", 1),
        ("doc.rs", "/// The way\n/// back, in a reconcile.\npub fn f() {}", 1),
        ("head.rs", "//! The way back.", 1),
        ("field.rs", "struct S {\n    /// The way back.\n    field: i32,\n}", 1),
        ("literal.rs", "fn f() -> &'static str { \"the way \\\n    back\" }", 1),
        ("macro.rs", "fn f() { tracing::info!(a = 1, \"the way back\") }", 1),
        ("error.rs", "#[derive(Error)]\nenum E {\n    #[error(\"a pass\")]\n    A,\n}", 1),
        ("names.rs", "fn way_back() { let way = \"way_back\"; } // the way back", 0),
        ("tests.rs", "#[cfg(test)]\nmod tests { const A: &str = \"way back\"; }", 0),
        ("other.rs", "/// One item on the way.\nconst BACK: i32 = 1;\n/// Another.\nconst A: i32 = 1;", 0),
    ] {
        fs::write(folder.path().join(name), text).expect("a file");
        let found = complaints(folder.path(), Path::new(name), &list);
        assert_eq!(found.len(), expected, "{name}: {found:?}");
    }
}

/// Whether people read what the file says, and it is not generated from another one. Tests speak to their authors.
fn is_read(file: &Path) -> bool {
    let [is_rust, is_markdown] = ["rs", "md"].map(|end| file.extension().is_some_and(|found| found == end));
    let below = |folder: &str| file.starts_with(folder);
    let is_test = file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("tests.rs");
    is_markdown
        || below("examples")
        || below("charts") && !below("charts/mainstay-crds/templates")
        || is_rust && (below("controllers") || below("crds")) && !is_test
        || file == Path::new("tests/demo.sh")
}

fn complaints(root: &Path, file: &Path, list: &[Avoided]) -> Vec<String> {
    let read = prose(&root.join(file));
    let found = read
        .iter()
        .flat_map(|text| list.iter().filter_map(move |avoided| Some((avoided, avoided.found_in(text)?))));
    found.map(|(avoided, around)| format!("{}: {avoided}: … {around} …", file.display())).collect()
}

fn list() -> Vec<Avoided> {
    let file: PathBuf = root().join("tests/tree/words.txt");
    avoided(
        &fs::read_to_string(&file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display())),
    )
}
