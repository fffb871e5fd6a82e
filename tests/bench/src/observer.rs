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
use serde_json::Value;
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
    /// Pods that exist and did so at the last [`Observer::mark`].
    pub earlier: usize,
    /// The most pods since the last [`Observer::mark`] that were live at one time.
    pub most: usize,
    /// The owner's status.
    pub status: Value,
    /// Each value that `status.replicas` has had.
    pub values: BTreeSet<u64>,
    /// The least that `status.availableReplicas` has been since the last [`Observer::mark`].
    pub least_available: u64,
    /// How often [`Observer::mark`] was called.
    era: u32,
}

impl Seen {
    /// A counter of the owner's status, which is absent where it is 0.
    pub(crate) fn count(&self, field: &str) -> u64 {
        self.status[field].as_u64().unwrap_or_default()
    }

    /// The owner's conditions: `Ready=True (AllAvailable)`.
    fn conditions(&self) -> String {
        let shown = self.status["conditions"].as_array().into_iter().flatten().map(|condition| {
            let text = |field: &str| condition[field].as_str().unwrap_or_default();
            format!("{}={} ({})", text("type"), text("status"), text("reason"))
        });
        shown.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exist, live, made, earlier, .. } = self;
        write!(f, "{exist} pods exist, {live} of them live, {made} were made")?;
        if self.era > 0 {
            write!(f, ", {earlier} are from before the change")?;
        }
        write!(f, "; the owner's status says")?;
        for field in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
            write!(f, " {} {field},", self.count(field))?;
        }
        write!(f, " conditions: {}", self.conditions())
    }
}

/// Two watches, which end when this is dropped.
pub(crate) struct Observer {
    sender: watch::Sender<Seen>,
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
            watches.spawn(follow_owner(owners, round.to_owned(), sender.clone(), started));
        }
        let count = 1 + usize::from(owner.is_some());
        let limit = Duration::from_secs(30);
        let late = || Error::Late { what: "the watches".into(), seen: "no answer".into(), limit };
        let running = tokio::time::timeout(limit, watching.wait_for(|watches| *watches >= count)).await;
        running.map_err(|_| late())?.map_err(|_| late())?;
        seen.mark_unchanged();
        Ok(Self { sender, seen, _watches: watches })
    }

    /// Tells the pods that exist now from those made later. Nothing may be on its way meanwhile.
    pub(crate) fn mark(&self) {
        self.sender.send_modify(|seen| {
            seen.era += 1;
            (seen.earlier, seen.most) = (seen.exist, seen.live);
            seen.least_available = seen.count("availableReplicas");
        });
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
        pods.begin(seen.borrow().era);
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
        seen.send_modify(|seen| {
            (seen.exist, seen.live, seen.made) = (pods.exist, pods.live, pods.known.len());
            (seen.earlier, seen.most) = (pods.earlier, seen.most.max(pods.live));
        });
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
    known: HashMap<String, Known>,
    exist: usize,
    live: usize,
    /// Those that exist and were made before this era.
    earlier: usize,
    era: u32,
}

#[derive(Debug)]
struct Known {
    state: State,
    era: u32,
}

impl Pods {
    /// Pods seen first from now on are of `era`.
    fn begin(&mut self, era: u32) {
        if era > self.era {
            (self.era, self.earlier) = (era, self.exist);
        }
    }

    fn set(&mut self, name: String, state: State) {
        let known = self.known.entry(name).or_insert(Known { state: State::Gone, era: self.era });
        let before = std::mem::replace(&mut known.state, state);
        let (exists, existed) = (usize::from(state != State::Gone), usize::from(before != State::Gone));
        self.exist = self.exist + exists - existed;
        if known.era < self.era {
            self.earlier = self.earlier + exists - existed;
        }
        self.live = self.live + usize::from(state == State::Live) - usize::from(before == State::Live);
    }

    fn all_gone(mut self) -> Self {
        for known in self.known.values_mut() {
            known.state = State::Gone;
        }
        Self { exist: 0, live: 0, earlier: 0, ..self }
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
        seen.send_modify(|seen| {
            seen.status = status;
            seen.values.insert(seen.count("replicas"));
            seen.least_available = seen.least_available.min(seen.count("availableReplicas"));
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
        assert_eq!((pods.exist, pods.live, pods.known.len()), (2, 1, 3));
        let mut pods = pods.all_gone();
        pods.set("b".into(), State::Ending);
        assert_eq!((pods.exist, pods.live, pods.known.len()), (1, 0, 3));
    }

    #[test]
    fn pods_from_before_a_change_are_told_from_later_ones() {
        let mut pods = Pods::default();
        pods.begin(0);
        for name in ["a", "b", "c"] {
            pods.set(name.into(), State::Live);
        }
        pods.begin(1);
        pods.set("d".into(), State::Live);
        pods.set("a".into(), State::Ending);
        pods.set("b".into(), State::Gone);
        assert_eq!((pods.exist, pods.live, pods.earlier), (3, 2, 2));
        // A list after a lost watch.
        let mut pods = pods.all_gone();
        for name in ["c", "d", "e"] {
            pods.set(name.into(), State::Live);
        }
        assert_eq!((pods.exist, pods.live, pods.earlier), (3, 3, 1));
        pods.begin(2);
        assert_eq!(pods.earlier, 3);
    }

    #[test]
    fn what_an_owner_says_is_shown_to_who_waits() {
        let seen = Seen {
            status: serde_json::json!({
                "replicas": 9,
                "conditions": [{"type": "Ready", "status": "False", "reason": "RollingOut"}],
            }),
            ..Seen::default()
        };
        let text = seen.to_string();
        assert!(text.contains("9 replicas, 0 updatedReplicas"), "{text}");
        assert!(text.ends_with("conditions: Ready=False (RollingOut)"), "{text}");
    }
}
