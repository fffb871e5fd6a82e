//! Sees pods and the slices of both sides through the API server alone, all with the same eyes.

use crate::{
    bed::NAMESPACE,
    error::{Error, Result},
};
use futures::StreamExt;
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// The label that says who manages a slice, and its values on the two sides.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGERS: [&str; 2] = ["endpointpool.mainstay.dev", "endpointslice-controller.k8s.io"];
/// How long a side may take to show the pods as they are.
const LIMIT: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(20);

/// Whether a pod is ready, and when that was first seen.
type Seen = HashMap<String, (bool, Instant)>;

/// What has been seen.
#[derive(Debug, Default)]
struct State {
    pods: Seen,
    /// Mainstay's and upstream's slices, by pod.
    sides: [Seen; 2],
    /// How often slices of each side have changed.
    writes: [u64; 2],
}

/// Three watches, which end when this is dropped.
pub(crate) struct Watch {
    state: Arc<Mutex<State>>,
    _watches: JoinSet<()>,
}

impl Watch {
    /// Begins to watch, and waits until pods and both sides agree on the readiness of `pods` pods.
    pub(crate) async fn start(client: &Client, pods: usize) -> Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let mut watches = JoinSet::new();
        let all: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        watches.spawn(follow_pods(all, Arc::clone(&state)));
        for (side, manager) in MANAGERS.into_iter().enumerate() {
            let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
            watches.spawn(follow_slices(slices, format!("{MANAGED_BY}={manager}"), side, Arc::clone(&state)));
        }
        let watch = Self { state, _watches: watches };
        watch.until(|state| state.sides.iter().all(|side| side.len() == pods) && state.agrees()).await?;
        Ok(watch)
    }

    /// Waits until both sides show the pods as they are.
    pub(crate) async fn settled(&self) -> Result<()> {
        self.until(State::agrees).await
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if holds(&state) {
                    return Ok(());
                }
                if start.elapsed() > LIMIT {
                    let what = "both sides to show the pods as they are".into();
                    return Err(Error::Late { what, seen: state.to_string(), limit: LIMIT });
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// How long each side took to show the present readiness of these pods, in seconds.
    pub(crate) fn delays(&self, pod: &str) -> Option<[f64; 2]> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (ready, since) = state.pods.get(pod)?;
        let delay = |side: &Seen| {
            let (shown, at) = side.get(pod)?;
            (shown == ready).then(|| at.saturating_duration_since(*since).as_secs_f64())
        };
        Some([delay(&state.sides[0])?, delay(&state.sides[1])?])
    }

    /// How often slices of each side have changed.
    pub(crate) fn writes(&self) -> [u64; 2] {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).writes
    }
}

impl State {
    fn agrees(&self) -> bool {
        let shows = |side: &Seen| {
            self.pods.iter().all(|(pod, (ready, _))| side.get(pod).is_some_and(|(shown, _)| shown == ready))
        };
        self.sides.iter().all(shows)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ours, theirs] = self.sides.each_ref().map(HashMap::len);
        write!(f, "{} pods, of which Mainstay's slices have {ours} and upstream's {theirs}", self.pods.len())
    }
}

/// Notes a pod's readiness; the time is that of its last change.
fn note(seen: &mut Seen, pod: String, ready: bool, now: Instant) {
    let entry = seen.entry(pod).or_insert((ready, now));
    if entry.0 != ready {
        *entry = (ready, now);
    }
}

async fn follow_pods(pods: Api<Pod>, state: Arc<Mutex<State>>) {
    let events = watcher(pods, watcher::Config::default()).default_backoff();
    events
        .for_each(|event| {
            let now = Instant::now();
            if let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event {
                let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
                let mut conditions = conditions.into_iter().flatten();
                let ready =
                    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                note(&mut state.pods, pod.name_any(), ready, now);
            }
            std::future::ready(())
        })
        .await;
}

async fn follow_slices(slices: Api<EndpointSlice>, of: String, side: usize, state: Arc<Mutex<State>>) {
    let events = watcher(slices, watcher::Config::default().labels(&of)).default_backoff();
    events
        .for_each(|event| {
            let now = Instant::now();
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                Ok(Event::Apply(slice)) => {
                    state.writes[side] += 1;
                    note_endpoints(&mut state.sides[side], slice, now);
                }
                Ok(Event::InitApply(slice)) => note_endpoints(&mut state.sides[side], slice, now),
                Ok(Event::Delete(_)) => state.writes[side] += 1,
                Ok(Event::Init | Event::InitDone) | Err(_) => {}
            }
            std::future::ready(())
        })
        .await;
}

fn note_endpoints(seen: &mut Seen, slice: EndpointSlice, now: Instant) {
    for endpoint in slice.endpoints.into_iter().flatten() {
        let ready = endpoint.conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        if let Some(pod) = endpoint.target_ref.and_then(|target| target.name) {
            note(seen, pod, ready, now);
        }
    }
}
