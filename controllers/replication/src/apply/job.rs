//! One group as a reconcile writes for it.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1;
use kube::Api;
use mainstay_crds::ReplicaGroup;
use mainstay_runtime::outcome::{Concern, Part, Turn};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{observe::Observed, pod::Pod};

/// One group at one generation, as a reconcile works on it.
pub(super) struct Job<'a> {
    pub(super) group: &'a ReplicaGroup,
    pub(super) observed: &'a Observed,
    pub(super) pods: Api<v1::Pod>,
    /// The concerns that wait.
    pub(super) turn: &'a Turn,
    /// Nothing is begun after this.
    pub(super) end: Instant,
    /// Whether the plan counts pods as adopted that could not be.
    pub(super) strangers: bool,
    /// What is not tried, because it failed last or the time is over.
    pub(super) held: Mutex<BTreeSet<Part>>,
}

impl Job<'_> {
    /// Whether what `concern` is to do to this pod may be tried. Where it was refused last, takes up that it waits.
    pub(super) fn may_try(&self, concern: Concern, pod: usize) -> bool {
        let pod = self.observed.pod(pod);
        let is_held = self.turn.held_for(concern, &pod.header.key.name).is_some();
        if is_held {
            self.waits(concern, pod);
        }
        !is_held
    }

    /// Takes up that what `concern` is to do to this pod was not tried.
    pub(super) fn waits(&self, concern: Concern, pod: &Pod) {
        self.held.lock().insert((concern, Some(Arc::clone(&pod.header.key.name))));
    }
}
