//! What a policy says of itself.

use std::{sync::Arc, time::Duration};

use mainstay_crds::TemplateKind;
use serde_json::json;

use super::*;
use crate::{
    plan::{Heartbeat, PodsPlan, Remediation, Wanted},
    record::Record,
};

fn policy() -> NodeHealthPolicy {
    let policy = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "NodeHealthPolicy",
        "metadata": {"name": "p", "generation": 3}, "spec": {"nodeSelector": {}},
    });
    serde_json::from_value(policy).unwrap()
}

pub(crate) fn node(name: &str, state: State) -> (NodeView, NodePlan) {
    let view = NodeView {
        name: name.into(),
        zone: Arc::from("zone-a"),
        control_plane: false,
        rules: Some(0),
        leaving: false,
        heartbeat: Heartbeat {
            heard: None,
            listening: Duration::from_secs(5),
            interval: None,
            renewed: None,
        },
        failing: None,
        failing_due: None,
        confirmed: false,
        answered: None,
        doubt: None,
        record: Record::default(),
        unread: false,
        boot_id: Arc::from(""),
        out_of_service: false,
        proof: None,
        remediation: Remediation::None,
        remediated: false,
        out_of_reach: Vec::new(),
        pods: 0,
    };
    let planned = NodePlan {
        state,
        why: "why".into(),
        waits_for: String::new(),
        next: None,
        ask: false,
        record: Record::default(),
        pods: PodsPlan::default(),
        remediation: Wanted::None,
    };
    (view, planned)
}

fn status(nodes: &[(NodeView, NodePlan)], breakers: &[Breaker], stricter: usize) -> NodeHealthPolicyStatus {
    Policy {
        policy: &policy(),
        nodes: nodes.iter().map(|(view, planned)| Judged { index: 0, view, planned }).collect(),
        breakers: breakers.iter().collect(),
        overlaps: vec!["other"; stricter],
        stricter,
        unusable: vec![],
        unlisted: vec![],
        kinds: Vec::new(),
    }
    .status(&Clock::start(), Timestamp::UNIX_EPOCH)
}

fn says(status: &NodeHealthPolicyStatus, kind: &str) -> (String, String) {
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    (format!("{} {}", condition.status, condition.reason), condition.message.clone())
}

#[test]
fn those_are_listed_first_that_need_a_person_and_the_rest_is_counted() {
    let mut nodes: Vec<_> = (0..150).map(|index| node(&format!("s-{index:03}"), State::Suspect)).collect();
    nodes.push(node("waits", State::Waiting));
    nodes.push(node("well", State::Healthy));
    let status = status(&nodes, &[], 0);
    assert_eq!((status.unhealthy_nodes.len(), status.unlisted), (100, 51));
    assert_eq!(status.unhealthy_nodes[0].name, "waits");
    assert_eq!((status.nodes.total, status.nodes.healthy, status.nodes.suspect), (152, 1, 150));
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(says(&status, "Ready").0, "True Watching");
}

#[test]
fn a_node_that_is_heard_has_no_time_since_which_it_is_silent() {
    let since = |state| status(&[node("n", state)], &[], 0).unhealthy_nodes[0].since.clone();
    assert!(since(State::Acting).is_some() && since(State::Suspect).is_some());
    for state in [State::Unjudged, State::Recovering, State::Quarantined, State::Leaving] {
        assert_eq!(since(state), None, "{state:?}");
    }
}

#[test]
fn conditions_say_what_is_wrong_and_where() {
    let unjudged = status(&[node("n", State::Unjudged)], &[], 0);
    assert_eq!(says(&unjudged, "Ready"), ("False UnreachableAfterTooShort".into(), "node n: why".into()));
    assert!(says(&status(&[], &[], 0), "Ready").1.contains("spec.nodeSelector"));
    let shadowed = status(&[], &[], 1);
    assert!(says(&shadowed, "Ready").1.contains("another policy that comes first"));
    assert!(says(&shadowed, "Overlap").1.contains("other"));

    let breaker = |zone: Option<&str>, open: bool, everything| Breaker {
        policy: "p".into(),
        zone: zone.map(Into::into),
        nodes: 9,
        unhealthy: 5,
        limit: 4,
        open_since: open.then_some(Duration::ZERO),
        everything,
    };
    let closed = breaker(None, false, false);
    let open = status(&[], &[closed.clone(), breaker(Some("zone-a"), true, false)], 0);
    let (holds, message) = says(&open, "BreakerOpen");
    assert_eq!(holds, "True TooManyUnhealthy");
    assert!(message.contains("zone zone-a: 5 of 9 nodes (limit 4)"), "{message}");
    assert_eq!(open.breakers[0].zone.as_deref(), Some("zone-a"), "open ones come first");
    let nobody = status(&[], &[breaker(None, true, true)], 0);
    assert_eq!(says(&nobody, "BreakerOpen").0, "True NoNodeAnswers");
    assert_eq!(says(&status(&[], &[closed], 0), "BreakerOpen").0, "False Closed");
}

