//! The status of a rollout: conditions, targets, and what it waits for. Pure.

mod input;
mod words;

use jiff::Timestamp;
use kube::ResourceExt;
use mainstay_crds::{
    ConfigRollout, ConfigRolloutStatus, ConfigTargetStatus, IncompletePolicy, SourceProblem,
};
use mainstay_runtime::{
    conditions::{NewCondition, merge},
    outcome::Failure,
};

pub use self::input::StatusInput;
use self::words::{conflict, failed_sentence, held_words, progress, unreadable_words, waiting_for, words};
use crate::{
    names::RETRY,
    plan::{Observed, Plan, Problem, SourceKey, State, TargetState, TargetView, Unproven, Wait},
    record::{self, HELD, MISSING, PASSED, PENDING, SOAKING, UPDATING},
    settings::{next_order, rolls_back},
    watched::Blocked,
};

/// The most problems of sources that a status lists.
const MOST_PROBLEMS: usize = 20;

/// The status of a rollout.
pub fn told(told: &StatusInput<'_>, now: Timestamp) -> ConfigRolloutStatus {
    let StatusInput { rollout, observed, plan, .. } = told;
    let problems = problems(told);
    let mut status = ConfigRolloutStatus {
        observed_generation: rollout.metadata.generation.unwrap_or_default(),
        waiting_for: waiting_for(told),
        targets: targets(told),
        source_problems: problems.iter().take(MOST_PROBLEMS).cloned().collect(),
        ..ConfigRolloutStatus::default()
    };
    record::write(rollout, &plan.state, &mut status);
    let holds = rollout.spec.incomplete_policy == IncompletePolicy::Hold;
    let sources = sources_ready(observed, &problems, holds && observed.is_incomplete(told.findings));
    let (ready, reason, message) = readiness(told, &sources);
    let stalled = stalled(told);
    let none = |kind| NewCondition { kind, status: false, reason: "None", message: String::new() };
    let is_stalled = stalled.is_some();
    let mut verdicts = vec![
        NewCondition { kind: "Ready", status: ready, reason, message: message.clone() },
        NewCondition { kind: "Reconciling", status: !ready && !is_stalled, reason, message },
        stalled.map_or(none("Stalled"), |(reason, message)| NewCondition {
            kind: "Stalled",
            status: true,
            reason,
            message,
        }),
        sources,
        conflict(&plan.state).map_or(none("Conflict"), |message| NewCondition {
            kind: "Conflict",
            status: true,
            reason: "FieldManagerConflict",
            message,
        }),
        rolled_back(told).map_or(none("RolledBack"), |(reason, message)| NewCondition {
            kind: "RolledBack",
            status: true,
            reason,
            message,
        }),
    ];
    verdicts.extend(told.failures.conditions());
    status.conditions = conditions(rollout, verdicts, now);
    status
}

/// The status of a rollout that cannot be planned: what is remembered stays.
pub fn unusable(rollout: &ConfigRollout, failure: &Failure, now: Timestamp) -> ConfigRolloutStatus {
    let verdict = |kind, status| NewCondition {
        kind,
        status,
        reason: failure.reason,
        message: failure.message.clone(),
    };
    let verdicts = vec![verdict("Ready", false), verdict("Stalled", true)];
    ConfigRolloutStatus {
        observed_generation: rollout.metadata.generation.unwrap_or_default(),
        conditions: conditions(rollout, verdicts, now),
        ..rollout.status.clone().unwrap_or_default()
    }
}

fn conditions(
    rollout: &ConfigRollout,
    verdicts: Vec<NewCondition>,
    now: Timestamp,
) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let standing = rollout.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    merge(verdicts, standing, rollout.metadata.generation, now)
}

/// Whether two statuses differ in more than messages, so that the new one is written at once.
pub fn is_urgent(old: &ConfigRolloutStatus, new: &ConfigRolloutStatus) -> bool {
    let bare = |status: &ConfigRolloutStatus| {
        let mut status = status.clone();
        status.waiting_for = None;
        status.targets.iter_mut().for_each(|target| target.message = None);
        status.conditions.iter_mut().for_each(|condition| condition.message = String::new());
        status
    };
    bare(old) != bare(new)
}

