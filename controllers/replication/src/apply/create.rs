//! Creation: many at once, never one twice.
//!
//! The number under way starts at one and grows with each success, as upstream's batches of 1, 2, 4 … do, but
//! without waiting for a batch to end: a template that is refused costs one request, and a good one soon has as
//! many under way as the writer allows.

use std::{
    slice::Iter,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use mainstay_runtime::{failure::RequestError, gate::Intent, index::ObjectKey};
use parking_lot::Mutex;

use super::{
    ApplyError, CREATION, Job, Writer,
    body::{self, Body},
    not_created, path,
};
use crate::{claim, plan::Plan, rollout::Refusal};

/// How often one pod is tried before the reconcile gives up and leaves the rest to the key's backoff.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What came of creations.
#[derive(Default)]
pub(super) struct Made {
    pub(super) pods: usize,
    pub(super) claims: usize,
    pub(super) failure: Option<ApplyError>,
    pub(super) refused: Vec<Refusal>,
}

/// What new pods have in common, and what each gets of its own.
struct Making<'a, 's> {
    body: Body<'a>,
    /// Free slots that are left to be taken over.
    slots: &'a Mutex<Iter<'s, Arc<str>>>,
    /// How many claims were made.
    claims: &'a AtomicUsize,
}

fn refusal(revision: &Arc<str>, error: &ApplyError) -> Refusal {
    Refusal { revision: Arc::clone(revision), blamed: !error.befalls_any_template(), text: error.to_string() }
}

impl Writer {
    /// Creates the pods that the plan asks for, of which the first take over these slots.
    pub(super) async fn create_all(&self, job: &Job<'_>, plan: &Plan, slots: &[Arc<str>]) -> Made {
        let (slots, claims) = (Mutex::new(slots.iter()), AtomicUsize::new(0));
        let mut made = Made::default();
        let zones = self.stores.all_nodes_have_zones();
        for wanted in &plan.create {
            let revisions = &job.observed.revisions;
            // Should it have vanished since the decision, the next one knows.
            let Some(template) = revisions.template(&wanted.revision, job.group) else { continue };
            match Body::of(job.group, &template, &wanted.revision, zones) {
                Ok(body) => {
                    let making = Making { body, slots: &slots, claims: &claims };
                    let (pods, failure) = self.create(job, &making, wanted.count).await;
                    made.pods += pods;
                    made.refused.extend(failure.as_ref().map(|error| refusal(&wanted.revision, error)));
                    // Pods of one revision that are refused say nothing of another's.
                    made.failure = made.failure.or(failure);
                }
                Err(error) => {
                    made.failure = made.failure.or(Some(ApplyError::Create(error.into())));
                }
            }
        }
        Made { claims: claims.into_inner(), ..made }
    }

    /// Creates up to `count` pods of a revision and returns how many, with the first failure. Begins no more after a
    /// failure, when the group has changed, or when the process is to end.
    async fn create(
        &self,
        job: &Job<'_>,
        making: &Making<'_, '_>,
        count: usize,
    ) -> (usize, Option<ApplyError>) {
        let mut under_way = FuturesUnordered::new();
        let (mut begun, mut created, mut window) = (0, 0, 1);
        let mut failure = None;
        loop {
            while failure.is_none() && begun < count && under_way.len() < window && self.may_begin(job) {
                under_way.push(self.create_with_claims(job, making));
                begun += 1;
            }
            match under_way.next().await {
                None => {
                    if begun == 0 && count > 0 {
                        job.held.lock().insert((CREATION, None));
                    }
                    return (created, failure);
                }
                Some(Ok(())) => {
                    created += 1;
                    window = self.max_in_flight.min(window + 1);
                }
                Some(Err(error)) => failure = failure.or(Some(error)),
            }
        }
    }

    /// Creates one pod after the claims that it mounts. Should the pod be refused, its slot is free for the next.
    async fn create_with_claims(&self, job: &Job<'_>, making: &Making<'_, '_>) -> Result<(), ApplyError> {
        let mut slot = None;
        if claim::are_wanted(job.group) {
            let free = making.slots.lock().next().cloned();
            let taken = free.unwrap_or_else(|| self.free_slot(job));
            making.claims.fetch_add(self.keep_claims(job, &taken).await?, Ordering::Relaxed);
            slot = Some(taken);
        }
        self.create_one(job, &making.body, slot.as_deref()).await.map_err(ApplyError::Create)
    }

    /// Creates one pod. A lost answer is followed by the same request under the same name, so that a pod which was
    /// made after all is recognised; only a name that another pod has is given up for another.
    async fn create_one(
        &self,
        job: &Job<'_>,
        body: &Body<'_>,
        slot: Option<&str>,
    ) -> Result<(), RequestError> {
        let group = &job.observed.key;
        let mut pod = self.free_name(job);
        let (mut may_exist, mut pause) = (false, FIRST_PAUSE);
        let mut last = RequestError::NoAnswer("not tried".into());
        for attempt in 0..ATTEMPTS {
            // What was wanted may have changed while an answer was waited for, and a server that does not answer is not asked
            // again and again in one reconcile: it would keep the loop from other groups. The intent stays noted.
            if attempt > 0 && !self.may_begin(job) {
                break;
            }
            let json = body.named(&pod.name, slot)?;
            let Err(error) = self.pods(job).create(&path(&pod), json).await else { return Ok(()) };
            if may_exist {
                // Whatever is said to this request, an earlier one may have made it.
                self.gate.intend(group, &pod, Intent::Create);
            }
            match error {
                RequestError::AlreadyExists(text) => {
                    if may_exist && self.look_up(job, &pod).await? {
                        return Ok(());
                    }
                    (pod, may_exist, last) = (self.free_name(job), false, RequestError::AlreadyExists(text));
                }
                error if error.is_ambiguous() => {
                    (may_exist, last) = (true, error);
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                error => return Err(not_created(error)),
            }
        }
        Err(last)
    }

    fn free_name(&self, job: &Job<'_>) -> ObjectKey {
        let group = &job.observed.key;
        loop {
            let pod = ObjectKey::new(&group.namespace, &body::name(&group.name));
            if self.stores.pods.get(&pod).is_none() {
                return pod;
            }
        }
    }
}
