//! Sees the slices of both sides through the API server alone, with the same eyes.

use crate::{
    error::{Error, Result},
    names::NAMESPACE,
};
use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use mainstay_crds::EndpointPool;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// The label that says who manages a slice, and its values on the two sides.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGERS: [&str; 2] = ["endpointpool.mainstay.dev", "endpointslice-controller.k8s.io"];
/// How long a side may take to show the pods as they are.
const LIMIT: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(20);

/// How long a slice took to show a flip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Delay {
    /// Whether the pod became ready.
    pub ready: bool,
    /// From the answer to the flip. Of a flip that was overtaken: until the next one of the same pod, so at least.
    pub seconds: f64,
}

/// What a side has done.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// One for each flip.
    pub delays: Vec<Delay>,
    /// Flips that were not shown before the same pod flipped again.
    pub overtaken: u64,
    /// Slices created, changed and deleted.
    pub slice_writes: u64,
    /// Changes of its EndpointPools, of which only the status changes; upstream has none.
    pub pool_writes: u64,
}

/// A side as its slices show it.
#[derive(Debug, Default)]
struct Side {
    /// Whether a pod is ready, and when that was first seen.
    shown: HashMap<String, (bool, Instant)>,
    /// Flips that are still to be shown, by pod: to what, and when they were answered.
    due: HashMap<String, (bool, Instant)>,
    tally: Tally,
}

impl Side {
    fn flipped(&mut self, pod: &str, ready: bool, (sent, answered): (Instant, Instant)) {
        if let Some((earlier, since)) = self.due.remove(pod) {
            self.tally.overtaken += 1;
            self.tally.delays.push(Delay { ready: earlier, seconds: seconds(since, answered) });
        }
        match self.shown.get(pod) {
            // The slice was faster than the answer.
            Some((shown, at)) if *shown == ready && *at >= sent => {
                self.tally.delays.push(Delay { ready, seconds: 0.0 });
            }
            _ => drop(self.due.insert(pod.to_owned(), (ready, answered))),
        }
    }

    fn shows(&mut self, pod: String, ready: bool, now: Instant) {
        if let Some((_, since)) = self.due.get(&pod).copied().filter(|(due, _)| *due == ready) {
            self.due.remove(&pod);
            self.tally.delays.push(Delay { ready, seconds: seconds(since, now) });
        }
        let entry = self.shown.entry(pod).or_insert((ready, now));
        if entry.0 != ready {
            *entry = (ready, now);
        }
    }

    fn shows_slice(&mut self, slice: EndpointSlice, now: Instant) {
        for endpoint in slice.endpoints.into_iter().flatten() {
            let ready = endpoint.conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
            if let Some(pod) = endpoint.target_ref.and_then(|target| target.name) {
                self.shows(pod, ready, now);
            }
        }
    }
}

fn seconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
}

type Sides = [Side; 2];

/// The watches, which end when this is dropped.
pub(crate) struct Watch {
    sides: Arc<Mutex<Sides>>,
    _watches: JoinSet<()>,
}

impl Watch {
    /// Begins to watch, and waits until both sides show `pods` pods, all of them ready.
    pub(crate) async fn start(client: &Client, pods: usize) -> Result<Self> {
        let sides = Arc::new(Mutex::new(Sides::default()));
        let mut watches = JoinSet::new();
        for (side, manager) in MANAGERS.into_iter().enumerate() {
            let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
            watches.spawn(follow_slices(slices, format!("{MANAGED_BY}={manager}"), side, Arc::clone(&sides)));
        }
        let pools: Api<EndpointPool> = Api::namespaced(client.clone(), NAMESPACE);
        watches.spawn(follow_pools(pools, Arc::clone(&sides)));
        let watch = Self { sides, _watches: watches };
        let ready = |side: &Side| side.shown.values().filter(|(ready, _)| *ready).count();
        let seen = |side: &Side| format!("{} ready pods", ready(side));
        watch.until(&format!("{pods} ready pods"), seen, |side| ready(side) == pods).await?;
        Ok(watch)
    }

    /// A flip that was sent and answered at these times.
    pub(crate) fn flipped(&self, pod: &str, ready: bool, times: (Instant, Instant)) {
        lock(&self.sides).iter_mut().for_each(|side| side.flipped(pod, ready, times));
    }