fn problems(told: &StatusInput<'_>) -> Vec<SourceProblem> {
    let StatusInput { observed, findings, .. } = told;
    let problem = |source: &SourceKey, reason: &str, message: String| SourceProblem {
        kind: source.kind,
        name: source.name.to_string(),
        reason: reason.to_owned(),
        message,
    };
    // Pods start without a source of which all references are optional.
    let is_optional = |source: &&SourceKey| observed.uses.get(*source).is_some_and(|uses| !uses.required);
    let missing = observed
        .missing_sources
        .iter()
        .filter(|source| !is_optional(source))
        .map(|source| problem(source, "SourceMissing", format!("{source} does not exist: create it")));
    let deselected = observed.deselected_sources.iter().map(|source| {
        let message = format!(
            "{source} is not among spec.sources any more, and targets use its last copy: add it, or remove it from \
             their templates"
        );
        problem(source, "SourceMissing", message)
    });
    let found = observed.uses.keys().filter_map(|source| {
        Some(match observed.finding(findings, source)?.problem.as_ref()? {
            Problem::KeyMissing(keys) => {
                let message = format!("{source} has no key {}, which targets use: add it", keys.join(", "));
                problem(source, "KeyMissing", message)
            }
            Problem::Refused(said) => problem(source, "SourceTooLarge", format!("{source}: {said}")),
        })
    });
    missing.chain(deselected).chain(found).collect()
}

fn sources_ready(observed: &Observed, problems: &[SourceProblem], is_held: bool) -> NewCondition {
    let verdict = |status, reason, message| NewCondition { kind: "SourcesReady", status, reason, message };
    match problems.first() {
        None => verdict(true, "AllPresent", format!("{} sources exist", observed.sources.len())),
        Some(first) => {
            let reason = match first.reason.as_str() {
                "KeyMissing" => "KeyMissing",
                "SourceTooLarge" => "SourceTooLarge",
                _ => "SourceMissing",
            };
            let more = problems.len() - 1;
            let more = if more > 0 { format!(", and {more} more problems") } else { String::new() };
            let others = match is_held {
                true => "no revision is created of the other sources until then",
                false => "the other sources are rolled out without it",
            };
            verdict(false, reason, format!("{}{more}; {others}", first.message))
        }
    }
}

fn rolled_back(told: &StatusInput<'_>) -> Option<(&'static str, String)> {
    let state = &told.plan.state;
    let going = state.rollout.as_ref().is_some_and(|rollout| rollout.back);
    if !going && told.plan.wait != Wait::Source || !rolls_back(told.rollout) {
        return None;
    }
    let (reason, sentence) = failed_sentence(told)?;
    let to = words(state.stable.unwrap_or_default());
    Some((
        reason,
        format!(
            "{sentence}; the targets {} {to}",
            if going { "are being rolled back to" } else { "are rolled back to" }
        ),
    ))
}

/// A state that lasts until a person does something.
fn stalled(told: &StatusInput<'_>) -> Option<(&'static str, String)> {
    if let Some(failure) = told.failures.first().filter(|failure| failure.stalled) {
        return Some((failure.reason, failure.message.clone()));
    }
    if let Some(message) = conflict(&told.plan.state) {
        return Some(("FieldManagerConflict", message));
    }
    if told.plan.wait != Wait::Source || told.plan.state.rollout.is_some() {
        return None;
    }
    let (reason, sentence) = failed_sentence(told)?;
    let name = told.rollout.name_any();
    let namespace = told.rollout.namespace().unwrap_or_default();
    let state = &told.plan.state;
    let number = state.failed.as_ref().map_or(0, |(number, _)| *number);
    let value = next_order(&number.to_string(), state.taken.retry.as_deref());
    let retry = format!(
        "correct the source, or retry with `kubectl annotate configrollout {name} --namespace {namespace} \
         --overwrite {RETRY}={value}`"
    );
    Some((reason, format!("{sentence}; {retry}")))
}

