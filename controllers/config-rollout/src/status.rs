//! What people are told of a rollout: conditions, targets, and what is waited for. Pure.

use jiff::Timestamp;
use kube::ResourceExt;
use mainstay_crds::{ConfigRollout, ConfigRolloutStatus, ConfigTargetStatus, SourceProblem};
use mainstay_runtime::{
    conditions::{Verdict, merge},
    reconcile::PassError,
};

use crate::{
    apply::ApplyError,
    names::{CONTINUE, RETRY},
    observe::ObserveError,
    plan::{
        Findings, Observed, Plan, Problem, SourceKey, State, TargetKey, TargetState, TargetView, Unproven,
        Wait,
    },
    record::{self, HELD, MISSING, PASSED},
    settings::goes_back,
};

/// The most problems of sources that a status lists.
const MOST_PROBLEMS: usize = 20;

/// Something that keeps a pass from its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// As a condition names it.
    pub reason: &'static str,
    /// What was wrong and what to do.
    pub message: String,
    /// Whether only a change helps.
    pub stalled: bool,
}

impl From<&ApplyError> for Failure {
    fn from(error: &ApplyError) -> Self {
        let request = error.request();
        Self { reason: request.reason(), message: error.to_string(), stalled: request.needs_change() }
    }
}

impl From<&ObserveError> for Failure {
    fn from(error: &ObserveError) -> Self {
        Self { reason: error.reason(), message: error.to_string(), stalled: true }
    }
}

/// All that a status is made from.
#[derive(Debug)]
pub struct Told<'a> {
    /// The rollout.
    pub rollout: &'a ConfigRollout,
    /// What is seen.
    pub observed: &'a Observed,
    /// What reading the sources has shown.
    pub findings: &'a Findings,
    /// What was decided.
    pub plan: &'a Plan,
    /// What failed last.
    pub failure: Option<&'a Failure>,
}

/// The status of a rollout.
pub fn told(told: &Told<'_>, now: Timestamp) -> ConfigRolloutStatus {
    let Told { rollout, observed, plan, .. } = told;
    let problems = problems(told);
    let mut status = ConfigRolloutStatus {
        observed_generation: rollout.metadata.generation.unwrap_or_default(),
        waiting_for: waiting_for(told),
        targets: targets(told),
        source_problems: problems.iter().take(MOST_PROBLEMS).cloned().collect(),
        ..ConfigRolloutStatus::default()
    };
    record::write(rollout, &plan.state, &mut status);
    let sources = sources_ready(observed, &problems);
    let (ready, reason, message) = readiness(told, &sources);
    let stalled = stalled(told);
    let none = |kind| Verdict { kind, status: false, reason: "None", message: String::new() };
    let is_stalled = stalled.is_some();
    let verdicts = vec![
        Verdict { kind: "Ready", status: ready, reason, message: message.clone() },
        Verdict { kind: "Reconciling", status: !ready && !is_stalled, reason, message },
        stalled.map_or(none("Stalled"), |(reason, message)| Verdict {
            kind: "Stalled",
            status: true,
            reason,
            message,
        }),
        sources,
        conflict(&plan.state).map_or(none("Conflict"), |message| Verdict {
            kind: "Conflict",
            status: true,
            reason: "FieldManagerConflict",
            message,
        }),
        rolled_back(told).map_or(none("RolledBack"), |(reason, message)| Verdict {
            kind: "RolledBack",
            status: true,
            reason,
            message,
        }),
    ];
    status.conditions = conditions(rollout, verdicts, now);
    status
}

/// The status of a rollout that cannot be planned: what is remembered stays.
pub fn unusable(rollout: &ConfigRollout, failure: &Failure, now: Timestamp) -> ConfigRolloutStatus {
    let verdict =
        |kind, status| Verdict { kind, status, reason: failure.reason, message: failure.message.clone() };
    let verdicts = vec![verdict("Ready", false), verdict("Stalled", true)];
    ConfigRolloutStatus {
        observed_generation: rollout.metadata.generation.unwrap_or_default(),
        conditions: conditions(rollout, verdicts, now),
        ..rollout.status.clone().unwrap_or_default()
    }
}

fn conditions(
    rollout: &ConfigRollout,
    verdicts: Vec<Verdict>,
    now: Timestamp,
) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let standing = rollout.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    merge(verdicts, standing, rollout.metadata.generation, now)
}

/// Whether two statuses differ in more than sentences, so that nobody should wait to see the new one.
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

