//! Sees what a controller brings about, the same way for every side: one watch of the pods' metadata and one
//! of their owner. It is told by the API server alone, never by the controller.

use crate::error::{Error, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject},
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use mainstay_runtime::slim::MetadataOf;
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    pin::pin,
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet};

/// The label by which the pods of one round are known; its value is the owner's name.
pub(crate) const ROUND: &str = "mainstay-bench/round";

/// The state of one round's pods and their owner.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Pods that exist, also those whose deletion has begun.
    pub exist: usize,
    /// Those of them whose deletion has not begun.
    pub live: usize,
    /// All pods that have ever existed.
    pub made: usize,
    /// The owner's `status.replicas`.
    pub replicas: u64,
    /// The owner's `status.readyReplicas`.
    pub ready: u64,
    /// Each value that `status.replicas` has had.
    pub values: BTreeSet<u64>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exist, live, made, replicas, ready, .. } = self;
        write!(
            f,
            "{exist} pods exist, {live} of them live, {made} were made; \
             the owner's status says {replicas} replicas, {ready} ready"
        )
    }
}

/// Two watches, which end when this is dropped.
pub(crate) struct Observer {
    seen: watch::Receiver<Seen>,
    _watches: JoinSet<()>,
}

impl Observer {
    /// Begins to watch the pods of `round` and, where a controller keeps them, the owner of that name; it
    /// may not exist yet. Returns once the watches run.
    pub(crate) async fn start(
        client: &Client,
        namespace: &str,
        round: &str,
        owner: Option<&ApiResource>,
    ) -> Result<Self> {
        let (sender, mut seen) = watch::channel(Seen::default());
        let (started, mut watching) = watch::channel(0);
        let mut watches = JoinSet::new();
        let pods: Api<MetadataOf<Pod>> = Api::namespaced(client.clone(), namespace);
        watches.spawn(follow_pods(pods, format!("{ROUND}={round}"), sender.clone(), started.clone()));
        if let Some(kind) = owner {
            let owners = Api::namespaced_with(client.clone(), namespace, kind);
            watches.spawn(follow_owner(owners, round.to_owned(), sender, started));
        }
        let count = 1 + usize::from(owner.is_some());
        let limit = Duration::from_secs(30);
        let late = || Error::Late { what: "the watches".into(), seen: "no answer".into(), limit };
        let running = tokio::time::timeout(limit, watching.wait_for(|watches| *watches >= count)).await;
        running.map_err(|_| late())?.map_err(|_| late())?;
        seen.mark_unchanged();
        Ok(Self { seen, _watches: watches })
    }

    /// Waits until what is seen is `wanted`; returns when that was.
    pub(crate) async fn wait(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl FnMut(&Seen) -> bool,
    ) -> Result<Instant> {
        let mut seen = self.seen.clone();
        let found = tokio::time::timeout(limit, seen.wait_for(wanted)).await.is_ok_and(|found| found.is_ok());
        let late = || Error::Late { what: what.into(), seen: self.now().to_string(), limit };
        if found { Ok(Instant::now()) } else { Err(late()) }
    }

    /// What is seen now.
    pub(crate) fn now(&self) -> Seen {
        self.seen.borrow().clone()
    }
}

async fn follow_pods(
    pods: Api<MetadataOf<Pod>>,
    labels: String,
    seen: watch::Sender<Seen>,
    started: watch::Sender<usize>,
) {
    let events =
        watcher(pods, watcher::Config::default().labels(&labels).streaming_lists()).default_backoff();
    let mut events = pin!(events);
    let (mut pods, mut is_listing, mut is_first) = (Pods::default(), true, true);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                let live = pod.metadata.deletion_timestamp.is_none();
                pods.set(pod.name_any(), if live { State::Live } else { State::Ending });
            }
            Ok(Event::Delete(pod)) => pods.set(pod.name_any(), State::Gone),
            Ok(Event::Init) => (pods, is_listing) = (pods.all_gone(), true),
            Ok(Event::InitDone) => is_listing = false,
            Err(error) => eprintln!("the observer's watch of pods failed and is tried again: {error}"),
        }
        // Half a list is no state.
        if is_listing {
            continue;
        }
        let made = pods.states.len();
        seen.send_modify(|seen| (seen.exist, seen.live, seen.made) = (pods.exist, pods.live, made));
        if std::mem::take(&mut is_first) {
            started.send_modify(|watches| *watches += 1);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    Ending,
    Gone,
}

/// Every pod that has ever existed, counted as it changes: there is an event for each of thousands.
#[derive(Debug, Default)]
struct Pods {
    states: HashMap<String, State>,
    exist: usize,
    live: usize,
}

impl Pods {
    fn set(&mut self, name: String, state: State) {
        let before = self.states.insert(name, state).unwrap_or(State::Gone);
        self.exist = self.exist + usize::from(state != State::Gone) - usize::from(before != State::Gone);
        self.live = self.live + usize::from(state == State::Live) - usize::from(before == State::Live);
    }

    fn all_gone(self) -> Self {
        let states = self.states.into_keys().map(|name| (name, State::Gone)).collect();
        Self { states, exist: 0, live: 0 }
    }
}

async fn follow_owner(
    owners: Api<DynamicObject>,
    name: String,
    seen: watch::Sender<Seen>,
    started: watch::Sender<usize>,
) {
    let events = watcher::watch_object(owners, &name).inspect_err(|error| {
        eprintln!("the observer's watch of the owner failed and is tried again: {error}");
    });
    let mut events = pin!(events.default_backoff());
    let mut is_first = true;
    while let Some(event) = events.next().await {
        let Ok(object) = event else { continue };
        let status = object.map(|object| object.data["status"].clone()).unwrap_or_default();
        let count = |field: &str| status[field].as_u64().unwrap_or_default();
        let (replicas, ready) = (count("replicas"), count("readyReplicas"));
        seen.send_modify(|seen| {
            (seen.replicas, seen.ready) = (replicas, ready);
            seen.values.insert(replicas);
        });
        if std::mem::take(&mut is_first) {
            started.send_modify(|watches| *watches += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_counted_by_their_last_state_and_made_once() {
        let mut pods = Pods::default();
        for (name, state) in [
            ("a", State::Live),
            ("a", State::Live),
            ("b", State::Live),
            ("b", State::Ending),
            ("c", State::Gone),
        ] {
            pods.set(name.into(), state);
        }
        assert_eq!((pods.exist, pods.live, pods.states.len()), (2, 1, 3));
        let mut pods = pods.all_gone();
        pods.set("b".into(), State::Ending);
        assert_eq!((pods.exist, pods.live, pods.states.len()), (1, 0, 3));
    }
}
