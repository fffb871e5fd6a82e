//! Events and metrics of what changed.

use kube::Resource;
use mainstay_crds::{EndpointPool, EndpointPoolStatus};
use mainstay_runtime::{
    events::{Events, Kind},
    failure::RequestError,
    outcome::Failure,
};

use crate::{apply::ApplyError, metrics::Metrics};

/// Publishes events and counts changes.
pub struct Announcer {
    events: Events,
}

impl Announcer {
    /// Publishes through `events`.
    pub fn new(events: Events) -> Self {
        Self { events }
    }

    fn say(&self, pool: &EndpointPool, kind: Kind, reason: &'static str, action: &str, note: &str) {
        tracing::info!(reason, note, "announced");
        self.events.publish(pool.object_ref(&()), kind, reason, action, note);
    }

    /// The pool's Service was made.
    pub(crate) fn service_made(&self, pool: &EndpointPool) {
        let note = format!("created Service {}", pool.spec.service_ref.name);
        self.say(pool, Kind::Normal, "ServiceCreated", "Create", &note);
    }

    /// A write failed.
    pub(crate) fn failed(&self, pool: &EndpointPool, error: &ApplyError, metrics: &Metrics) {
        metrics.failed(error.operation(), error.request());
        // The pool goes with its namespace, in which nothing can be said any more.
        if !matches!(error.request(), RequestError::NamespaceTerminating(_)) {
            self.say(pool, Kind::Warning, "WriteFailed", "Write", &error.to_string());
        }
    }

    /// The pool has no endpoints, for this reason.
    pub(crate) fn unusable(&self, pool: &EndpointPool, failure: &Failure) {
        let reason = match failure.reason {
            "ServiceNotFound" => return,
            "SettingsInvalid" => "SettingsInvalid",
            _ => "ServiceRefused",
        };
        self.say(pool, Kind::Warning, reason, "Reconcile", &failure.message);
    }

    /// What two statuses tell of the time between them.
    pub(crate) fn changed(
        &self,
        pool: &EndpointPool,
        old: &EndpointPoolStatus,
        new: &EndpointPoolStatus,
        metrics: &Metrics,
    ) {
        self.tier(pool, old, new, metrics);
        let (before, after) = (condition(old, "Panic"), condition(new, "Panic"));
        match (before.is_some_and(|(holds, _)| holds), after) {
            (false, Some((true, message))) => {
                metrics.panic_began();
                self.say(pool, Kind::Warning, "PanicStarted", "Choose", message);
            }
            (true, Some((false, _))) => {
                self.say(
                    pool,
                    Kind::Normal,
                    "PanicEnded",
                    "Choose",
                    "panic mode has ended: health checks \
                                                                      are used again",
                );
            }
            _ => {}
        }
        if let (Some((true, _)) | None, Some((false, message))) =
            (condition(old, "MembersAccepted"), condition(new, "MembersAccepted"))
        {
            self.say(pool, Kind::Warning, "MembersRefused", "Gather", message);
        }
    }

    fn tier(
        &self,
        pool: &EndpointPool,
        old: &EndpointPoolStatus,
        new: &EndpointPoolStatus,
        metrics: &Metrics,
    ) {
        let (Some(before), Some(after)) = (old.tier, new.tier) else { return };
        let message = condition(new, "FailedOver").map(|(_, message)| message).unwrap_or_default();
        if before != after {
            metrics.tier_changed();
        }
        if before < after {
            let why = if message.is_empty() { String::new() } else { format!(": {message}") };
            let note = format!("from tier {before} to tier {after}{why}");
            self.say(pool, Kind::Warning, "FailedOver", "Choose", &note);
        } else if before > after {
            self.say(
                pool,
                Kind::Normal,
                "TierChanged",
                "Choose",
                &format!("returned from tier {before} to tier {after}"),
            );
        }
    }
}

/// Whether a condition holds, and its sentence.
pub(crate) fn condition<'a>(status: &'a EndpointPoolStatus, kind: &str) -> Option<(bool, &'a str)> {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((found.status == "True", &found.message))
}
