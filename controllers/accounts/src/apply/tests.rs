//! The writer against a server that answers what a test says, and remembers what it was asked.

use http::{Method, Request, Response, StatusCode};
use kube::{client::Body, core::Status, runtime::reflector};
use mainstay_runtime::clock::Clock;
use parking_lot::Mutex;

use super::*;
use crate::plan::{
    Account, Binding, Copy, CopyView, Fields, Grantable, HandleView, Origin, Role, SeenAt, Source,
    Written as WrittenBy,
};

mod anew;
mod handed_back;

/// A request: method, path with query, body.
type Asked = (Method, String, Value);

/// A server whose answers are a function of the request.
struct Server {
    asked: Arc<Mutex<Vec<Asked>>>,
    writer: Writer,
}

impl Server {
    fn new(answer: impl Fn(&Method, &str) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let (asked, answer) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(answer));
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            async move {
                let (method, url) = (request.method().clone(), request.uri().to_string());
                let body = request.into_body().collect_bytes().await.map_err(std::io::Error::other)?;
                let (code, value) = answer(&method, &url);
                log.lock().push((method, url, serde_json::from_slice(&body).unwrap_or_default()));
                let answer = Response::builder().status(StatusCode::from_u16(code).unwrap());
                Ok::<_, std::io::Error>(answer.body(Body::from(value.to_string().into_bytes())).unwrap())
            }
        });
        let (namespaces, _) = reflector::store();
        let stores = Stores::new(namespaces, Grantable::default());
        let (client, server_clock) = (Client::new(service, "default"), ServerClock::new(Clock::start()));
        let writer = Writer::new(client, stores, server_clock, "home".to_owned());
        Self { asked, writer }
    }

    /// Method and path of all requests that write.
    fn written(&self) -> Vec<(Method, String)> {
        let asked = self.asked.lock();
        let writes =
            asked.iter().filter(|(method, url, _)| method != Method::GET && !url.contains("dryRun=All"));
        writes.map(|(method, url, _)| (method.clone(), url.split('?').next().unwrap().to_owned())).collect()
    }

    /// The bodies of all requests with this method.
    fn bodies(&self, of: &Method) -> Vec<Value> {
        self.asked.lock().iter().filter(|(method, ..)| method == of).map(|(.., body)| body.clone()).collect()
    }
}

fn refuse(code: u16, reason: &str) -> (u16, Value) {
    (code, serde_json::to_value(Status::failure("no", reason).with_code(code)).unwrap())
}

fn metadata(name: &str) -> (u16, Value) {
    (200, json!({"metadata": {"name": name, "uid": "new", "resourceVersion": "9"}}))
}

const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/ns/rolebindings";

fn anew(kind: &str) -> Action {
    Action::UpdateBinding {
        policy: "ci".into(),
        name: "bot".into(),
        uid: "old".into(),
        binding: Binding {
            role: Role { kind: kind.into(), name: "deploy".into() },
            accounts: [Arc::from("bot")].into(),
        },
        anew: true,
        adopted: false,
        first: false,
    }
}

#[tokio::test]
async fn a_binding_is_deleted_only_when_its_successor_was_accepted() {
    let namespace = ObjectKey::new("", "ns");
    for kind in ["ClusterRole", "Role"] {
        let roles = if kind == "Role" { "namespaces/ns/roles/deploy" } else { "v1/clusterroles/deploy" };
        // What fails, the reason that is told, and what is written.
        for (there, dry_run, reason) in [
            (false, 201, Some("NotFound")),
            (true, 403, Some("Forbidden")),
            (true, 500, Some("ServerError")),
            (true, 201, None),
        ] {
            let server = Server::new(move |method, url| match *method {
                Method::GET if url.ends_with(roles) && there => metadata("deploy"),
                Method::GET => refuse(404, "NotFound"),
                Method::POST if url.contains("dryRun=All") && dry_run != 201 => refuse(dry_run, "Refused"),
                _ => metadata("bot"),
            });
            let result = server.writer.apply(&namespace, &anew(kind)).await;
            let told = result.as_ref().err().map(|error| error.source.reason());
            assert_eq!(told, reason, "{kind} {there} {dry_run}: {result:?}");
            let written = server.written();
            if reason.is_some() {
                assert_eq!(written, []);
            } else {
                let expected =
                    [(Method::DELETE, format!("{BINDINGS}/bot")), (Method::POST, BINDINGS.to_owned())];
                assert_eq!(written, expected);
            }
        }
    }
}

#[tokio::test]
async fn the_successor_is_tried_under_a_name_that_nothing_has() {
    let server = Server::new(|_, _| metadata("bot"));
    server.writer.apply(&ObjectKey::new("", "ns"), &anew("ClusterRole")).await.unwrap();
    let posted = server.bodies(&Method::POST);
    assert_eq!((posted.len(), &posted[1]["metadata"]["name"]), (2, &json!("bot")));
    assert!(posted[0]["metadata"]["name"].as_str().unwrap().starts_with("bot-next"), "{}", posted[0]);
    assert_eq!(posted[0]["roleRef"], posted[1]["roleRef"]);
}

