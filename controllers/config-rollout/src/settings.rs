//! A rollout's spec, converted to the types of the plan.

use kube::ResourceExt;
use mainstay_crds::{
    ConfigMode, ConfigRollout, ConfigStage, IncompletePolicy, Pause, RollbackPolicy, seconds,
};

use crate::{
    names::{ABORT, CONTINUE, RETRY},
    plan::{Number, Order, PauseSettings, Settings, StageSettings},
};

/// Whether a failed revision is rolled back. Pods that read the sources themselves have nothing to go back to.
pub(crate) fn rolls_back(rollout: &ConfigRollout) -> bool {
    rollout.spec.rollback_policy == RollbackPolicy::Always && rollout.spec.mode != ConfigMode::RestartOnly
}

/// The settings of a rollout.
pub(crate) fn read(rollout: &ConfigRollout) -> Settings {
    let spec = &rollout.spec;
    Settings {
        stages: spec.stages.iter().map(stage).collect(),
        rolls_back: rolls_back(rollout),
        restarts_only: spec.mode == ConfigMode::RestartOnly,
        holds_incomplete: spec.incomplete_policy == IncompletePolicy::Hold,
        debounce: spec.debounce.into(),
        min_interval: spec.min_interval.into(),
        paused: spec.paused,
        history: usize::try_from(spec.history_limit).unwrap_or_default(),
        goes_on: order(rollout, CONTINUE, |revision, rest| {
            Some((revision, rest?.split('/').next().unwrap_or_default().into()))
        }),
        retry: order(rollout, RETRY, |revision, _| Some(revision)),
        abort: order(rollout, ABORT, |revision, _| Some(revision)),
    }
}

/// A request that begins with the number of a revision. What follows distinguishes it from requests before.
fn order<T>(
    rollout: &ConfigRollout,
    annotation: &str,
    of: impl FnOnce(Number, Option<&str>) -> Option<T>,
) -> Option<Order<T>> {
    let value = rollout.annotations().get(annotation)?.as_str();
    let (revision, rest) =
        value.split_once('/').map_or((value, None), |(revision, rest)| (revision, Some(rest)));
    Some(Order { value: value.into(), of: of(revision.parse().ok()?, rest)? })
}

/// The value of an annotation that requests `order` once more than `taken` has.
pub(crate) fn next_order(order: &str, taken: Option<&str>) -> String {
    match taken.and_then(|taken| taken.strip_prefix(order)) {
        Some("") => format!("{order}/2"),
        Some(rest) if rest.starts_with('/') => {
            let last: u32 = rest[1..].parse().unwrap_or(1);
            format!("{order}/{}", last.saturating_add(1))
        }
        _ => order.to_owned(),
    }
}

fn stage(stage: &ConfigStage) -> StageSettings {
    let ConfigStage { name, targets: _, max_parallel, soak_seconds, gate, pause, allow_empty } = stage;
    StageSettings {
        name: name.as_str().into(),
        max_parallel: max_parallel.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(1)),
        soak: seconds(*soak_seconds),
        deadline: seconds(gate.deadline_seconds),
        more_restarts: gate.more_restarts,
        probed: gate.probe.is_some(),
        allow_empty: *allow_empty,
        pause: pause.as_ref().map(|Pause { seconds: time }| {
            time.map_or(PauseSettings::Continue, |time| PauseSettings::For(seconds(time)))
        }),
    }
}
