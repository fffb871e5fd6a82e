//! Everything that happens to the objects of one kind, in the order of the API server.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};

use futures::TryStreamExt;
use kube::{
    Api, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use crate::wait::eventually;

/// Records from its start until it is dropped, and misses nothing: a watch that cannot be resumed fails the test.
pub struct Recorder<K> {
    api: Api<K>,
    /// Which objects are recorded.
    which: ListParams,
    log: Arc<Mutex<Log<K>>>,
    /// How many entries are objects that existed at the start.
    listed: usize,
    task: JoinHandle<()>,
}

struct Log<K> {
    /// Each state an object had, oldest first, and whether it was its last.
    states: Vec<(K, bool)>,
    failure: Option<String>,
}

impl<K> Recorder<K>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// Records the objects of `api` from now on; those that exist are the first entries.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub async fn start(api: Api<K>) -> Self {
        Self::start_of(api, "").await
    }

    /// The same for those objects of `api` alone that have the labels of this selector all their life.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub async fn start_of(api: Api<K>, labels: &str) -> Self {
        let which = ListParams::default().labels(labels);
        let list = api.list(&which).await.expect("objects are listed");
        let version = list.metadata.resource_version.expect("a list has a version");
        let states: Vec<_> = list.items.into_iter().map(|object| (object, false)).collect();
        let listed = states.len();
        let log = Arc::new(Mutex::new(Log { states, failure: None }));
        let (watched, noted) = (api.clone(), Arc::clone(&log));
        let parameters = WatchParams::default().labels(labels);
        let task = tokio::spawn(async move {
            let failure = follow(watched, &parameters, version, &noted).await;
            locked(&noted).failure = Some(failure);
        });
        Self { api, which, log, listed, task }
    }

    /// What `read` makes of all states so far, oldest first, with whether each was its object's last.
    ///
    /// # Panics
    /// When the record is not whole.
    pub fn read<T>(&self, read: impl FnOnce(&[(K, bool)]) -> T) -> T {
        let log = locked(&self.log);
        assert!(log.failure.is_none(), "the record has a gap: {:?}", log.failure);
        read(&log.states)
    }

    /// How many of the states, the first ones, are of objects that existed at the start.
    pub fn listed(&self) -> usize {
        self.listed
    }

    /// Waits until the record has caught up with the API server.
    pub async fn catch_up(&self) {
        eventually("the record has caught up with the API server", async || {
            let list = self.api.list(&self.which).await.map_err(|error| error.to_string())?;
            let version = |object: &K| object.resource_version().unwrap_or_default();
            let live: BTreeMap<_, _> =
                list.items.iter().map(|object| (object.uid(), version(object))).collect();
            let mut recorded = BTreeMap::new();
            self.read(|states| {
                for (object, gone) in states {
                    if *gone {
                        recorded.remove(&object.uid());
                    } else {
                        recorded.insert(object.uid(), version(object));
                    }
                }
            });
            (recorded == live).then_some(()).ok_or(format!(
                "{} recorded, {} there",
                recorded.len(),
                live.len()
            ))
        })
        .await;
    }

    /// UIDs of all objects that there ever were.
    pub fn uids(&self) -> BTreeSet<String> {
        self.read(|states| states.iter().filter_map(|(object, _)| object.uid()).collect())
    }

    /// The most objects that existed at one moment.
    pub fn most_at_once(&self) -> usize {
        self.read(|states| {
            let (mut live, mut most) = (BTreeSet::new(), 0);
            for (object, gone) in states {
                if *gone {
                    live.remove(&object.uid());
                } else {
                    live.insert(object.uid());
                }
                most = most.max(live.len());
            }
            most
        })
    }
}

impl<K> Drop for Recorder<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A watch that the server ends, as it does with a client that is too busy to read, is resumed where it ended.
async fn follow<K>(api: Api<K>, parameters: &WatchParams, mut version: String, log: &Mutex<Log<K>>) -> String
where
    K: kube::Resource + Clone + DeserializeOwned + Debug,
{
    let watched = async {
        loop {
            let mut events = Box::pin(api.watch(parameters, &version).await?);
            while let Some(event) = events.try_next().await? {
                let state = match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                    WatchEvent::Deleted(object) => (object, true),
                    WatchEvent::Bookmark(bookmark) => {
                        version = bookmark.metadata.resource_version;
                        continue;
                    }
                    WatchEvent::Error(status) => return Ok::<_, kube::Error>(status.message),
                };
                version = state.0.resource_version().unwrap_or(version);
                locked(log).states.push(state);
            }
        }
    };
    watched.await.unwrap_or_else(|error| error.to_string())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
