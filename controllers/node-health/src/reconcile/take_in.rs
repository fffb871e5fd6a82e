//! What is made of what jobs have found.

use std::{sync::Arc, time::Duration};

use mainstay_runtime::{backoff::Growth, clock::Moment, reconcile::ReconcileError};

use super::{
    jobs::{Key, Task},
    outcome::{Found, Outcome, actions},
    state::{LeaderState, NodeHealth},
};
use crate::{
    apply::{ApplyError, node::Written, pods, remediation},
    metrics::{self, Action},
    plan::{PodsPlan, Remediation},
    record::Record,
};

/// What was written is looked at again after this: the store shows it by then.
const CATCH_UP: Duration = Duration::from_millis(500);
/// How often those are asked again that have said that a silent node lives.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// How often those are that have not answered: several such questions fit into the time that a verdict settles.
const ASK_SOON: Duration = Duration::from_millis(500);
/// How often pods that are to leave are looked at, and remediations.
const VISIT: Duration = Duration::from_secs(2);
/// How often pods are looked at that a PodDisruptionBudget holds: less and less often, as long as none leaves.
const HELD: Growth = Growth { first: VISIT, cap: Duration::from_secs(15) };
/// How often remediations are looked for that are no longer needed.
const SWEEP: Duration = Duration::from_secs(30);
/// How often pods are looked at that have all begun to leave.
const REVISIT: Duration = Duration::from_secs(10);

pub(super) fn take_in(
    node_health: &NodeHealth,
    state: &mut LeaderState,
    key: Key,
    found: Found,
    now: Moment,
) {
    let name = Arc::clone(&key.1);
    let uid = if Task::OF_NODE.contains(&key.0) {
        state.known.get(&name).map(|known| &*known.uid)
    } else {
        state.settings.get(&name).map(|read| read.uid.as_deref().unwrap_or_default())
    };
    let Some(outcome) = uid.and_then(|uid| found.of(uid)) else {
        return state.jobs.forget(&[key.0], &name);
    };
    match after(node_health, state, &name, outcome, now) {
        Ok(rest) => state.jobs.rest(key, now, rest),
        Err(at_least) => state.jobs.failed(key, now, at_least),
    }
}

/// How long a success is to rest, or how long the server has asked to wait after a failure.
fn after(
    node_health: &NodeHealth,
    state: &mut LeaderState,
    name: &Arc<str>,
    outcome: Outcome,
    now: Moment,
) -> Result<Duration, Option<Duration>> {
    match outcome {
        Outcome::Confirmed(Ok(answer)) => {
            let Some(known) = state.known.get_mut(name) else { return Ok(ASK_AGAIN) };
            known.answer = answer.after(&known.answer, now);
            Ok(if known.answer.may_be_lost() { ASK_SOON } else { ASK_AGAIN })
        }
        Outcome::Confirmed(Err(error)) => {
            tracing::debug!(node = %name, %error, "a live read failed");
            Err(error.retry_after())
        }
        Outcome::Written { before, wanted, result } => {
            written(node_health, state, name, (&before, &wanted), *result)
        }
        Outcome::Visited(plan, visit) => visited(node_health, state, name, (plan, visit)),
        Outcome::Remedied(Ok(visit)) => remedied(node_health, state, name, visit, now),
        Outcome::Remedied(Err(error)) => {
            node_health.metrics.acted(Action::Remediate, metrics::Outcome::Error, 1);
            Err(node_health.failed(name, &error))
        }
        Outcome::Reported(Ok(due)) => Ok(due.unwrap_or_default()),
        Outcome::Reported(Err(error)) => {
            tracing::warn!(policy = %name, %error, "could not write the status");
            Err(error.retry_after())
        }
        Outcome::Listed(listed, unusable) => {
            if let Some(read) = state.settings.get_mut(name) {
                read.listed(&listed, unusable);
            }
            state.standing.insert(Arc::clone(name), listed.standing);
            let refused = listed.refused.iter().map(|(_, error)| node_health.not_cleared(name, error));
            refused.reduce(Option::max).map_or(Ok(SWEEP), Err)
        }
        Outcome::Cleared(Ok(())) => Ok(Duration::ZERO),
        Outcome::Cleared(Err(error)) => Err(node_health.not_cleared(name, &error)),
    }
}

