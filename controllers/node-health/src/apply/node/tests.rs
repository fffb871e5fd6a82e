//! What is written on a node, and what is left to others.

use serde_json::from_value;

use super::*;
use crate::{apply::server::Server, record::TaintEffect};

/// A node with this spec and record.
fn node(spec: Value, record: &Record) -> Facts {
    let annotations = json!({RECORD: record.write().unwrap_or_else(|| "{}".into())});
    let node = json!({"metadata": {"name": "n", "annotations": annotations}, "spec": spec});
    Facts::from(from_value::<WatchedNode>(node).unwrap())
}

fn taken(cordon: bool, taint: Option<TaintEffect>, out_of_service: Option<&str>) -> Record {
    let out_of_service = out_of_service.map(Into::into);
    Record {
        taken: Some(Taken {
            policy: "p".into(),
            since: Some(Timestamp::UNIX_EPOCH),
            cordon,
            taint,
            out_of_service,
            ..Taken::default()
        }),
        ..Record::default()
    }
}

/// The node after the change, as the server would have it.
fn after(facts: &Facts, wanted: &Record) -> Facts {
    let change = Change::of(facts, &Record::default(), wanted);
    let record = change.record.unwrap_or_else(|| facts.record.clone());
    let spec = json!({
        "unschedulable": change.unschedulable.unwrap_or(facts.unschedulable),
        "taints": change.taints.unwrap_or_else(|| facts.taints.clone()),
    });
    node(spec, &record)
}

fn keys(facts: &Facts) -> Vec<&str> {
    facts.taints.iter().map(|taint| taint.key.as_str()).collect()
}

#[test]
fn what_was_taken_is_handed_back_and_a_second_look_changes_nothing() {
    let untouched = node(json!({"taints": [{"key": "other", "effect": "NoSchedule"}]}), &Record::default());
    let wanted = taken(true, Some(TaintEffect::NoSchedule), None);
    let held = after(&untouched, &wanted);
    assert!(held.unschedulable && held.record == wanted);
    assert_eq!(keys(&held), ["other", UNHEALTHY]);
    assert!(Change::of(&held, &Record::default(), &wanted).is_empty());
    let returned = after(&held, &Record::default());
    assert_eq!(returned, untouched);
    assert!(Change::of(&returned, &Record::default(), &Record::default()).is_empty());
}

#[test]
fn a_cordon_of_others_is_left_to_them() {
    let cordoned = node(json!({"unschedulable": true}), &Record::default());
    let wanted = taken(true, None, None);
    let held = after(&cordoned, &wanted);
    assert!(held.record.taken.as_ref().is_some_and(|taken| !taken.cordon), "it is not ours");
    assert!(Change::of(&held, &Record::default(), &wanted).is_empty());
    assert!(after(&held, &Record::default()).unschedulable);
    // Where they take theirs away while the node is unhealthy, ours takes its place and is handed back.
    let uncordoned = node(json!({}), &held.record);
    let ours = after(&uncordoned, &wanted);
    assert!(ours.unschedulable && ours.record == wanted);
    assert!(!after(&ours, &Record::default()).unschedulable);
}

