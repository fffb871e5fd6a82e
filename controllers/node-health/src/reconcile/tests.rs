//! What a reconcile does with nodes whose policy is there and cannot be read.

use kube::{
    Client,
    client::Body,
    runtime::{
        reflector::{store, store::Writer},
        watcher::Event,
    },
};
use mainstay_runtime::{
    clock::Clock, decode::Undecodable, events::Events, failure::RequestError, index::Index,
    k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta, metrics::LoopMetrics, report::StatusWriter,
    solo::Beat, undecoded::Undecoded,
};
use prometheus::Registry;
use serde_json::json;

use super::{jobs::Task, *};
use crate::{
    announce::Announcer,
    apply::{
        ApplyError,
        leftovers::{Flaw, Listed},
        server::Server,
    },
    metrics::Metrics,
    observations::Observations,
    plan::{Evict, PodsPlan},
    settings::TemplateRef,
    watched::WatchedNode,
};

const POLICIES: &str = "/apis/mainstay.dev/v1alpha1/nodehealthpolicies";

/// The controller of one node, which the policy `ours` has cordoned, on a server that never answers.
fn node_health() -> (NodeHealth, Writer<NodeHealthPolicy>) {
    let silent = tower::service_fn(|_: http::Request<Body>| {
        std::future::pending::<Result<http::Response<Body>, std::io::Error>>()
    });
    node_health_on(Client::new(silent, "default"))
}

fn node_health_on(client: Client) -> (NodeHealth, Writer<NodeHealthPolicy>) {
    let (registry, clock, (policies, writer)) = (Registry::new(), Clock::start(), store());
    let (observations, nodes) = (Arc::new(Observations::new(clock)), Index::default());
    let record = json!({"taken": {"policy": "ours", "since": "2026-01-01T00:00:00Z", "cordon": true}});
    let node = json!({
        "metadata": {
            "name": "n", "uid": "n", "annotations": {crate::names::RECORD: record.to_string()},
        },
        "spec": {"unschedulable": true},
        "status": {},
    });
    let node = Node::from(serde_json::from_value::<WatchedNode>(node).unwrap());
    nodes.apply(Event::Apply(node), |change| observations.node_changed(&change));
    let node_health = NodeHealth {
        announcer: Announcer::new(Events::start(client.clone(), "test", "test")),
        client: client.clone(),
        clock,
        observations,
        nodes,
        policies,
        undecoded: Undecoded::new(&registry),
        status_writer: Arc::new(StatusWriter::new(client, "test", STATUS_PACE)),
        metrics: Arc::new(Metrics::new(&registry)),
        loop_metrics: LoopMetrics::new(&registry, "test", 1),
        max_in_flight: 4,
        beat: Beat::new("test"),
    };
    (node_health, writer)
}

/// Whether the node is written by a first reconcile.
fn is_written(node_health: &NodeHealth) -> bool {
    let mut state = LeaderState::new(16);
    node_health.pass(&mut state);
    state.jobs.is_under_way(&(Task::Write, "n".into()))
}

fn policy(metadata: ObjectMeta, spec: serde_json::Value) -> NodeHealthPolicy {
    let mut policy = NodeHealthPolicy::new("ours", serde_json::from_value(spec).unwrap());
    policy.metadata = metadata;
    policy
}

#[tokio::test]
async fn what_a_policy_took_that_is_gone_is_handed_back() {
    assert!(is_written(&node_health().0));
}

#[tokio::test]
async fn what_a_policy_took_that_cannot_be_decoded_is_kept() {
    let (node_health, mut policies) = node_health();
    let metadata = ObjectMeta { name: Some("ours".into()), ..ObjectMeta::default() };
    node_health.undecoded.put(
        Undecodable {
            metadata,
            field: "spec.breakers.zone.maxUnhealthy".into(),
            error: "too much".into(),
            conditions: vec![],
        },
        None,
    );
    assert!(!is_written(&node_health));

    // Nor by a dry run that selects the node as well.
    let metadata = ObjectMeta { name: Some("dry".into()), uid: Some("dry".into()), ..ObjectMeta::default() };
    let dry = policy(metadata, json!({"nodeSelector": {}, "dryRun": true}));
    policies.apply_watcher_event(&Event::Apply(dry));
    assert!(!is_written(&node_health));
}

#[tokio::test]
async fn what_a_policy_took_that_makes_no_sense_is_kept() {
    let (node_health, mut policies) = node_health();
    let metadata =
        ObjectMeta { name: Some("ours".into()), uid: Some("ours".into()), ..ObjectMeta::default() };
    let expression = json!({"key": "a", "operator": "Gt", "values": ["1"]});
    let wrong = policy(metadata, json!({"nodeSelector": {"matchExpressions": [expression]}}));
    policies.apply_watcher_event(&Event::Apply(wrong));
    assert!(!is_written(&node_health));
}