fn written(
    node_health: &NodeHealth,
    state: &mut LeaderState,
    name: &Arc<str>,
    (before, wanted): (&Record, &Record),
    result: Result<Option<Written>, ApplyError>,
) -> Result<Duration, Option<Duration>> {
    match result {
        Ok(None) => Ok(CATCH_UP),
        Ok(Some(written)) => {
            for action in actions(&written.before, &written.after) {
                node_health.metrics.acted(action, metrics::Outcome::Success, 1);
            }
            if let Some(known) = state.known.get_mut(name) {
                // One whose answer was lost may have been carried out before.
                node_health.tell_unanswered(name, known, &written.before);
                known.unanswered = None;
                known.wrote(&written.before, &written.after);
            }
            node_health.tell_written(name, &written);
            Ok(CATCH_UP)
        }
        Err(error) => {
            actions(before, wanted)
                .into_iter()
                .for_each(|action| node_health.metrics.acted(action, metrics::Outcome::Error, 1));
            if let (ApplyError::Node(source), Some(known)) = (&error, state.known.get_mut(name))
                && source.is_ambiguous()
            {
                known.unanswered.get_or_insert_with(|| before.clone());
            }
            Err(node_health.failed(name, &error))
        }
    }
}

fn visited(
    node_health: &NodeHealth,
    state: &mut LeaderState,
    name: &Arc<str>,
    (plan, visit): (PodsPlan, pods::Visit),
) -> Result<Duration, Option<Duration>> {
    let pods::Visit { marked, evicted, left, blocked, refuted, error } = visit;
    node_health.metrics.acted(Action::PodNotReady, metrics::Outcome::Success, marked);
    node_health.metrics.acted(Action::Evict, metrics::Outcome::Success, evicted);
    let (known, mut held_visits, mut is_outdated) = (state.known.get_mut(name), 0, false);
    let told = known.and_then(|known| {
        known.pods = left;
        known.refute(refuted);
        is_outdated = known.pods_plan != plan;
        held_visits = if blocked.is_some() && evicted == 0 { known.held_visits + 1 } else { 0 };
        known.held_visits = held_visits;
        std::mem::replace(&mut known.blocked, blocked.as_ref().map(|(pod, _)| pod.clone()))
    });
    if let Some((pod, words)) = &blocked {
        node_health.metrics.acted(Action::Evict, metrics::Outcome::Blocked, 1);
        if told.as_ref() != Some(pod) {
            node_health.with_node(name, |node| node_health.announcer.blocked(node, pod, words));
        }
    }
    match error {
        Some(error) => {
            let action = match error {
                ApplyError::NotReady { .. } => Action::PodNotReady,
                _ => Action::Evict,
            };
            node_health.metrics.acted(action, metrics::Outcome::Error, 1);
            Err(node_health.failed(name, &error))
        }
        // What is to be done with them is another thing by now.
        None if is_outdated => Ok(Duration::ZERO),
        None if left == 0 && !refuted => Ok(REVISIT),
        None => Ok(HELD.delay(held_visits)),
    }
}

fn remedied(
    node_health: &NodeHealth,
    state: &mut LeaderState,
    name: &Arc<str>,
    visit: remediation::Visit,
    now: Moment,
) -> Result<Duration, Option<Duration>> {
    let remediation::Visit { stands, succeeded, created, timed_out, out_of_reach, unreached, refuted } =
        visit;
    if let Some(remediation) = &created {
        node_health.metrics.acted(Action::Remediate, metrics::Outcome::Success, 1);
        node_health.with_node(name, |node| node_health.announcer.remediation_created(node, remediation));
    }
    for remediation in &timed_out {
        node_health.with_node(name, |node| node_health.announcer.remediation_timed_out(node, remediation));
    }
    let Some(known) = state.known.get_mut(name) else { return Ok(VISIT) };
    known.refute(refuted);
    (known.succeeded, known.unreached) = (succeeded, unreached);
    let before = known.remediation;
    known.remediation = Some(match (stands, before) {
        (None, _) => Remediation::None,
        (Some((template, succeeded)), Some(Remediation::Stands { template: same, since, .. }))
            if same == template =>
        {
            Remediation::Stands { template, since, succeeded }
        }
        (Some((template, succeeded)), _) => Remediation::Stands { template, since: now, succeeded },
    });
    match out_of_reach {
        Some(error) => {
            node_health.metrics.acted(Action::Remediate, metrics::Outcome::Error, 1);
            Err(node_health.failed(name, &error))
        }
        // The step that only waited for the first look need wait no longer.
        None if before.is_none() => Ok(Duration::ZERO),
        None => Ok(VISIT),
    }
}

impl NodeHealth {
    /// Tells that remediations of a policy could not be ended. Returns how long the server has asked to wait.
    fn not_cleared(&self, policy: &str, error: &ApplyError) -> Option<Duration> {
        self.metrics.failed(error);
        tracing::warn!(policy, %error, "could not end remediations that are no longer needed");
        error.request().retry_after()
    }

    /// Tells of a failure. Returns how long the server has asked to wait.
    fn failed(&self, name: &Arc<str>, error: &ApplyError) -> Option<Duration> {
        self.metrics.failed(error);
        self.with_node(name, |node| self.announcer.failed(node, error));
        error.request().retry_after()
    }
}
