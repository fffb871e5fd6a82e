//! What this controller has set on a node, recorded on the node itself, so that the next process removes exactly that.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::RECORD;

/// The value that [`CONFIRMED_DEAD`](crate::names::CONFIRMED_DEAD) must have for a node that reports this boot, and
/// whose Lease was last renewed then, or whose status was last posted then if it has no Lease, by its own clock. It is
/// valid for this failure only: a node that does so again, or boots, no longer matches, and any process can tell.
pub fn confirmation(boot_id: &str, renewed: Option<Timestamp>) -> String {
    match renewed {
        Some(renewed) => format!("{boot_id}.{}", renewed.strftime("%Y%m%dT%H%M%S.%6fZ")),
        None => format!("{boot_id}.never"),
    }
}

/// What this controller has set on a node. The default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// What was taken, while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken: Option<Taken>,
    /// When the node became unhealthy, as far back as flaps count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flaps: Vec<Timestamp>,
    /// Until when it is kept out of use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined_until: Option<Timestamp>,
    /// How often in a row it was.
    #[serde(skip_serializing_if = "is_zero")]
    pub quarantines: u32,
}

impl Record {
    /// Reads the annotation. One that cannot be read has no content: what the controller has set is not removed then,
    /// since it is not known any more what that was.
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| {
            tracing::warn!(%error, "the annotation {RECORD} of a node cannot be read and is ignored");
            Self::default()
        })
    }

    /// The annotation. `None`: there is nothing to write down.
    pub fn write(&self) -> Option<String> {
        (*self != Self::default()).then(|| serde_json::to_string(self).expect("a record is plain data"))
    }

    /// Whether the node is acted on, or was and has not been restored.
    pub fn is_taken(&self) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.since.is_some())
    }

    /// Without what holds for a boot that is over. A node that does not tell its boot is at the same one.
    pub fn at_boot(mut self, boot_id: &str) -> Self {
        let is_over = |boot: &Arc<str>| !boot_id.is_empty() && **boot != *boot_id;
        if let Some(taken) = &mut self.taken {
            taken.remediated.take_if(|boot| is_over(boot));
        }
        if self.out_of_service().is_none_or(is_over) { self.in_service() } else { self }
    }

    /// With the note that a remediation of this boot has succeeded, or without it; of a node that is not acted on it says
    /// nothing.
    pub fn remediated(mut self, boot_id: Option<&Arc<str>>) -> Self {
        if let Some(taken) = self.taken.as_mut().filter(|taken| taken.since.is_some()) {
            taken.remediated = boot_id.cloned();
        }
        self
    }

    /// With the taint out-of-service that `standing` says is there, for as long as the boot lasts: a node that comes back
    /// without having booted may still have its volumes mounted.
    pub fn keeping(mut self, standing: &Self) -> Self {
        if let Some(remnant) = standing.remnant() {
            let taken = self.taken.get_or_insert_with(|| remnant.clone());
            taken.out_of_service = remnant.out_of_service;
        }
        self
    }

    /// Without the taint out-of-service.
    pub fn in_service(mut self) -> Self {
        if let Some(taken) = &mut self.taken {
            taken.out_of_service = None;
        }
        self.taken.take_if(|taken| taken.since.is_none());
        self
    }

    /// The boot of which this says that its volumes may detach.
    pub fn out_of_service(&self) -> Option<&Arc<str>> {
        self.taken.as_ref()?.out_of_service.as_ref()
    }

    /// What stays when the node is restored: the taint out-of-service, until the node has rebooted.
    pub fn remnant(&self) -> Option<Taken> {
        let Taken { policy, out_of_service, .. } = self.taken.as_ref()?;
        let out_of_service = Some(Arc::clone(out_of_service.as_ref()?));
        Some(Taken { policy: Arc::clone(policy), out_of_service, ..Taken::default() })
    }

    /// The record of a node that no policy selects any more.
    pub fn handed_back(&self) -> Self {
        Self { taken: self.remnant(), ..Self::default() }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What the controller has set on a node. What was there before is not included, and is never removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taken {
    /// The policy that did.
    pub policy: Arc<str>,
    /// Since when; `None`: it is restored, except for what stays.
    pub since: Option<Timestamp>,
    /// Whether `spec.unschedulable` was set by this controller.
    pub cordon: bool,
    /// The effect of the taint that was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taint: Option<TaintEffect>,
    /// The boot that the node reported when the taint out-of-service was set by this controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_service: Option<Arc<str>>,
    /// The boot that the node reported for which a remediation has succeeded: its object may be gone long before the node
    /// is back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remediated: Option<Arc<str>>,
}

/// The effect of a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaintEffect {
    /// No new pods that do not tolerate it.
    NoSchedule,
    /// None at all.
    NoExecute,
}
