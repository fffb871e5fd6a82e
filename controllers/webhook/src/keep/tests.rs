//! A keeper before an API server that has one webhook configuration, or none.

use std::{collections::HashMap, sync::Arc};

use http::{Method, Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use prometheus::Registry;
use serde_json::Value;

use super::*;

mod reachable;

const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/hook";

/// What the API server has, and which paths it answers with an error.
#[derive(Clone, Default)]
struct Server {
    configuration: Arc<Mutex<Option<Value>>>,
    secret: Arc<Mutex<Option<Secret>>>,
    refusals: Arc<Mutex<HashMap<&'static str, u16>>>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let serve = move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let (code, answer) = server.answer(&parts.method, parts.uri.path(), &body);
                let answer =
                    Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, tower::BoxError>(answer?)
            }
        };
        Client::new(tower::service_fn(serve), "mainstay")
    }

    fn answer(&self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let refuse = |code: u16, reason: &str| {
            (code, json!({"status": "Failure", "reason": reason, "code": code, "message": reason}))
        };
        if let Some(code) = self.refusals.lock().get(path) {
            return refuse(*code, "Forbidden");
        }
        if path != CONFIGURATION {
            // The Secret, which is written down and shown by the watch.
            let mut secret = self.secret.lock();
            return match (method, &*secret) {
                (&Method::GET, Some(secret)) => (200, json!(secret)),
                (&Method::GET, None) => refuse(404, "NotFound"),
                _ => {
                    *secret = Some(serde_json::from_value(body.clone()).unwrap());
                    (201, body.clone())
                }
            };
        }
        let mut standing = self.configuration.lock();
        let Some(configuration) = standing.as_mut() else { return refuse(404, "NotFound") };
        if method == Method::PATCH {
            configuration["webhooks"][0]["clientConfig"] = body["webhooks"][0]["clientConfig"].clone();
        }
        (200, configuration.clone())
    }

    /// Makes the configuration as the chart has it.
    fn install(&self) {
        *self.configuration.lock() = Some(json!({
            "metadata": {"name": "hook"},
            "webhooks": [{
                "name": "pods", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {},
            }],
        }));
    }

    fn trusted(&self) -> Value {
        let configuration = self.configuration.lock();
        configuration.as_ref().unwrap()["webhooks"][0]["clientConfig"]["caBundle"].clone()
    }

    fn trusts(&self, secret: &Secret) -> bool {
        self.trusted() == json!(secret.data.as_ref().unwrap()["ca.crt"])
    }

    /// Has this Secret, and its watch shows it to the keeper.
    async fn shows(&self, keeper: &mut Keeper, secret: &Secret) -> Result<Option<Timestamp>, RequestError> {
        *self.secret.lock() = Some(secret.clone());
        keeper.take_up(Some(secret)).await
    }

    fn keeper(&self) -> Keeper {
        Keeper {
            client: self.client(),
            names: Names { service: "hook".into(), namespace: "mainstay".into() },
            webhook: Webhook { kind: ConfigurationKind::Mutating, name: "pods", path: "/pods" },
            from: CertificatesFrom::Own,
            certificates: Certificates::default(),
            metrics: Metrics::new(&Registry::new(), "/pods"),
            trouble: Trouble::default(),
            shown: None,
            renewed: None,
            is_missed: false,
        }
    }
}

fn secret() -> Secret {
    secret_for("hook.mainstay.svc", Timestamp::now())
}

/// A Secret whose certificate is for this name, and was made at that time.
fn secret_for(name: &str, made: Timestamp) -> Secret {
    let made = certificate::make(vec![name.to_owned()], made).unwrap();
    let data = [("tls.crt", made.certificate), ("tls.key", made.key), ("ca.crt", made.authority)];
    let metadata = ObjectMeta {
        name: Some("hook".into()),
        annotations: Some([(RENEW_AT.to_owned(), made.renew_at.to_string())].into()),
        ..ObjectMeta::default()
    };
    let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())));
    Secret { metadata, data: Some(data.into()), ..Secret::default() }
}

