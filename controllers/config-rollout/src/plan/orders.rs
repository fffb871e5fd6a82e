//! What a user requests by an annotation. Each request is carried out once: its value is remembered, so that an
//! annotation that stays requests nothing more, and another value is another request. A value that is older than what it
//! is about is not carried out: numbers come back when a revision is retried, and when a ConfigRollout is recreated.

use std::sync::Arc;

use super::{ABORTED, Failed, Number, Order, Planner, Rollout};

impl Planner<'_> {
    /// Forgets requests whose annotation is gone, and lets a failed revision be tried again.
    pub(super) fn take_orders(&mut self) {
        let (settings, state) = (self.input.settings, &mut self.plan.state);
        let taken = &mut state.taken;
        taken.retry.take_if(|_| settings.retry.is_none());
        taken.goes_on.take_if(|_| settings.goes_on.is_none());
        taken.abort.take_if(|_| settings.abort.is_none());
        let failed = state.failed.as_ref().map(|(number, _)| *number);
        if failed.is_some()
            && take(settings.retry.as_ref(), &mut taken.retry, |number| Some(*number) == failed)
        {
            state.failed = None;
        }
    }

    /// What was there when a rollout of `number` begins, or when it fails, was meant for an earlier one of that number.
    pub(super) fn ignore_older(&mut self, number: Number, has_failed: bool) {
        let (settings, taken) = (self.input.settings, &mut self.plan.state.taken);
        if has_failed {
            ignore(settings.retry.as_ref(), &mut taken.retry, |of| *of == number);
        } else {
            ignore(settings.goes_on.as_ref(), &mut taken.goes_on, |(of, _)| *of == number);
            ignore(settings.abort.as_ref(), &mut taken.abort, |of| *of == number);
        }
    }

    /// Whether the pause after a stage is ended by hand.
    pub(super) fn take_leave(&mut self, rollout: &Rollout, stage: &Arc<str>) -> bool {
        let is_meant = |(number, name): &(Number, Arc<str>)| *number == rollout.to && name == stage;
        take(self.input.settings.goes_on.as_ref(), &mut self.plan.state.taken.goes_on, is_meant)
    }

    /// The failure of a revision that a user aborts now.
    pub(super) fn take_abort(&mut self, rollout: &Rollout) -> Option<Failed> {
        let abort = self.input.settings.abort.as_ref();
        let is_aborted = take(abort, &mut self.plan.state.taken.abort, |number| *number == rollout.to);
        let message = "it was aborted by hand".to_owned();
        is_aborted.then(|| Failed { reason: ABORTED, target: String::new(), message })
    }
}

/// Takes an order without carrying it out.
fn ignore<T>(order: Option<&Order<T>>, taken: &mut Option<Arc<str>>, is_meant: impl Fn(&T) -> bool) {
    take(order, taken, is_meant);
}

/// Takes an order that is meant and was not taken before.
fn take<T>(order: Option<&Order<T>>, taken: &mut Option<Arc<str>>, is_meant: impl Fn(&T) -> bool) -> bool {
    let new = order.filter(|order| taken.as_ref() != Some(&order.value) && is_meant(&order.of));
    if let Some(order) = new {
        *taken = Some(Arc::clone(&order.value));
    }
    new.is_some()
}
