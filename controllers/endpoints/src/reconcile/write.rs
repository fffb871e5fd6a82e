//! What a reconcile writes for a pool: slices and readiness gates.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use mainstay_runtime::{failure::RequestError, outcome::Outcomes};

use super::{CATCH_UP, Context, Endpoints, GATES, Stage};
use crate::{
    apply::{self, ApplyError},
    checker::{State, Target},
    choose::Use,
    health::Verdict,
    plan::{self, Plan},
    watched::{Pod, Service},
};

impl Endpoints {
    /// Writes the slices. Returns when to look again.
    pub(super) async fn write(
        &self,
        context: &Context,
        service: &Service,
        plan: &Plan,
    ) -> Result<Option<Duration>, ApplyError> {
        let is_deleted = context.stage == Stage::Deleted;
        let (found, unfound) =
            if is_deleted { (false, None) } else { self.writer.find_lost(&context.job()).await };
        if found {
            return Ok(Some(CATCH_UP));
        }
        let labels = apply::labels(service, &context.key.name);
        let uid = context.pool.metadata.uid.as_deref();
        let slices = plan::slices(plan, &context.observed.slices, context.settings.max_per_slice, |slice| {
            slice.labels == labels && slice.owner.as_ref().map(|(_, uid)| &**uid) == uid
        });
        let slices = if is_deleted { plan::without_new(&slices, &context.observed.slices) } else { slices };
        let changes = self.changes(context, plan);
        let mut due = None;
        if !slices.is_empty() {
            // As upstream, of the first slices: it is the Service that is new, or here the pool.
            let created = context.pool.metadata.creation_timestamp.as_ref().map(|time| time.0);
            let first = created.max(service.created).filter(|_| context.observed.slices.is_empty());
            let trigger = first.or_else(|| changes.iter().map(|(_, at)| *at).min());
            let applied = self.writer.write(&context.job(), service, slices, trigger, &plan.noted).await;
            if applied.written > 0 {
                tracing::debug!(slices = applied.written, "wrote slices");
            }
            if let Some(error) = applied.error {
                if matches!(error.request(), RequestError::NamespaceTerminating(_)) {
                    return Ok(None);
                }
                return Err(error);
            }
            due = applied.stale.then_some(CATCH_UP);
        }
        if due.is_none() {
            self.written(context, plan, &changes);
        }
        // A slice that cannot be found keeps those that can be written from nothing.
        unfound.map_or(Ok(due), Err)
    }

    /// The members that have changed since the slices were last written, and when.
    fn changes(&self, context: &Context, plan: &Plan) -> Vec<(usize, Timestamp)> {
        let memory = self.memory.lock();
        let Some(remembered) = memory.get(&context.key).filter(|remembered| remembered.is_known()) else {
            return Vec::new();
        };
        let decided = context.observed.members.iter().zip(&plan.choice.uses).enumerate();
        let changed =
            decided.filter(|(_, (_, used))| **used != Use::Unchecked).filter_map(|(index, (member, _))| {
                let changed = member.pod.as_ref()?.ready_changed?;
                remembered.is_new(&member.target, changed).then_some((index, changed))
            });
        changed.collect()
    }

    /// Notes that the slices say what was planned.
    fn written(&self, context: &Context, plan: &Plan, changes: &[(usize, Timestamp)]) {
        let now = Timestamp::now();
        for (index, at) in changes {
            if plan.choice.uses[*index] == Use::InUse {
                self.metrics.written_after(now.duration_since(*at).as_secs_f64());
            }
        }
        let mut memory = self.memory.lock();
        let remembered = memory.entry(context.key.clone()).or_default();
        remembered.note(&context.observed.members, &plan.choice.uses);
    }

    /// Opens the readiness gates of pods that have answered, or that are not checked.
    pub(super) async fn open_gates(
        &self,
        context: &Context,
        states: Option<&HashMap<Target, State>>,
        outcomes: &mut Outcomes,
    ) {
        let has_passed = |target: &Target| {
            states.is_none_or(|states| {
                states.get(target).is_some_and(|state| state.verdict == Verdict::Passing)
            })
        };
        let mut seen = HashSet::new();
        let closed = context.observed.members.iter().filter_map(|member| {
            let pod = member.pod.as_ref()?;
            (member.waits_for_gate() && has_passed(&member.target) && seen.insert(pod.header.uid.clone()))
                .then(|| Arc::clone(pod))
        });
        let is_held = |pod: &Arc<Pod>| context.turn.held_for(GATES, &pod.header.key.name).is_some();
        let (held, due): (Vec<_>, Vec<_>) = closed.partition(is_held);
        let (opened, failed) = self.writer.open_gates(&context.key, &due).await;
        self.metrics.gates_opened(opened);
        outcomes.well(GATES);
        held.iter().for_each(|pod| outcomes.waits((GATES, Some(Arc::clone(&pod.header.key.name)))));
        failed.iter().for_each(|error| self.failed(&context.pool, error, outcomes));
    }
}
