//! What is told of an object that cannot be decoded, to a server that notes what is written.

use http::{Method, Response, header, request::Parts};
use k8s_openapi::api::policy::v1::PodDisruptionBudget as Budget;
use kube::client::Body;

use super::*;
use crate::{
    index::{Change, Index, Indexed},
    slim::Header,
    testing::{client, refuse, reply},
};

/// A number that no field of 32 bits holds.
const TOO_MUCH: i64 = 3_000_000_000;

/// A server that answers each request with the next of its codes, and with 200 when there is none left.
#[derive(Clone, Default)]
struct Server {
    codes: Arc<Mutex<Vec<u16>>>,
    written: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        client(move |head, body| Ok(server.answer(head, body)))
    }

    fn answer(&self, head: &Parts, body: &[u8]) -> Response<Body> {
        assert_eq!(head.method, Method::PATCH);
        assert_eq!(head.headers[header::CONTENT_TYPE], "application/merge-patch+json");
        self.written.lock().push((head.uri.to_string(), serde_json::from_slice(body).unwrap()));
        match self.codes.lock().pop() {
            None => reply(&json!({"metadata": {"uid": "u", "resourceVersion": "2"}})),
            Some(code) => refuse(code, "Invalid"),
        }
    }

    async fn wait_for(&self, writes: usize) -> Vec<(String, Value)> {
        while self.written.lock().len() < writes {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.written.lock().clone()
    }
}

