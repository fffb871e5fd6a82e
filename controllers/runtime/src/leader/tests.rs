//! Two electors on a Lease in memory that checks resourceVersions as the API server does.

use std::{
    io,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
};

use http::{Method, Response};
use kube::client::Body;
use parking_lot::Mutex;

use super::*;
use crate::testing::{client, refuse, reply};

/// A server of one Lease.
#[derive(Clone, Default)]
struct Server {
    lease: Arc<Mutex<Option<Lease>>>,
    down: Arc<AtomicBool>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        client(move |head, body| server.answer(&head.method, body))
    }

    fn answer(&self, method: &Method, body: &[u8]) -> io::Result<Response<Body>> {
        if self.down.load(Ordering::SeqCst) {
            return Err(io::Error::other("connection refused"));
        }
        let mut stored = self.lease.lock();
        if *method == Method::GET {
            return Ok(stored.as_ref().map_or_else(|| refuse(404, "NotFound"), reply));
        }
        let mut lease: Lease = serde_json::from_slice(body).unwrap();
        let version = stored.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        if *method == Method::POST && version.is_some() {
            return Ok(refuse(409, "AlreadyExists"));
        }
        if lease.metadata.resource_version != version {
            return Ok(refuse(409, "Conflict"));
        }
        let next = version.map_or(1, |version| version.parse::<u64>().unwrap() + 1);
        lease.metadata.resource_version = Some(next.to_string());
        *stored = Some(lease.clone());
        Ok(reply(&lease))
    }

    fn spec(&self) -> LeaseSpec {
        self.lease.lock().clone().unwrap().spec.unwrap()
    }
}

fn elector(server: &Server, identity: &str) -> Elector {
    let settings = Settings {
        namespace: "ns".into(),
        name: "lease".into(),
        identity: identity.into(),
        lease_duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_secs(2),
    };
    Elector::new(server.client(), settings).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_standby_waits_while_the_leader_renews_and_takes_over_when_it_died() {
    let server = Server::default();
    let (mut first, mut second) = (elector(&server, "first"), elector(&server, "second"));
    first.acquire().await;
    let keeping = tokio::spawn(async move { first.keep().await });
    let waited = timeout(Duration::from_secs(600), second.acquire()).await;
    assert!(waited.is_err(), "a renewed Lease is never taken");
    keeping.abort();
    let died = Instant::now();
    second.acquire().await;
    let took = died.elapsed().as_secs();
    assert!((13..=20).contains(&took), "taken over after {took} s");
    assert_eq!(
        (server.spec().holder_identity.as_deref(), server.spec().lease_transitions),
        (Some("second"), Some(2))
    );
}

#[tokio::test(start_paused = true)]
async fn the_loser_stops_before_the_winner_starts() {
    let server = Server::default();
    let (mut first, mut second) = (elector(&server, "first"), elector(&server, "second"));
    first.acquire().await;
    // The leader is cut off from a server that the standby reaches.
    let cut_off = Server { lease: Arc::clone(&server.lease), down: Arc::new(AtomicBool::new(true)) };
    first.leases = Api::namespaced(cut_off.client(), "ns");
    let started = Instant::now();
    let (stopped, won) = tokio::join!(
        async {
            first.keep().await;
            started.elapsed()
        },
        async {
            second.acquire().await;
            started.elapsed()
        }
    );
    assert!(stopped <= Duration::from_secs(10), "stopped after {stopped:?}");
    assert!(won >= Duration::from_secs(15), "won after {won:?}");
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_without_a_wait() {
    let server = Server::default();
    let (mut first, mut second) = (elector(&server, "first"), elector(&server, "second"));
    first.acquire().await;
    first.release().await.unwrap();
    let released = Instant::now();
    second.acquire().await;
    assert_eq!(released.elapsed(), Duration::ZERO);
    assert_eq!(first.release().await.map_err(|error| error.reason()), Ok(()), "a second release is harmless");
    assert_eq!(server.spec().holder_identity.as_deref(), Some("second"));
}

#[tokio::test(start_paused = true)]
async fn of_two_standbys_one_wins() {
    let server = Server::default();
    let (mut first, mut second) = (elector(&server, "first"), elector(&server, "second"));
    let both = timeout(Duration::from_secs(1), async {
        tokio::select! {
            () = first.acquire() => "first",
            () = second.acquire() => "second",
        }
    });
    let winner = both.await.expect("a free Lease is taken at once");
    assert_eq!(server.spec().holder_identity.as_deref(), Some(winner));
    assert_eq!(server.spec().lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_finds_another_holder_stops_at_once() {
    let server = Server::default();
    let mut first = elector(&server, "first");
    first.acquire().await;
    {
        let mut lease = server.lease.lock();
        let lease = lease.as_mut().unwrap();
        lease.spec.as_mut().unwrap().holder_identity = Some("thief".into());
        lease.metadata.resource_version = Some("99".into());
    }
    let started = Instant::now();
    first.keep().await;
    assert!(started.elapsed() <= Duration::from_secs(2));
    first.release().await.unwrap();
    assert_eq!(server.spec().holder_identity.as_deref(), Some("thief"), "another's Lease is left alone");
}

#[test]
fn contradicting_settings_are_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _entered = runtime.enter();
    let settings = |lease: u64, renew: u64, retry: u64| Settings {
        namespace: "ns".into(),
        name: "lease".into(),
        identity: "me".into(),
        lease_duration: Duration::from_secs(lease),
        renew_deadline: Duration::from_secs(renew),
        retry_period: Duration::from_secs(retry),
    };
    let refused = |lease, renew, retry| {
        Elector::new(Server::default().client(), settings(lease, renew, retry))
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    assert!(refused(10, 10, 2).contains("--lease-duration (10s) must be longer than --renew-deadline (10s)"));
    assert!(refused(15, 2, 2).contains("--retry-period"));
    assert!(refused(0, 10, 2).contains("at least 1s"));
}
