//! Secrets that cannot be changed.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::*;
use crate::plan::{OutputView, Token, Why};

/// A server on which the Secret `pull` of the namespace cannot be changed, and stands there like this.
fn unchangeable(standing: &Value) -> Server {
    let (standing, sources) = (standing.clone(), source("kubernetes.io/dockercfg"));
    Server::new(move |method, url| match (method, url.contains("/namespaces/ns/")) {
        (&Method::GET, true) => (200, standing.clone()),
        (&Method::PATCH, _) => refuse(422, "Invalid"),
        _ => sources(method, url),
    })
}

#[tokio::test]
async fn a_copy_that_cannot_be_changed_is_made_anew() {
    const SECRETS: &str = "/api/v1/namespaces/ns/secrets";
    let standing = |uid: &str, of: &str, immutable: bool| {
        let metadata = json!({"name": "pull", "uid": uid, "resourceVersion": "8"});
        json!({"metadata": metadata, "type": of, "immutable": immutable})
    };
    let (same, other) = ("kubernetes.io/dockercfg", "kubernetes.io/dockerconfigjson");
    for (standing, expected) in [
        (standing("c", same, true), Some(Done::Written)),
        (standing("c", other, false), Some(Done::Written)),
        // Something else is wrong with it, or it is another one.
        (standing("c", same, false), None),
        (standing("new", same, true), Some(Done::Stale)),
    ] {
        let server = unchangeable(&standing);
        let done = server.writer.apply(&ObjectKey::new("", "ns"), &copy(Some(&["kept"]))).await.ok();
        assert_eq!(done, expected, "{standing}");
        let (deleted, made) =
            ((Method::DELETE, format!("{SECRETS}/pull")), (Method::POST, SECRETS.to_owned()));
        let writes = server.written();
        if expected != Some(Done::Written) {
            assert_eq!(writes.len(), 1, "{standing}: only the change was tried");
            continue;
        }
        assert_eq!(writes[1..], [deleted, made], "{standing}");
        let preconditions = json!({"preconditions": {"uid": "c", "resourceVersion": "8"}});
        assert_eq!(server.bodies(&Method::DELETE), [preconditions]);
        let posted = server.bodies(&Method::POST);
        assert!(posted[0]["metadata"]["name"].as_str().unwrap().starts_with("pull-next"), "{posted:?}");
        assert_eq!(posted[1]["metadata"]["name"], "pull");
        assert!(posted.iter().all(|body| body["metadata"].get("uid").is_none() && body["type"] == same));
    }
}

#[tokio::test]
async fn a_copy_is_deleted_only_when_its_successor_is_accepted_and_the_controller_has_made_it() {
    let metadata = json!({"name": "pull", "uid": "c", "resourceVersion": "8"});
    let standing = json!({"metadata": metadata, "type": "kubernetes.io/dockercfg", "immutable": true});
    let sources = source("kubernetes.io/dockercfg");
    let refusing = Server::new(move |method, url| match *method {
        Method::GET if url.contains("/namespaces/ns/") => (200, standing.clone()),
        Method::PATCH => refuse(422, "Invalid"),
        Method::POST => refuse(403, "Forbidden"),
        _ => sources(method, url),
    });
    let namespace = ObjectKey::new("", "ns");
    refusing.writer.apply(&namespace, &copy(Some(&["kept"]))).await.unwrap_err();
    assert_eq!(refusing.bodies(&Method::DELETE), [] as [Value; 0]);

    let Action::Copy(policy, name, of, Some(mut theirs)) = copy(Some(&["kept"])) else { unreachable!() };
    theirs.origin = Origin::Foreign;
    let server = unchangeable(&json!({"metadata": {"name": "pull", "uid": "c"}, "immutable": true}));
    server.writer.apply(&namespace, &Action::Copy(policy, name, of, Some(theirs))).await.unwrap_err();
    assert_eq!(server.bodies(&Method::DELETE), [] as [Value; 0]);
}

/// What the server says when it is asked for a token.
fn issued() -> (u16, Value) {
    let claims = json!({"iat": 1_700_000_000, "kubernetes.io": {"serviceaccount": {"uid": "a"}}}).to_string();
    let payload = BASE64_URL_SAFE_NO_PAD.encode(claims);
    let status = json!({"token": format!("h.{payload}.s"), "expirationTimestamp": "2030-01-01T00:00:00Z"});
    (201, json!({"status": status}))
}

/// The renewal of a token.
fn renewal() -> Action {
    let time = jiff::Timestamp::UNIX_EPOCH;
    let standing = OutputView {
        uid: "o".into(),
        origin: Origin::Made,
        version: "8".into(),
        policy: "ci".into(),
        made_for: "w".into(),
        account: "a".into(),
        written: WrittenBy::Unknown,
        handle: "h1".into(),
        handle_uid: None,
        issued: time,
        expires: time,
        previous: None,
        revoked: false,
    };
    let token = Token {
        account: "bot".into(),
        audiences: vec![],
        ttl: std::time::Duration::from_secs(600),
        overlap: std::time::Duration::from_secs(60),
        server: None,
    };
    Action::Issue {
        policy: "ci".into(),
        output: "bot-token".into(),
        token,
        made_for: "w".into(),
        standing: Some(Box::new(standing)),
        handle: Some(("h2".into(), "h".into())),
        why: Why::Renewal,
    }
}

