//! A keeper before an API server that has one webhook configuration, or none.

use std::collections::HashMap;

use http::{Method, Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;

use super::*;
use crate::readiness;

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
            return match (method, &*self.secret.lock()) {
                (&Method::GET, Some(secret)) => (200, json!(secret)),
                (&Method::GET, None) => refuse(404, "NotFound"),
                _ => (201, body.clone()),
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

    fn trusts(&self, secret: &Secret) -> bool {
        let configuration = self.configuration.lock();
        let trusted = &configuration.as_ref().unwrap()["webhooks"][0]["clientConfig"]["caBundle"];
        *trusted == json!(secret.data.as_ref().unwrap()["ca.crt"])
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
            trouble: Trouble::default(),
            shown: None,
            is_missed: false,
        }
    }
}

fn secret() -> Secret {
    let made = certificate::make(vec!["hook.mainstay.svc".to_owned()], Timestamp::now()).unwrap();
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
    assert_eq!(deaf.shown, other.shown, "what is trusted from now on is shown");
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
    assert!(keeper.certificates.are_shown() && keeper.is_missed && is_within_a_minute(due), "{due:?}");
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
    assert!(keeper.certificates.are_shown());
    let shown = keeper.shown.clone();
    server.shows(&mut keeper, &second).await.unwrap_err();
    assert_eq!(keeper.shown, shown, "what the API server may believe stays");
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
        let before = tokio::time::Instant::now();
        server.shows(keeper, &second).await.unwrap();
        assert!(before.elapsed() >= SPREADS);
    }
}

#[tokio::test(start_paused = true)]
async fn another_that_makes_the_certificate_tells_the_api_server_itself() {
    let server = Server::default();
    server.refusals.lock().insert(CONFIGURATION, 403);
    let mut keeper = Keeper { from: CertificatesFrom::Secret, ..server.keeper() };
    assert_eq!(keeper.take_up(None).await.unwrap(), None);
    assert!(!keeper.certificates.are_shown());
    assert_eq!(keeper.take_up(Some(&secret())).await.unwrap(), None);
    assert!(keeper.certificates.are_shown());
}

#[tokio::test]
async fn readiness_names_what_keeps_the_certificate() {
    let (certificates, trouble) = (Certificates::default(), Trouble::default());
    let said = || readiness(&certificates, &trouble, "mainstay/hook");
    assert!(
        said().unwrap_err().contains("the Secret mainstay/hook: there is none yet"),
        "{said:?}",
        said = said()
    );
    *trouble.write() = Some("secrets is forbidden".to_owned());
    assert!(said().unwrap_err().ends_with("secrets is forbidden"));
    certificates.show(b"nothing", b"nothing").unwrap_err();
    assert!(said().is_err());
    let Kept { pair: (certificate, key), .. } = Kept::read(&secret()).unwrap();
    certificates.show(&certificate.0, &key.0).unwrap();
    assert_eq!(said(), Ok(()), "what comes after is told in the log: what is shown stays");
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
fn a_certificate_that_was_made_can_be_shown_and_anything_else_is_refused_in_words() {
    let certificates = Certificates::default();
    let refused = certificates.show(b"nothing", b"nothing").unwrap_err();
    assert!(refused.starts_with("tls."), "{refused}");
    let made = certificate::make(vec!["a.b.svc".to_owned()], Timestamp::now()).unwrap();
    certificates.show(made.certificate.as_bytes(), made.key.as_bytes()).unwrap();
    assert!(certificates.are_shown());
}
