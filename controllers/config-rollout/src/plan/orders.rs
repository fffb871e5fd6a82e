//! What a user requests by an annotation. Each request is carried out once: its value is remembered, so that an
//! annotation that stays requests nothing more, and another value is another request.

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

/// Takes an order that is meant and was not taken before.
fn take<T>(order: Option<&Order<T>>, taken: &mut Option<Arc<str>>, is_meant: impl Fn(&T) -> bool) -> bool {
    let new = order.filter(|order| taken.as_ref() != Some(&order.value) && is_meant(&order.of));
    if let Some(order) = new {
        *taken = Some(Arc::clone(&order.value));
    }
    new.is_some()
}