#[tokio::test]
async fn a_secret_with_a_token_that_cannot_be_changed_is_made_anew_at_the_version_that_was_seen() {
    for (version, expected) in [("8", Done::Written), ("9", Done::Stale)] {
        let server = Server::new(move |method, url| match *method {
            Method::POST if url.contains("/bot/token") => issued(),
            Method::GET if url.contains("/configmaps/") => (200, json!({"data": {"ca.crt": "ca"}})),
            Method::GET => {
                let metadata = json!({"name": "bot-token", "uid": "o", "resourceVersion": version});
                (200, json!({"metadata": metadata, "type": "Opaque", "immutable": true}))
            }
            Method::PATCH => refuse(422, "Invalid"),
            _ => metadata("bot-token"),
        });
        assert_eq!(server.writer.apply(&ObjectKey::new("", "ns"), &renewal()).await.unwrap(), expected);
        let deleted = server.bodies(&Method::DELETE);
        if expected == Done::Stale {
            assert_eq!(deleted, [] as [Value; 0], "it is another process's token");
            continue;
        }
        assert_eq!(deleted, [json!({"preconditions": {"uid": "o", "resourceVersion": "8"}})]);
        let made = server.bodies(&Method::POST).pop().unwrap();
        let annotations = &made["metadata"]["annotations"];
        assert_eq!(made["metadata"]["name"], "bot-token");
        assert_eq!(
            annotations["mainstay.dev/previous-handle"], "h1",
            "the token before lives on: {annotations}"
        );
    }
}

#[tokio::test]
async fn what_others_have_put_on_a_secret_with_a_token_stays_when_it_is_renewed() {
    let server = Server::new(|method, url| match *method {
        Method::POST if url.contains("/bot/token") => issued(),
        Method::GET if url.ends_with("/namespaces/home/configmaps/kube-root-ca.crt") => {
            (200, json!({"data": {"ca.crt": "ca"}}))
        }
        _ => metadata("bot-token"),
    });
    server.writer.apply(&ObjectKey::new("", "ns"), &renewal()).await.unwrap();
    let [patch] = &server.bodies(&Method::PATCH)[..] else { panic!("one patch") };
    let metadata = &patch["metadata"];
    assert_eq!((&metadata["uid"], &metadata["resourceVersion"]), (&json!("o"), &json!("8")));
    assert!(metadata.get("ownerReferences").is_none() && metadata.get("finalizers").is_none(), "{patch}");
    let annotations = metadata["annotations"].as_object().unwrap();
    assert_eq!(annotations.get("mainstay.dev/revoke"), Some(&Value::Null), "a command is taken once");
    assert_eq!(annotations["mainstay.dev/handle-uid"], "h");
    assert!(annotations.keys().all(|key| key.starts_with("mainstay.dev/")), "{patch}");
    assert_eq!(patch["data"].get("kubeconfig"), Some(&Value::Null), "the policy asks for none");
    assert!(patch.get("type").is_none());
}

#[tokio::test]
async fn no_token_is_issued_while_the_authority_is_not_known() {
    let server = Server::new(|method, url| match *method {
        Method::POST if url.contains("/bot/token") => issued(),
        Method::GET if url.contains("/configmaps/") => (200, json!({"data": {"other": "x"}})),
        _ => metadata("bot-token"),
    });
    let error = server.writer.apply(&ObjectKey::new("", "ns"), &renewal()).await.unwrap_err();
    assert!(error.to_string().contains("home/kube-root-ca.crt"), "{error}");
    assert_eq!(server.written(), []);
}

#[tokio::test]
async fn no_token_is_issued_into_the_secret_of_somebody_else() {
    let namespace = ObjectKey::new("", "ns");
    for (stands, expected) in [(true, Done::Stale), (false, Done::Written)] {
        let server = Server::new(move |method, url| match *method {
            Method::POST if url.contains("/bot/token") => issued(),
            Method::GET if url.contains("/configmaps/") => (200, json!({"data": {"ca.crt": "ca"}})),
            Method::GET if stands => metadata("bot-token"),
            Method::GET => refuse(404, "NotFound"),
            _ => metadata("bot-token"),
        });
        let Action::Issue { policy, output, token, made_for, .. } = renewal() else { unreachable!() };
        let first =
            Action::Issue { policy, output, token, made_for, standing: None, handle: None, why: Why::First };
        assert_eq!(server.writer.apply(&namespace, &first).await.unwrap(), expected);
        // Without one: the handle, the token, and the Secret.
        assert_eq!(server.written().len(), if stands { 0 } else { 3 }, "{:?}", server.written());
        let looked = look(&server, Observed::default()).await.unwrap().unseen;
        assert_eq!(looked.contains_key("bot-token"), stands, "the next reconcile looks whose it is");
    }
}
