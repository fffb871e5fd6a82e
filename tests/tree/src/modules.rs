//! Which module of which crate each file is.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A crate's sources.
#[derive(Debug)]
pub struct Crate {
    /// The folder of its `Cargo.toml`.
    pub folder: PathBuf,
    /// Each module's file, by the module's path in the crate: `[]` is the root, `["plan", "types"]` is `plan::types`.
    pub modules: BTreeMap<Vec<String>, PathBuf>,
}

/// The workspace's folder, as Cargo says now: checkouts share what is built, and this may have been compiled in another.
///
/// # Panics
/// When it is not run by Cargo.
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("Cargo runs this");
    Path::new(&package).join("../..").canonicalize().expect("the workspace is two folders up")
}

/// Every crate below `folder`, without what is built there.
///
/// # Panics
/// When a folder cannot be read.
pub fn crates(folder: &Path) -> Vec<Crate> {
    let manifests = files(folder).into_iter().filter(|file| file.ends_with("Cargo.toml"));
    let folders = manifests.filter_map(|file| file.parent().map(Path::to_owned));
    folders.flat_map(|folder| roots(&folder)).filter(|found| !found.modules.is_empty()).collect()
}

/// Every Rust file below `folder`, without what is built there.
///
/// # Panics
/// When a folder cannot be read.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|file| file.extension().is_some_and(|end| end == "rs")).collect()
}

/// The crates of a package: its library or program, and each folder of integration tests that has a `main.rs`.
fn roots(package: &Path) -> Vec<Crate> {
    let tests = fs::read_dir(package.join("tests")).into_iter().flatten().flatten().map(|entry| entry.path());
    let sources = [package.join("src")].into_iter().chain(tests);
    sources.map(|source| Crate { folder: package.to_owned(), modules: modules(&source) }).collect()
}

fn modules(source: &Path) -> BTreeMap<Vec<String>, PathBuf> {
    if !["lib.rs", "main.rs"].iter().any(|name| source.join(name).is_file()) {
        return BTreeMap::new();
    }
    let named = rust_files(source).into_iter().filter_map(|file| {
        let relative = file.strip_prefix(source).ok()?.with_extension("");
        let mut path: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        match path.last().map(String::as_str) {
            Some("mod") => drop(path.pop()),
            Some("lib" | "main") if path.len() == 1 => path.clear(),
            _ => {}
        }
        Some((path, file))
    });
    named.collect()
}

/// Every file below `folder`, without hidden ones and without what is built there.
///
/// # Panics
/// When a folder cannot be read.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot read {}: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            let is_built = name == "target" || name.to_string_lossy().starts_with('.');
            found.extend(if is_built { Vec::new() } else { files(&path) });
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