fn is_within_a_minute(due: Option<Timestamp>) -> bool {
    due.is_some_and(|due| due.duration_since(Timestamp::now()).as_secs() <= 60)
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_watch_shows_nothing_takes_up_what_another_has_renewed() {
    let (server, first, second) = (Server::default(), secret(), secret());
    server.install();
    let (mut deaf, mut other) = (server.keeper(), server.keeper());
    for keeper in [&mut deaf, &mut other] {
        server.shows(keeper, &first).await.unwrap();
    }
    server.shows(&mut other, &second).await.unwrap();
    let due = deaf.take_up(Some(&first)).await.unwrap();
    assert!(server.trusts(&second) && is_within_a_minute(due), "{due:?}");
    assert!(deaf.shown == other.shown, "what is trusted from now on is shown");
    // What somebody else has written is still put right.
    server.install();
    deaf.take_up(Some(&first)).await.unwrap();
    assert!(server.trusts(&second));
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_somebody_has_taken_out_is_published_again_within_a_minute() {
    let (server, secret) = (Server::default(), secret());
    server.install();
    let mut keeper = server.keeper();
    let due = server.shows(&mut keeper, &secret).await.unwrap();
    assert!(server.trusts(&secret) && is_within_a_minute(due), "{due:?}");
    server.install();
    let due = server.shows(&mut keeper, &secret).await.unwrap();
    assert!(server.trusts(&secret) && is_within_a_minute(due), "{due:?}");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_does_not_exist_stops_nothing_and_is_taken_up_when_it_appears() {
    let (server, secret) = (Server::default(), secret());
    let mut keeper = server.keeper();
    let due = server.shows(&mut keeper, &secret).await.unwrap();
    assert!(
        keeper.certificates.validity().is_some() && keeper.is_missed && is_within_a_minute(due),
        "{due:?}"
    );
    server.install();
    server.shows(&mut keeper, &secret).await.unwrap();
    assert!(server.trusts(&secret) && !keeper.is_missed);
    // And one that no longer has this webhook.
    server.configuration.lock().as_mut().unwrap()["webhooks"] = json!([]);
    server.shows(&mut keeper, &secret).await.unwrap();
    assert!(keeper.is_missed);
}

#[tokio::test(start_paused = true)]
async fn a_first_certificate_is_shown_untrusted_and_a_later_one_is_not() {
    let (server, first, second) = (Server::default(), secret(), secret());
    server.install();
    server.refusals.lock().insert(CONFIGURATION, 403);
    let mut keeper = server.keeper();
    server.shows(&mut keeper, &first).await.unwrap_err();
    assert!(keeper.certificates.validity().is_some());
    let shown = keeper.shown.clone();
    server.shows(&mut keeper, &second).await.unwrap_err();
    assert!(keeper.shown == shown, "what the API server may believe stays");
    server.refusals.lock().clear();
    server.shows(&mut keeper, &second).await.unwrap();
    assert!(server.trusts(&second) && keeper.shown != shown);
}

#[tokio::test(start_paused = true)]
async fn every_replica_waits_until_all_api_servers_trust_what_it_shows_next() {
    let (server, first, second) = (Server::default(), secret(), secret());
    server.install();
    let (mut one, mut other) = (server.keeper(), server.keeper());
    for keeper in [&mut one, &mut other] {
        server.shows(keeper, &first).await.unwrap();
    }
    for keeper in [&mut one, &mut other] {
        let before = Instant::now();
        server.shows(keeper, &second).await.unwrap();
        assert!(before.elapsed() >= SPREADS);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_makes_a_lost_secret_anew_has_the_api_server_believe_what_other_replicas_show() {
    let (server, first) = (Server::default(), secret());
    server.install();
    server.shows(&mut server.keeper(), &first).await.unwrap();
    *server.secret.lock() = None;
    let mut begun = server.keeper();
    begun.take_up(None).await.unwrap();
    let made = server.secret.lock().clone().unwrap();
    server.shows(&mut begun, &made).await.unwrap();
    let authorities = |secret: &Secret| secret.data.as_ref().unwrap()["ca.crt"].0.clone();
    assert!(server.trusts(&made) && authorities(&made).ends_with(&authorities(&first)));
    // What cannot be read would keep the new one from being believed.
    *server.secret.lock() = None;
    server.configuration.lock().as_mut().unwrap()["webhooks"][0]["clientConfig"]["caBundle"] = json!("bm8K");
    server.keeper().take_up(None).await.unwrap();
    let made = server.secret.lock().clone().unwrap();
    assert_eq!(Kept::read(&made).whole("hook.mainstay.svc", Timestamp::now()).err(), None);
}

/// `secret` with this under `key`, or without that.
fn with(secret: &Secret, key: &str, value: Option<&[u8]>) -> Secret {
    let mut secret = secret.clone();
    let data = secret.data.as_mut().unwrap();
    match value {
        Some(value) => drop(data.insert(key.to_owned(), ByteString(value.to_vec()))),
        None => drop(data.remove(key)),
    }
    secret
}

/// Secrets that are not whole, by what is wrong; `good` before somebody changed it.
fn broken(good: &Secret) -> Vec<(&'static str, Secret)> {
    let other = secret();
    let of_other = |key: &str| Some(other.data.as_ref().unwrap()[key].0.as_slice());
    let ago = Timestamp::now() - Duration::from_secs(100 * 24 * 3600);
    let mut expired = secret_for("hook.mainstay.svc", ago);
    expired.metadata = good.metadata.clone();
    let foreign = with(&with(good, "tls.crt", of_other("tls.crt")), "tls.key", of_other("tls.key"));
    vec![
        ("no authority", with(good, "ca.crt", None)),
        ("an empty authority", with(good, "ca.crt", Some(b""))),
        ("no certificate as authority", with(good, "ca.crt", Some(b"nothing"))),
        ("another authority", with(good, "ca.crt", of_other("ca.crt"))),
        ("a pair of another authority", foreign),
        ("a key of another certificate", with(good, "tls.key", of_other("tls.key"))),
        ("no certificate", with(good, "tls.crt", None)),
        ("no key", with(good, "tls.key", Some(b"nothing"))),
        ("another name", secret_for("other.mainstay.svc", Timestamp::now())),
        ("out of date", expired),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_not_whole_is_told_to_nobody_and_made_anew() {
    let good = secret();
    for (wrong, broken) in broken(&good) {
        let server = Server::default();
        server.install();
        let mut keeper = server.keeper();
        server.shows(&mut keeper, &good).await.unwrap();
        let due = server.shows(&mut keeper, &broken).await.unwrap();
        assert!(server.trusts(&good), "{wrong}: what is trusted stays");
        let made = server.secret.lock().clone().unwrap();
        assert!(made != broken && is_within_a_minute(due), "{wrong}: {due:?}");
        server.shows(&mut keeper, &made).await.unwrap();
        assert!(server.trusts(&made), "{wrong}");
        let authorities = String::from_utf8(made.data.unwrap()["ca.crt"].0.clone()).unwrap();
        let before = String::from_utf8(good.data.as_ref().unwrap()["ca.crt"].0.clone()).unwrap();
        assert!(
            authorities.ends_with(&before),
            "{wrong}: replicas that still show the one before are believed"
        );
        assert_eq!(authorities.matches(END).count(), AUTHORITIES, "{wrong}");

        // And by a process that has just begun.
        let server = Server::default();
        server.install();
        let mut keeper = server.keeper();
        server.shows(&mut keeper, &broken).await.unwrap();
        assert_eq!(server.trusted(), Value::Null, "{wrong}");
        let made = server.secret.lock().clone().unwrap();
        server.shows(&mut keeper, &made).await.unwrap();
        assert!(server.trusts(&made) && keeper.certificates.validity().is_some(), "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_breaks_the_secret_again_and_again_is_not_kept_up_with() {
    let (server, good) = (Server::default(), secret());
    let mut keeper = server.keeper();
    let broken = with(&good, "ca.crt", None);
    server.shows(&mut keeper, &broken).await.unwrap();
    assert!(*server.secret.lock() != Some(broken.clone()));
    server.shows(&mut keeper, &broken).await.unwrap();
    assert!(*server.secret.lock() == Some(broken.clone()), "a moment later it is left as it is");
    tokio::time::advance(LOOK).await;
    server.shows(&mut keeper, &broken).await.unwrap();
    assert!(*server.secret.lock() != Some(broken));
}

#[tokio::test(start_paused = true)]
async fn what_another_program_keeps_gives_way_to_nothing_that_is_not_whole() {
    let (server, good, next) = (Server::default(), secret(), secret());
    let keeper = || Keeper { from: CertificatesFrom::Secret, ..server.keeper() };
    let pair = |secret: &Secret| {
        let data = secret.data.as_ref().unwrap();
        (data["tls.crt"].clone(), data["tls.key"].clone())
    };
    for (wrong, broken) in broken(&good) {
        let mut keeper = keeper();
        for (secret, is_whole) in [(&good, true), (&broken, false)] {
            let due = server.shows(&mut keeper, secret).await.unwrap();
            assert_eq!(due.is_none(), is_whole, "{wrong}: what works may end, and is looked at again");
            assert!(
                *server.secret.lock() == Some(secret.clone()),
                "{wrong}: another program's is not written"
            );
        }
        assert!(shown(&keeper) == Some(pair(&good)), "{wrong}: what works stays");
        server.shows(&mut keeper, &next).await.unwrap();
        assert!(shown(&keeper) == Some(pair(&next)), "{wrong}");
    }
    // Whose authority is nowhere to be seen is shown, and followed, as whom the API server trusts is not known here.
    let (first, second) = (with(&good, "ca.crt", None), with(&next, "ca.crt", None));
    let mut keeper = keeper();
    for secret in [first, second] {
        server.shows(&mut keeper, &secret).await.unwrap();
        assert!(shown(&keeper) == Some(pair(&secret)));
    }
}

fn shown(keeper: &Keeper) -> Option<(ByteString, ByteString)> {
    keeper.shown.as_ref().map(|shown| shown.pair.clone())
}

#[tokio::test(start_paused = true)]
async fn another_that_makes_the_certificate_tells_the_api_server_itself() {
    let server = Server::default();
    server.refusals.lock().insert(CONFIGURATION, 403);
    let mut keeper = Keeper { from: CertificatesFrom::Secret, ..server.keeper() };
    assert_eq!(keeper.take_up(None).await.unwrap(), None);
    assert!(keeper.certificates.validity().is_none());
    assert_eq!(keeper.take_up(Some(&secret())).await.unwrap(), None);
    assert!(keeper.certificates.validity().is_some());
}

#[test]
fn the_authority_before_is_trusted_for_one_more_life() {
    let made: Vec<_> = (0..3)
        .map(|_| certificate::make(vec!["a.b.svc".to_owned()], Timestamp::now()).unwrap().authority)
        .collect();
    let second = bundle(&made[1], made[0].as_bytes());
    assert_eq!(second, format!("{}{}", made[1], made[0]));
    assert_eq!(bundle(&made[2], second.as_bytes()), format!("{}{}", made[2], made[1]));
}

#[test]
fn what_is_wrong_with_a_secret_is_said_without_what_it_contains() {
    let good = secret();
    let flaw = |secret: &Secret| Kept::read(secret).whole("hook.mainstay.svc", Timestamp::now()).err();
    assert_eq!(flaw(&good), None);
    let flaws: Vec<_> = broken(&good).into_iter().filter_map(|(_, broken)| flaw(&broken)).collect();
    assert_eq!(
        flaws,
        [
            Flaw::NoAuthority,
            Flaw::NoAuthority,
            Flaw::NoAuthority,
            Flaw::OtherAuthority,
            Flaw::OtherAuthority,
            Flaw::OtherKey,
            Flaw::NoCertificate,
            Flaw::NoKey,
            Flaw::OtherName,
            Flaw::OtherTime,
        ]
    );
}
