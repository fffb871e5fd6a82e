//! The loop on a store without a server: what one bad object may do to the others, and how often a key is served.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    ResourceExt,
    runtime::{reflector::store, watcher::Event},
};
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::sync::Notify;

use super::*;
use crate::{failure::RequestError, metrics::LoopMetrics};

const FIRST: Concern = Concern::new("First", "FirstFailed");
const SECOND: Concern = Concern::new("Second", "SecondFailed");

/// Acts by the name of the object.
#[derive(Default)]
struct Actor {
    served: AtomicUsize,
    held: AtomicUsize,
    version: AtomicUsize,
    /// How often the second concern was tried.
    second: AtomicUsize,
    /// What is remembered, by name.
    memory: Mutex<BTreeSet<String>>,
    done: Notify,
}

impl Reconciler for Actor {
    type Object = ConfigMap;

    async fn reconcile(self: Arc<Self>, map: Arc<ConfigMap>, turn: Turn) -> Outcomes {
        let mut outcomes = Outcomes::default();
        if turn.held(SECOND).is_none() {
            self.second.fetch_add(1, Ordering::SeqCst);
            outcomes.note::<_, RequestError>(SECOND, Ok(()));
        }
        if turn.held(FIRST).is_some() {
            self.held.fetch_add(1, Ordering::SeqCst);
            return outcomes;
        }
        self.served.fetch_add(1, Ordering::SeqCst);
        let version = map.resource_version().and_then(|version| version.parse().ok());
        self.version.store(version.unwrap_or_default(), Ordering::SeqCst);
        match map.name_any().as_str() {
            "panics" => panic!("a bug that only this object meets"),
            "hangs" => std::future::pending().await,
            "fails" => outcomes.note::<(), _>(FIRST, Err(RequestError::Forbidden("refused".into()))),
            "remembers" => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.memory.lock().insert(map.uid().unwrap_or_default());
                self.done.notify_one();
                None
            }
            _ => {
                self.done.notify_one();
                None
            }
        };
        outcomes
    }

    fn forget(&self, _: &ObjectKey) {
        self.memory.lock().clear();
    }
}

struct Bench {
    work: Arc<Work>,
    actor: Arc<Actor>,
    metrics: LoopMetrics,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<()>,
    objects: tokio::sync::mpsc::UnboundedSender<Event<ConfigMap>>,
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("ns", name)
}

fn start(names: &[&str]) -> Bench {
    let (reader, mut writer) = store();
    writer.apply_watcher_event(&Event::Init);
    for name in names {
        writer.apply_watcher_event(&Event::InitApply(map(name)));
    }
    writer.apply_watcher_event(&Event::InitDone);
    let metrics = LoopMetrics::new(&Registry::new(), "configmap", 2);
    let work = Work::new(metrics.clone());
    let (actor, shutdown) = (Arc::<Actor>::default(), CancellationToken::new());
    let forgetful = Arc::clone(&actor);
    work.on_forget(move |key| forgetful.forget(key));
    names.iter().for_each(|name| work.root_changed(None, Some(&map(name)), |_| false));
    let bounds = Bounds { concurrency: 2, timeout: Duration::from_secs(5) };
    let looping = run(Arc::clone(&actor), reader.clone(), Arc::clone(&work), bounds, shutdown.clone());
    let running = tokio::spawn(looping);
    let (objects, mut events) = tokio::sync::mpsc::unbounded_channel();
    let follows = Arc::clone(&work);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let (Event::Apply(object) | Event::Delete(object)) = &event else { continue };
            let old = reader.get(&ObjectKey::of(object).reference());
            writer.apply_watcher_event(&event);
            let new = matches!(event, Event::Apply(_)).then_some(object);
            follows.root_changed(old.as_deref(), new, |_| false);
        }
    });
    Bench { work, actor, metrics, shutdown, running, objects }
}

