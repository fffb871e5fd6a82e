//! The messages of a status.

use jiff::Timestamp;
use kube::ResourceExt;

use super::input::StatusInput;
use crate::{
    names::CONTINUE,
    plan::{Observed, Plan, State, TargetKey, TargetView, Unproven, Wait},
    record,
    settings::{next_order, rolls_back},
    watched::Blocked,
};

/// What is waited for, as a sentence.
pub(super) fn waiting_for(told: &StatusInput<'_>) -> Option<String> {
    let StatusInput { rollout, plan, .. } = told;
    let Plan { state, wait, .. } = plan;
    let at = |time: &Timestamp| time.strftime("%FT%TZ").to_string();
    let under_way = state.rollout.as_ref();
    let stage = under_way.map(|under_way| record::stage_name(rollout, under_way.stage)).unwrap_or_default();
    let to = words(under_way.map_or(0, |under_way| under_way.to));
    let joins = under_way.is_some_and(|under_way| state.is_ungated(under_way));
    Some(match wait {
        Wait::Nothing | Wait::NoUse => return None,
        Wait::Paused => "spec.paused to become false".to_owned(),
        Wait::Debounce(until) => format!("the sources to stay unchanged until {}", at(until)),
        Wait::Examine => "the sources to be read".to_owned(),
        Wait::Interval(until) => format!("spec.minInterval to pass, at {}", at(until)),
        Wait::Stage(Some(until)) => format!("the pause after stage {stage} to end at {}", at(until)),
        Wait::Stage(None) => {
            let (name, namespace) = (rollout.name_any(), rollout.namespace().unwrap_or_default());
            let number = under_way.map_or(0, |under_way| under_way.to);
            let value = next_order(&format!("{number}/{stage}"), state.taken.goes_on.as_deref());
            format!(
                "manual approval of stage {stage}: run `kubectl annotate configrollout {name} --namespace \
                 {namespace} --overwrite {CONTINUE}={value}`"
            )
        }
        Wait::Slots if joins => format!("other rollouts, before more targets get {to}"),
        Wait::Slots => format!("other rollouts, before more targets of stage {stage} get {to}"),
        Wait::Unproven(Unproven::Blocked(target, blocked)) => {
            format!("{}; until then {to} is not judged", blocked_words(target, *blocked, &stage))
        }
        Wait::Unproven(unproven) => {
            let done = unproven_words(unproven, &stage);
            format!(
                "{done}; until then {to} is not rolled out to stages after {stage}, because no target has \
                 tested it"
            )
        }
        Wait::Unreadable(target) => {
            let done = unreadable_words(target);
            let is_last = |stage: usize| stage + 1 >= rollout.spec.stages.len();
            match under_way {
                Some(under_way) if under_way.back => {
                    format!("{done}; until then it is not known whether it is rolled back to {to}")
                }
                Some(under_way) if is_last(under_way.stage) => {
                    format!("{done}; until then it is not known whether it works with {to}")
                }
                _ => format!("{done}; until then {to} is not rolled out to stages after {stage}"),
            }
        }
        Wait::Conflict => conflict(state).unwrap_or_default(),
        Wait::Source => "a source to change".to_owned(),
        Wait::Targets => {
            let of_stage = |target: &&TargetView| {
                joins || under_way.is_some_and(|under_way| under_way.back || under_way.stage == target.stage)
            };
            let shown = told.observed.targets.iter().filter(of_stage).find_map(|target| {
                let remembered = state.targets.get(&target.key)?;
                remembered.is_on_its_way().then(|| progress(target, told.observed))
            });
            let shown = shown.map(|shown| format!(": {shown}")).unwrap_or_default();
            match under_way.is_some_and(|under_way| under_way.back) {
                true => format!("the targets to be rolled back to {to}{shown}"),
                false if joins => format!("the targets to be updated to {to}{shown}"),
                false => format!("stage {stage} to become healthy on {to}{shown}"),
            }
        }
    })
}

pub(super) fn unreadable_words(target: &TargetKey) -> String {
    format!("{target} cannot be read: correct the field that its condition Ready names")
}

