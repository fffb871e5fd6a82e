//! Why a bench failed, in sentences for the person who started it.

use std::time::Duration;

/// Result of this crate's operations.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a bench failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The cluster's servers could not be started or stopped.
    #[error(transparent)]
    Cluster(#[from] mainstay_cluster::Error),
    /// The API server refused.
    #[error("cannot {what}: {source}")]
    Api {
        /// The act that failed.
        what: String,
        /// The server's answer.
        source: Box<kube::Error>,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// The act that failed, with its path.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// What is needed is not there; the sentence says what to do.
    #[error("{0}")]
    Refused(String),
    /// A wait passed its deadline.
    #[error("waited {} s for {what}; seen: {seen}", .limit.as_secs())]
    Late {
        /// What did not come.
        what: String,
        /// The state at the deadline.
        seen: String,
        /// The deadline.
        limit: Duration,
    },
    /// The whole bench took too long.
    #[error("stopped after {} minutes, as --max-minutes says", .0.as_secs() / 60)]
    OutOfTime(Duration),
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// An [`Error::Io`].
    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}

/// Names the act that an API error belongs to.
pub(crate) trait Context<T> {
    /// Turns the error into [`Error::Api`]; `what` completes "cannot ...".
    fn when(self, what: &str) -> Result<T>;
}

impl<T> Context<T> for kube::Result<T> {
    fn when(self, what: &str) -> Result<T> {
        self.map_err(|source| Error::Api { what: what.into(), source: Box::new(source) })
    }
}
