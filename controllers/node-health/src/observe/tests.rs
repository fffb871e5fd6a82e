//! Whose a node is, and what is believed of it.

use jiff::Timestamp;
use mainstay_crds::NodeHealthPolicy;
use mainstay_runtime::{clock::Clock, index::Change};
use serde_json::{Value, json};

use super::*;
use crate::{
    settings,
    watched::{Lease, WatchedLease, WatchedNode},
};

fn node(name: &str, labels: Value, status: Value, annotations: Value) -> Arc<Node> {
    let node = json!({
        "metadata": {"name": name, "uid": name, "labels": labels, "annotations": annotations}, "status": status,
    });
    Arc::new(Node::from(serde_json::from_value::<WatchedNode>(node).unwrap()))
}

fn plain(name: &str, labels: Value) -> Arc<Node> {
    node(name, labels, json!({}), json!({}))
}

fn read(name: &str, spec: Value) -> Arc<Settings> {
    let policy = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "NodeHealthPolicy", "metadata": {"name": name}, "spec": spec,
    });
    let policy: NodeHealthPolicy = serde_json::from_value(policy).unwrap();
    Settings::read(&policy).map(Arc::new).unwrap()
}

fn lease(observations: &Observations, node: &str, second: i64) {
    let lease = json!({
        "metadata": {"name": node},
        "spec": {
            "leaseDurationSeconds": 40,
            "renewTime": Timestamp::from_second(second).unwrap().strftime("%FT%T.000000Z").to_string(),
        },
    });
    let lease = Arc::new(Lease::from(serde_json::from_value::<WatchedLease>(lease).unwrap()));
    observations.lease_changed(&Change { old: None, new: Some(&lease) });
}

