//! The objects of a kind that cannot be decoded: remembered, counted, and reported in their status.
//!
//! Such an object exists, but what it asks for is not known. So it is not reconciled: it is neither planned for nor
//! treated as deleted, and everything that was created for it stays until it is corrected. Its status says what to
//! correct, which only the leading process writes ([`Undecoded::tell`]).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{
    Client, Resource,
    api::{Patch, PatchParams},
    runtime::watcher::Event,
};
use parking_lot::Mutex;
use prometheus::{IntGauge, Opts, Registry};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    backoff::{Backoff, Growth},
    conditions::second,
    conditions::{NewCondition, merge},
    decode::{Decoded, Undecodable},
    failure::RequestError,
    key::ObjectKey,
    metrics::register,
    request::{ObjectPath, send},
};

/// The reason of the conditions `Ready` and `Stalled`.
pub const REASON: &str = "InvalidSpec";

/// A refused status is written again after this time; a server that refuses it once will mostly do so again.
const GROWTH: Growth = Growth { first: Duration::from_secs(1), cap: Duration::from_secs(300) };

/// One of the objects.
#[derive(Debug, Clone)]
pub(crate) struct Entry<K> {
    object: Undecodable,
    /// The object as it was when it could be decoded last, if this process has seen that.
    pub(crate) last: Option<Arc<K>>,
}

/// The objects of the kind `K` that cannot be decoded. Cloning shares them.
#[derive(Debug)]
pub struct Undecoded<K>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K> {
    objects: Mutex<Objects<K>>,
    changed: Notify,
    count: IntGauge,
}

#[derive(Debug)]
struct Objects<K> {
    by_name: HashMap<ObjectKey, Entry<K>>,
    /// Those that the list in progress has shown.
    listed: HashSet<ObjectKey>,
}

impl<K> Clone for Undecoded<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Resource<DynamicType = ()>> Undecoded<K> {
    /// None at first. Registers the series that counts them.
    ///
    /// # Panics
    /// When the process counts this kind already.
    pub fn new(registry: &Registry) -> Self {
        let help = "Objects that cannot be decoded, and are left as they are until they are corrected.";
        let options = Opts::new("mainstay_undecodable_objects", help).const_label("kind", K::kind(&()));
        let count = IntGauge::with_opts(options).expect("a valid name and labels");
        let objects = Objects { by_name: HashMap::new(), listed: HashSet::new() };
        let count = register(registry, count);
        Self(Arc::new(Inner { objects: Mutex::new(objects), changed: Notify::new(), count }))
    }

    /// Whether there is an object of that name which cannot be decoded.
    pub fn contains(&self, key: &ObjectKey) -> bool {
        self.0.objects.lock().by_name.contains_key(key)
    }

