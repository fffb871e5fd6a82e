//! Converts the state of a rollout from and to its status.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mainstay_crds::{
    ConfigFailure, ConfigRequests, ConfigRollout, ConfigRolloutProgress, ConfigRolloutStatus,
    ConfigTargetStatus,
};

use crate::plan::{ABORTED, Failed, Number, Rollout, State, Taken, TargetKey, TargetState};

/// The states that a target's status names.
pub(crate) const PASSED: &str = "Passed";
pub(crate) const HELD: &str = "Held";
pub(crate) const MISSING: &str = "Missing";
pub(crate) const SOAKING: &str = "Soaking";
/// Its template is seen with what it was given.
pub(crate) const UPDATING: &str = "Updating";
/// It waits for what it is to be given.
pub(crate) const PENDING: &str = "Pending";

/// The kinds of failure.
const REASONS: [&str; 4] = ["DeadlineExceeded", "MoreRestarts", "ProgressDeadlineExceeded", ABORTED];

/// Reads what a status remembers.
pub(crate) fn read(rollout: &ConfigRollout, status: &ConfigRolloutStatus) -> State {
    let failed =
        status.failed_revision.map(|revision| (unsigned(revision), failure(status.failure.as_ref())));
    State {
        newest: unsigned(status.revision),
        stable: status.current_revision.map(unsigned),
        failed,
        rollout: status.rollout.as_ref().map(|progress| under_way(rollout, progress)),
        last: status.last_rollout_at.as_ref().map(|time| time.0),
        targets: status.targets.iter().filter(|target| target.state != MISSING).map(target).collect(),
        taken: status.requests.as_ref().map(taken).unwrap_or_default(),
    }
}

fn taken(requests: &ConfigRequests) -> Taken {
    let value = |text: &Option<String>| text.as_deref().map(Into::into);
    let ConfigRequests { retry, go_on, abort } = requests;
    Taken { retry: value(retry), goes_on: value(go_on), abort: value(abort) }
}

fn requests(taken: &Taken) -> Option<ConfigRequests> {
    let value = |text: &Option<Arc<str>>| text.as_ref().map(ToString::to_string);
    let Taken { retry, goes_on, abort } = taken;
    (*taken != Taken::default()).then(|| ConfigRequests {
        retry: value(retry),
        go_on: value(goes_on),
        abort: value(abort),
    })
}

fn failure(failure: Option<&ConfigFailure>) -> Failed {
    let failure = failure.cloned().unwrap_or_default();
    let reason = REASONS.into_iter().find(|reason| *reason == failure.reason).unwrap_or(REASONS[0]);
    Failed { reason, target: failure.target, message: failure.message }
}

fn under_way(rollout: &ConfigRollout, progress: &ConfigRolloutProgress) -> Rollout {
    let stage = rollout.spec.stages.iter().position(|stage| stage.name == progress.stage);
    Rollout {
        to: unsigned(progress.revision),
        back: progress.back,
        started: progress.started_at.0,
        // A stage that is gone begins anew; targets that have the revision have nothing to do there.
        stage: stage.unwrap_or_default(),
        passed: progress.passed_at.as_ref().map(|time| time.0),
    }
}

fn target(status: &ConfigTargetStatus) -> (TargetKey, TargetState) {
    let key = TargetKey { kind: status.kind, name: status.name.as_str().into() };
    let message = || status.message.clone().unwrap_or_default();
    let state = TargetState {
        uid: status.uid.as_deref().unwrap_or_default().into(),
        given: unsigned(status.revision),
        // Where nothing is on its way, it has had what it was given, or was given nothing.
        seen: status.changed_at.is_none() || [UPDATING, SOAKING, PASSED].contains(&&*status.state),
        changed: status.changed_at.as_ref().map(|time| time.0),
        available: status.available_at.as_ref().map(|time| time.0),
        broken: status.broken_at.as_ref().map(|time| time.0),
        unavailable_before: status.unavailable_before,
        passed: status.state == PASSED,
        held: status.state == HELD,
        restarts_before: status.restarts_before.unwrap_or_default(),
        restarted: status.restarted_at.as_ref().map(|time| time.0),
        reverts: status.reverts,
        reverted: status.reverted_at.as_ref().map(|time| time.0),
        reverted_from: status.reverted_revision.map(unsigned).unwrap_or_default(),
        conflict: status.conflict_generation.map(|generation| (generation, message())),
        template: None,
    };
    (key, state)
}

/// Writes what is remembered into a status, but for the targets.
pub(crate) fn write(rollout: &ConfigRollout, state: &State, status: &mut ConfigRolloutStatus) {
    status.revision = signed(state.newest);
    status.current_revision = state.stable.map(signed);
    status.failed_revision = state.failed.as_ref().map(|(number, _)| signed(*number));
    status.failure = state.failed.as_ref().map(|(_, failed)| ConfigFailure {
        reason: failed.reason.to_owned(),
        target: failed.target.clone(),
        message: failed.message.clone(),
    });
    status.rollout = state.rollout.as_ref().map(|under_way| ConfigRolloutProgress {
        revision: signed(under_way.to),
        back: under_way.back,
        started_at: Time(under_way.started),
        stage: stage_name(rollout, under_way.stage),
        passed_at: under_way.passed.map(Time),
    });
    status.last_rollout_at = state.last.map(Time);
    status.requests = requests(&state.taken);
}

/// The name of a stage by its place.
pub(crate) fn stage_name(rollout: &ConfigRollout, place: usize) -> String {
    rollout.spec.stages.get(place).map(|stage| stage.name.clone()).unwrap_or_default()
}

/// What the status of a target remembers.
pub(crate) fn target_status(
    key: &TargetKey,
    stage: String,
    remembered: &TargetState,
    state: &'static str,
    message: Option<String>,
) -> ConfigTargetStatus {
    let TargetState {
        uid,
        given,
        seen: _,
        changed,
        available,
        broken,
        unavailable_before,
        passed: _,
        held: _,
        restarts_before,
        restarted,
        reverts,
        reverted,
        reverted_from,
        conflict,
        template: _,
    } = remembered;
    ConfigTargetStatus {
        kind: key.kind,
        name: key.name.to_string(),
        uid: (!uid.is_empty()).then(|| uid.to_string()),
        stage,
        revision: signed(*given),
        state: state.to_owned(),
        changed_at: changed.map(Time),
        available_at: available.map(Time),
        broken_at: broken.map(Time),
        unavailable_before: *unavailable_before,
        restarts_before: Some(*restarts_before).filter(|restarts| *restarts != 0),
        restarted_at: restarted.map(Time),
        reverts: *reverts,
        reverted_at: reverted.map(Time),
        reverted_revision: Some(signed(*reverted_from)).filter(|revision| *revision != 0),
        conflict_generation: conflict.as_ref().map(|(generation, _)| *generation),
        message,
    }
}

fn unsigned(number: i64) -> Number {
    number.try_into().unwrap_or_default()
}

fn signed(number: Number) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// The state that this process wrote last, or else that the store shows.
pub(crate) fn state(rollout: &ConfigRollout, last: Option<&ConfigRolloutStatus>) -> State {
    let status = last.or(rollout.status.as_ref());
    status.map(|status| read(rollout, status)).unwrap_or_default()
}
