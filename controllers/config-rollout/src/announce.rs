//! Events and metrics of what was done.

use kube::Resource;
use mainstay_crds::ConfigRollout;
use mainstay_runtime::{
    events::{Events, Kind},
    failure::RequestError,
    reconcile::ReconcileError,
};

use crate::{
    apply::ApplyError,
    metrics::Metrics,
    plan::{Number, RolloutEvent},
};

/// Publishes events and counts.
#[derive(Clone)]
pub struct Announcer {
    /// Where events go.
    pub events: Events,
    /// The controller's series.
    pub metrics: Metrics,
}

impl Announcer {
    fn say(&self, rollout: &ConfigRollout, kind: Kind, reason: &'static str, action: &str, note: &str) {
        tracing::info!(reason, note, "a rollout");
        self.events.publish(rollout.object_ref(&()), kind, reason, action, note);
    }

    pub(crate) fn made(&self, rollout: &ConfigRollout, number: Number) {
        self.metrics.made();
        let note = format!("created revision {number} from the current content of the sources");
        self.say(rollout, Kind::Normal, "RevisionMade", "Create", &note);
    }

    pub(crate) fn collected(&self, rollout: &ConfigRollout, count: usize) {
        self.metrics.collected(count);
        let note = format!("deleted {count} objects of revisions that nothing refers to");
        self.say(rollout, Kind::Normal, "RevisionsDeleted", "Delete", &note);
    }

    pub(crate) fn conflict(&self, rollout: &ConfigRollout, sentence: &str) {
        self.say(rollout, Kind::Warning, "FieldManagerConflict", "Rollout", sentence);
    }

    pub(crate) fn failed(&self, rollout: &ConfigRollout, error: &ApplyError) {
        self.metrics.failed(error);
        // The rollout goes with its namespace, in which nothing can be said any more.
        if !matches!(error.request(), RequestError::NamespaceTerminating(_)) {
            self.say(rollout, Kind::Warning, "RequestFailed", error.operation(), &error.to_string());
        }
    }

    pub(crate) fn news(&self, rollout: &ConfigRollout, news: &RolloutEvent) {
        self.metrics.news(news);
        let (kind, reason, note) = match news {
            RolloutEvent::Started(number) => {
                (Kind::Normal, "RolloutStarted", format!("rolling out revision {number}"))
            }
            RolloutEvent::StagePassed(stage) => {
                (Kind::Normal, "StagePassed", format!("all targets of stage {stage} have passed"))
            }
            RolloutEvent::Completed(number, took) => {
                let note = format!("all targets have revision {number} after {} s", took.as_secs());
                (Kind::Normal, "RolloutCompleted", note)
            }
            RolloutEvent::Failed(number, failed) => {
                (Kind::Warning, "RolloutFailed", failed.sentence(*number))
            }
            RolloutEvent::RolledBack(0, took) => {
                let note = format!(
                    "all targets are rolled back to the sources themselves after {} s",
                    took.as_secs()
                );
                (Kind::Normal, "RolledBack", note)
            }
            RolloutEvent::RolledBack(number, took) => {
                let note =
                    format!("all targets are rolled back to revision {number} after {} s", took.as_secs());
                (Kind::Normal, "RolledBack", note)
            }
            RolloutEvent::Held(target) => {
                let note = format!("{target} was rolled back by hand; it is held until a source changes");
                (Kind::Normal, "TargetHeld", note)
            }
            RolloutEvent::Reverted(target) => (
                Kind::Warning,
                "TargetReverted",
                format!("another field manager has reverted the change of {target}"),
            ),
        };
        self.say(rollout, kind, reason, "Rollout", &note);
    }
}
