//! The rules of CONTRIBUTING.md that a program can check.

use std::{
    fs,
    path::{Path, PathBuf},
};

use mainstay_tree::{crates, cycles, imports, root, rust_files};

/// A longer file hides two rooms.
const MAX_LINES: usize = 400;

#[test]
fn no_files_import_each_other_in_a_circle() {
    let root = root();
    let mut found = Vec::new();
    for of in crates(&root) {
        for circle in cycles(&imports(&of)) {
            let files =
                circle.iter().map(|module| of.modules[module].strip_prefix(&root).expect("below the root"));
            found.push(files.map(|file| file.display().to_string()).collect::<Vec<_>>().join(" <-> "));
        }
    }
    assert!(
        found.is_empty(),
        "these files import each other in a circle; move what they share to a file that imports neither:\n{}",
        found.join("\n")
    );
}

#[test]
fn no_file_is_too_long() {
    let root = root();
    let lengths = rust_files(&root).into_iter().map(|file| (text(&file).lines().count(), file));
    let too_long: Vec<_> = lengths
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, file)| format!("{lines} {}", file.strip_prefix(&root).unwrap_or(&file).display()))
        .collect();
    assert!(too_long.is_empty(), "longer than {MAX_LINES} lines; split them:\n{}", too_long.join("\n"));
}

/// Whoever begins a watch otherwise has one that nobody supervises, and that may be deaf for five minutes.
#[test]
fn watches_are_begun_by_the_runtime_alone() {
    let root = root();
    let elsewhere = |file: &PathBuf| {
        file.starts_with(root.join("controllers")) && !file.starts_with(root.join("controllers/runtime"))
    };
    let begins = |file: &PathBuf| {
        ["watcher(", "watch_object(", "watch_metadata("].iter().any(|call| text(file).contains(call))
    };
    let found: Vec<_> = rust_files(&root).into_iter().filter(elsewhere).filter(begins).collect();
    assert!(found.is_empty(), "begin a watch by Manager::watch or watch::object: {found:?}");
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()))
}
