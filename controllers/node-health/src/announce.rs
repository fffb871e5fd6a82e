//! Events about what changed: on the node, and on its policy.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use mainstay_crds::NodeHealthPolicy;
use mainstay_runtime::events::{Events, Kind};

use crate::{
    apply::ApplyError,
    names::RECORD,
    plan::{Breaker, place},
    watched::Node,
};

/// Publishes events.
#[derive(Debug)]
pub struct Announcer {
    events: Events,
}

/// What has become of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It was found to be unhealthy.
    Unhealthy,
    /// It is acted on from now on.
    Taken,
    /// The node is restored.
    HandedBack,
    /// It is kept out of use for now, as it has come and gone too often.
    Quarantined,
    /// Volumes may detach from it.
    OutOfServiceSet,
    /// That is over.
    OutOfServiceRemoved,
}

impl Turn {
    fn event(self) -> (Kind, &'static str, &'static str) {
        match self {
            Self::Unhealthy => (Kind::Warning, "NodeUnhealthy", "Judge"),
            Self::Taken => (Kind::Warning, "NodeTaken", "Act"),
            Self::HandedBack => (Kind::Normal, "NodeHandedBack", "HandBack"),
            Self::Quarantined => (Kind::Warning, "NodeQuarantined", "HandBack"),
            Self::OutOfServiceSet => (Kind::Warning, "OutOfServiceSet", "Act"),
            Self::OutOfServiceRemoved => (Kind::Normal, "OutOfServiceRemoved", "HandBack"),
        }
    }

    /// Whether the event is also published on the policy.
    fn concerns_policy(self) -> bool {
        matches!(self, Self::Taken | Self::HandedBack | Self::Quarantined)
    }
}

impl Announcer {
    /// Publishes through `events`.
    pub fn new(events: Events) -> Self {
        Self { events }
    }

    fn say(&self, regarding: ObjectReference, kind: Kind, reason: &'static str, action: &str, note: &str) {
        tracing::info!(reason, object = regarding.name.as_deref().unwrap_or_default(), note, "announced");
        self.events.publish(regarding, kind, reason, action, note);
    }

    /// What has become of a node under its policy.
    pub fn turned(
        &self,
        node: &Node,
        policy: Option<&NodeHealthPolicy>,
        turn: Turn,
        note: &str,
        dry_run: bool,
    ) {
        let (kind, reason, action) = turn.event();
        let note = if dry_run { format!("{note} (dry run: nothing is written)") } else { note.to_owned() };
        self.say(reference(node), kind, reason, action, &note);
        if let Some(policy) = policy.filter(|_| turn.concerns_policy()) {
            let note = format!("node {}: {note}", node.name());
            self.say(policy.object_ref(&()), kind, reason, action, &note);
        }
    }

    /// A breaker has opened or closed.
    pub fn breaker(&self, policy: &NodeHealthPolicy, breaker: &Breaker) {
        let place = breaker.zone.as_deref().map_or_else(|| "the policy".to_owned(), place);
        let Breaker { unhealthy, nodes, limit, .. } = breaker;
        let (kind, reason, note) = if breaker.open_since.is_some() {
            let then = if breaker.everything {
                "; no node answers, so a network failure is assumed, and the cordons and taints set by \
                 policies are removed"
            } else {
                "; no new actions are taken there"
            };
            let note = format!(
                "breaker opened for {place}: {unhealthy} of {nodes} nodes are unhealthy or overdue (limit \
                 {limit}){then}"
            );
            (Kind::Warning, "BreakerOpened", note)
        } else {
            let note =
                format!("breaker closed for {place}: {unhealthy} of {nodes} nodes are unhealthy or overdue");
            (Kind::Normal, "BreakerClosed", note)
        };
        self.say(policy.object_ref(&()), kind, reason, "Judge", &note);
    }

    /// A PodDisruptionBudget has refused to let a pod go.
    pub fn blocked(&self, node: &Node, pod: &str, words: &str) {
        let note = format!("pod {pod} cannot be evicted yet: {words}");
        self.say(reference(node), Kind::Warning, "PodEvictionBlocked", "Evict", &note);
    }

    /// A remediation was made.
    pub fn remediation_created(&self, node: &Node, remediation: &str) {
        self.say(
            reference(node),
            Kind::Normal,
            "RemediationCreated",
            "Remediate",
            &format!("created {remediation}"),
        );
    }

    /// A remediation was told that its time is over.
    pub fn remediation_timed_out(&self, node: &Node, remediation: &str) {
        let note = format!("{remediation} timed out; the next template is used");
        self.say(reference(node), Kind::Warning, "RemediationTimedOut", "Remediate", &note);
    }

    /// The record of what was set on a node was removed by others before this process has seen it.
    pub fn record_lost(&self, node: &Node) {
        let note = format!(
            "the annotation {RECORD} was removed, so that it is not known who has cordoned the node: when it is healthy, \
             check it, and run kubectl uncordon {}",
            node.name()
        );
        self.say(reference(node), Kind::Warning, "RecordLost", "Write", &note);
    }

    /// A write failed.
    pub fn failed(&self, node: &Node, error: &ApplyError) {
        self.say(reference(node), Kind::Warning, "WriteFailed", "Write", &error.to_string());
    }
}

fn reference(node: &Node) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Node".into()),
        name: Some(node.name().to_string()),
        uid: Some(node.uid().to_owned()),
        ..ObjectReference::default()
    }
}
