//! The loop on a store without a server: what one bad object may do to the others, and how often a key is served.

use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    ResourceExt,
    runtime::{reflector::store, watcher::Event},
};
use prometheus::Registry;
use tokio::sync::Notify;

use super::*;

/// Acts by the name of the object.
#[derive(Default)]
struct Actor {
    served: AtomicUsize,
    held: AtomicUsize,
    version: AtomicUsize,
    done: Notify,
}

impl Reconciler for Actor {
    type Object = ConfigMap;
    type Error = RequestError;

    async fn reconcile(
        self: Arc<Self>,
        map: Arc<ConfigMap>,
        held: Option<Duration>,
    ) -> Result<Option<Duration>, RequestError> {
        if held.is_some() {
            self.held.fetch_add(1, Ordering::SeqCst);
            return Ok(held);
        }
        self.served.fetch_add(1, Ordering::SeqCst);
        let version = map.resource_version().and_then(|version| version.parse().ok());
        self.version.store(version.unwrap_or_default(), Ordering::SeqCst);
        match map.name_any().as_str() {
            "panics" => panic!("a bug that only this object meets"),
            "hangs" => std::future::pending().await,
            "fails" => Err(RequestError::Forbidden("refused".into())),
            _ => {
                self.done.notify_one();
                Ok(None)
            }
        }
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
    let (work, keys) = Work::new(metrics.clone());
    let (actor, shutdown) = (Arc::<Actor>::default(), CancellationToken::new());
    let bounds = Bounds { concurrency: 2, timeout: Duration::from_secs(5) };
    let looping = run(Arc::clone(&actor), reader, Arc::clone(&work), keys, bounds, shutdown.clone());
    let running = tokio::spawn(looping);
    let (objects, mut events) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            writer.apply_watcher_event(&event);
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
async fn a_key_that_was_due_while_its_object_was_gone_is_served_when_it_comes_back() {
    let bench = start(&[]);
    bench.work.trigger(&key("well"));
    while bench.work.triggers.depth() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bench.objects.send(Event::Apply(map("well"))).unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    bench.work.trigger(&key("well"));
    bench.actor.done.notified().await;
    assert!(!bench.work.stuck(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_last_pass_sees_the_last_change_whenever_it_comes() {
    let bench = start(&["well"]);
    for version in 1..=2000 {
        let mut changed = map("well");
        changed.metadata.resource_version = Some(version.to_string());
        bench.objects.send(Event::Apply(changed)).unwrap();
        // The store has it after this; the change comes at every point of a pass and of the queue before it.
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
async fn a_standby_is_live_however_long_its_keys_wait() {
    let (work, _keys) = Work::new(LoopMetrics::new(&Registry::new(), "configmap", 2));
    work.trigger(&key("well"));
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(!work.stuck(Duration::from_secs(60)));
}
