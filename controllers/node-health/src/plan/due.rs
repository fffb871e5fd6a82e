//! When to plan again.

use mainstay_runtime::clock::Moment;

/// The earliest moment at which a plan may change by time alone.
pub(super) struct Due {
    now: Moment,
    pub(super) next: Option<Moment>,
}

impl Due {
    pub(super) fn after(now: Moment) -> Self {
        Self { now, next: None }
    }

    pub(super) fn at(&mut self, moment: Option<Moment>) {
        let later = moment.filter(|moment| *moment > self.now);
        self.next = [self.next, later].into_iter().flatten().min();
    }
}