#[tokio::test]
async fn what_a_policy_took_that_cannot_be_decoded_counts_for_the_breakers_of_others() {
    let (node_health, mut policies) = node_health();
    let metadata = ObjectMeta { name: Some("ours".into()), ..ObjectMeta::default() };
    let (field, error) = ("spec".to_owned(), "too much".to_owned());
    node_health.undecoded.put(Undecodable { metadata, field, error, conditions: vec![] }, None);
    let metadata =
        ObjectMeta { name: Some("other".into()), uid: Some("other".into()), ..ObjectMeta::default() };
    let breakers = json!({"cluster": {"maxUnhealthy": 0}});
    let other = policy(metadata, json!({"nodeSelector": {}, "breakers": breakers}));
    policies.apply_watcher_event(&Event::Apply(other));
    let mut state = LeaderState::new(16);
    node_health.pass(&mut state);
    assert!(state.memory.breakers.contains_key(&("other".into(), None)), "{:?}", state.memory.breakers);
}

#[tokio::test]
async fn the_remediations_of_a_policy_that_makes_no_sense_any_more_go_on() {
    for (operator, goes_on) in [("Gt", true), ("Exists", false)] {
        let (node_health, mut policies) = node_health();
        let mut state = LeaderState::new(16);
        let mut apply = |generation, expressions: serde_json::Value| {
            let template = json!({
                "apiVersion": "x.dev/v1", "kind": "RepairTemplate", "namespace": "ns", "name": "gentle",
            });
            let selector = json!({"matchExpressions": expressions});
            let spec = json!({"nodeSelector": selector, "remediation": {"templates": [template]}});
            let metadata = ObjectMeta {
                name: Some("ours".into()),
                uid: Some("ours".into()),
                generation: Some(generation),
                ..ObjectMeta::default()
            };
            policies.apply_watcher_event(&Event::Apply(policy(metadata, spec)));
        };
        apply(1, json!([]));
        node_health.pass(&mut state);
        state.standing.insert("ours".into(), vec![crate::apply::leftovers::tests::made(Some("n"))]);
        apply(
            2,
            json!([{"key": "a", "operator": operator, "values": if goes_on { json!(["1"]) } else { json!([]) }}]),
        );
        node_health.pass(&mut state);
        // Where it can be read, and selects the node no more, they end.
        assert_eq!(state.jobs.is_under_way(&(Task::Clear, "ours".into())), !goes_on, "{operator}");
    }
}

#[tokio::test]
async fn all_remediations_of_a_node_that_is_gone_end() {
    // The node `n` is of the UID `n`, and cordoned by `ours`: what is there for it goes on.
    for (made_for, ends) in [(Some("n"), false), (None, false), (Some("before"), true)] {
        let (node_health, mut policies) = node_health();
        let template = json!({
            "apiVersion": "x.dev/v1", "kind": "RepairTemplate", "namespace": "ns", "name": "gentle",
        });
        let spec = json!({"nodeSelector": {}, "remediation": {"templates": [template]}});
        let metadata =
            ObjectMeta { name: Some("ours".into()), uid: Some("ours".into()), ..ObjectMeta::default() };
        policies.apply_watcher_event(&Event::Apply(policy(metadata, spec)));
        let mut state = LeaderState::new(16);
        state.standing.insert("ours".into(), vec![crate::apply::leftovers::tests::made(made_for)]);
        node_health.pass(&mut state);
        assert_eq!(state.jobs.is_under_way(&(Task::Clear, "ours".into())), ends, "{made_for:?}");
    }
}

#[tokio::test]
async fn remediations_by_a_template_that_was_dropped_while_no_process_led_are_listed() {
    let (node_health, mut policies) = node_health();
    let metadata =
        ObjectMeta { name: Some("ours".into()), uid: Some("ours".into()), ..ObjectMeta::default() };
    let mut policy = policy(metadata, json!({"nodeSelector": {}}));
    let kind = json!({"apiVersion": "x.dev/v1", "kind": "RepairTemplate", "namespace": "ns"});
    policy.status = serde_json::from_value(json!({"templateKinds": [kind]})).unwrap();
    policies.apply_watcher_event(&Event::Apply(policy));
    let mut state = LeaderState::new(16);
    node_health.pass(&mut state);
    assert!(state.jobs.is_under_way(&(Task::List, "ours".into())));
    // As long as there are any, their kind is remembered.
    let mut listed = |standing, refused| {
        let outcome = outcome::Outcome::Listed(Listed { standing, refused }, Vec::new());
        let key = (Task::List, "ours".into());
        let found = outcome::Found::new("ours", outcome);
        take_in::take_in(&node_health, &mut state, key, found, node_health.clock.now());
        let read = &state.settings["ours"];
        (read.kinds().len(), read.unlisted.len())
    };
    assert_eq!(listed(vec![crate::apply::leftovers::tests::made(Some("n"))], Vec::new()), (1, 0));
    // Or as long as it is not known whether there are.
    let refused = |error: fn(String) -> RequestError| {
        let source = error("no".to_owned());
        vec![(template_of(&kind), ApplyError::Read { what: "objects".to_owned(), source })]
    };
    assert_eq!(listed(Vec::new(), refused(RequestError::NoAnswer)), (1, 0));
    assert_eq!(listed(Vec::new(), refused(RequestError::Forbidden)), (1, 1));
    assert_eq!(listed(Vec::new(), refused(RequestError::NoAnswer)), (1, 1), "it says nothing new");
    assert_eq!(listed(Vec::new(), Vec::new()), (0, 0));
}