#[test]
fn the_next_process_reads_which_breakers_are_open() {
    let breaker = |zone: Option<&str>, open_since| Breaker {
        policy: "p".into(),
        zone: zone.map(Into::into),
        nodes: 9,
        unhealthy: 5,
        limit: 4,
        open_since,
        everything: false,
    };
    let clock = Clock::start();
    let at = Duration::from_secs(30);
    let open = [breaker(None, None), breaker(Some("zone-a"), Some(at)), breaker(Some(""), Some(at))];
    let shown = Policy {
        policy: &policy(),
        nodes: vec![],
        breakers: open.iter().collect(),
        overlaps: vec![],
        stricter: 0,
        unusable: vec![],
        unlisted: vec![],
        kinds: Vec::new(),
    }
    .status(&clock, Timestamp::UNIX_EPOCH);
    // The next one has run for five minutes when, half a minute later, it begins to lead.
    let now =
        Now { moment: Duration::from_secs(300), wall: second(clock.timestamp(at)) + Duration::from_secs(30) };
    let since = BreakerMemory { open_since: Some(Duration::from_secs(270)), calm_since: None };
    let read: Vec<_> = open_breakers(&shown, now).collect();
    assert_eq!(read, [(Some("zone-a".into()), since.clone()), (Some("".into()), since)]);
}

#[test]
fn what_keeps_templates_from_being_used_is_said_before_a_node_fails_and_their_kinds_outlast_a_restart() {
    let (view, planned) = node("n", State::Healthy);
    let template = TemplateRef::of_kind(&TemplateKind {
        api_version: "x.dev/v1".into(),
        kind: "RepairTemplate".into(),
        namespace: "ns".into(),
    });
    let mut policy = policy();
    let mut told = |unusable: &[&'static str], unlisted: &[&'static str], pause_requests: &[&str]| {
        policy.spec.pause_requests = pause_requests.iter().map(ToString::to_string).collect();
        Policy {
            policy: &policy,
            nodes: vec![Judged { index: 0, view: &view, planned: &planned }],
            breakers: vec![],
            overlaps: vec![],
            stricter: 0,
            unusable: unusable.to_vec(),
            unlisted: unlisted.to_vec(),
            kinds: vec![template.with_name("gentle")],
        }
        .status(&Clock::start(), Timestamp::UNIX_EPOCH)
    };
    let status = told(&["template RepairTemplate ns/tpyo cannot be used: not found"], &["b"], &["upgrade"]);
    let (holds, message) = says(&status, "Ready");
    assert_eq!(holds, "False TemplatesUnusable");
    assert!(message.contains("tpyo"), "{message}");
    let unlisted = told(&[], &["Repair objects in ns may not be listed"], &["upgrade"]);
    assert_eq!(says(&unlisted, "Ready").0, "False RemediationsNotListed");
    let paused = told(&[], &[], &["upgrade", "storage"]);
    assert_eq!(says(&paused, "Ready").0, "True Paused");
    assert!(says(&paused, "Ready").1.contains("upgrade, storage"));
    assert_eq!(status.template_kinds.iter().map(TemplateRef::of_kind).collect::<Vec<_>>(), [template]);
    policy.status = Some(status);
    let kept = unusable(&policy, &SettingsError::Selector("x".into()), Timestamp::UNIX_EPOCH);
    assert_eq!(kept.template_kinds.len(), 1);
}

#[test]
fn a_node_that_is_only_overdue_waits_for_the_pace() {
    let quiet = status(&[], &[], 0);
    let of = |state| {
        let mut status = quiet.clone();
        let (view, planned) = node("n", state);
        status.unhealthy_nodes =
            vec![listed_node(&Judged { index: 0, view: &view, planned: &planned }, &Clock::start())];
        status
    };
    assert!(!is_urgent(&quiet, &of(State::Suspect)));
    assert!(is_urgent(&quiet, &of(State::Waiting)));
    assert!(is_urgent(&of(State::Waiting), &of(State::Acting)));
}

#[test]
fn an_open_breaker_outlasts_a_time_in_which_its_policy_cannot_be_carried_out() {
    let mut policy = policy();
    let breaker = json!({"zone": "a", "nodes": 9, "unhealthy": 8, "limit": 4, "open": true});
    policy.status = serde_json::from_value(json!({"breakers": [breaker]})).unwrap();
    let status = unusable(&policy, &SettingsError::Selector("x".into()), Timestamp::UNIX_EPOCH);
    let now = Now { moment: Duration::ZERO, wall: Timestamp::UNIX_EPOCH };
    let open: Vec<_> = open_breakers(&status, now).map(|(zone, _)| zone).collect();
    assert_eq!(open, [Some("a".into())]);
}

#[test]
fn a_node_whose_policy_cannot_be_read_has_no_time_that_its_renewals_would_move() {
    let mut nodes = [node("a", State::Suspect), node("b", State::Suspect)];
    nodes[0].0.unread = true;
    let since = status(&nodes, &[], 0).unhealthy_nodes.into_iter().map(|node| node.since.is_some());
    assert_eq!(since.collect::<Vec<_>>(), [false, true]);
}