#[test]
fn a_taint_out_of_service_that_a_person_set_stays() {
    let set = json!({"taints": [{"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}]});
    let theirs = node(set, &Record::default());
    let wanted = taken(false, None, Some("boot-1"));
    let held = after(&theirs, &wanted);
    assert!(held.record.taken.as_ref().is_some_and(|taken| taken.out_of_service.is_none()));
    assert_eq!(keys(&after(&held, &Record::default())), [OUT_OF_SERVICE]);
    let ours = after(&node(json!({}), &Record::default()), &wanted);
    assert_eq!((keys(&ours), &ours.record), (vec![OUT_OF_SERVICE], &wanted));
    let mut returned = after(&ours, &Record::default());
    assert_eq!(keys(&returned), [OUT_OF_SERVICE], "as long as the boot lasts");
    returned.boot_id = "boot-2".into();
    assert!(keys(&after(&returned, &Record::default())).is_empty());
}

#[test]
fn a_changed_effect_replaces_the_taint() {
    let held =
        after(&node(json!({}), &Record::default()), &taken(false, Some(TaintEffect::NoSchedule), None));
    let other = taken(false, Some(TaintEffect::NoExecute), None);
    let changed = after(&held, &other);
    assert_eq!(keys(&changed), [UNHEALTHY]);
    assert_eq!(changed.taints[0].effect, "NoExecute");
}

#[test]
fn the_patch_names_the_version_and_only_what_differs() {
    let facts = node(json!({}), &Record::default());
    let patch = Change::of(&facts, &Record::default(), &taken(true, None, None)).patch("u", Some("7"));
    assert_eq!(
        (&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]),
        (&json!("u"), &json!("7"))
    );
    assert_eq!(patch["spec"], json!({"unschedulable": true}));
    let back =
        Change { unschedulable: Some(false), taints: Some(Vec::new()), record: Some(Record::default()) };
    let patch = back.patch("u", Some("8"));
    assert_eq!(patch["spec"], json!({"unschedulable": null, "taints": null}));
    assert_eq!(patch["metadata"]["annotations"], json!({RECORD: null}));
}

#[tokio::test]
async fn volumes_detach_only_from_the_boot_and_the_silence_that_was_decided_about() {
    let renewed = "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap();
    let wanted = taken(true, None, Some("boot-1"));
    let sets = async |boot: &str, lease: Value| {
        let server = Server::default();
        let node = json!({
            "metadata": {"name": "n", "uid": "u", "resourceVersion": "7"}, "status": {"nodeInfo": {"bootID": boot}},
        });
        server.set("/api/v1/nodes/n", Ok(node));
        let lease = json!({"metadata": {"name": "n"}, "spec": {"renewTime": lease}});
        server.set("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n", Ok(lease));
        assert!(
            bring(&server.client(), ("n", "u"), &wanted, &Record::default(), Some(renewed))
                .await
                .unwrap()
                .is_some()
        );
        let [(_, _, patch)] = &server.writes()[..] else { panic!("one write") };
        assert_eq!(
            (&patch["metadata"]["resourceVersion"], &patch["spec"]["unschedulable"]),
            (&json!("7"), &json!(true))
        );
        let record = patch["metadata"]["annotations"][RECORD].as_str().unwrap().contains("outOfService");
        assert_eq!(record, patch["spec"].to_string().contains(OUT_OF_SERVICE));
        record
    };
    let last = json!("2026-01-01T00:00:00.000000Z");
    assert!(sets("boot-1", last.clone()).await);
    assert!(!sets("boot-2", last).await, "it has booted, and the watch is behind");
    assert!(
        !sets("boot-1", json!("2026-01-01T00:00:10.000000Z")).await,
        "it was heard, and the watch is behind"
    );
}

#[tokio::test]
async fn volumes_detach_from_a_node_without_a_lease_only_while_it_posts_nothing() {
    let at = |second| format!("2026-01-01T00:00:{second}Z");
    let decided = at("00").parse::<Timestamp>().ok();
    for (posted, sets) in [("00", true), ("10", false)] {
        let server = Server::default();
        let condition = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": at(posted)});
        server.set(
            "/api/v1/nodes/n",
            Ok(json!({
                "metadata": {"name": "n", "uid": "u", "resourceVersion": "7"},
                "status": {"nodeInfo": {"bootID": "boot-1"}, "conditions": [condition]},
            })),
        );
        let wanted = taken(true, None, Some("boot-1"));
        bring(&server.client(), ("n", "u"), &wanted, &Record::default(), decided).await.unwrap();
        let [(_, _, patch)] = &server.writes()[..] else { panic!("one write") };
        assert_eq!(patch.to_string().contains(OUT_OF_SERVICE), sets, "{posted}: {patch}");
    }
}

/// Says that the taint was set for `boot-1`, which is not there.
fn taken_off(since: bool) -> Facts {
    let mut record = taken(false, None, Some("boot-1"));
    record.taken.as_mut().unwrap().since.take_if(|_| !since);
    node(json!({}), &record)
}

#[test]
fn a_taint_out_of_service_that_somebody_took_off_is_not_put_back() {
    let wanted = taken(true, None, Some("boot-1"));
    let acted_on = after(&taken_off(true), &wanted);
    assert_eq!((keys(&acted_on), acted_on.unschedulable), (vec![], true));
    assert!(Change::of(&acted_on, &Record::default(), &wanted).is_empty(), "nor by the next look");
    assert_eq!(after(&acted_on, &acted_on.record.handed_back()).record, Record::default());
    // Nor what a kubelet says of its own node, which nothing was taken of, whoever hands it back.
    let said = taken_off(false);
    for wanted in [said.record.clone(), said.record.handed_back(), Record::default()] {
        let left = after(&said, &wanted);
        assert_eq!((keys(&left), &left.record), (vec![], &Record::default()));
    }
}

#[tokio::test]
async fn the_lease_is_read_before_volumes_detach_whatever_the_record_says() {
    let server = Server::default();
    let said = taken(false, None, Some("boot-0")).write();
    server.set(
        "/api/v1/nodes/n",
        Ok(json!({
            "metadata": {"name": "n", "uid": "u", "resourceVersion": "7", "annotations": {RECORD: said}},
            "status": {"nodeInfo": {"bootID": "boot-1"}},
        })),
    );
    let lease = json!({"metadata": {"name": "n"}, "spec": {"renewTime": "2026-01-01T00:00:10.000000Z"}});
    server.set("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n", Ok(lease));
    let decided = "2026-01-01T00:00:00Z".parse::<Timestamp>().ok();
    bring(&server.client(), ("n", "u"), &taken(true, None, Some("boot-1")), &Record::default(), decided)
        .await
        .unwrap();
    let [(_, _, patch)] = &server.writes()[..] else { panic!("one write") };
    assert!(!patch.to_string().contains(OUT_OF_SERVICE), "{patch}");
}

#[tokio::test]
async fn a_node_that_was_made_anew_under_its_name_gets_nothing() {
    let server = Server::default();
    server
        .set("/api/v1/nodes/n", Ok(json!({"metadata": {"name": "n", "uid": "new", "resourceVersion": "7"}})));
    let brought = async |uid: &str| {
        let nothing = Record::default();
        bring(&server.client(), ("n", uid), &taken(true, None, None), &nothing, None).await.unwrap()
    };
    assert_eq!(brought("old").await, None);
    assert_eq!(server.writes(), []);
    let (before, after) = (Record::default(), taken(true, None, None));
    assert_eq!(brought("new").await, Some(Written { before, after, is_lost: false }));
}

#[tokio::test]
async fn what_a_record_said_that_somebody_has_removed_is_not_forgotten() {
    let (held, taint) = (taken(true, Some(TaintEffect::NoSchedule), None), UNHEALTHY);
    let stripped = json!({
        "metadata": {"name": "n", "uid": "u", "resourceVersion": "7"},
        "spec": {"unschedulable": true, "taints": [{"key": taint, "effect": "NoSchedule"}]},
    });
    let brought = async |lost: &Record, wanted: &Record| {
        let server = Server::default();
        server.set("/api/v1/nodes/n", Ok(stripped.clone()));
        let written = bring(&server.client(), ("n", "u"), wanted, lost, None).await.unwrap().unwrap();
        let [(_, _, patch)] = &server.writes()[..] else { panic!("one write") };
        (written, patch["spec"].clone(), patch["metadata"]["annotations"][RECORD].clone())
    };
    // Acted on, it is written again as it was, and the node is restored as a whole.
    let (written, spec, record) = brought(&held, &held).await;
    assert_eq!((written.is_lost, spec, record), (false, json!({}), json!(held.write())));
    let (written, spec, _) = brought(&held, &Record::default()).await;
    assert_eq!((written.is_lost, spec), (false, json!({"unschedulable": null, "taints": null})));
    // Who has not seen it leaves the cordon, which may be a person's, and says so.
    let (written, spec, _) = brought(&Record::default(), &Record::default()).await;
    assert_eq!((written.is_lost, spec), (true, json!({"taints": null})));
}

#[test]
fn a_cordon_whose_record_somebody_has_removed_is_still_ours() {
    let held = taken(true, None, None);
    let cordoned = node(json!({"unschedulable": true}), &Record::default());
    let change = Change::of(&cordoned, &held, &held);
    assert_eq!(change, Change { record: Some(held.clone()), ..Change::default() }, "as it was");
    let change = Change::of(&cordoned, &held, &Record::default());
    assert_eq!(change, Change { unschedulable: Some(false), ..Change::default() });
    // Where the cordon is gone with it, another one is another's, and where it never was ours this one is.
    assert!(Change::of(&node(json!({}), &Record::default()), &held, &Record::default()).is_empty());
    assert!(Change::of(&cordoned, &taken(false, None, None), &Record::default()).is_empty());
    let set = json!({"taints": [{"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}]});
    let (out, held) = (node(set, &Record::default()), taken(false, None, Some("boot-1")));
    assert_eq!(Change::of(&out, &held, &held).record, Some(held));
}
