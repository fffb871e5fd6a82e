//! Visits to the remediations of a node.

use serde_json::Value;

use super::*;
use crate::apply::{
    server::Server,
    still::tests::{LEASE, renewed, silent},
};

/// Where the remediations and their templates are.
const API: &str = "/apis/x.dev/v1/namespaces/ns";

/// One that knows these kinds of the group `x.dev`, and a template of each.
fn with_kinds(kinds: &[&str]) -> Server {
    let server = Server::default();
    server.set("/api/v1/nodes/n", Ok(json!({"metadata": {"name": "n", "uid": "u"}})));
    let resources = kinds.iter().map(|kind| {
        let plural = format!("{}s", kind.to_lowercase());
        json!({"name": plural, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"]})
    });
    let list = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "x.dev/v1",
        "resources": resources.collect::<Vec<_>>(),
    });
    server.set("/apis/x.dev/v1", Ok(list));
    for kind in kinds.iter().filter(|kind| kind.ends_with("Template")) {
        let template = json!({"apiVersion": "x.dev/v1", "kind": kind, "metadata": {"name": "t"}});
        server.set(&format!("{API}/{}s/t", kind.to_lowercase()), Ok(template));
    }
    server
}

fn reference(kind: &str) -> TemplateRef {
    TemplateRef {
        api_version: "x.dev/v1".into(),
        kind: kind.into(),
        namespace: "ns".into(),
        name: "t".into(),
    }
}

fn case(kinds: &[&str], wanted: Wanted) -> Case {
    Case {
        policy: "p".into(),
        policy_uid: "uid".into(),
        node: silent("u"),
        templates: kinds.iter().map(|kind| reference(kind)).collect(),
        wanted,
    }
}

#[tokio::test]
async fn a_look_makes_and_ends_nothing() {
    let server = with_kinds(&["RepairTemplate", "Repair"]);
    let look = case(&["RepairTemplate"], Wanted::Look);
    let seen = visit(&server.client(), &look).await.unwrap();
    assert_eq!((seen.stands, seen.out_of_reach.is_none()), (None, true));
    server.set(&format!("{API}/repairs/n"), Ok(json!({"metadata": {"name": "n", "labels": {POLICY: "p"}}})));
    let seen = visit(&server.client(), &look).await.unwrap();
    assert_eq!(seen.stands, Some((0, None)));
    assert_eq!(server.writes(), []);
}

#[tokio::test]
async fn a_kind_that_is_not_there_or_may_not_be_read_has_nothing_that_stands() {
    for wanted in [Wanted::Look, Wanted::None] {
        // Of the group only another kind is there, the template alone is not, the template may not be read, and nothing.
        let partly = with_kinds(&["Other"]);
        let kinds = with_kinds(&["Repair"]);
        let forbidden = with_kinds(&["RepairTemplate", "Repair"]);
        for name in ["n", "n-t"] {
            forbidden.set(&format!("{API}/repairs/{name}"), Err(403));
        }
        for (what, server) in
            [("kind", partly), ("template", kinds), ("right", forbidden), ("group", Server::default())]
        {
            let seen = visit(&server.client(), &case(&["RepairTemplate"], wanted)).await;
            let seen = seen.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(seen.stands, None, "{what}");
            assert_eq!(seen.out_of_reach.is_some(), what != "template", "{what}");
        }
    }
}

#[tokio::test]
async fn a_template_that_is_out_of_reach_keeps_no_other_from_its_turn() {
    let server = with_kinds(&["RepairTemplate", "Repair"]);
    let kinds = ["MissingTemplate", "RepairTemplate"];
    let seen = visit(&server.client(), &case(&kinds, Wanted::Template(1))).await.unwrap();
    assert_eq!((seen.stands, seen.created.as_deref()), (Some((1, None)), Some("Repair n")));
    assert!(seen.out_of_reach.is_some_and(|error| error.to_string().contains("the kind Missing")));
    assert_eq!(seen.unreached, [reference("MissingTemplate")]);
    let seen = visit(&server.client(), &case(&kinds, Wanted::Template(0))).await.unwrap();
    assert_eq!((seen.stands, seen.created), (None, None), "nothing can be made of it");
}

#[tokio::test]
async fn none_is_made_for_another_node_of_the_name() {
    let server = with_kinds(&["RepairTemplate", "Repair"]);
    for (node, made) in [(Some("new"), false), (None, false), (Some("u"), true)] {
        let node = node.map(|uid| json!({"metadata": {"name": "n", "uid": uid}}));
        server.set("/api/v1/nodes/n", node.ok_or(404));
        let seen = visit(&server.client(), &case(&["RepairTemplate"], Wanted::Template(0))).await.unwrap();
        assert_eq!(
            (seen.stands.is_some(), seen.created.is_some(), server.writes().len() == 1),
            (made, made, made)
        );
    }
}