/// What a person can do about a target that is at an older revision than the others.
pub(super) fn held_words(target: &TargetKey) -> String {
    format!(
        "{target} was rolled back by hand to an older revision, and is held there until a source changes: change \
         one, or name the current revision in its template"
    )
}

/// What a person can do about a stage that has shown nothing.
fn unproven_words(unproven: &Unproven, stage: &str) -> String {
    let skip = format!("or set allowEmpty of stage {stage} to true");
    match unproven {
        Unproven::Missing(target) => {
            format!("{target} of stage {stage} does not exist: create it, or remove it from the stage")
        }
        Unproven::Empty => {
            format!("stage {stage} has no target that uses a source: correct its targets, {skip}")
        }
        Unproven::NoPods(target) => {
            format!("{target} of stage {stage} has 0 replicas: scale it up, {skip}")
        }
        Unproven::Held(target) => {
            format!("{target} was rolled back by hand: change a source, {skip}")
        }
        Unproven::Blocked(target, blocked) => blocked_words(target, *blocked, stage),
    }
}

/// What a person can do about a target whose pods are not replaced by themselves.
fn blocked_words(target: &TargetKey, blocked: Blocked, stage: &str) -> String {
    let (why, todo) = match blocked {
        Blocked::Paused => ("is paused", "set its spec.paused to false"),
        Blocked::OnDelete => {
            ("has the update strategy OnDelete", "delete its pods, which are recreated with it")
        }
        Blocked::Partition => ("has a partition in its update strategy", "set the partition to 0"),
        Blocked::Step => ("pauses in a step of its own update", "continue it as its condition Ready says"),
    };
    format!("{target} of stage {stage} {why}, so not all of its pods have the revision: {todo}")
}

pub(super) fn progress(target: &TargetView, observed: &Observed) -> String {
    let (key, progress) = (&target.key, &target.progress);
    let waiting = observed.evidence.get(key).map_or(0, |evidence| evidence.unscheduled);
    let room = match waiting {
        _ if progress.over_quota => ", and a ResourceQuota allows no further one".to_owned(),
        0 => String::new(),
        waiting => format!(", and {waiting} wait for a node"),
    };
    format!(
        "{key}: {} of {} pods run the new template and {} are available{room}",
        progress.updated, progress.wanted, progress.available
    )
}

pub(super) fn conflict(state: &State) -> Option<String> {
    let (target, (_, said)) =
        state.targets.iter().find_map(|(key, target)| Some((key, target.conflict.as_ref()?)))?;
    let said = if said.starts_with(&target.to_string()) { said.clone() } else { format!("{target}: {said}") };
    Some(said)
}

/// What is wrong with a revision that is not tried again.
pub(super) fn failed_sentence(told: &StatusInput<'_>) -> Option<(&'static str, String)> {
    let (number, failed) = told.plan.state.failed.as_ref()?;
    let stuck = stuck_words(told).unwrap_or_default();
    Some((failed.reason, format!("{}{stuck}", failed.sentence(*number))))
}

/// What a person has to do about pods of the failed template that a StatefulSet's controller does not replace. Those of
/// a target that is rolled back alone: of any other they may be the ones that work.
fn stuck_words(told: &StatusInput<'_>) -> Option<String> {
    let StatusInput { rollout, observed, plan, .. } = told;
    let state = &plan.state;
    let goal = match &state.rollout {
        Some(under_way) => under_way.back.then_some(under_way.to)?,
        None => Some(state.stable.unwrap_or_default()).filter(|_| rolls_back(rollout))?,
    };
    let is_back = |target: &&TargetView| {
        let given = state.targets.get(&target.key).map(|remembered| remembered.given);
        given == Some(goal) && observed.is_at(target, goal)
    };
    let (target, selector) = observed
        .targets
        .iter()
        .filter(is_back)
        .find_map(|target| Some((&target.key, target.progress.is_stuck()?)))?;
    let namespace = rollout.namespace().unwrap_or_default();
    Some(format!(
        "; a StatefulSet replaces no pod while another is not ready: if {target} waits for one, delete the pods of the \
         failed template with `kubectl delete pods --namespace {namespace} --selector '{selector}'`"
    ))
}

pub(super) fn words(number: u64) -> String {
    if number == 0 { "the sources themselves".to_owned() } else { format!("revision {number}") }
}
