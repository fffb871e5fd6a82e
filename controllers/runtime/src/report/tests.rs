//! When a status is written, and what it delays when it cannot be.

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use prometheus::Registry;

use super::*;
use crate::{
    metrics::LoopMetrics,
    outcome::Outcomes,
    testing::{client, refuse, reply},
};

/// What was written: the name of the object and its status.
type Written = Arc<Mutex<Vec<(String, Value)>>>;

struct Bench {
    status_writer: Arc<StatusWriter<Value>>,
    work: Arc<Work>,
    written: Written,
    registry: Registry,
}

fn pod(name: &str) -> Pod {
    let metadata = ObjectMeta {
        name: Some(name.into()),
        namespace: Some("ns".into()),
        uid: Some(format!("{name}-1")),
        resource_version: Some("1".into()),
        ..ObjectMeta::default()
    };
    Pod { metadata, ..Pod::default() }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("ns", name)
}

impl Bench {
    /// Reports at a pace of ten seconds to a server that refuses the object `refused`, and the first status of `behind`.
    fn new() -> Self {
        let written = Written::default();
        let log = Arc::clone(&written);
        let client = client(move |head, body| {
            let patch: Value = serde_json::from_slice(body)?;
            let name = patch["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let first = patch["metadata"].get("resourceVersion").is_some();
            assert!(head.uri.path().ends_with("/status"));
            log.lock().push((name.clone(), patch["status"].clone()));
            Ok(match name.as_str() {
                "refused" => refuse(403, "Forbidden"),
                "behind" if first => refuse(409, "Conflict"),
                _ => {
                    let mut stored = pod(&name);
                    stored.metadata.resource_version = Some("2".into());
                    reply(&stored)
                }
            })
        });
        let registry = Registry::new();
        let work = Work::new(LoopMetrics::new(&registry, "pod", 1));
        let status_writer = Arc::new(StatusWriter::new(client, "test", Duration::from_secs(10)));
        Self { status_writer, work, written, registry }
    }

    /// How many objects have a status that fails, as a scrape sees it.
    fn failing(&self) -> f64 {
        self.work.refresh_metrics();
        let families = self.registry.gather();
        let mut named =
            families.iter().filter(|family| family.name() == "mainstay_reconcile_concerns_failing");
        named.next().map_or(0.0, |family| {
            family.get_metric().iter().map(|series| series.get_gauge().get_value()).sum()
        })
    }

    fn start(&self) {
        tokio::spawn(Arc::clone(&self.status_writer).run(Arc::clone(&self.work)));
    }

    /// Puts a status, of which the words are urgent and the numbers are not.
    fn put(&self, name: &str, status: Value) {
        self.status_writer.put(&pod(name), None, status, |_, new| new.is_string());
    }

    /// What was written of the object in this time.
    async fn of(&self, name: &str, time: Duration) -> Vec<Value> {
        tokio::time::sleep(time).await;
        let written = std::mem::take(&mut *self.written.lock());
        written.into_iter().filter(|(of, _)| of == name).map(|(_, status)| status).collect()
    }
}

const SOON: Duration = Duration::from_millis(10);

#[tokio::test(start_paused = true)]
async fn numbers_follow_at_the_pace_and_words_at_once() {
    let bench = Bench::new();
    bench.start();
    bench.put("a", json!(1));
    assert_eq!(bench.of("a", SOON).await, [json!(1)]);
    for number in 2..=50 {
        bench.put("a", json!(number));
    }
    assert_eq!(bench.of("a", Duration::from_secs(9)).await, Vec::<Value>::new());
    assert_eq!(bench.of("a", Duration::from_secs(1)).await, [json!(50)], "the last, and once");
    bench.put("a", json!("failed"));
    assert_eq!(bench.of("a", SOON).await, [json!("failed")]);
    bench.put("a", json!("failed"));
    assert_eq!(bench.of("a", Duration::from_secs(60)).await, Vec::<Value>::new(), "it stands");
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_refused_delays_no_other_and_is_tried_less_and_less_often() {
    let bench = Bench::new();
    bench.start();
    bench.put("refused", json!(1));
    bench.put("a", json!(1));
    assert_eq!(bench.of("a", SOON).await, [json!(1)]);
    let tries = bench.of("refused", Duration::from_secs(60)).await.len();
    assert!((7..13).contains(&tries), "tried {tries} times in a minute");
    assert_eq!(bench.status_writer.last(&pod("refused")), None);
    assert_eq!(bench.status_writer.ahead_of(&pod("refused")), Some(json!(1)));
    assert_eq!(bench.failing(), 1.0);
    bench.status_writer.forget(&key("refused"));
    assert_eq!(bench.failing(), 0.0, "it is gone");
}

/// A status that nobody wants written fails no more.
#[tokio::test(start_paused = true)]
async fn a_refused_status_that_is_wanted_no_more_is_not_counted() {
    let bench = Bench::new();
    bench.start();
    bench.put("refused", json!(1));
    assert_eq!(bench.of("refused", SOON).await.len(), 1);
    assert_eq!(bench.failing(), 1.0);
    bench.status_writer.withdraw(&key("refused"));
    assert_eq!(bench.failing(), 0.0, "the object cannot be decoded any more");
    bench.put("refused", json!(2));
    assert_eq!(bench.of("refused", SOON).await.len(), 1, "what was withdrawn holds up nothing");
    assert_eq!(bench.failing(), 1.0);
    let (object, stands) = (pod("refused"), json!(3));
    let recorded = bench.status_writer.record(&object, Some(&stands), stands.clone(), |_, _| true);
    assert_eq!(recorded.await.unwrap(), None);
    assert_eq!(bench.failing(), 0.0, "what stands is what is wanted");
}

/// The answer of the write that made it so may have been lost.
#[tokio::test(start_paused = true)]
async fn what_the_store_shows_after_a_write_is_the_last_status() {
    let bench = Bench::new();
    bench.start();
    bench.put("a", json!(1));
    assert_eq!(bench.of("a", SOON).await, [json!(1)]);
    let mut shown = pod("a");
    assert_eq!(bench.status_writer.last(&shown), Some(json!(1)), "the store is behind");
    shown.metadata.resource_version = Some("3".into());
    assert_eq!(bench.status_writer.last(&shown), None, "the object has what was written since");
}

#[tokio::test(start_paused = true)]
async fn where_the_store_is_behind_the_object_is_looked_at_again() {
    let bench = Bench::new();
    bench.work.root_changed(None, Some(&pod("behind")), |_| false);
    assert_eq!(bench.work.next().await, key("behind"));
    bench.work.conclude(&key("behind"), Duration::ZERO, Outcomes::default());
    bench.start();
    bench.put("behind", json!(1));
    assert_eq!(bench.of("behind", SOON).await, [json!(1)]);
    assert_eq!((bench.work.depth(), bench.status_writer.last(&pod("behind"))), (1, None));
}

/// Each refusal triggers the object, and each reconcile puts the status again.
#[tokio::test(start_paused = true)]
async fn while_the_store_is_behind_the_first_status_is_tried_less_and_less_often() {
    let bench = Bench::new();
    bench.start();
    let mut tries = 0;
    for _ in 0..200 {
        bench.put("behind", json!("failed"));
        tries += bench.of("behind", Duration::from_millis(100)).await.len();
    }
    assert!((5..12).contains(&tries), "tried {tries} times in 20 s");
    let mut shown = pod("behind");
    shown.metadata.resource_version = Some("2".into());
    bench.status_writer.put(&shown, None, json!("failed"), |_, _| true);
    assert_eq!(bench.of("behind", SOON).await.len(), 1, "the store shows a later version");
    let recorded = async || bench.status_writer.record(&pod("behind"), None, json!("new"), |_, _| true).await;
    for _ in 0..200 {
        assert!(recorded().await.unwrap().is_some());
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    let tries = bench.of("behind", SOON).await.len();
    assert!((5..12).contains(&tries), "recorded {tries} times in 20 s");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_or_remembered_of_an_object_that_is_forgotten() {
    let bench = Bench::new();
    bench.put("a", json!(1));
    bench.status_writer.forget(&key("a"));
    bench.start();
    assert_eq!(bench.of("a", Duration::from_secs(60)).await, Vec::<Value>::new());
    assert_eq!(bench.status_writer.ahead_of(&pod("a")), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_recorded_takes_the_place_of_what_was_put_before() {
    let bench = Bench::new();
    bench.put("a", json!("old"));
    let due = bench.status_writer.record(&pod("a"), None, json!("new"), |_, _| true).await;
    assert_eq!(due.unwrap(), None);
    bench.start();
    assert_eq!(bench.of("a", Duration::from_secs(60)).await, [json!("new")]);
    assert!(bench.status_writer.wrote(&key("a"), Some(&json!("new"))));
    let refused = bench.status_writer.record(&pod("refused"), None, json!(1), |_, _| true).await;
    assert!(matches!(refused, Err(RequestError::Forbidden(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_withdrawn_is_not_written() {
    let bench = Bench::new();
    bench.start();
    bench.put("a", json!(1));
    assert_eq!(bench.of("a", SOON).await, [json!(1)]);
    bench.put("a", json!(2));
    bench.status_writer.withdraw(&key("a"));
    assert_eq!(bench.of("a", Duration::from_secs(60)).await, Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_restored_to_an_older_state_gets_the_status_again() {
    let bench = Bench::new();
    bench.start();
    bench.put("a", json!(1));
    assert_eq!(bench.of("a", RESTORED - SOON).await, [json!(1)]);
    bench.put("a", json!(1));
    assert_eq!(bench.of("a", 2 * SOON).await, Vec::<Value>::new(), "the store may be behind");
    bench.put("a", json!(1));
    assert_eq!(bench.of("a", SOON).await, [json!(1)]);
}