#[tokio::test]
async fn none_begins_and_none_is_ended_for_a_node_that_has_come_back() {
    let server = with_kinds(&["RepairTemplate", "Repair"]);
    server.set(LEASE, Ok(renewed()));
    let seen = visit(&server.client(), &case(&["RepairTemplate"], Wanted::Template(0))).await.unwrap();
    assert_eq!((seen.stands, seen.created, seen.refuted), (None, None, true));
    // Its time is over, and it may be what has brought the node back.
    server.set(&format!("{API}/repairs/n"), Ok(json!({"metadata": {"name": "n", "labels": {POLICY: "p"}}})));
    let mut both = case(&["RepairTemplate", "RepairTemplate"], Wanted::Template(1));
    both.templates[1].name = "hard".into();
    let hard = json!({
        "apiVersion": "x.dev/v1", "kind": "RepairTemplate",
        "metadata": {"name": "hard", "annotations": {MULTIPLE: "true"}},
    });
    server.set(&format!("{API}/repairtemplates/hard"), Ok(hard));
    let seen = visit(&server.client(), &both).await.unwrap();
    assert_eq!((seen.timed_out, seen.created, seen.refuted), (vec![], None, true));
    assert_eq!(seen.stands, Some((0, None)), "it is not forgotten");
    assert_eq!(server.writes(), []);
}

#[tokio::test]
async fn what_cannot_be_read_for_now_is_not_known() {
    let server = with_kinds(&["RepairTemplate", "Repair"]);
    server.set(&format!("{API}/repairs/n"), Err(500));
    assert!(visit(&server.client(), &case(&["RepairTemplate"], Wanted::Look)).await.is_err());
}

#[test]
fn only_a_decided_condition_counts() {
    let remediation = |conditions: Value| -> DynamicObject {
        let object = json!({"metadata": {"name": "r"}, "status": {"conditions": conditions}});
        serde_json::from_value(object).unwrap()
    };
    assert_eq!(succeeded(&remediation(json!([{"type": "Succeeded", "status": "True"}]))), Some(true));
    assert_eq!(succeeded(&remediation(json!([{"type": "Succeeded", "status": "False"}]))), Some(false));
    assert_eq!(succeeded(&remediation(json!([{"type": "Succeeded", "status": "Unknown"}]))), None);
    assert_eq!(succeeded(&remediation(json!([{"type": "Processing", "status": "True"}]))), None);
}

#[tokio::test]
async fn only_what_this_policy_has_made_says_that_a_boot_is_dead() {
    let server = with_kinds(&["RepairTemplate", "Repair"]);
    let made = |owner: &str| {
        json!({
            "metadata": {
                "name": "n", "annotations": {BOOT: "boot-1", TEMPLATE_NAME: "t", NODE_NAME: "n"},
                "ownerReferences": [{"apiVersion": "x", "kind": "x", "name": "p", "uid": owner}],
            },
            "status": {"conditions": [{"type": "Succeeded", "status": "True"}]},
        })
    };
    for (owner, expected) in
        [("uid", vec![(reference("RepairTemplate"), "boot-1".to_owned())]), ("other", vec![])]
    {
        server.set(&format!("{API}/repairs/n"), Ok(made(owner)));
        let seen = visit(&server.client(), &case(&["RepairTemplate"], Wanted::Look)).await.unwrap();
        assert_eq!(seen.succeeded, expected);
    }
}

#[tokio::test]
async fn a_remediation_speaks_for_no_other_template_and_no_other_node() {
    let made = |template: &str, node: &str| {
        json!({
            "metadata": {
                "name": "n", "annotations": {BOOT: "boot-1", TEMPLATE_NAME: template, NODE_NAME: node},
                "labels": {POLICY: "p"},
                "ownerReferences": [{"apiVersion": "x", "kind": "x", "name": "p", "uid": "uid"}],
            },
            "status": {"conditions": [{"type": "Succeeded", "status": "True"}]},
        })
    };
    let both = |wanted| {
        let mut case = case(&["RepairTemplate", "RepairTemplate"], wanted);
        case.templates[1].name = "hard".into();
        case
    };
    let server = with_kinds(&["RepairTemplate", "Repair"]);
    let hard = json!({"apiVersion": "x.dev/v1", "kind": "RepairTemplate", "metadata": {"name": "hard"}});
    server.set(&format!("{API}/repairtemplates/hard"), Ok(hard));
    server.set(&format!("{API}/repairs/n"), Ok(made("t", "n")));
    let seen = visit(&server.client(), &both(Wanted::Look)).await.unwrap();
    assert_eq!(seen.stands, Some((0, Some(true))));
    assert_eq!(seen.succeeded, [(reference("RepairTemplate"), "boot-1".to_owned())]);
    // Its name is taken, so that none can be made from the other template.
    let seen = visit(&server.client(), &both(Wanted::Template(1))).await.unwrap();
    assert_eq!((seen.stands, seen.created), (Some((0, Some(true))), None));
    assert!(seen.out_of_reach.is_some_and(|error| error.to_string().contains(MULTIPLE)));
    assert_eq!(seen.unreached, [both(Wanted::None).templates[1].clone()]);
    let mut of_before = made("t", "n");
    of_before["metadata"]["annotations"][NODE_UID] = json!("before");
    for other in [made("t", "m"), of_before] {
        server.set(&format!("{API}/repairs/n"), Ok(other));
        let seen = visit(&server.client(), &both(Wanted::None)).await.unwrap();
        assert_eq!((seen.stands, seen.succeeded), (None, vec![]));
    }
    assert_eq!(server.writes(), []);
}
