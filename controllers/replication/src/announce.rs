//! What people and Prometheus are told of what was done.

use std::sync::Arc;

use kube::{Resource, ResourceExt};
use mainstay_crds::ReplicaGroup;
use mainstay_runtime::{
    events::{Events, Kind},
    failure::RequestError,
};

use crate::{
    apply::{Applied, ApplyError},
    metrics::Metrics,
    plan::Why,
    revision,
    rollout::{Decision, News},
};

/// Publishes events and counts changes.
#[derive(Clone)]
pub struct Announcer {
    /// Where events go.
    pub events: Events,
    /// The controller's series.
    pub metrics: Metrics,
}

impl Announcer {
    fn say(&self, group: &ReplicaGroup, kind: Kind, reason: &'static str, action: &str, note: &str) {
        self.events.publish(group.object_ref(&()), kind, reason, action, note);
    }

    /// One event a kind of write, however many pods it was about.
    pub(crate) fn applied(&self, group: &ReplicaGroup, applied: &Applied) {
        let Applied {
            adopted,
            released,
            created,
            changed,
            deleted,
            blocked,
            stale,
            waiting: _,
            unfinished: _,
            error: _,
        } = applied;
        tracing::info!(
            adopted,
            released,
            created,
            changed,
            deleted = deleted.len(),
            stale,
            "carried out a plan"
        );
        for (count, reason, action, what) in [
            (*adopted, "PodsAdopted", "Adopt", "adopted"),
            (*released, "PodsReleased", "Release", "released"),
            (*created, "PodsCreated", "Create", "created"),
            (*changed, "PodsChangedInPlace", "Update", "changed the images of"),
        ] {
            if count > 0 {
                self.say(group, Kind::Normal, reason, action, &format!("{what} {}", pods(count)));
            }
        }
        if !deleted.is_empty() {
            self.say(group, Kind::Normal, "PodsDeleted", "Delete", &deleted_note(deleted));
        }
        if let Some(text) = blocked {
            self.say(group, Kind::Warning, "EvictionBlocked", "Evict", text);
        }
        match &applied.error {
            Some(error @ ApplyError::Create(request))
                if !matches!(request, RequestError::NamespaceTerminating(_)) =>
            {
                self.say(group, Kind::Warning, "FailedCreate", "Create", &error.to_string());
            }
            Some(error @ ApplyError::Delete { .. }) => {
                self.say(group, Kind::Warning, "FailedDelete", "Delete", &error.to_string());
            }
            _ => {}
        }
    }

    /// What has come about of a change of the template.
    pub(crate) fn news(&self, group: &ReplicaGroup, decision: &Decision) {
        let name = |hash: &str| revision::name(&group.name_any(), hash);
        let (wanted, target) = (name(&decision.wanted), name(&decision.target));
        for news in &decision.news {
            self.metrics.changed(news);
            let (kind, reason, note) = match news {
                News::Started => (Kind::Normal, "RolloutStarted", format!("bringing the pods to {target}")),
                News::StepReached { step, weight } => (
                    Kind::Normal,
                    "StepReached",
                    format!("step {step}: {weight} % of the pods are at {target}"),
                ),
                News::Completed { took } => {
                    let note = format!("all pods are at {target} after {} s", took.as_secs());
                    (Kind::Normal, "RolloutCompleted", note)
                }
                News::Failed { reason, message } => {
                    (Kind::Warning, "RolloutFailed", format!("{wanted} has failed ({reason}): {message}"))
                }
                News::RolledBack { took } => {
                    let note = format!("all pods are back at {target} after {} s", took.as_secs());
                    (Kind::Normal, "RolledBack", note)
                }
            };
            tracing::info!(reason, note, "a change of the template");
            self.say(group, kind, reason, "Rollout", &note);
        }
    }
}

fn deleted_note(deleted: &[(Arc<str>, Why)]) -> String {
    const SHOWN: usize = 10;
    let shown = deleted.iter().take(SHOWN).map(|(pod, why)| format!("{pod} ({why})"));
    let names = shown.collect::<Vec<_>>().join(", ");
    let more = deleted.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("deleted {}: {names}{more}", pods(deleted.len()))
}

fn pods(count: usize) -> String {
    format!("{count} pod{}", if count == 1 { "" } else { "s" })
}