fn template_of(kind: &serde_json::Value) -> TemplateRef {
    TemplateRef::of_kind(&serde_json::from_value(kind.clone()).unwrap())
}

#[tokio::test]
async fn a_kind_that_a_policy_names_no_more_is_forgotten_when_none_of_it_is_left() {
    let (node_health, mut policies) = node_health();
    let mut state = LeaderState::new(16);
    let mut apply = |state: &mut LeaderState, generation, templates: serde_json::Value| {
        let metadata = ObjectMeta {
            name: Some("ours".into()),
            uid: Some("ours".into()),
            generation: Some(generation),
            ..ObjectMeta::default()
        };
        let spec = json!({"nodeSelector": {}, "remediation": {"templates": templates}});
        policies.apply_watcher_event(&Event::Apply(policy(metadata, spec)));
        node_health.pass(state);
    };
    let template =
        json!({"apiVersion": "x.dev/v1", "kind": "RepairTemplate", "namespace": "ns", "name": "gentle"});
    let listed = |state: &mut LeaderState| {
        let template = template_of(&template).with_name("gentle");
        let flaw = Flaw { template, words: "not found".to_owned() };
        let outcome = outcome::Outcome::Listed(Listed::default(), vec![flaw]);
        let found = outcome::Found::new("ours", outcome);
        take_in::take_in(&node_health, state, (Task::List, "ours".into()), found, node_health.clock.now());
        let read = &state.settings["ours"];
        (read.kinds().len(), read.unusable.len())
    };
    apply(&mut state, 1, json!([template]));
    assert_eq!((listed(&mut state), listed(&mut state)), ((1, 1), (1, 1)), "it names it");
    apply(&mut state, 2, json!([]));
    assert_eq!(state.settings["ours"].unusable.len(), 0, "what was wrong with it does not matter any more");
    // One may have been made after the first of these lists.
    assert_eq!((listed(&mut state), listed(&mut state)), ((1, 0), (0, 0)));
}

/// `ours`, with a breaker of all its nodes that is open or not.
fn with_breaker(open: bool) -> NodeHealthPolicy {
    let metadata =
        ObjectMeta { name: Some("ours".into()), uid: Some("ours".into()), ..ObjectMeta::default() };
    let mut policy = policy(metadata, json!({"nodeSelector": {}}));
    let breaker = json!({"nodes": 9, "unhealthy": 8, "limit": 4, "open": open});
    policy.status = serde_json::from_value(json!({"breakers": [breaker]})).unwrap();
    policy
}

fn is_open(state: &LeaderState) -> bool {
    state.memory.breakers.get(&("ours".into(), None)).is_some_and(|breaker| breaker.open_since.is_some())
}