    /// Waits until both sides have shown all flips.
    pub(crate) async fn settled(&self) -> Result<()> {
        let seen = |side: &Side| format!("{} flips to be shown", side.due.len());
        self.until("all flips", seen, |side| side.due.is_empty()).await
    }

    async fn until(
        &self,
        what: &str,
        seen: impl Fn(&Side) -> String,
        holds: impl Fn(&Side) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            {
                let sides = lock(&self.sides);
                if sides.iter().all(&holds) {
                    return Ok(());
                }
                if start.elapsed() > LIMIT {
                    let seen = format!("Mainstay: {}, upstream: {}", seen(&sides[0]), seen(&sides[1]));
                    let what = format!("both sides to show {what}");
                    return Err(Error::Late { what, seen, limit: LIMIT });
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What each side has done since the last call, or since the start.
    pub(crate) fn take(&self) -> [Tally; 2] {
        lock(&self.sides).each_mut().map(|side| std::mem::take(&mut side.tally))
    }
}

fn lock(sides: &Mutex<Sides>) -> MutexGuard<'_, Sides> {
    sides.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow_slices(slices: Api<EndpointSlice>, of: String, side: usize, sides: Arc<Mutex<Sides>>) {
    let mut events = watcher(slices, watcher::Config::default().labels(&of)).default_backoff().boxed();
    while let Some(event) = events.next().await {
        let now = Instant::now();
        let side = &mut lock(&sides)[side];
        match event {
            Ok(Event::Apply(slice)) => {
                side.tally.slice_writes += 1;
                side.shows_slice(slice, now);
            }
            Ok(Event::InitApply(slice)) => side.shows_slice(slice, now),
            Ok(Event::Delete(_)) => side.tally.slice_writes += 1,
            Ok(Event::Init | Event::InitDone) | Err(_) => {}
        }
    }
}

async fn follow_pools(pools: Api<EndpointPool>, sides: Arc<Mutex<Sides>>) {
    let mut events = watcher(pools, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        if matches!(event, Ok(Event::Apply(_))) {
            lock(&sides)[0].tally.pool_writes += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A side that shows a pod as ready, and a clock of seconds.
    fn side() -> (Side, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let at = move |second| start + Duration::from_secs(second);
        let mut side = Side::default();
        side.shows("pod".into(), true, at(0));
        (side, at)
    }

    fn delays(side: &Side) -> Vec<(bool, f64)> {
        side.tally.delays.iter().map(|delay| (delay.ready, delay.seconds)).collect()
    }

    #[test]
    fn a_flip_takes_from_its_answer_to_the_slice_that_shows_it() {
        let (mut side, at) = side();
        side.flipped("pod", false, (at(1), at(2)));
        side.shows("other".into(), false, at(3));
        assert_eq!(delays(&side), []);
        side.shows("pod".into(), false, at(5));
        side.shows("pod".into(), false, at(6));
        assert_eq!(delays(&side), [(false, 3.0)]);
        assert!(side.due.is_empty());
    }

    #[test]
    fn a_slice_that_still_shows_the_pod_as_it_was_does_not_show_the_flip() {
        let (mut side, at) = side();
        side.flipped("pod", false, (at(1), at(2)));
        side.shows("pod".into(), true, at(3));
        side.shows("pod".into(), false, at(4));
        assert_eq!(delays(&side), [(false, 2.0)]);
    }

    #[test]
    fn a_slice_may_come_before_the_answer() {
        let (mut side, at) = side();
        side.shows("pod".into(), false, at(2));
        side.flipped("pod", false, (at(1), at(3)));
        assert_eq!(delays(&side), [(false, 0.0)]);
    }

    #[test]
    fn a_flip_that_was_overtaken_counts_with_the_time_that_it_had() {
        let (mut side, at) = side();
        side.flipped("pod", false, (at(1), at(2)));
        side.flipped("pod", true, (at(9), at(10)));
        side.shows("pod".into(), true, at(11));
        assert_eq!(delays(&side), [(false, 8.0), (true, 1.0)]);
        assert_eq!(side.tally.overtaken, 1);
    }
}
