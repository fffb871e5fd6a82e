//! The store on the events of a watch, and on a watch of a server that holds an object which nobody can decode.

use std::convert::Infallible;

use futures::StreamExt;
use http::Response;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{
    Api, Client,
    client::Body,
    runtime::{
        reflector::store,
        watcher::{Config, watcher},
    },
};
use parking_lot::Mutex;
use prometheus::Registry;
use serde_json::{Value, json};

use super::*;
use crate::testing::client;

type Budget = PodDisruptionBudget;

/// A number that no field of 32 bits holds.
const TOO_MUCH: i64 = 3_000_000_000;

fn raw(name: &str, uid: &str, max_unavailable: i64) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": "1"},
        "spec": {"maxUnavailable": max_unavailable},
    })
}

fn budget(name: &str, uid: &str, max_unavailable: i64) -> Decoded<Budget> {
    serde_json::from_value(raw(name, uid, max_unavailable)).unwrap()
}

fn good(name: &str) -> Decoded<Budget> {
    budget(name, name, 1)
}

fn bad(name: &str) -> Decoded<Budget> {
    budget(name, name, TOO_MUCH)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("ns", name)
}

/// What one run of the store has told.
#[derive(Debug, Default, PartialEq)]
struct Told {
    /// Old and new, by UID.
    changes: Vec<(Option<String>, Option<String>)>,
    lost: Vec<String>,
}

struct World {
    root: Option<Writer<Budget>>,
    store: Store<Budget>,
    undecoded: Undecoded<Budget>,
    registry: Registry,
}

impl World {
    fn new() -> Self {
        let (store, writer) = store();
        let registry = Registry::new();
        Self { root: Some(writer), store, undecoded: Undecoded::new(&registry), registry }
    }

    fn take(self, events: Vec<Event<Decoded<Budget>>>) -> (Self, Told) {
        let told = Mutex::new(Told::default());
        let uid = |object: Option<&Budget>| object.and_then(|object| object.metadata.uid.clone());
        let World { root, store, undecoded, registry } = self;
        let mut root = Root::new(
            root.unwrap(),
            undecoded.clone(),
            |old: Option<&Budget>, new: Option<&Budget>| told.lock().changes.push((uid(old), uid(new))),
            |last: &Budget| told.lock().lost.push(uid(Some(last)).unwrap()),
        );
        events.into_iter().for_each(|event| root.take_in(Ok::<_, Infallible>(event)));
        drop(root);
        (Self { root: None, store, undecoded, registry }, told.into_inner())
    }

    fn stored(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.store.state().iter().filter_map(|object| object.metadata.name.clone()).collect();
        names.sort();
        names
    }

    fn counted(&self) -> String {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        text.lines().last().unwrap().to_owned()
    }
}

fn listed(objects: impl IntoIterator<Item = Decoded<Budget>>) -> Vec<Event<Decoded<Budget>>> {
    let objects = objects.into_iter().map(Event::InitApply);
    [Event::Init].into_iter().chain(objects).chain([Event::InitDone]).collect()
}