fn undecodable(metadata: Value, conditions: Value) -> Undecodable {
    let mut object = json!({
        "metadata": {"name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "1", "generation": 3},
        "spec": {"maxUnavailable": TOO_MUCH},
        "status": {"conditions": conditions},
    });
    for (field, value) in metadata.as_object().unwrap() {
        object["metadata"][field] = value.clone();
    }
    match serde_json::from_value::<Decoded<Budget>>(object).unwrap() {
        Decoded::Object(_) => panic!("it cannot be decoded"),
        Decoded::Undecodable(object) => *object,
    }
}

fn condition(kind: &str, status: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": "Was", "message": "before",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

fn undecoded() -> Undecoded<Budget> {
    Undecoded::new(&Registry::new())
}

#[tokio::test(start_paused = true)]
async fn the_status_says_which_field_is_to_be_corrected_and_keeps_what_else_it_says() {
    let (server, objects) = (Server::default(), undecoded());
    let conditions = json!([condition("Ready", "True"), condition("Available", "True")]);
    objects.put(undecodable(json!({}), conditions), None);
    let task = tokio::spawn(objects.clone().tell(server.client(), "manager"));
    let (uri, patch) = server.wait_for(1).await.remove(0);
    let path = "/apis/policy/v1/namespaces/ns/poddisruptionbudgets/a/status?&fieldManager=manager";
    assert_eq!(uri, path);
    assert_eq!(patch["metadata"], json!({"uid": "u", "resourceVersion": "1"}));
    assert_eq!(patch["status"]["observedGeneration"], 3);
    let written = patch["status"]["conditions"].clone();
    let heads = written.as_array().unwrap().iter().map(|it| format!("{}={}", it["type"], it["status"]));
    let expected = ["\"Ready\"=\"False\"", "\"Available\"=\"True\"", "\"Stalled\"=\"True\""];
    assert_eq!(heads.collect::<Vec<_>>(), expected);
    assert_eq!((&written[0]["reason"], &written[2]["reason"]), (&json!(REASON), &json!(REASON)));
    let said = written[2]["message"].as_str().unwrap();
    assert!(
        said.starts_with("spec.maxUnavailable cannot be read: ") && said.contains("3000000000"),
        "{said}"
    );

    // The watch shows what was written, and then another edit that corrects nothing.
    objects.put(undecodable(json!({"resourceVersion": "2"}), written.clone()), None);
    objects.put(undecodable(json!({"resourceVersion": "3", "generation": 4}), written), None);
    let (_, patch) = server.wait_for(2).await.remove(1);
    assert_eq!(patch["status"]["observedGeneration"], 4);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(server.written.lock().len(), 2);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn what_has_been_told_is_not_told_again() {
    let (server, objects) = (Server::default(), undecoded());
    let object = undecodable(json!({}), json!([]));
    let told = news::<Budget>(&object, second(Timestamp::now())).unwrap();
    objects.put(undecodable(json!({}), json!(told)), None);
    let task = tokio::spawn(objects.tell(server.client(), "manager"));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(server.written.lock().len(), 0);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_refused_is_tried_again() {
    let (server, objects) = (Server::default(), undecoded());
    *server.codes.lock() = vec![422, 500];
    objects.put(undecodable(json!({}), json!([])), None);
    let task = tokio::spawn(objects.tell(server.client(), "manager"));
    server.wait_for(3).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(server.written.lock().len(), 3);
    task.abort();
}

#[test]
fn an_object_that_waits_for_its_finalizer_says_how_it_can_go() {
    let metadata = |finalizer: &str| json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/other", finalizer]});
    let said = message::<Budget>(&undecodable(metadata("policy/ours"), json!([])));
    assert!(said.contains("remove its finalizer policy/ours"), "{said}");
    let said = message::<Budget>(&undecodable(metadata("example.com/another"), json!([])));
    assert!(!said.contains("finalizer"), "{said}");
}

#[test]
fn a_path_is_as_kubectl_explain_takes_it() {
    assert_eq!(without_indices("spec.stages[0].targets[12].name"), "spec.stages.targets.name");
}

#[test]
fn a_condition_that_does_not_change_keeps_its_time() {
    let standing = json!([condition("Stalled", "True"), condition("Reconciling", "True")]);
    let conditions = news::<Budget>(&undecodable(json!({}), standing), Timestamp::UNIX_EPOCH).unwrap();
    let since = |kind: &str| {
        let found = conditions.iter().find(|condition| condition["type"] == kind);
        found.unwrap()["lastTransitionTime"].as_str().unwrap().to_owned()
    };
    assert_eq!(since("Stalled"), "2026-01-01T00:00:00Z");
    assert_eq!(
        (since("Reconciling"), since("Ready")),
        ("1970-01-01T00:00:00Z".into(), "1970-01-01T00:00:00Z".into())
    );
}

/// What an index keeps of a budget.
#[derive(Debug)]
struct Kept(Header);

impl From<Budget> for Kept {
    fn from(budget: Budget) -> Self {
        Self(Header::of(&budget))
    }
}

impl Indexed for Kept {
    type Bucket = ();
    fn header(&self) -> &Header {
        &self.0
    }
    fn buckets(&self) -> Vec<()> {
        vec![()]
    }
    fn is_same(&self, _: &Self) -> bool {
        false
    }
}

#[test]
fn an_index_keeps_what_it_knew_of_an_object_until_it_is_deleted() {
    let object = |uid: &str, max_unavailable: i64| {
        let metadata = json!({"name": "a", "namespace": "ns", "uid": uid, "resourceVersion": "1"});
        let object = json!({"metadata": metadata, "spec": {"maxUnavailable": max_unavailable}});
        serde_json::from_value::<Decoded<Budget>>(object).unwrap()
    };
    let (good, bad, other) = (object("u", 1), object("u", TOO_MUCH), object("other", TOO_MUCH));
    let listed =
        |object: &Decoded<Budget>| vec![Event::Init, Event::InitApply(object.clone()), Event::InitDone];
    let known = vec![Event::Apply(good.clone())];
    for (then, is_kept, is_counted) in [
        (vec![Event::Apply(bad.clone())], true, true),
        (listed(&bad), true, true),
        ([listed(&bad), listed(&good)].concat(), true, false),
        (vec![Event::Apply(bad.clone()), Event::Delete(bad.clone())], false, false),
        ([listed(&bad), vec![Event::Init, Event::InitDone]].concat(), false, false),
        (listed(&other), false, true),
    ] {
        let (index, objects) = (Index::<Kept>::default(), undecoded());
        for event in [known.clone(), then.clone()].concat() {
            index.take_in_decoded(&objects, Ok(event), |object| Some(Kept::from(object)), |_| {});
        }
        let key = ObjectKey::new("ns", "a");
        assert_eq!((index.get(&key).is_some(), objects.contains(&key)), (is_kept, is_counted), "{then:?}");
    }
}

#[test]
fn an_index_tells_when_an_object_goes_that_it_never_knew() {
    let object = json!({"metadata": {"name": "a", "namespace": "ns"}, "spec": {"maxUnavailable": TOO_MUCH}});
    let bad: Decoded<Budget> = serde_json::from_value(object).unwrap();
    let listed = [Event::Init, Event::InitApply(bad.clone()), Event::InitDone];
    for then in [vec![Event::Delete(bad.clone())], vec![Event::Init, Event::InitDone]] {
        let (index, objects, mut told) = (Index::<Kept>::default(), undecoded(), 0);
        let mut changed =
            |change: Change<'_, Kept>| told += usize::from(change.old.is_none() && change.new.is_none());
        for event in listed.iter().cloned().chain(then) {
            index.take_in_decoded(&objects, Ok(event), |object| Some(Kept::from(object)), &mut changed);
        }
        assert_eq!(told, 1);
    }
}
