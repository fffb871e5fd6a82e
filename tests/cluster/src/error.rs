//! What can go wrong, in sentences for the person at the terminal: what, where, and what to do next.

use std::{io, path::PathBuf, process::Command};

/// Result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on the cluster failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Namespaces, mounts and cgroups need root.
    #[error("{0} needs root; run it with sudo")]
    NotRoot(&'static str),
    /// Programs or packages are missing; the sentence names all of them.
    #[error("{0}")]
    Missing(String),
    /// What was asked for cannot be done; the sentence says why.
    #[error("{0}")]
    Refused(String),
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// The act that failed, with its path.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("`{command}` failed: {output}")]
    Command {
        /// The command line.
        command: String,
        /// What it printed last.
        output: String,
    },
    /// A component died or did not become ready.
    #[error("{name} {what}; its log is {}, and ends:\n{tail}", .log.display())]
    Component {
        /// The component's name.
        name: String,
        /// What happened to it.
        what: String,
        /// Its log file.
        log: PathBuf,
        /// The log's last 20 lines.
        tail: String,
    },
    /// Another command works on this cluster or this cache.
    #[error("another command is at work here ({holder}); try again when it has finished")]
    Locked {
        /// Process id and command line of the holder.
        holder: String,
    },
    /// There is no running cluster.
    #[error("no cluster is up; start one with `{} up`", own_name())]
    NotUp,
    /// Nothing of this name runs.
    #[error("{0} does not run; `{own} status` lists what does", own = own_name())]
    NotRunning(String),
    /// Ctrl-C, SIGTERM or SIGHUP.
    #[error("interrupted")]
    Interrupted,
}

/// Names the act that an I/O error belongs to.
pub(crate) trait Context<T> {
    /// Turns the error into [`Error::Io`] with the sentence of `what`.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source: source.into() })
    }
}

/// Runs `command` to its end and returns what it printed; an unsuccessful end is an error with the last
/// lines of its stderr.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let result = command.output().context(|| format!("cannot run {}", command_line(command)))?;
    if result.status.success() {
        return Ok(String::from_utf8_lossy(&result.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&result.stderr);
    Err(Error::Command { command: command_line(command), output: last_lines(&text, 20) })
}

/// This command as the person typed it, for sentences that say what to run next.
pub(crate) fn own_name() -> String {
    std::env::args().next().unwrap_or_else(|| env!("CARGO_PKG_NAME").into())
}

/// The command as a person would type it.
pub(crate) fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The last `count` lines of `text`.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