fn problems(told: &Told<'_>) -> Vec<SourceProblem> {
    let Told { observed, findings, .. } = told;
    let problem = |source: &SourceKey, reason: &str, message: String| SourceProblem {
        kind: source.kind,
        name: source.name.to_string(),
        reason: reason.to_owned(),
        message,
    };
    let missing = observed
        .missing_sources
        .iter()
        .map(|source| problem(source, "SourceMissing", format!("there is no {source}: create it")));
    let found = observed.uses.keys().filter_map(|source| {
        Some(match observed.finding(findings, source)?.problem.as_ref()? {
            Problem::KeyMissing(keys) => {
                let message = format!("{source} has no key {}, which targets use: add it", keys.join(", "));
                problem(source, "KeyMissing", message)
            }
            Problem::Refused(said) => problem(source, "SourceTooLarge", format!("{source}: {said}")),
        })
    });
    missing.chain(found).collect()
}

fn sources_ready(observed: &Observed, problems: &[SourceProblem]) -> Verdict {
    let verdict = |status, reason, message| Verdict { kind: "SourcesReady", status, reason, message };
    match problems.first() {
        None => verdict(true, "AllPresent", format!("{} sources are there", observed.sources.len())),
        Some(first) => {
            let reason = match first.reason.as_str() {
                "KeyMissing" => "KeyMissing",
                "SourceTooLarge" => "SourceTooLarge",
                _ => "SourceMissing",
            };
            let more = problems.len() - 1;
            let more = if more > 0 { format!(", and {more} more problems") } else { String::new() };
            verdict(false, reason, format!("{}{more}; the rest goes on without it", first.message))
        }
    }
}

fn conflict(state: &State) -> Option<String> {
    let (target, (_, said)) =
        state.targets.iter().find_map(|(key, target)| Some((key, target.conflict.as_ref()?)))?;
    let said = if said.starts_with(&target.to_string()) { said.clone() } else { format!("{target}: {said}") };
    Some(said)
}

/// What is wrong with a revision that is not tried again.
fn failed_sentence(told: &Told<'_>) -> Option<(&'static str, String)> {
    let (number, failed) = told.plan.state.failed.as_ref()?;
    let sentence =
        format!("revision {number} has failed at {} ({}): {}", failed.target, failed.reason, failed.message);
    Some((failed.reason, sentence))
}

fn rolled_back(told: &Told<'_>) -> Option<(&'static str, String)> {
    let state = &told.plan.state;
    let going = state.rollout.as_ref().is_some_and(|rollout| rollout.back);
    if !going && told.plan.wait != Wait::Source || !goes_back(told.rollout) {
        return None;
    }
    let (reason, sentence) = failed_sentence(told)?;
    let to = words(state.stable.unwrap_or_default());
    Some((
        reason,
        format!("{sentence}; the targets {} {to}", if going { "go back to" } else { "are back at" }),
    ))
}

fn words(number: u64) -> String {
    if number == 0 { "the sources themselves".to_owned() } else { format!("revision {number}") }
}

/// A state that lasts until a person does something.
fn stalled(told: &Told<'_>) -> Option<(&'static str, String)> {
    if let Some(failure) = told.failure.filter(|failure| failure.stalled) {
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
    let number = told.plan.state.failed.as_ref().map_or(0, |(number, _)| *number);
    let retry = format!(
        "correct the source, or try it again with `kubectl annotate configrollout {name} --namespace {namespace} \
         --overwrite {RETRY}={number}`"
    );
    Some((reason, format!("{sentence}; {retry}")))
}

/// Status, reason and message of `Ready`.
fn readiness(told: &Told<'_>, sources: &Verdict) -> (bool, &'static str, String) {
    if let Some(failure) = told.failure {
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
        },
        (Wait::Unreadable(_), _) => "TargetUnreadable",
        (Wait::Conflict, _) => "FieldManagerConflict",
        (_, Some(rollout)) if rollout.back => "RollingBack",
        (_, Some(_)) => "RollingOut",
        (Wait::NoUse, None) => return (true, "NotUsed", "no target uses any of the sources".to_owned()),
        (Wait::Source, None) => "Failed",
        (Wait::Nothing | Wait::Targets, None) => {
            if let Some((target, _)) = told.observed.missing_targets.first() {
                return (false, "TargetMissing", format!("there is no {target}: create it, or take it out"));
            }
            if let Some((target, _)) = told.observed.unreadable_targets.first() {
                return (false, "TargetUnreadable", unreadable_words(target));
            }
            if !sources.status {
                return (false, sources.reason, sources.message.clone());
            }
            let (count, number) = (told.observed.targets.len(), words(state.stable.unwrap_or_default()));
            return (true, "Current", format!("{count} targets have {number}"));
        }
    };
    (false, reason, waiting)
}

