//! A rollout's spec, converted to the types of the plan.

use kube::ResourceExt;
use mainstay_crds::{ConfigMode, ConfigRollout, ConfigStage, Pause, RollbackPolicy, seconds};

use crate::{
    names::{CONTINUE, RETRY},
    plan::{Number, PauseSettings, Settings, StageSettings},
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
        debounce: spec.debounce.into(),
        min_interval: spec.min_interval.into(),
        paused: spec.paused,
        history: usize::try_from(spec.history_limit).unwrap_or_default(),
        goes_on: rollout.annotations().get(CONTINUE).and_then(|text| goes_on(text)),
        retry: rollout.annotations().get(RETRY).and_then(|text| text.parse().ok()),
    }
}

fn goes_on(text: &str) -> Option<(Number, std::sync::Arc<str>)> {
    let (revision, stage) = text.split_once('/')?;
    Some((revision.parse().ok()?, stage.into()))
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