#[test]
fn a_node_belongs_to_the_strictest_of_its_policies_and_all_of_them_know() {
    let mut all = [
        read("lax", json!({"nodeSelector": {}, "unreachableAfter": "60s"})),
        read("gpu", json!({"nodeSelector": {"matchLabels": {"gpu": "yes"}}, "unreachableAfter": "20s"})),
        read("dry", json!({"nodeSelector": {}, "unreachableAfter": "16s", "dryRun": true})),
    ];
    settings::order(&mut all);
    let excluded = json!({"gpu": "yes", "remediation.medik8s.io/exclude-from-remediation": "true"});
    let nodes = [plain("a", json!({})), plain("b", json!({"gpu": "yes"})), plain("c", excluded)];
    let assigned = assign(&all, &nodes);
    let names: Vec<_> =
        assigned.policies.iter().map(|policy| policy.map(|index| &*all[index].name)).collect();
    assert_eq!(names, [Some("lax"), Some("gpu"), None]);
    assert_eq!(assigned.overlaps, [BTreeSet::from([1, 2]), BTreeSet::from([0, 2]), BTreeSet::from([0, 1])]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_holds_for_the_silence_that_was_asked_about() {
    let clock = Clock::start();
    let observations = Observations::new(clock);
    let (settings, node) = (read("p", json!({"nodeSelector": {}})), plain("n", json!({})));
    observations.node_changed(&Change { old: None, new: Some(&node) });
    lease(&observations, "n", 1000);
    lease(&observations, "n", 1010);
    let mut known = Known::first(&node, false);
    let confirmed = |known: &Known| {
        view(&node, Some((0, &settings)), known, None, &observations, clock.now()).unwrap().confirmed
    };
    let pass_time = async |seconds: u64| {
        for _ in 0..seconds {
            tokio::time::advance(Duration::from_secs(1)).await;
            observations.pulse();
        }
    };
    pass_time(16).await;
    assert!(!confirmed(&known), "nobody was asked");
    known.answer.silence = observations.heartbeat("n").map(|heartbeat| heartbeat.silent_since());
    assert!(confirmed(&known));
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(observations.is_blind(clock.now()), "the API server is away");
    observations.pulse();
    assert!(!confirmed(&known), "it was, so that the silence begins anew");
    pass_time(16).await;
    assert!(!confirmed(&known), "this is another silence");
}

#[tokio::test(start_paused = true)]
async fn a_condition_counts_from_the_moment_at_which_it_was_seen() {
    let clock = Clock::start();
    let observations = Observations::new(clock);
    let spec = json!({"nodeSelector": {}, "conditions": [{"type": "Bad", "status": "True", "for": "10s"}]});
    let settings = read("p", spec);
    let with = |status: &str| {
        node("n", json!({}), json!({"conditions": [{"type": "Bad", "status": status}]}), json!({}))
    };
    let (well, bad) = (with("False"), with("True"));
    observations.node_changed(&Change { old: None, new: Some(&well) });
    tokio::time::advance(Duration::from_secs(5)).await;
    observations.node_changed(&Change { old: Some(&well), new: Some(&bad) });
    let seen =
        || view(&bad, Some((0, &settings)), &Known::default(), None, &observations, clock.now()).unwrap();
    let due = clock.now() + Duration::from_secs(10);
    assert_eq!((seen().failing, seen().failing_due), (None, Some(due)));
    // The same again, with other facts, is no new beginning.
    tokio::time::advance(Duration::from_secs(10)).await;
    observations.node_changed(&Change { old: Some(&well), new: Some(&bad) });
    let (words, since) = seen().failing.unwrap();
    assert_eq!((&*words, since), ("its condition Bad is True", Duration::from_secs(5)));
}

#[tokio::test(start_paused = true)]
async fn a_condition_of_a_node_that_nobody_calls_silent_stays_confirmed_between_two_renewals() {
    let clock = Clock::start();
    let observations = Observations::new(clock);
    let bad = json!([{"type": "Bad", "status": "True", "for": "1s"}]);
    // A renewal each 10 s is too rare for 5 s; without a Lease the node has a minute.
    for has_lease in [true, false] {
        let name = if has_lease { "with" } else { "without" };
        let settings =
            read("p", json!({"nodeSelector": {}, "unreachableAfter": "5s", "conditions": bad.clone()}));
        let status = json!({"conditions": [{"type": "Bad", "status": "True"}]});
        let node = node(name, json!({}), status, json!({}));
        observations.node_changed(&Change { old: None, new: Some(&node) });
        if has_lease {
            lease(&observations, name, 1000);
            lease(&observations, name, 1010);
        }
        let seen = |known: &Known| {
            view(&node, Some((0, &settings)), known, None, &observations, clock.now()).unwrap()
        };
        let mut known = Known::first(&node, false);
        tokio::time::advance(Duration::from_secs(2)).await;
        known.answer.failing = seen(&known).failing.map(|(_, since)| since);
        assert!(seen(&known).confirmed, "{name}");
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(seen(&known).confirmed, "{name}");
    }
}

#[test]
fn only_proof_of_this_boot_and_this_silence_counts() {
    let observations = Observations::new(Clock::start());
    let template = |name: &str| {
        json!({
            "apiVersion": "x/v1", "kind": "XTemplate", "namespace": "x", "name": name, "provesDeath": name == "off",
        })
    };
    let templates = [template("off"), template("restart")];
    let settings = read("p", json!({"nodeSelector": {}, "remediation": {"templates": templates}}));
    let proof_of = |labels: Value, taints: Value, succeeded: Option<(usize, &str)>| {
        let node = json!({
            "metadata": {"name": "n", "labels": labels},
            "spec": {"taints": taints}, "status": {"nodeInfo": {"bootID": "boot-1"}},
        });
        let node = Arc::new(Node::from(serde_json::from_value::<WatchedNode>(node).unwrap()));
        observations.node_changed(&Change { old: None, new: Some(&node) });
        let succeeded = succeeded.map(|(index, boot)| (settings.templates[index].clone(), boot.to_owned()));
        let known = Known { succeeded: succeeded.into_iter().collect(), ..Known::default() };
        let seen = view(&node, Some((0, &settings)), &known, None, &observations, Duration::ZERO).unwrap();
        assert_eq!(seen.remediated, known.succeeded.iter().any(|(_, boot)| boot == "boot-1"));
        seen.proof
    };
    let dead = |value: &str| json!({"mainstay.node-restriction.kubernetes.io/confirmed-dead": value});
    let shut_down = json!([{"key": "node.cloudprovider.kubernetes.io/shutdown", "effect": "NoSchedule"}]);
    assert_eq!(proof_of(json!({}), json!([]), None), None);
    lease(&observations, "n", 1000);
    assert_eq!(proof_of(dead("boot-1"), json!([]), None), None);
    assert_eq!(proof_of(dead("boot-0.19700101T001640.000000Z"), json!([]), None), None);
    assert_eq!(proof_of(dead("boot-1.19700101T001640.000000Z"), json!([]), None), Some(Proof::Person));
    // It was heard since: what was said is not about this silence, whichever process looks.
    lease(&observations, "n", 1010);
    assert_eq!(proof_of(dead("boot-1.19700101T001640.000000Z"), json!([]), None), None);
    assert_eq!(proof_of(json!({}), shut_down, None), Some(Proof::ShutDown));
    assert_eq!(proof_of(json!({}), json!([]), Some((0, "boot-0"))), None);
    assert_eq!(proof_of(json!({}), json!([]), Some((0, "boot-1"))), Some(Proof::Remediated));
    assert_eq!(
        proof_of(json!({}), json!([]), Some((1, "boot-1"))),
        None,
        "it only says that it has repaired it"
    );
}

#[test]
fn a_remediation_that_was_not_looked_for_is_neither_there_nor_not() {
    let template = json!({"apiVersion": "x/v1", "kind": "XTemplate", "name": "x", "namespace": "x"});
    let with = read("p", json!({"nodeSelector": {}, "remediation": {"templates": [template]}}));
    let without = read("p", json!({"nodeSelector": {}}));
    let of = |settings: &Settings, known: &Known| remediation(known, Some((0, settings)));
    assert_eq!(of(&with, &Known::default()), Remediation::Unknown);
    assert_eq!(of(&without, &Known::default()), Remediation::None);
    assert_eq!(of(&with, &Known { dry_run: true, ..Known::default() }), Remediation::None);
    let looked = Known { remediation: Some(Remediation::None), ..Known::default() };
    assert_eq!(of(&with, &looked), Remediation::None);
}

#[test]
fn a_taint_out_of_service_stands_where_it_is_and_not_where_a_record_says_so() {
    let (clock, settings) = (Clock::start(), read("p", json!({"nodeSelector": {}})));
    let record = json!({"taken": {"policy": "p", "outOfService": "boot-1"}}).to_string();
    for stands in [true, false] {
        let taints = if stands { json!([{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]) } else { json!([]) };
        let node = json!({
            "metadata": {"name": "a", "uid": "a", "annotations": {crate::names::RECORD: record}},
            "spec": {"taints": taints}, "status": {"nodeInfo": {"bootID": "boot-1"}},
        });
        let node = Arc::new(Node::from(serde_json::from_value::<WatchedNode>(node).unwrap()));
        let observations = Observations::new(clock);
        observations.node_changed(&Change { old: None, new: Some(&node) });
        let known = Known { uid: "a".into(), ..Known::default() };
        let seen = view(&node, Some((0, &settings)), &known, None, &observations, clock.now()).unwrap();
        assert_eq!((seen.out_of_service, seen.record.out_of_service().is_some()), (stands, stands));
    }
}

#[test]
fn a_record_that_others_remove_is_known_until_nothing_of_it_stands_or_this_process_has_emptied_it() {
    let record: Record = serde_json::from_value(
        json!({"taken": {"policy": "p", "since": "2026-01-01T00:00:00Z", "cordon": true}}),
    )
    .unwrap();
    let facts = |record: Option<&Record>, unschedulable: bool| {
        let annotations = record.map(|record| json!({crate::names::RECORD: record.write()}));
        let node = json!({
            "metadata": {"name": "n", "uid": "n", "annotations": annotations},
            "spec": {"unschedulable": unschedulable},
        });
        Facts::from(serde_json::from_value::<WatchedNode>(node).unwrap())
    };
    let mut known = Known::default();
    let see = |known: &mut Known, facts: &Facts| {
        known.see(facts);
        known.recorded == record
    };
    assert!(see(&mut known, &facts(Some(&record), true)));
    assert!(see(&mut known, &facts(None, true)), "the cordon is still ours");
    assert!(!see(&mut known, &facts(None, false)));
    assert!(!see(&mut known, &facts(None, true)), "this cordon is not");
    // This process restores the node, and a person cordons it before the watch has shown that.
    assert!(see(&mut known, &facts(Some(&record), true)));
    known.wrote(&record, &Record::default());
    assert!(!see(&mut known, &facts(Some(&record), true)), "the watch is behind");
    assert!(!see(&mut known, &facts(None, true)), "this cordon is the person's");
}
