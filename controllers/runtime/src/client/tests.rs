//! The bounds of requests, against servers that say nothing.

use std::{convert::Infallible, sync::Arc};

use futures::StreamExt;
use http::StatusCode;
use http_body_util::StreamBody;
use prometheus::core::Collector;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

use super::*;

type Frames = UnsyncBoxBody<bytes::Bytes, Infallible>;

/// A body that brings `some` and then nothing more, and never ends.
fn endless(some: &'static str) -> Frames {
    let frame = Ok(http_body::Frame::data(bytes::Bytes::from_static(some.as_bytes())));
    StreamBody::new(futures::stream::iter([frame]).chain(futures::stream::pending())).boxed_unsync()
}

struct World {
    layer: Bounded,
}

impl World {
    fn new() -> Self {
        let registry = Registry::new();
        Self { layer: Bounded { requests: requests(&registry), heard: Heard::new(&registry) } }
    }

    /// What comes of a request after how many seconds. The server begins its answer after `wait`.
    async fn ask(&self, uri: &str, wait: Duration, body: Frames) -> (Result<Answer, String>, u64) {
        let answer = Arc::new(parking_lot::Mutex::new(Some(body)));
        let server = tower::service_fn(move |_: Request<Body>| {
            let answer = Arc::clone(&answer);
            async move {
                sleep(wait).await;
                Ok::<_, BoxError>(Response::new(answer.lock().take().expect("asked once")))
            }
        });
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let began = Instant::now();
        let answer = self.layer.layer(server).oneshot(request).await;
        (answer.map_err(|error| error.to_string()), began.elapsed().as_secs())
    }

    fn age_of_pods(&self) -> Option<f64> {
        let family = self.layer.heard.collect().remove(0);
        family.get_metric().first().map(|metric| metric.get_gauge().get_value())
    }
}

const LIST: &str = "http://server/api/v1/pods?limit=500";
const WATCH: &str = "http://server/api/v1/pods?watch=true&resourceVersion=7";
const NEVER: Duration = Duration::from_secs(100_000);

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_answered_is_given_up() {
    let world = World::new();
    let (answer, seconds) = world.ask(LIST, NEVER, endless("")).await;
    assert_eq!((answer.unwrap_err().as_str(), seconds), ("no answer within 60 s", 60));
    let (answer, seconds) = world.ask(LIST, Duration::ZERO, endless("{")).await;
    assert_eq!((answer.unwrap_err().as_str(), seconds), ("no answer within 60 s", 60), "in the middle");
    assert_eq!(world.layer.requests.with_label_values(&["<error>", "GET"]).get(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_as_it_is() {
    let body = Full::new(bytes::Bytes::from_static(b"{}")).boxed_unsync();
    let (answer, _) = World::new().ask(LIST, Duration::from_secs(59), body).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "{}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_does_not_begin_is_given_up() {
    let world = World::new();
    let (answer, seconds) = world.ask(WATCH, NEVER, endless("")).await;
    assert_eq!((answer.unwrap_err().as_str(), seconds), ("no answer within 15 s", 15));
    assert_eq!(world.age_of_pods(), None);
}

#[tokio::test(start_paused = true)]
async fn what_a_watch_brings_is_noted() {
    let world = World::new();
    let (answer, _) = world.ask(WATCH, Duration::ZERO, endless("{}")).await;
    let mut body = answer.unwrap().into_body();
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.age_of_pods(), Some(20.0), "since it began");
    assert!(body.frame().await.is_some());
    sleep(Duration::from_secs(7)).await;
    assert_eq!(world.age_of_pods(), Some(7.0));
}