fn keys<T: for<'a> From<&'a str> + Ord>(keys: &[&str]) -> BTreeSet<T> {
    keys.iter().map(|key| T::from(key)).collect()
}

#[tokio::test]
async fn what_is_wanted_no_more_is_taken_off_by_name() {
    let server = Server::new(|_, _| metadata("bot"));
    let stale = Fields { labels: keys(&["team"]), annotations: keys(&["example.com/role"]), automount: true };
    let update = Action::UpdateAccount {
        policy: "ci".into(),
        name: "bot".into(),
        uid: "u".into(),
        version: SeenAt(Some(7)),
        account: Account::default(),
        pull_secrets: keys(&["theirs"]),
        stale: stale.clone(),
        adopted: false,
    };
    let back = Action::Restore {
        name: "bot".into(),
        uid: "u".into(),
        version: SeenAt(Some(7)),
        pull_secrets: keys(&["theirs"]),
        stale,
    };
    let namespace = ObjectKey::new("", "ns");
    server.writer.apply(&namespace, &update).await.unwrap();
    server.writer.apply(&namespace, &back).await.unwrap();
    let patches = server.bodies(&Method::PATCH);
    assert_eq!(patches.len(), 3, "{patches:?}");
    for taken in [&patches[0], &patches[2]] {
        let (labels, annotations) = (&taken["metadata"]["labels"], &taken["metadata"]["annotations"]);
        let is_off = |map: &Value, key: &str| map.get(key) == Some(&Value::Null);
        assert!(is_off(labels, "team") && is_off(annotations, "example.com/role"), "{taken}");
        assert!(is_off(taken, "automountServiceAccountToken"), "{taken}");
        assert_eq!(taken["imagePullSecrets"], json!([{"name": "theirs"}]));
        assert_eq!(taken["metadata"]["resourceVersion"], "7", "what others have added since is not lost");
    }
    let mark = |patch: &Value| patch["metadata"]["labels"].get("mainstay.dev/account-policy").cloned();
    assert_eq!([mark(&patches[0]), mark(&patches[2])], [Some(json!("ci")), Some(Value::Null)]);
}

#[tokio::test]
async fn which_pull_secrets_are_given_is_written_with_the_list_before_anything_can_fail() {
    // All patches are refused but the first.
    let done = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::new(move |_, _| match done.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => metadata("bot"),
        _ => refuse(403, "Forbidden"),
    });
    let update = Action::UpdateAccount {
        policy: "ci".into(),
        name: "bot".into(),
        uid: "u".into(),
        version: SeenAt(Some(7)),
        account: Account { pull_secrets: keys(&["ours"]), ..Account::default() },
        pull_secrets: keys(&["ours", "theirs"]),
        stale: Fields::default(),
        adopted: true,
    };
    server.writer.apply(&ObjectKey::new("", "ns"), &update).await.unwrap_err();
    let first = &server.bodies(&Method::PATCH)[0];
    let annotations = &first["metadata"]["annotations"];
    assert_eq!(first["imagePullSecrets"], json!([{"name": "ours"}, {"name": "theirs"}]), "{first}");
    assert_eq!(annotations["mainstay.dev/pull-secrets"], "ours", "{first}");
    assert_eq!(annotations["mainstay.dev/adopted"], "true", "{first}");
    assert_eq!(first["metadata"]["labels"]["mainstay.dev/account-policy"], "ci", "{first}");
}

/// A copy of registry/pull, written with these keys, where there is one.
fn copy(standing: Option<&[&str]>) -> Action {
    let of = Copy {
        namespace: "registry".into(),
        name: "pull".into(),
        source: Source::At("s".into(), "1".into()),
    };
    let standing = standing.map(|found| CopyView {
        uid: "c".into(),
        origin: Origin::Made,
        policy: "ci".into(),
        of: of.clone(),
        written: WrittenBy::ByOthers(keys(found)),
    });
    Action::Copy("ci".into(), "pull".into(), of, standing.map(Box::new))
}