/// What is waited for, as a sentence.
fn waiting_for(told: &Told<'_>) -> Option<String> {
    let Told { rollout, plan, .. } = told;
    let Plan { state, wait, .. } = plan;
    let at = |time: &Timestamp| time.strftime("%FT%TZ").to_string();
    let under_way = state.rollout.as_ref();
    let stage = under_way.map(|under_way| record::stage_name(rollout, under_way.stage)).unwrap_or_default();
    let to = words(under_way.map_or(0, |under_way| under_way.to));
    let joins = under_way.is_some_and(|under_way| state.is_ungated(under_way));
    Some(match wait {
        Wait::Nothing | Wait::NoUse => return None,
        Wait::Paused => "spec.paused to become false".to_owned(),
        Wait::Debounce(until) => format!("the sources to rest, until {}", at(until)),
        Wait::Examine => "the sources to be read".to_owned(),
        Wait::Interval(until) => format!("spec.minInterval to pass, at {}", at(until)),
        Wait::Stage(Some(until)) => format!("the pause after stage {stage} to end at {}", at(until)),
        Wait::Stage(None) => {
            let (name, namespace) = (rollout.name_any(), rollout.namespace().unwrap_or_default());
            let number = under_way.map_or(0, |under_way| under_way.to);
            format!(
                "somebody to let it go on after stage {stage}: `kubectl annotate configrollout {name} --namespace \
                 {namespace} --overwrite {CONTINUE}={number}/{stage}`"
            )
        }
        Wait::Slots if joins => format!("other rollouts, to bring {to} to more targets"),
        Wait::Slots => format!("other rollouts, to bring {to} to more targets of stage {stage}"),
        Wait::Unproven(unproven) => {
            let done = unproven_words(unproven, &stage);
            format!(
                "{done}; until then {to} goes to no stage after {stage}, because nothing has shown that it works"
            )
        }
        Wait::Unreadable(target) => {
            let done = unreadable_words(target);
            let is_last = |stage: usize| stage + 1 >= rollout.spec.stages.len();
            match under_way {
                Some(under_way) if under_way.back => {
                    format!("{done}; until then nobody knows whether it is back at {to}")
                }
                Some(under_way) if is_last(under_way.stage) => {
                    format!("{done}; until then nobody knows whether it works with {to}")
                }
                _ => format!("{done}; until then {to} goes to no stage after {stage}"),
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
                remembered.is_on_its_way().then(|| progress(target))
            });
            let shown = shown.map(|shown| format!(": {shown}")).unwrap_or_default();
            match under_way.is_some_and(|under_way| under_way.back) {
                true => format!("the targets to be back at {to}{shown}"),
                false if joins => format!("the targets to have {to}{shown}"),
                false => format!("the targets of stage {stage} to show that {to} works{shown}"),
            }
        }
    })
}

fn unreadable_words(target: &TargetKey) -> String {
    format!("{target} cannot be read: correct the field that its condition Ready names")
}

/// What a person can do about a stage that has shown nothing.
fn unproven_words(unproven: &Unproven, stage: &str) -> String {
    let skip = format!("or set allowEmpty of stage {stage} to true");
    match unproven {
        Unproven::Missing(target) => {
            format!("there is no {target}, which stage {stage} names: create it, or take it out of the stage")
        }
        Unproven::Empty => {
            format!("stage {stage} has no target that uses a source: correct its targets, {skip}")
        }
        Unproven::NoPods(target) => {
            format!("{target} of stage {stage} has 0 replicas: scale it up, {skip}")
        }
        Unproven::Held(target) => {
            format!("somebody has taken {target} of stage {stage} back: change a source, {skip}")
        }
    }
}

fn progress(target: &TargetView) -> String {
    let (key, progress) = (&target.key, &target.progress);
    format!(
        "{key} has {} of {} pods of the new template and {} available",
        progress.updated, progress.wanted, progress.available
    )
}

fn targets(told: &Told<'_>) -> Vec<ConfigTargetStatus> {
    let Told { rollout, observed, plan, .. } = told;
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
        return (HELD, Some("somebody has taken it back; it follows the next change of a source".to_owned()));
    }
    match (&state.rollout, remembered.changed) {
        (Some(_), _) if remembered.passed => (PASSED, None),
        (Some(_), Some(_)) if remembered.available.is_some() => ("Soaking", None),
        (_, Some(_)) => ("Updating", Some(progress(target))),
        (Some(rollout), None) if !observed.is_at(target, rollout.to) => ("Pending", None),
        _ => ("Current", None),
    }
}

#[cfg(test)]
mod tests;
