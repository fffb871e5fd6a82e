//! When a rollout has failed.

use std::{sync::Arc, time::Duration};

use super::{Change, Phase, Reason, Rollout, State};
use crate::plan::{Cause, RevisionCounts, Trouble};

impl Change<'_> {
    /// Whether the rollout in progress was aborted by hand. Without a current revision there is nothing to go back to.
    pub(super) fn is_aborted(&self, state: &State) -> bool {
        let changes = state.current.as_ref().is_some_and(|current| *current != self.target);
        let rollout = state.rollout.as_ref().filter(|rollout| rollout.revision == self.target);
        let Some(rollout) = rollout.filter(|_| changes && state.failed.is_none()) else { return false };
        self.settings.abort.as_ref().is_some_and(|command| {
            command.revision == self.target && rollout.ignored.abort.as_ref() != Some(&command.text)
        })
    }

    /// Whether the change has failed; if not, when the trouble that there is makes it fail.
    pub(super) fn failure(&self, state: &State, phase: &Phase) -> Result<Option<Duration>, (Reason, String)> {
        let Some(rollout) = &state.rollout else { return Ok(None) };
        let proven = state.current.as_ref() == Some(&self.target);
        let watched = matches!(phase, Phase::Rolling | Phase::StepPaused { .. } | Phase::PartitionReached);
        if proven || state.failed.is_some() || !watched {
            return Ok(None);
        }
        let (counts, settings, evidence) = (self.counts(), self.settings, &*self.evidence);
        if counts.restarts > settings.max_restarts {
            let message = format!("a container of a new pod restarted {} times", counts.restarts);
            return Err((Reason::CrashLoop, message));
        }
        let too_many = counts.unschedulable > self.excused(rollout);
        let unscheduled =
            too_many.then_some(Trouble { cause: Cause::Unschedulable, lasts: counts.unschedulable_for });
        let troubles = [counts.blocker, unscheduled].into_iter().flatten().filter_map(|trouble| {
            let (reason, what) = (Reason::of(trouble.cause)?, what(trouble.cause));
            Some((reason, what, settings.patience, trouble.lasts.min(evidence.seen)))
        });
        let stuck = matches!(phase, Phase::Rolling).then(|| {
            let what = "no further new pod became available";
            (Reason::ProgressDeadlineExceeded, what, settings.deadline, evidence.idle)
        });
        for (reason, what, limit, so_far) in troubles.clone().chain(stuck) {
            if so_far >= limit {
                let refusal = evidence.refusal(&self.target);
                let refusal = refusal.filter(|_| reason == Reason::ProgressDeadlineExceeded);
                let unprepared = counts.unprepared > 0 && reason == Reason::ProgressDeadlineExceeded;
                let why = match refusal {
                    Some(refusal) => format!("; {}", refusal.text),
                    None if unprepared => format!("; {}", counts.setup()),
                    None => String::new(),
                };
                return Err((reason, format!("{what} for {} s{why}", so_far.as_secs())));
            }
        }
        Ok(troubles.map(|(.., limit, so_far)| limit - so_far).min())
    }

    /// How many of the pods that the change starts from no node takes: as many of the new ones may lack room as well, which says
    /// nothing of these. Pods of other revisions that have not proved themselves may have to blame their own templates.
    pub(super) fn without_room(&self, base: Option<&Arc<str>>) -> usize {
        let old = |revision: &str| *revision != *self.target && base.is_none_or(|base| *revision == **base);
        let old = self.by_revision.iter().filter(|(revision, _)| old(revision));
        old.map(|(_, counts)| counts.unschedulable).sum()
    }

    /// How many pods of the target wait for what its template cannot be blamed for.
    pub(super) fn waiting(&self, state: &State) -> usize {
        let RevisionCounts { gated, unschedulable, .. } = self.counts();
        gated + state.rollout.as_ref().map_or(0, |rollout| unschedulable.min(self.excused(rollout)))
    }

    /// How many pods of the target may lack room. Once one of them has been available, a node takes the template: what the others
    /// lack then is room for more of them, after the group has grown or nodes were lost.
    fn excused(&self, rollout: &Rollout) -> usize {
        if self.available_once(rollout) > 0 { usize::MAX } else { rollout.unschedulable }
    }
}

fn what(cause: Cause) -> &'static str {
    match cause {
        Cause::Gated => "a scheduling gate held a new pod",
        Cause::Setup => "a new pod was not prepared",
        Cause::Unschedulable => "a new pod could not be scheduled",
        Cause::Image => "a new pod could not get an image",
        Cause::Config => "a new pod could not get its configuration",
    }
}