fn map(name: &str) -> ConfigMap {
    let metadata =
        ObjectMeta { name: Some(name.into()), namespace: Some("ns".into()), ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_hang_stop_no_other_object() {
    let bench = start(&["panics", "hangs", "well"]);
    for name in ["panics", "hangs", "well"] {
        bench.work.trigger(&key(name));
    }
    bench.actor.done.notified().await;
    while bench.metrics.timeouts.get() == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(bench.metrics.panics.get() >= 1);
    assert_eq!(bench.metrics.retries.get(), bench.metrics.panics.get() + bench.metrics.timeouts.get());
    bench.work.trigger(&key("well"));
    bench.actor.done.notified().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_key_is_retried_by_the_clock_and_not_by_its_events() {
    let bench = start(&["fails"]);
    let end = Instant::now() + Duration::from_secs(600);
    while Instant::now() < end {
        bench.work.trigger(&key("fails"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // 0.1 s doubling to 60 s: ten doublings take about 100 s, then one attempt a minute.
    let attempts = bench.actor.served.load(Ordering::SeqCst);
    assert!((12..=25).contains(&attempts), "{attempts} attempts in ten minutes");
    assert!(bench.actor.held.load(Ordering::SeqCst) > 1000, "held passes still observe");
    assert_eq!(bench.metrics.terminal_errors.get(), u64::try_from(attempts).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_busy_key_is_served_at_the_pace_and_a_resting_one_at_once() {
    let bench = start(&["well"]);
    bench.work.trigger(&key("well"));
    bench.actor.done.notified().await;
    assert_eq!(bench.metrics.queue_time.get_sample_sum(), 0.0, "the first change was served at once");
    for _ in 0..1000 {
        bench.work.trigger(&key("well"));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let served = bench.actor.served.load(Ordering::SeqCst);
    assert!((9..=12).contains(&served), "{served} passes in a second of changes");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_the_loop_when_its_passes_have_ended() {
    let bench = start(&["well"]);
    bench.work.trigger(&key("well"));
    bench.actor.done.notified().await;
    bench.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(1), bench.running).await.expect("the loop ends").unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_last_pass_sees_the_last_change_whenever_it_comes() {
    let bench = start(&["well"]);
    for version in 1..=2000 {
        let mut changed = map("well");
        changed.metadata.resource_version = Some(version.to_string());
        bench.objects.send(Event::Apply(changed)).unwrap();
        // The store has it after this; the change comes at every point of a reconcile and of the queue before it.
        tokio::task::yield_now().await;
        bench.work.trigger(&key("well"));
        if version % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(version % 150)).await;
        }
        if version % 50 == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let seen = bench.actor.version.load(Ordering::SeqCst);
            assert_eq!(seen as u64, version, "a change was not served");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_concern_that_fails_holds_no_other() {
    let bench = start(&["fails"]);
    for _ in 0..100 {
        bench.work.trigger(&key("fails"));
        tokio::time::sleep(PACE).await;
    }
    let [first, second] =
        [&bench.actor.served, &bench.actor.second].map(|count| count.load(Ordering::SeqCst));
    assert!(first < 10 && second > 90, "the one that fails was tried {first} times, the other {second}");
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_of_which_many_parts_fail_is_one_that_failed() {
    let metrics = LoopMetrics::new(&Registry::new(), "configmap", 2);
    let work = Work::new(metrics.clone());
    work.root_changed(None, Some(&map("well")), |_| false);
    let mut outcomes = Outcomes::default();
    for name in ["a", "b", "c"] {
        outcomes.fail((FIRST, Some(name.into())), &RequestError::Forbidden("refused".into()));
    }
    work.conclude(&key("well"), Duration::ZERO, outcomes);
    let counts = [&metrics.errors, &metrics.terminal_errors, &metrics.retries].map(|counter| counter.get());
    assert_eq!(counts, [1, 1, 1], "`errors / reconciles` is a share");
}

#[tokio::test(start_paused = true)]
async fn what_a_reconcile_under_way_remembers_of_an_object_that_goes_is_forgotten() {
    for replaced in [false, true] {
        let bench = start(&["remembers"]);
        tokio::time::sleep(Duration::from_millis(500)).await;
        // The reconcile is half done: what it notes when it ends is of an object that is gone.
        let mut next = map("remembers");
        next.metadata.uid = Some("next".to_owned());
        bench
            .objects
            .send(if replaced { Event::Apply(next) } else { Event::Delete(map("remembers")) })
            .unwrap();
        bench.actor.done.notified().await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(bench.actor.memory.lock().is_empty(), "replaced: {replaced}");
        if replaced {
            bench.actor.done.notified().await;
            assert_eq!(*bench.actor.memory.lock(), ["next".to_owned()].into(), "the next one is served");
        }
        assert_eq!(bench.work.keys_of("ns").len(), usize::from(replaced));
    }
}

/// A store is replaced by a list as a whole before the changes are taken up one by one.
#[tokio::test(start_paused = true)]
async fn no_object_is_reconciled_with_the_memory_of_one_that_had_its_name() {
    let (mut old, mut new) = (map("well"), map("well"));
    (old.metadata.uid, new.metadata.uid) = (Some("old".into()), Some("new".into()));
    let (reader, mut writer) = store();
    writer.apply_watcher_event(&Event::Apply(new.clone()));
    let work = Work::new(LoopMetrics::new(&Registry::new(), "configmap", 2));
    work.root_changed(None, Some(&old), |_| false);
    let actor = Arc::<Actor>::default();
    let bounds = Bounds { concurrency: 2, timeout: Duration::from_secs(5) };
    tokio::spawn(run(Arc::clone(&actor), reader, Arc::clone(&work), bounds, CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(actor.served.load(Ordering::SeqCst), 0);
    work.root_changed(Some(&old), Some(&new), |_| false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(actor.served.load(Ordering::SeqCst), 1);
}

/// A panic while a change was taken up, or an object that could not be decoded, may hide the one before.
#[tokio::test(start_paused = true)]
async fn an_object_whose_predecessor_was_never_seen_to_go_begins_without_its_memory() {
    let (mut old, mut new) = (map("well"), map("well"));
    (old.metadata.uid, new.metadata.uid) = (Some("old".into()), Some("new".into()));
    let work = Work::new(LoopMetrics::new(&Registry::new(), "configmap", 2));
    let forgotten = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&forgotten);
    work.on_forget(move |_| {
        counts.fetch_add(1, Ordering::SeqCst);
    });
    work.root_changed(None, Some(&old), |_| false);
    work.root_changed(None, Some(&new), |_| false);
    assert_eq!(forgotten.load(Ordering::SeqCst), 1);
    work.root_changed(Some(&new), Some(&new), |_| false);
    assert_eq!((forgotten.load(Ordering::SeqCst), work.depth()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_no_object_is_kept_by_nobody() {
    let work = Work::new(LoopMetrics::new(&Registry::new(), "configmap", 2));
    for index in 0..1000 {
        let object = map(&format!("object-{index}"));
        work.root_changed(None, Some(&object), |_| false);
        work.root_changed(Some(&object), None, |_| false);
        // Its pods go after it.
        work.trigger(&ObjectKey::of(&object));
    }
    assert_eq!((work.depth(), work.keys_of("ns").len()), (0, 0), "a standby, in which nothing is served");
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_an_echo_is_no_reason_to_reconcile() {
    let work = Work::new(LoopMetrics::new(&Registry::new(), "configmap", 2));
    let (old, mut new) = (map("well"), map("well"));
    work.root_changed(None, Some(&old), |_| false);
    assert_eq!(work.next().await, key("well"));
    work.conclude(&key("well"), Duration::ZERO, Outcomes::default());
    new.metadata.resource_version = Some("2".to_owned());
    work.root_changed(Some(&old), Some(&new), |_| true);
    assert_eq!(work.depth(), 0);
    work.root_changed(Some(&old), Some(&new), |_| false);
    assert_eq!(work.depth(), 1, "somebody else has written it");
    work.conclude(&key("well"), Duration::ZERO, Outcomes::default());
    assert_eq!(work.next().await, key("well"));
    new.metadata.labels = Some([("team".to_owned(), "blue".to_owned())].into());
    work.root_changed(Some(&old), Some(&new), |_| true);
    assert_eq!(work.depth(), 1, "its labels have changed besides");
}

#[tokio::test(start_paused = true)]
async fn what_failed_for_a_reason_that_is_gone_is_tried_at_once() {
    let bench = start(&["fails"]);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let before = bench.actor.served.load(Ordering::SeqCst);
    assert!(!bench.work.retry_failed_for("QuotaExceeded", &key("fails"), |_| true));
    assert!(!bench.work.retry_failed_for("Forbidden", &key("fails"), |_| false));
    assert!(bench.work.retry_failed_for("Forbidden", &key("fails"), |message| !message.is_empty()));
    tokio::time::sleep(PACE).await;
    assert_eq!(bench.actor.served.load(Ordering::SeqCst), before + 1);
}

#[tokio::test(start_paused = true)]
async fn what_failed_under_an_old_spec_says_nothing_of_the_new_one() {
    for during in [false, true] {
        let work = Work::new(LoopMetrics::new(&Registry::new(), "configmap", 2));
        let (old, mut new) = (map("well"), map("well"));
        work.root_changed(None, Some(&old), |_| false);
        assert_eq!(work.next().await, key("well"));
        let fails = || {
            let mut outcomes = Outcomes::default();
            outcomes.note::<(), _>(FIRST, Err(RequestError::Forbidden("refused".into())));
            work.conclude(&key("well"), Duration::ZERO, outcomes);
        };
        if !during {
            fails();
            assert!(!Outcomes::default().failures(&work.turn(&key("well"))).is_empty());
        }
        new.metadata.generation = Some(2);
        work.root_changed(Some(&old), Some(&new), |_| true);
        if during {
            fails();
        }
        let turn = work.turn(&key("well"));
        let left = Outcomes::default().failures(&turn);
        assert!(turn.holds_nothing() && left.is_empty(), "during a reconcile: {during}: {left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_object_is_looked_at_once_in_the_time_of_the_resync_although_nothing_is_heard() {
    let (reader, mut writer) = store();
    let work = Work::new(LoopMetrics::new(&Registry::new(), "configmap", 2));
    for index in 0..100 {
        let object = map(&format!("object-{index}"));
        writer.apply_watcher_event(&Event::Apply(object.clone()));
        work.root_changed(None, Some(&object), |_| false);
        let taken = work.next().await;
        work.conclude(&taken, Duration::ZERO, Outcomes::default());
    }
    let resyncing = tokio::spawn(resync(Arc::clone(&work), reader));
    tokio::time::sleep(RESYNC / 2).await;
    let half = work.depth();
    assert!((40..60).contains(&half), "{half} of 100 after half of the time: they are spread");
    tokio::time::sleep(RESYNC).await;
    assert_eq!(work.depth(), 100);
    resyncing.abort();
}

#[tokio::test(start_paused = true)]
async fn a_standby_is_live_however_long_its_keys_wait() {
    let work = Work::new(LoopMetrics::new(&Registry::new(), "configmap", 2));
    work.root_changed(None, Some(&map("well")), |_| false);
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(!work.stuck(Duration::from_secs(60)));
}
