//! The update settings of a group's spec, with percentages computed.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use mainstay_crds::{FailureAction, ReplicaGroup, Update, UpdateType, seconds};

use super::command::Command;
use crate::{
    names::{ABORT, CONTINUE},
    plan::Strategy,
    revision,
};

/// What is wanted of a group's changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How many pods there should be.
    pub replicas: usize,
    /// How pods are replaced.
    pub strategy: Strategy,
    /// How many of them a change reaches; the others stay as they are.
    pub reach: usize,
    /// The stages before that.
    pub steps: Vec<Step>,
    /// No pods are updated for now.
    pub paused: bool,
    /// What is decided cannot be noted: only what was lost comes back, of what is proven.
    pub repairs: bool,
    /// Whether a failed rollout is rolled back.
    pub roll_back: bool,
    /// More restarts of a container are a failure, unless they are far apart ([`Evidence`](super::Evidence)).
    pub max_restarts: i32,
    /// Trouble that lasts longer is a failure.
    pub patience: Duration,
    /// No progress for longer is a failure.
    pub deadline: Duration,
    /// Which rollout may go on, past that step; past all without one.
    pub resume: Option<Command>,
    /// Which rollout is to be aborted.
    pub abort: Option<Command>,
}

/// A stage of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How many pods it reaches, in percent.
    pub weight: usize,
    /// How long it lasts.
    pub pause: Pause,
}

/// How long a stage lasts once it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// No longer.
    None,
    /// How long a pause lasts: a time, or until it is ended by hand.
    For(Duration),
    /// Until it is ended by hand.
    Open,
}

impl Step {
    /// How many of `replicas` pods the stage reaches: the weight rounded up, but all of them only where it is 100, or there
    /// is only one. What is to be looked at is looked at beside what it replaces.
    pub(super) fn goal(self, replicas: usize) -> usize {
        let goal = (replicas * self.weight).div_ceil(100);
        if self.weight < 100 && replicas > 1 { goal.min(replicas - 1) } else { goal }
    }
}

impl Settings {
    /// The settings of `group`.
    pub fn of(group: &ReplicaGroup) -> Self {
        let spec = &group.spec;
        let replicas = usize::try_from(spec.replicas).unwrap_or_default();
        let own = |name: &str| revision::hash_of(group, name);
        let note = |key| group.annotations().get(key).map(String::as_str);
        Self {
            replicas,
            strategy: strategy(&spec.update, replicas),
            reach: replicas - part(&spec.update.partition, replicas),
            // A rollback by hand is not tried out first.
            steps: spec.update.steps.iter().filter(|_| spec.rollback_to.is_none()).map(step).collect(),
            paused: spec.paused,
            repairs: false,
            roll_back: spec.failure.action == FailureAction::Rollback,
            max_restarts: spec.failure.max_restarts,
            patience: seconds(spec.failure.unschedulable_seconds),
            deadline: seconds(spec.progress_deadline_seconds),
            resume: note(CONTINUE).and_then(|text| Command::parse(text, true, own)),
            abort: note(ABORT).and_then(|text| Command::parse(text, false, own)),
        }
    }
}

fn strategy(update: &Update, replicas: usize) -> Strategy {
    match update.strategy {
        UpdateType::Rolling => {
            let surge = amount(&update.max_surge, replicas, usize::div_ceil);
            let unavailable = amount(&update.max_unavailable, replicas, |of, by| of / by).min(replicas);
            // As Deployments do: 1 % of 10 pods would be none, and nothing could be exchanged.
            let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
            Strategy::Rolling { surge, unavailable }
        }
        UpdateType::Recreate => Strategy::Recreate,
        UpdateType::OnDelete => Strategy::OnDelete,
    }
}

/// How many pods a partition holds back. One that is less than all lets at least one go.
fn part(partition: &IntOrString, replicas: usize) -> usize {
    let part = amount(partition, replicas, usize::div_ceil).min(replicas);
    match partition {
        IntOrString::String(text) if part == replicas && percent(text) < 100 => part.saturating_sub(1),
        _ => part,
    }
}

fn amount(of: &IntOrString, replicas: usize, divide: fn(usize, usize) -> usize) -> usize {
    match of {
        IntOrString::Int(count) => usize::try_from(*count).unwrap_or_default(),
        IntOrString::String(text) => divide(replicas.saturating_mul(percent(text)), 100),
    }
}

fn percent(text: &str) -> usize {
    text.trim_end_matches('%').parse().unwrap_or_default()
}

fn step(step: &mainstay_crds::Step) -> Step {
    let pause = match step.pause.as_ref().map(|pause| pause.seconds) {
        None => Pause::None,
        Some(Some(length)) => Pause::For(seconds(length)),
        Some(None) => Pause::Open,
    };
    Step { weight: usize::try_from(step.weight).unwrap_or_default(), pause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_rounded_up_but_leaves_one_of_several_pods_as_it_is() {
        let goal = |weight, replicas| Step { weight, pause: Pause::Open }.goal(replicas);
        assert_eq!([goal(10, 10), goal(11, 10), goal(50, 5), goal(1, 200)], [1, 2, 3, 2]);
        assert_eq!([goal(60, 2), goal(90, 5), goal(99, 10), goal(10, 1)], [1, 4, 9, 1]);
        assert_eq!([goal(100, 1), goal(100, 5), goal(10, 0)], [1, 5, 0]);
    }

    fn update(surge: &str, unavailable: &str) -> Update {
        let amount = |text: &str| match text.parse() {
            Ok(count) => IntOrString::Int(count),
            Err(_) => IntOrString::String(text.into()),
        };
        Update { max_surge: amount(surge), max_unavailable: amount(unavailable), ..Update::default() }
    }

    #[test]
    fn surge_is_rounded_up_and_unavailable_down_and_one_of_them_is_left() {
        let rolling = |surge, unavailable| Strategy::Rolling { surge, unavailable };
        assert_eq!(strategy(&update("25%", "25%"), 10), rolling(3, 2));
        assert_eq!(strategy(&update("0%", "1%"), 10), rolling(0, 1));
        assert_eq!(strategy(&update("1", "0"), 10), rolling(1, 0));
        assert_eq!(strategy(&update("200%", "50"), 3), rolling(6, 3));
    }

    #[test]
    fn a_partition_below_all_lets_one_go() {
        let part = |text: &str, replicas| part(&IntOrString::String(text.into()), replicas);
        assert_eq!((part("99%", 4), part("100%", 4), part("50%", 5), part("0%", 5)), (3, 4, 3, 0));
        assert_eq!(super::part(&IntOrString::Int(7), 5), 5);
    }
}
