//! How long a watch has been running.

use std::time::Duration;

use kube::runtime::watcher;
use tokio::time::Instant;

/// kube-runtime retries a failed watch after this time at the latest (`DefaultBackoff`: 30 s, and as much again as
/// jitter).
const RETRY: Duration = Duration::from_secs(60);

/// A clock that stops while a watch is broken.
///
/// A failed watch is assumed to run again from then on, since nothing reports when it does: on a quiet cluster it may
/// deliver nothing for hours. If it did not run, it fails once more, and the time that was counted for it is
/// subtracted.
#[derive(Debug)]
pub(super) struct WatchTime {
    /// What was counted up to `since`.
    before: Duration,
    since: Instant,
    /// A list is in progress: its contents are not shown before it is complete.
    lists: bool,
}

impl WatchTime {
    pub(super) fn start() -> Self {
        Self { before: Duration::ZERO, since: Instant::now(), lists: false }
    }

    pub(super) fn so_far(&self) -> Duration {
        self.before + if self.lists { Duration::ZERO } else { self.since.elapsed() }
    }

    pub(super) fn breaks(&mut self, error: &watcher::Error) {
        use watcher::Error::{
            InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed,
        };
        self.count(match error {
            WatchError(_) | WatchFailed(_) | NoResourceVersion => Duration::ZERO,
            InitialListFailed(_) | WatchStartFailed(_) => RETRY,
        });
    }

    /// A list is asked for because the watch cannot go on.
    pub(super) fn list_begins(&mut self) {
        self.count(RETRY);
        self.lists = true;
    }

    /// What was there when the list was asked for is shown, and what has happened since will be.
    pub(super) fn list_ends(&mut self) {
        self.lists = false;
    }

    /// Counts the time up to now, but for the last `lost` of it.
    fn count(&mut self, lost: Duration) {
        if !self.lists {
            self.before += self.since.elapsed().saturating_sub(lost);
        }
        self.since = Instant::now();
    }
}