fn source(of: &'static str) -> impl Fn(&Method, &str) -> (u16, Value) + Send + Sync + 'static {
    move |method, _| match *method {
        Method::GET => {
            let metadata = json!({"name": "pull", "uid": "s", "resourceVersion": "1"});
            (200, json!({"metadata": metadata, "type": of, "data": {"kept": "YQ=="}}))
        }
        _ => metadata("pull"),
    }
}

#[tokio::test]
async fn keys_that_the_source_has_no_more_are_taken_off_the_copy() {
    let namespace = ObjectKey::new("", "ns");
    for (standing, patches) in [(&["kept", "gone"][..], 2), (&["kept"], 1)] {
        let server = Server::new(source("kubernetes.io/dockercfg"));
        assert_eq!(server.writer.apply(&namespace, &copy(Some(standing))).await.unwrap(), Done::Written);
        let bodies = server.bodies(&Method::PATCH);
        assert_eq!(bodies.len(), patches);
        assert!(bodies[1..].iter().all(|body| body["data"] == json!({"gone": null})), "{bodies:?}");
    }
}

#[tokio::test]
async fn only_pull_secrets_are_copied() {
    let namespace = ObjectKey::new("", "ns");
    for (of, copied) in [
        ("kubernetes.io/dockerconfigjson", true),
        ("kubernetes.io/dockercfg", true),
        ("Opaque", false),
        ("bootstrap.kubernetes.io/token", false),
        ("kubernetes.io/service-account-token", false),
    ] {
        let server = Server::new(source(of));
        let key = ObjectKey::new("registry", "pull");
        let sources = Arc::clone(&server.writer.stores.sources);
        sources.lock().insert(key.clone(), Source::At("s".into(), "1".into()));
        let done = server.writer.apply(&namespace, &copy(None)).await.unwrap();
        let expected = if copied { Done::Written } else { Done::NotPullSecret };
        assert_eq!((done, server.written().len()), (expected, usize::from(copied)), "{of}");
        assert_eq!(sources.lock()[&key] == Source::NotPullSecret, !copied, "{of} is remembered");
    }
}

/// What is found at names that no watch shows, out of what a namespace has.
async fn look(server: &Server, mut observed: Observed) -> Result<Observed, ApplyError> {
    let looked = server.writer.look(&ObjectKey::new("", "ns"), &mut observed).await;
    looked.map(|()| observed)
}

#[tokio::test]
async fn where_a_secret_was_not_made_it_is_looked_what_stands_there_until_nothing_does() {
    let is_there = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (there, answer) = (Arc::clone(&is_there), source("kubernetes.io/dockercfg"));
    let server = Server::new(move |method, url| {
        let taken = there.load(std::sync::atomic::Ordering::SeqCst);
        match (method, url.contains("/namespaces/ns/")) {
            (&Method::POST, _) if taken => refuse(409, "AlreadyExists"),
            (&Method::GET, true) if !taken => refuse(404, "NotFound"),
            _ => answer(method, url),
        }
    });
    assert_eq!(look(&server, Observed::default()).await.unwrap().unseen, [].into(), "nothing speaks of one");
    let done = server.writer.apply(&ObjectKey::new("", "ns"), &copy(None)).await.unwrap();
    assert_eq!(done, Done::Stale);
    for _ in 0..2 {
        let foreign = [("pull".into(), Unseen::Foreign(None))].into();
        assert_eq!(look(&server, Observed::default()).await.unwrap().unseen, foreign);
    }
    is_there.store(false, std::sync::atomic::Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(look(&server, Observed::default()).await.unwrap().unseen, [].into());
    }
    let gets = server.bodies(&Method::GET).len();
    assert_eq!(gets, 1 + 2 + 1, "the source, twice what stood there, and once that nothing does");
}

#[tokio::test]
async fn the_secret_of_which_a_handle_speaks_is_looked_for() {
    let handle = HandleView {
        uid: "h".into(),
        origin: Origin::Made,
        policy: "ci".into(),
        output: "bot-token".into(),
        created: jiff::Timestamp::UNIX_EPOCH,
    };
    let observed = || Observed { handles: [("h".into(), handle.clone())].into(), ..Observed::default() };
    let labels = json!({"f:mainstay.dev/account-part": {}});
    let metadata = json!({
        "name": "bot-token", "uid": "u", "labels": {"mainstay.dev/account-part": "token"},
        "managedFields": [{"manager": FIELD_MANAGER, "fieldsV1": {"f:metadata": {"f:labels": labels}}}],
    });
    for (answer, expected) in [
        ((200, json!({"metadata": metadata})), Some(Unseen::Unmarked(Part::Token, "u".into()))),
        (refuse(404, "NotFound"), None),
    ] {
        let server = Server::new(move |_, _| answer.clone());
        let found = look(&server, observed()).await.unwrap().unseen;
        assert_eq!(found.get("bot-token"), expected.as_ref());
    }
    let server = Server::new(|_, _| refuse(500, "InternalError"));
    let mut observed = observed();
    server.writer.look(&ObjectKey::new("", "ns"), &mut observed).await.unwrap_err();
    assert_eq!(observed.unseen, [("bot-token".into(), Unseen::Unknown)].into());
}

#[tokio::test]
async fn a_mark_is_put_back_on_what_has_the_uid_that_was_seen() {
    let server = Server::new(|_, _| metadata("pull"));
    let mark = Action::Mark("ci".into(), Part::Copy, "pull".into(), "u".into());
    server.writer.apply(&ObjectKey::new("", "ns"), &mark).await.unwrap();
    let labels = json!({"mainstay.dev/account-policy": "ci"});
    assert_eq!(server.bodies(&Method::PATCH), [json!({"metadata": {"uid": "u", "labels": labels}})]);
}