    /// The metadata of those of a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<ObjectMeta> {
        let objects = self.0.objects.lock();
        let all = objects.by_name.iter().filter(|(key, _)| &*key.namespace == namespace);
        all.map(|(_, entry)| entry.object.metadata.clone()).collect()
    }

    /// Remembers an object, and as what it was known `last` if that is known.
    pub fn put(&self, object: Undecodable, last: Option<Arc<K>>) {
        let key = object.key();
        let mut objects = self.0.objects.lock();
        objects.listed.insert(key.clone());
        let before = objects.by_name.get(&key).map(|before| &before.object);
        if before.is_none_or(|before| (&before.field, &before.error) != (&object.field, &object.error)) {
            tracing::warn!(
                kind = %K::kind(&()), namespace = %key.namespace, name = %key.name, field = object.field,
                error = object.error, "an object cannot be decoded, and is left as it is"
            );
        }
        objects.by_name.insert(key, Entry { object, last });
        self.count(&objects);
        self.0.changed.notify_one();
    }

    /// Forgets an object, since it is gone or can be decoded.
    pub(crate) fn take(&self, key: &ObjectKey) -> Option<Entry<K>> {
        let mut objects = self.0.objects.lock();
        let entry = objects.by_name.remove(key);
        self.count(&objects);
        entry
    }

    /// A list begins.
    pub(crate) fn begin_list(&self) {
        self.0.objects.lock().listed.clear();
    }

    /// A list is complete: forgets what it has not shown. Returns that.
    pub(crate) fn end_list(&self) -> Vec<Entry<K>> {
        let mut objects = self.0.objects.lock();
        let Objects { by_name, listed } = &mut *objects;
        let gone = by_name.extract_if(|key, _| !listed.contains(key)).map(|(_, entry)| entry).collect();
        self.count(&objects);
        gone
    }

    fn count(&self, objects: &Objects<K>) {
        self.0.count.set(i64::try_from(objects.by_name.len()).unwrap_or(i64::MAX));
    }

    /// Removes what cannot be decoded from the events of a store that keeps objects as they were last known: `keep` is
    /// called for those that a list must not miss, `gone` for those that are deleted, or missed by a list.
    pub(crate) fn sift(
        &self,
        event: Event<Decoded<K>>,
        keep: impl FnOnce(&Undecodable),
        mut gone: impl FnMut(&ObjectKey),
    ) -> Option<Event<K>> {
        match event {
            Event::Apply(Decoded::Object(object)) => {
                self.take(&ObjectKey::of(&object));
                Some(Event::Apply(object))
            }
            Event::Delete(Decoded::Object(object)) => {
                self.take(&ObjectKey::of(&object));
                Some(Event::Delete(object))
            }
            Event::InitApply(Decoded::Object(object)) => {
                self.take(&ObjectKey::of(&object));
                Some(Event::InitApply(object))
            }
            Event::Apply(Decoded::Undecodable(object)) | Event::InitApply(Decoded::Undecodable(object)) => {
                keep(&object);
                self.put(*object, None);
                None
            }
            Event::Delete(Decoded::Undecodable(object)) => {
                self.take(&object.key());
                gone(&object.key());
                None
            }
            Event::Init => {
                self.begin_list();
                Some(Event::Init)
            }
            Event::InitDone => {
                self.end_list().iter().for_each(|entry| gone(&entry.object.key()));
                Some(Event::InitDone)
            }
        }
    }

    /// Says in the status of each object what is to be corrected, for as long as it is polled, each by itself. `manager`
    /// is the field manager.
    pub async fn tell(self, client: Client, manager: &'static str) {
        let backoff = Backoff::new(GROWTH);
        // By UID the version that was written to: the watch is about to show another, or that the object is gone.
        let mut written = HashMap::new();
        loop {
            let mut due: Option<Duration> = None;
            let before = std::mem::take(&mut written);
            for object in self.objects() {
                let ObjectMeta { uid, resource_version, .. } = object.metadata.clone();
                let mut wait = None;
                if before.get(&uid) != Some(&resource_version) {
                    wait = self.tell_one(&client, manager, &object, &backoff).await;
                }
                if wait.is_none() {
                    written.insert(uid, resource_version);
                }
                due = [due, wait].into_iter().flatten().min();
            }
            let again = async {
                match due {
                    Some(due) => tokio::time::sleep(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = again => {}
            }
        }
    }

    /// Returns how long a refusal is to be waited after.
    async fn tell_one(
        &self,
        client: &Client,
        manager: &str,
        object: &Undecodable,
        backoff: &Backoff<ObjectKey>,
    ) -> Option<Duration> {
        let key = object.key();
        let conditions = news::<K>(object, second(Timestamp::now()))?;
        if let Some(held) = backoff.held(&key) {
            return Some(held);
        }
        match write::<K>(client, manager, object, &conditions).await {
            Ok(()) | Err(RequestError::NotFound(_) | RequestError::Conflict(_)) => {
                backoff.forget(&key);
                None
            }
            Err(error) => {
                tracing::warn!(
                    kind = %K::kind(&()), namespace = %key.namespace, name = %key.name, %error,
                    "could not report in the status of an object that it cannot be decoded"
                );
                Some(backoff.fail(&key, error.retry_after()))
            }
        }
    }

    fn objects(&self) -> Vec<Undecodable> {
        self.0.objects.lock().by_name.values().map(|entry| entry.object.clone()).collect()
    }
}

/// The conditions that an object should have; `None` where it has them.
fn news<K: Resource<DynamicType = ()>>(object: &Undecodable, now: Timestamp) -> Option<Vec<Value>> {
    let standing: Vec<_> =
        object.conditions.iter().filter_map(|condition| Condition::deserialize(condition).ok()).collect();
    let verdict = |kind, status| NewCondition { kind, status, reason: REASON, message: message::<K>(object) };
    let mut verdicts = vec![verdict("Ready", false), verdict("Stalled", true)];
    if standing.iter().any(|condition| condition.type_ == "Reconciling") {
        verdicts.push(verdict("Reconciling", false));
    }
    let mut conditions = object.conditions.clone();
    for condition in merge(verdicts, &standing, object.metadata.generation, now) {
        let place = conditions.iter().position(|standing| standing["type"] == *condition.type_);
        let condition = json!(condition);
        match place {
            Some(place) => conditions[place] = condition,
            None => conditions.push(condition),
        }
    }
    (conditions != object.conditions).then_some(conditions)
}

fn message<K: Resource<DynamicType = ()>>(object: &Undecodable) -> String {
    let Undecodable { metadata, field, error, .. } = object;
    let kind = K::kind(&());
    let mut message = format!(
        "{field} cannot be read: {error}. Correct it; `kubectl explain {}.{}` shows the allowed values. \
         Until then this {kind} is not reconciled, and its objects stay as they are",
        kind.to_lowercase(),
        without_indices(field),
    );
    let prefix = format!("{}/", K::group(&()));
    let ours = metadata.finalizers.iter().flatten().find(|finalizer| finalizer.starts_with(&prefix));
    if let (Some(_), Some(finalizer)) = (&metadata.deletion_timestamp, ours) {
        message.push_str(&format!(
            ". It is being deleted, but what must be cleaned up first is not known. To delete it and leave \
             everything as it is, remove its finalizer {finalizer}"
        ));
    }
    message
}

/// `spec.stages[0].name` as `spec.stages.name`.
fn without_indices(field: &str) -> String {
    field.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect::<Vec<_>>().join(".")
}

async fn write<K: Resource<DynamicType = ()>>(
    client: &Client,
    manager: &str,
    object: &Undecodable,
    conditions: &[Value],
) -> Result<(), RequestError> {
    let metadata = &object.metadata;
    // The conditions are replaced as a whole, so nobody may have changed one of them meanwhile.
    let patch = json!({
        "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
        "status": {"observedGeneration": metadata.generation, "conditions": conditions},
    });
    let (object, params) = (ObjectPath::of::<K>(&object.key()), PatchParams::apply(manager));
    let request = object.kind.patch_subresource("status", &object.key.name, &params, &Patch::Merge(patch));
    // What is answered could not be decoded.
    send::<IgnoredAny>(client, request).await.map(drop)
}

#[cfg(test)]
mod tests;
