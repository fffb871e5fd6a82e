//! Events and metrics of what was done.

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
    rollout::{Decision, RolloutEvent},
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
            notified,
            cancelled,
            timed_out,
            claims_created,
            claims_deleted,
            waiting: _,
            evicted: _,
            unfinished: _,
            refused: _,
            ended,
            held: _,
        } = applied;
        let writes =
            adopted + released + created + changed + notified + cancelled + claims_created + claims_deleted;
        if writes + deleted.len() + timed_out.len() > 0 || *stale {
            tracing::info!(
                adopted,
                released,
                created,
                changed,
                deleted = deleted.len(),
                notified,
                cancelled,
                timed_out = timed_out.len(),
                claims_created,
                claims_deleted,
                stale,
                "carried out a plan"
            );
        }
        for (count, reason, action, did, what) in [
            (*adopted, "PodsAdopted", "Adopt", "adopted", "pod"),
            (*released, "PodsReleased", "Release", "released", "pod"),
            (*created, "PodsCreated", "Create", "created", "pod"),
            (*changed, "PodsChangedInPlace", "Update", "changed the images of", "pod"),
            (*notified, "PreDeleteStarted", "Delete", "waiting for the pre-delete hook of", "pod"),
            (*cancelled, "PreDeleteRecalled", "Delete", "cancelled the deletion of", "pod"),
            (*claims_created, "ClaimsCreated", "Create", "created", "PersistentVolumeClaim"),
            (*claims_deleted, "ClaimsDeleted", "Delete", "deleted", "PersistentVolumeClaim"),
        ] {
            if count > 0 {
                self.say(group, Kind::Normal, reason, action, &format!("{did} {}", counted(count, what)));
            }
        }
        if !timed_out.is_empty() {
            let note = format!("deleted although their pre-delete hook timed out: {}", listed(timed_out));
            self.say(group, Kind::Warning, "PreDeleteTimedOut", "Delete", &note);
        }
        if !deleted.is_empty() {
            self.say(group, Kind::Normal, "PodsDeleted", "Delete", &deleted_note(deleted));
        }
        if let Some(text) = blocked {
            self.say(group, Kind::Warning, "EvictionBlocked", "Evict", text);
        }
        self.metrics.applied(applied);
        // A hundred pods that are refused for one reason are one event.
        ended.iter().filter_map(|(_, errors)| errors.first()).for_each(|error| self.failed(group, error));
    }

    pub(crate) fn failed(&self, group: &ReplicaGroup, error: &ApplyError) {
        self.metrics.failed(error);
        let (reason, action) = match error {
            // The group goes with its namespace, in which nothing can be said any more.
            _ if matches!(error.request(), RequestError::NamespaceTerminating(_)) => return,
            ApplyError::Create(_) => ("FailedCreate", "Create"),
            ApplyError::Delete { .. } => ("FailedDelete", "Delete"),
            ApplyError::Claim { .. } => ("FailedClaim", "Create"),
            _ => return,
        };
        self.say(group, Kind::Warning, reason, action, &error.to_string());
    }

    /// What has come about of a change of the template.
    pub(crate) fn news(&self, group: &ReplicaGroup, decision: &Decision) {
        let name = |hash: &str| revision::name(&group.name_any(), hash);
        let (wanted, target) = (name(&decision.wanted), name(&decision.target));
        for news in &decision.news {
            self.metrics.changed(news);
            let (kind, reason, note) = match news {
                RolloutEvent::Started => {
                    (Kind::Normal, "RolloutStarted", format!("updating the pods to {target}"))
                }
                RolloutEvent::StepReached { step, weight } => (
                    Kind::Normal,
                    "StepReached",
                    format!("step {step} ({weight} %) of the rollout of {target} is reached"),
                ),
                RolloutEvent::Completed { took } => {
                    let note = format!("all pods are updated to {target} after {} s", took.as_secs());
                    (Kind::Normal, "RolloutCompleted", note)
                }
                RolloutEvent::Failed { reason, message } => {
                    (Kind::Warning, "RolloutFailed", format!("{wanted} has failed ({reason}): {message}"))
                }
                RolloutEvent::RolledBack { took } => {
                    let note = format!("all pods are rolled back to {target} after {} s", took.as_secs());
                    (Kind::Normal, "RolledBack", note)
                }
            };
            tracing::info!(reason, note, "a rollout");
            self.say(group, kind, reason, "Rollout", &note);
        }
    }
}

fn deleted_note(deleted: &[(Arc<str>, Why)]) -> String {
    let names: Vec<_> = deleted.iter().map(|(pod, why)| format!("{pod} ({why})")).collect();
    format!("deleted {}: {}", counted(deleted.len(), "pod"), listed(&names))
}

/// As many names as fit into an event.
fn listed(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<_> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