#[tokio::test]
async fn a_new_leader_asks_the_server_which_breakers_are_open_and_no_watch() {
    let server = Server::default();
    let undecodable = json!({"metadata": {"name": "other"}, "spec": {"nodeSelector": 1}});
    for (written, watched) in [(true, false), (false, true)] {
        let items = json!([undecodable.clone(), with_breaker(written)]);
        server.set(POLICIES, Ok(json!({"metadata": {}, "items": items})));
        let (node_health, mut policies) = node_health_on(server.client());
        policies.apply_watcher_event(&Event::Apply(with_breaker(watched)));
        let mut state = LeaderState::new(16);
        node_health.restore_breakers(&mut state, &CancellationToken::new()).await;
        node_health.pass(&mut state);
        assert_eq!(is_open(&state), written);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_plans_nothing_before_the_server_has_answered() {
    let server = Server::default();
    server.set(POLICIES, Err(503));
    let (node_health, _policies) = node_health_on(server.client());
    let (mut state, shutdown) = (LeaderState::new(16), CancellationToken::new());
    let later = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        server.set(POLICIES, Ok(json!({"metadata": {}, "items": [with_breaker(true)]})));
    };
    let began = Instant::now();
    tokio::join!(node_health.restore_breakers(&mut state, &shutdown), later);
    assert!(began.elapsed() >= Duration::from_secs(60));
    server.set(POLICIES, Err(503));
    shutdown.cancel();
    node_health.restore_breakers(&mut state, &shutdown).await;
}

#[tokio::test]
async fn the_breakers_of_a_policy_that_appears_later_are_recalled_then() {
    let (node_health, mut policies) = node_health();
    let mut state = LeaderState::new(16);
    node_health.pass(&mut state);
    assert!(!is_open(&state));
    policies.apply_watcher_event(&Event::Apply(with_breaker(true)));
    node_health.pass(&mut state);
    assert!(is_open(&state));
    // From then on what this process remembers counts, and not what is written down.
    policies.apply_watcher_event(&Event::Apply(with_breaker(false)));
    node_health.pass(&mut state);
    assert!(is_open(&state));
}

#[tokio::test]
async fn what_was_found_of_a_node_says_nothing_of_one_that_was_recreated_under_its_name() {
    let (node_health, _policies) = node_health();
    for (uid, counts) in [("n", true), ("before", false)] {
        let mut state = LeaderState::new(16);
        node_health.pass(&mut state);
        let visit = crate::apply::remediation::Visit { stands: Some((0, None)), ..Default::default() };
        let found = outcome::Found::new(uid, outcome::Outcome::Remedied(Ok(visit)));
        let now = node_health.clock.now();
        take_in::take_in(&node_health, &mut state, (Task::Remedy, "n".into()), found, now);
        assert_eq!(state.known["n"].remediation.is_some(), counts, "{uid}");
    }
}

#[tokio::test]
async fn another_thing_to_do_with_pods_does_not_wait_for_what_was_to_be_done_before() {
    let (node_health, _policies) = node_health();
    let mut state = LeaderState::new(16);
    let pass = node_health.look(&mut state);
    let key = (Task::Pods, Arc::from("n"));
    let plan = |evict| PodsPlan { not_ready: false, evict: Some(evict) };
    let visits = |state: &mut LeaderState, plan| {
        node_health.visit_pods(state, &pass, &crate::apply::still::tests::silent("n"), plan);
        let begins = state.jobs.is_under_way(&key);
        state.jobs = jobs::Jobs::new(16);
        state.jobs.rest(key.clone(), pass.now.moment, Duration::from_secs(15));
        begins
    };
    assert!(visits(&mut state, plan(Evict::Politely)));
    assert!(!visits(&mut state, plan(Evict::Politely)), "a PodDisruptionBudget holds them");
    assert!(visits(&mut state, plan(Evict::Force)));
    // Where the visit that ends was for something else, the next one is due.
    let found = |plan| {
        let visit = crate::apply::pods::Visit { left: 1, ..Default::default() };
        outcome::Found::new("n", outcome::Outcome::Visited(plan, visit))
    };
    for (of, at_once) in [(Evict::Politely, true), (Evict::Force, false)] {
        take_in::take_in(&node_health, &mut state, key.clone(), found(plan(of)), pass.now.moment);
        assert_eq!(state.jobs.due(pass.now.moment).is_none(), at_once);
    }
}

#[tokio::test]
async fn what_has_come_of_a_write_whose_answer_was_lost_is_told_when_it_is_seen() {
    let (node_health, _policies) = node_health();
    let refusals = [(RequestError::NoAnswer as fn(String) -> _, true), (RequestError::Forbidden, false)];
    for (refusal, waits) in refusals {
        let mut state = LeaderState::new(16);
        node_health.pass(&mut state);
        let before = state.known["n"].recorded.clone();
        let result = Box::new(Err(ApplyError::Node(refusal("no".to_owned()))));
        let written = outcome::Outcome::Written { before: before.clone(), wanted: Record::default(), result };
        let found = outcome::Found::new("n", written);
        take_in::take_in(&node_health, &mut state, (Task::Write, "n".into()), found, node_health.clock.now());
        node_health.pass(&mut state);
        assert_eq!(state.known["n"].unanswered, Some(before).filter(|_| waits), "nothing has come of it yet");
        let restored = json!({"metadata": {"name": "n", "uid": "n", "resourceVersion": "2"}, "status": {}});
        let restored = Node::from(serde_json::from_value::<WatchedNode>(restored).unwrap());
        let known = state.known.get_mut("n").unwrap();
        node_health.tell_unanswered(&"n".into(), known, &restored.facts.record);
        assert_eq!(known.unanswered, None);
    }
}
