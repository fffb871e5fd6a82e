//! Slices that have lost the label by which the watch finds them.
//!
//! To the watch such a slice is gone, like one that was deleted. But it stands, and no controller takes an endpoint out of it any
//! more. So each that goes without a delete of this process is looked for, and gets its labels back.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::discovery::v1::EndpointSlice, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use mainstay_runtime::{failure::RequestError, index::ObjectKey, owner::controller, request::read};
use tokio::time::Instant;

use super::{Job, Writer, error::ApplyError, path};
use crate::{
    names::{MANAGED_BY, MANAGER, POOL},
    watched::Slice,
};

/// A process that does not lead sees slices go that another one deletes: it forgets them after this time.
const FORGOTTEN: Duration = Duration::from_secs(600);

impl Writer {
    /// A slice is gone, as the watch has it. `pool` is whose it was, where that is there: the slices of one that is gone go
    /// with it, and nothing would forget them.
    pub fn gone(&self, pool: Option<&ObjectKey>, slice: &Slice) {
        self.own.lock().remove(&slice.header.key);
        if self.deleted.lock().remove(&slice.header.uid) {
            return;
        }
        let Some(pool) = pool else { return };
        let mut lost = self.lost.lock();
        let lost = lost.entry(pool.clone()).or_default();
        lost.retain(|_, (_, since)| since.elapsed() < FORGOTTEN);
        lost.insert(slice.header.key.clone(), (slice.header.uid.clone(), Instant::now()));
    }

    /// Puts the labels back on slices of the pool that have lost them. Returns whether there were any, which the store does
    /// not show yet, and the first failure: such a slice is looked for again.
    pub async fn find_lost(&self, job: &Job<'_>) -> (bool, Option<ApplyError>) {
        let lost = self.lost.lock().get(job.key).cloned().unwrap_or_default();
        let (mut found, mut failed) = (false, None::<ApplyError>);
        for (slice, (uid, _)) in lost {
            match self.find(job, &slice, &uid).await {
                Ok(is_ours) => {
                    found |= is_ours;
                    if let Some(lost) = self.lost.lock().get_mut(job.key) {
                        lost.remove(&slice);
                    }
                }
                Err(error) => {
                    // A server that does not answer is not asked for each of them.
                    let is_silent = error.request().is_ambiguous();
                    failed = failed.or(Some(error));
                    if is_silent {
                        break;
                    }
                }
            }
        }
        (found, failed)
    }

    async fn find(&self, job: &Job<'_>, slice: &ObjectKey, uid: &str) -> Result<bool, ApplyError> {
        let found: Option<EndpointSlice> =
            read(&self.client, &path(slice)).await.map_err(ApplyError::Read)?;
        let Some(mut found) = found.filter(|found| is_ours(&found.metadata, uid, job)) else {
            return Ok(false);
        };
        let labels = [(MANAGED_BY, MANAGER), (POOL, &*job.key.name)];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        found.metadata.labels.get_or_insert_default().extend(labels);
        let failed = |source| ApplyError::Update { slice: Arc::clone(&slice.name), source };
        let body = serde_json::to_vec(&found).map_err(|error| failed(error.into()))?;
        // At the version that was read.
        match self.slices(job.key).replace(&path(slice), body).await {
            Ok(_) => {
                tracing::info!(namespace = %slice.namespace, slice = %slice.name, "restored the labels of a slice");
                Ok(true)
            }
            Err(RequestError::NotFound(_)) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Whether the slice that was found is the one that went, and still the pool's.
fn is_ours(found: &ObjectMeta, uid: &str, job: &Job<'_>) -> bool {
    let owner = controller(found).map(|owner| &owner.uid);
    found.uid.as_deref() == Some(uid)
        && found.deletion_timestamp.is_none()
        && owner.is_some()
        && owner == job.pool.metadata.uid.as_ref()
}

#[cfg(test)]
mod tests;
