//! The status as it is written: not more often than it helps, and never over what a predecessor has remembered.

use std::{collections::HashMap, fmt::Debug, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::Instant;

use crate::{failure::RequestError, key::ObjectKey, request::in_time};

/// When a status that the server found to be made from an old object is made anew.
const CATCH_UP: Duration = Duration::from_millis(200);

/// A count as a status keeps it.
pub fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The full second in which `time` is: a status keeps no more of it.
pub fn second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Writes the status of objects of one kind and remembers what was written last.
#[derive(Debug)]
pub struct Reports<S> {
    manager: &'static str,
    pace: Duration,
    written: Mutex<HashMap<ObjectKey, (S, Instant)>>,
}

impl<S: Clone + PartialEq + Serialize> Reports<S> {
    /// Reports under this field manager. Changes that are not urgent follow at `pace`.
    pub fn new(manager: &'static str, pace: Duration) -> Self {
        Self { manager, pace, written: Mutex::default() }
    }

    /// The status as this process wrote it last; the store may not show it yet.
    pub fn last(&self, key: &ObjectKey) -> Option<S> {
        self.written.lock().get(key).map(|(status, _)| status.clone())
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.written.lock().remove(key);
    }

    /// Writes `status` if it differs from the one that stands in `object`. While nothing urgent changes it follows at
    /// the pace; the return value says when the rest is due.
    ///
    /// # Errors
    /// When the server refuses it. An object that is gone has no status, and that is no error.
    pub async fn report<K>(
        &self,
        objects: &Api<K>,
        object: &K,
        standing: Option<&S>,
        status: S,
        is_urgent: impl FnOnce(&S, &S) -> bool,
    ) -> Result<Option<Duration>, RequestError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        if standing == Some(&status) {
            return Ok(None);
        }
        let key = ObjectKey::of(object);
        let last = self.written.lock().get(&key).cloned();
        let first = last.is_none();
        if let Some((last, at)) = last {
            let wait = self.pace.checked_sub(at.elapsed()).filter(|wait| !wait.is_zero());
            // Where it equals the last one the store has yet to show what was written.
            if wait.is_some() && (last == status || !is_urgent(&last, &status)) {
                return Ok(wait);
            }
        }
        match self.write(objects, object, &status, first).await {
            // The store is behind, and with it what was decided.
            Err(RequestError::Conflict(_)) if first => return Ok(Some(CATCH_UP)),
            Ok(()) | Err(RequestError::NotFound(_) | RequestError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        self.written.lock().insert(key, (status, Instant::now()));
        Ok(None)
    }

    async fn write<K>(
        &self,
        objects: &Api<K>,
        object: &K,
        status: &S,
        first: bool,
    ) -> Result<(), RequestError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        // The UID keeps the status from being written to a later object of the same name.
        let mut patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": object.name_any(), "uid": object.meta().uid},
            "status": status,
        });
        if first {
            // What a predecessor has remembered must have been seen before it is written over.
            patch["metadata"]["resourceVersion"] = json!(object.meta().resource_version);
        }
        let params = PatchParams::apply(self.manager).force();
        in_time(objects.patch_status(&object.name_any(), &params, &Patch::Apply(patch))).await.map(drop)
    }
}
