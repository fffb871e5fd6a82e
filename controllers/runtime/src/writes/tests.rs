use std::{io, sync::Mutex};

use http::{Method, request::Parts};
use k8s_openapi::api::core::v1::Secret;
use kube::client::Body;
use serde_json::Value;

use super::*;
use crate::testing::{client, refuse, reply};

/// What was asked: method, URL, content type, what is accepted, and the body.
type Asked = Arc<Mutex<Vec<(Method, String, String, bool, Value)>>>;

fn answering(
    answer: impl Fn(&Parts) -> io::Result<http::Response<Body>> + Send + Sync + 'static,
) -> (Writes<'static>, Asked) {
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    let client = client(move |head, body| {
        let content = head.headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap().to_owned());
        let is_bare = head.headers.get(header::ACCEPT) == Some(&METADATA_ONLY);
        let body = serde_json::from_slice(body).unwrap_or_default();
        let asked = (head.method.clone(), head.uri.to_string(), content.unwrap_or_default(), is_bare, body);
        log.lock().unwrap().push(asked);
        answer(head)
    });
    (Writes::new(client, "tester"), asked)
}

fn stored() -> http::Response<Body> {
    reply(&json!({"metadata": {"uid": "u", "resourceVersion": "7"}}))
}

fn object() -> (ObjectPath, ObjectKey) {
    let key = ObjectKey::new("ns", "a");
    (ObjectPath::of::<Secret>(&key), key)
}

#[tokio::test]
async fn a_write_names_its_manager_and_only_metadata_comes_back() {
    let (writes, asked) = answering(|_| Ok(stored()));
    let ((object, key), body) = (object(), json!({"data": {}}));
    let text = || body.to_string();
    assert_eq!(writes.create(&object, text()).await.unwrap().version(), Some(7));
    writes.try_create(&object, text()).await.unwrap();
    writes.replace(&object, text()).await.unwrap();
    writes.patch(&object, &Patch::Merge(&body)).await.unwrap();
    writes.patch(&object, &Patch::Apply(&body)).await.unwrap();
    writes.apply(&object, &body).await.unwrap();
    writes.patch_status(&object, &Patch::Strategic(&body)).await.unwrap();
    writes.delete(&object, "u", Some("7")).await.unwrap();
    writes.evict(&key, "u").await.unwrap();
    let asked = asked.lock().unwrap().clone();
    let (secrets, pods) = ("/api/v1/namespaces/ns/secrets", "/api/v1/namespaces/ns/pods");
    let merge = "application/merge-patch+json";
    let strategic = "application/strategic-merge-patch+json";
    let apply = "application/apply-patch+yaml";
    let (json, by) = ("application/json", "&fieldManager=tester");
    let preconditions = json!({"preconditions": {"uid": "u", "resourceVersion": "7"}});
    let expected = [
        (Method::POST, format!("{secrets}?{by}"), json, true, body.clone()),
        (Method::POST, format!("{secrets}?&dryRun=All{by}"), json, true, body.clone()),
        (Method::PUT, format!("{secrets}/a?{by}"), json, true, body.clone()),
        (Method::PATCH, format!("{secrets}/a?{by}"), merge, true, body.clone()),
        (Method::PATCH, format!("{secrets}/a?{by}"), apply, true, body.clone()),
        (Method::PATCH, format!("{secrets}/a?&force=true{by}"), apply, true, body.clone()),
        (Method::PATCH, format!("{secrets}/a/status?{by}"), strategic, true, body.clone()),
        (Method::DELETE, format!("{secrets}/a?"), json, true, preconditions),
    ];
    let expected = expected
        .map(|(method, url, content, is_bare, body)| (method, url, content.to_owned(), is_bare, body));
    assert_eq!(asked[..8], expected);
    let (method, url, .., eviction) = &asked[8];
    assert_eq!((method, url), (&Method::POST, &format!("{pods}/a/eviction?{by}")));
    assert_eq!(
        eviction["deleteOptions"],
        json!({"preconditions": {"uid": "u"}}),
        "the server reads no other name"
    );
}

#[tokio::test]
async fn what_has_no_answer_is_asked_for_and_what_is_refused_is_not() {
    let intent = Intent::Delete("u".into());
    // What the server says to the write, what it says to the question, and whether the object may stand or be gone until
    // the store shows it.
    for (code, is_there, is_asked) in [
        (Some((403, "Forbidden")), true, false),
        (Some((500, "InternalError")), true, true),
        (None, true, true),
        (Some((500, "InternalError")), false, true),
        (Some((409, "Conflict")), true, true),
    ] {
        let (writes, asked) = answering(move |head| match (&head.method, code) {
            (&Method::GET, _) if is_there => Ok(stored()),
            (&Method::GET, _) => Ok(refuse(404, "NotFound")),
            (_, Some((code, reason))) => Ok(refuse(code, reason)),
            (_, None) => Err(io::Error::other("the connection breaks")),
        });
        let ((object, key), group, gate) = (object(), ObjectKey::new("ns", "group"), Gate::default());
        let noted = writes.noted(&gate, &group);
        noted.delete(&object, "u", None).await.unwrap_err();
        let unanswered = if is_asked { vec![(key.clone(), intent.clone())] } else { vec![] };
        assert_eq!(gate.unanswered(&group), unanswered, "{code:?}");
        noted.settle(ObjectPath::of::<Secret>).await.unwrap();
        assert_eq!(gate.unanswered(&group), []);
        assert_eq!(asked.lock().unwrap().len(), 1 + usize::from(is_asked));
        if code != Some((409, "Conflict")) {
            noted.create(&object, "{}").await.unwrap_err();
            assert_eq!(gate.unanswered(&group).len(), usize::from(is_asked), "{code:?}");
        }
    }
}

#[tokio::test]
async fn what_is_gone_already_was_not_deleted_and_is_waited_for_all_the_same() {
    for (code, stood) in [(404, false), (200, true)] {
        let (writes, _) =
            answering(move |_| Ok(if code == 200 { stored() } else { refuse(code, "NotFound") }));
        let ((object, key), group, gate) = (object(), ObjectKey::new("ns", "group"), Gate::default());
        assert_eq!(writes.noted(&gate, &group).delete(&object, "u", None).await.unwrap(), stood);
        assert_eq!(writes.noted(&gate, &group).evict(&key, "u").await.unwrap(), stood);
        assert_eq!(gate.unanswered(&group), []);
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_not_logged() {
    let log = Arc::<Mutex<Vec<u8>>>::default();
    let subscriber = tracing_subscriber::fmt().with_writer(Log(Arc::clone(&log)));
    tracing::subscriber::with_default(subscriber.with_max_level(tracing::Level::TRACE).finish(), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (writes, _) = answering(|_| Ok(reply(&json!({"data": {"password": "c2VjcmV0"}}))));
            writes.patch(&object().0, &Patch::Merge(json!({}))).await.unwrap_err();
            find(&writes.client, &object().0).await.unwrap_err();
        });
    });
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert!(!log.contains("c2VjcmV0"), "{log}");
}

#[derive(Clone)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(text);
        Ok(text.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}
