//! What an actor does some time after it was first due.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// Since when each object has waited for each thing.
#[derive(Debug, Default)]
pub(super) struct Timers {
    since: BTreeMap<(String, &'static str), Instant>,
    next: Option<Instant>,
}

impl Timers {
    /// A new look at everything begins.
    pub(super) fn begin(&mut self) {
        self.next = None;
    }

    /// When the next thing is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether `delay` has passed since this was first asked about `who` and `what`.
    pub(super) fn passed(&mut self, who: &str, what: &'static str, delay: Duration) -> bool {
        let now = Instant::now();
        let due = *self.since.entry((who.to_owned(), what)).or_insert(now) + delay;
        if due > now {
            self.next = Some(self.next.map_or(due, |next| next.min(due)));
        }
        due <= now
    }

    /// Starts again from zero.
    pub(super) fn forget(&mut self, who: &str, what: &'static str) {
        self.since.remove(&(who.to_owned(), what));
    }
}