/// Status, reason and message of `Ready`.
fn readiness(told: &StatusInput<'_>, sources: &NewCondition) -> (bool, &'static str, String) {
    if let Some(failure) = told.failures.first() {
        return (false, failure.reason, failure.message.clone());
    }
    if let Some((reason, message)) = stalled(told) {
        return (false, reason, message);
    }
    let Plan { state, wait, .. } = told.plan;
    let waiting = waiting_for(told).unwrap_or_default();
    let rollout = state.rollout.as_ref();
    let reason = match (wait, rollout) {
        (Wait::Paused, _) => "Paused",
        (Wait::Debounce(_), _) => "SourcesChanging",
        (Wait::Examine, _) => "MakingRevision",
        (Wait::Interval(_), _) => "MinInterval",
        (Wait::Stage(_), _) => "StagePaused",
        (Wait::Slots, _) => "WaitingForOthers",
        (Wait::Unproven(unproven), _) => match unproven {
            Unproven::Missing(_) => "TargetMissing",
            Unproven::Empty => "StageEmpty",
            Unproven::NoPods(_) => "ScaledToZero",
            Unproven::Held(_) => "TargetHeld",
            Unproven::Blocked(_, blocked) => match blocked {
                Blocked::Paused => "TargetPaused",
                Blocked::OnDelete => "TargetOnDelete",
                Blocked::Partition => "TargetPartition",
                Blocked::Step => "TargetStepPaused",
            },
        },
        (Wait::Unreadable(_), _) => "TargetUnreadable",
        (Wait::Conflict, _) => "FieldManagerConflict",
        (_, Some(rollout)) if rollout.back => "RollingBack",
        (_, Some(_)) => "RollingOut",
        (Wait::Source, None) => "Failed",
        (Wait::NoUse | Wait::Nothing | Wait::Targets, None) => {
            if let Some((target, _)) = told.observed.missing_targets.first() {
                return (
                    false,
                    "TargetMissing",
                    format!(
                        "{target} does not exist: create it, or remove it \
                                                         from its stage"
                    ),
                );
            }
            if let Some((target, _)) = told.observed.unreadable_targets.first() {
                return (false, "TargetUnreadable", unreadable_words(target));
            }
            if !sources.status {
                return (false, sources.reason, sources.message.clone());
            }
            if *wait == Wait::NoUse {
                return not_used(told);
            }
            if let Some((target, _)) = state.targets.iter().find(|(_, target)| target.held) {
                return (false, "TargetHeld", held_words(target));
            }
            let (count, number) = (told.observed.targets.len(), words(state.stable.unwrap_or_default()));
            return (true, "Current", format!("{count} targets have {number}"));
        }
    };
    (false, reason, waiting)
}

/// Where no target uses a source, a name or a selector is wrong, unless the spec says that all stages may be empty.
fn not_used(told: &StatusInput<'_>) -> (bool, &'static str, String) {
    let may_be_empty = told.rollout.spec.stages.iter().all(|stage| stage.allow_empty);
    let todo = "correct the sources or the targets, or set allowEmpty of all stages to true";
    (may_be_empty, "NotUsed", format!("no target uses any of the sources: {todo}"))
}

fn targets(told: &StatusInput<'_>) -> Vec<ConfigTargetStatus> {
    let StatusInput { rollout, observed, plan, .. } = told;
    let state = &plan.state;
    let present = observed.targets.iter().map(|target| {
        let remembered = state.targets.get(&target.key).cloned().unwrap_or_default();
        let (word, message) = word(observed, state, target, &remembered);
        let stage = record::stage_name(rollout, target.stage);
        record::target_status(&target.key, stage, &remembered, word, message)
    });
    let missing = observed.missing_targets.iter().map(|(key, stage)| {
        let stage = record::stage_name(rollout, *stage);
        record::target_status(key, stage, &TargetState::default(), MISSING, None)
    });
    let unreadable = observed.unreadable_targets.iter().map(|(key, stage)| {
        let remembered = state.targets.get(key).cloned().unwrap_or_default();
        let (word, message) = match &remembered {
            TargetState { conflict: Some((_, said)), .. } => ("Conflict", Some(said.clone())),
            TargetState { held: true, .. } => (HELD, None),
            TargetState { passed: true, .. } => (PASSED, None),
            _ => ("Unreadable", Some(unreadable_words(key))),
        };
        record::target_status(key, record::stage_name(rollout, *stage), &remembered, word, message)
    });
    present.chain(missing).chain(unreadable).collect()
}

fn word(
    observed: &Observed,
    state: &State,
    target: &TargetView,
    remembered: &TargetState,
) -> (&'static str, Option<String>) {
    if let Some((_, said)) = &remembered.conflict {
        return ("Conflict", Some(said.clone()));
    }
    if remembered.held {
        return (HELD, Some("it was rolled back by hand; it is held until a source changes".to_owned()));
    }
    match (&state.rollout, remembered.changed) {
        (Some(_), _) if remembered.passed => (PASSED, None),
        (Some(_), Some(_)) if remembered.available.is_some() => (SOAKING, None),
        (_, Some(_)) if remembered.seen => (UPDATING, Some(progress(target, observed))),
        (_, Some(_)) => (PENDING, Some(progress(target, observed))),
        (Some(rollout), None) if !observed.is_at(target, rollout.to) => (PENDING, None),
        _ if observed.is_at(target, state.stable.unwrap_or_default()) => ("Current", None),
        _ => (PENDING, None),
    }
}

#[cfg(test)]
mod tests;