fn some(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn what_vanished_while_the_watch_was_down_is_reported() {
    let events = [listed([good("a"), good("b")]), listed([good("b")]), vec![Event::Delete(good("b"))]];
    let (_, mut told) = World::new().take(events.concat());
    told.changes[..2].sort();
    let expected =
        [(None, some("a")), (None, some("b")), (some("b"), some("b")), (some("a"), None), (some("b"), None)];
    assert_eq!(told.changes, expected);
}

#[test]
fn an_object_that_cannot_be_decoded_hides_no_other() {
    let (world, mut told) = World::new().take(listed([good("a"), bad("b"), good("c")]));
    told.changes.sort();
    assert_eq!(told.changes, [(None, some("a")), (None, some("c"))]);
    assert_eq!(world.stored(), ["a", "c"]);
    assert!(world.undecoded.contains(&key("b")));
    assert_eq!(world.counted(), "mainstay_undecodable_objects{kind=\"PodDisruptionBudget\"} 1");
}

#[test]
fn an_object_that_can_be_decoded_no_more_is_not_gone() {
    let events =
        [listed([good("a")]), vec![Event::Apply(bad("a")), Event::Apply(bad("a"))], listed([bad("a")])];
    let (world, told) = World::new().take(events.concat());
    assert_eq!(told.changes, [(None, some("a"))], "nothing is forgotten, neither by an event nor by a list");
    assert_eq!(told.lost, ["a"], "once");
    assert_eq!(world.stored(), Vec::<String>::new(), "no pass is about it");
    assert!(world.undecoded.contains(&key("a")));

    let (world, told) = World::new().take([listed([good("a")]), listed([bad("a")])].concat());
    assert_eq!((told.changes.len(), told.lost.len()), (1, 1), "a list alone says so, too");
    assert!(world.undecoded.contains(&key("a")));
}

#[test]
fn an_object_that_is_corrected_goes_on_from_what_it_was() {
    for correction in [vec![Event::Apply(good("a"))], listed([good("a")])] {
        let events = [listed([good("a")]), vec![Event::Apply(bad("a"))], correction];
        let (world, told) = World::new().take(events.concat());
        assert_eq!(told.changes, [(None, some("a")), (some("a"), some("a"))]);
        assert_eq!(world.stored(), ["a"]);
        assert_eq!(world.counted(), "mainstay_undecodable_objects{kind=\"PodDisruptionBudget\"} 0");
    }
}

#[test]
fn an_object_that_is_deleted_before_it_is_corrected_is_gone() {
    for end in [vec![Event::Delete(bad("a"))], vec![Event::Delete(good("a"))], listed([])] {
        let events = [listed([good("a")]), vec![Event::Apply(bad("a"))], end.clone()];
        let (world, told) = World::new().take(events.concat());
        assert_eq!(told.changes, [(None, some("a")), (some("a"), None)]);
        assert!(!world.undecoded.contains(&key("a")));
    }
}

#[test]
fn another_object_of_the_name_is_another() {
    let anew = budget("a", "another", TOO_MUCH);
    for event in [vec![Event::Apply(anew.clone())], listed([anew])] {
        let (world, told) = World::new().take([listed([good("a")]), event].concat());
        assert_eq!(told.changes, [(None, some("a")), (some("a"), None)]);
        assert!(world.undecoded.contains(&key("a")) && told.lost.is_empty());
    }
}

/// A server of three objects, one of which nobody can decode, in a list and then in the events of a watch.
fn server() -> Client {
    client(|head, _| {
        let is_watch = head.uri.query().is_some_and(|query| query.contains("watch=true"));
        let objects = [raw("a", "a", 1), raw("b", "b", TOO_MUCH), raw("c", "c", 1)];
        let text = if is_watch {
            let event = |object| json!({"type": "MODIFIED", "object": object}).to_string() + "\n";
            objects.map(event).concat()
        } else {
            let metadata = json!({"resourceVersion": "1"});
            let (version, kind) = ("policy/v1", "PodDisruptionBudgetList");
            json!({"apiVersion": version, "kind": kind, "metadata": metadata, "items": objects}).to_string()
        };
        Ok(Response::new(Body::from(text.into_bytes())))
    })
}

#[tokio::test]
async fn neither_a_page_nor_an_event_fails_for_an_object_that_cannot_be_decoded() {
    let events = watcher(Api::<Decoded<Budget>>::all(server()), Config::default());
    let events: Vec<_> = events.take(8).collect().await;
    let kinds = events.into_iter().map(|event| match event.expect("no failure of the watch") {
        Event::Init => "list",
        Event::InitDone => "listed",
        Event::InitApply(Decoded::Object(_)) | Event::Apply(Decoded::Object(_)) => "object",
        Event::InitApply(Decoded::Undecodable(_)) | Event::Apply(Decoded::Undecodable(_)) => "undecodable",
        Event::Delete(_) => "deleted",
    });
    let three = ["object", "undecodable", "object"];
    assert_eq!(kinds.collect::<Vec<_>>(), [&["list"], &three[..], &["listed"], &three].concat());
}
