//! The watches of a process on streams of events.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::Status;
use serde_json::json;

use super::*;

type Events = Vec<watcher::Result<Event<ConfigMap>>>;

fn listed() -> Events {
    vec![Ok(Event::Init), Ok(Event::InitApply(ConfigMap::default())), Ok(Event::InitDone)]
}

/// A server says that the version is yet to come.
fn ahead() -> watcher::Error {
    let details =
        json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]});
    let details = serde_json::from_value(details).expect("details of a status");
    let status = Status::failure("Too large resource version: 9, current: 5", "Timeout")
        .with_code(504)
        .with_details(details);
    watcher::Error::WatchStartFailed(kube::Error::Api(status.boxed()))
}

fn refused() -> watcher::Error {
    watcher::Error::WatchStartFailed(kube::Error::LinesCodecMaxLineLengthExceeded)
}

struct World {
    watches: Watches,
    /// How many times it was begun, and how many lists were taken in.
    begun: Arc<AtomicUsize>,
    lists: Arc<AtomicUsize>,
}

impl World {
    /// Begins with `first`, and brings a list at each further time. `take` may panic.
    fn start(
        first: impl Fn() -> Events + Send + 'static,
        mut take: impl FnMut(usize) + Send + 'static,
    ) -> Self {
        let watches = watches();
        let (begun, lists) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let health = watches.add("configmaps", "");
        let (count, done) = (Arc::clone(&begun), Arc::clone(&lists));
        let begin = move || {
            let events = if count.fetch_add(1, Ordering::Relaxed) == 0 { first() } else { listed() };
            stream::iter(events).chain(stream::pending()).boxed()
        };
        let mut seen = 0;
        let take = move |event: watcher::Result<Event<ConfigMap>>| {
            seen += 1;
            take(seen);
            if matches!(event, Ok(Event::InitDone)) {
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        tokio::spawn(supervise(health, begin, take));
        Self { watches, begun, lists }
    }

    async fn after(&self, seconds: u64) -> (usize, usize, Result<(), String>) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        (count(&self.begun), count(&self.lists), self.watches.live())
    }

    fn restarts(&self) -> u64 {
        self.watches.restarts.with_label_values(&["configmaps"]).get()
    }
}

fn does_not_run() -> Result<(), String> {
    Err("the watch of configmaps is not running".to_owned())
}

fn watches() -> Watches {
    let registry = Registry::new();
    Watches::new(&registry, Heard::new(&registry))
}

#[test]
fn an_object_that_makes_a_panic_is_concerned_alone() {
    let health = watches().add("configmaps", "");
    let taken: Vec<_> = [1, 0, 2].map(|number| health.ward(|| 4 / number)).into();
    assert_eq!((taken, health.panics.get()), (vec![Some(4), None, Some(2)], 1));
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_event_could_not_be_taken_in_begins_anew_with_a_list() {
    let world = World::start(listed, |event| assert_ne!(event, 2, "the second event cannot be taken in"));
    assert_eq!(world.after(10).await, (2, 1, Ok(())));
    assert_eq!(world.restarts(), 1);
    assert_eq!(world.after(600).await, (2, 1, Ok(())), "and goes on");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_does_not_heal_ends_the_process() {
    let world = World::start(listed, |event| assert!(event == 1, "nothing can be taken in"));
    assert_eq!(world.after(60).await.2, Ok(()), "it is tried again first");
    let (begun, lists, live) = world.after(90).await;
    assert_eq!((lists, live), (0, does_not_run()));
    assert!((6..12).contains(&begun), "the server is asked less and less often: {begun} times");
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_task_has_ended_ends_the_process() {
    let watches = watches();
    let health = watches.add("configmaps", "");
    let broken = || -> BoxStream<'static, watcher::Result<Event<ConfigMap>>> { panic!("no stream") };
    assert!(tokio::spawn(supervise(health, broken, |_| {})).await.is_err());
    assert_eq!(watches.live(), does_not_run());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_restored_to_an_older_state_is_listed_anew() {
    let events = || listed().into_iter().chain([Err(ahead()), Err(ahead()), Err(ahead())]).collect();
    let world = World::start(events, |_| {});
    assert_eq!(world.after(10).await, (2, 2, Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_behind_its_peers_is_waited_for() {
    let events = || {
        let behind = [Err(ahead()), Err(ahead()), Ok(Event::Apply(ConfigMap::default())), Err(ahead())];
        listed().into_iter().chain(behind).chain((0..9).map(|_| Err(refused()))).collect()
    };
    let world = World::start(events, |_| {});
    assert_eq!(world.after(600).await, (1, 1, Ok(())));
}
