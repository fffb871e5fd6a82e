//! kubectl and Helm, run as a user runs them.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

/// What a command printed, and whether it succeeded.
#[derive(Debug)]
pub struct Finished {
    /// Whether its exit code was 0.
    pub ok: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// What it printed on standard output.
    ///
    /// # Panics
    /// When it failed, with its standard error.
    pub fn succeeded(self) -> String {
        assert!(self.ok, "the command failed: {}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// What it printed on standard error.
    ///
    /// # Panics
    /// When it did not fail.
    pub fn refused(self) -> String {
        assert!(!self.ok, "the command should have failed, but it printed: {}", self.stdout);
        self.stderr
    }
}

/// Runs `kubectl` with the words of `line`, which holds no quotes.
pub fn kubectl(line: &str) -> Finished {
    run("kubectl", &line.split_whitespace().collect::<Vec<_>>(), "")
}

/// Runs `helm` with `words`, and `input` on its standard input.
pub fn helm(words: &[&str], input: &str) -> Finished {
    run("helm", words, input)
}

/// Runs `program` at the root of the checkout, with `input` on its standard input.
///
/// # Panics
/// When it cannot be started.
pub fn run(program: &str, words: &[&str], input: &str) -> Finished {
    let mut child = Command::new(program)
        .args(words)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}; run these tests by `make e2e`"));
    let mut pipe = child.stdin.take().expect("standard input is piped");
    let input = input.to_owned();
    // In a thread of its own: a program may print more than a pipe holds before it has read everything. One that
    // ends without reading breaks the pipe, and its exit code says why.
    thread::spawn(move || pipe.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("{program}: {error}"));
    Finished {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The root of the checkout that the tests run in. Checkouts share what is built, so that the one in which this was compiled
/// may be another, or be gone.
///
/// # Panics
/// Outside of a checkout.
pub fn root() -> PathBuf {
    let folder = std::env::current_dir().expect("a current folder");
    let root = folder.ancestors().find(|folder| folder.join("Cargo.lock").exists());
    root.expect("the tests run inside a checkout").to_owned()
}
