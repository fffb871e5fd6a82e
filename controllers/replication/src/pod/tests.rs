//! What is kept of a pod that a watch shows.

use serde_json::json;

use super::*;
use crate::{names::READINESS_GATE, plan::Cause};

fn pod(object: serde_json::Value) -> Pod {
    Pod::slim(serde_json::from_value(object).unwrap(), &mut LabelPool::default())
}

#[test]
fn a_running_pod_keeps_what_a_plan_reads() {
    let pod = pod(json!({
        "metadata": {
            "name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "12",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {DELETION_COST: "-7"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x"},
                {"apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "name": "g", "uid": "g-uid",
                 "controller": true}
            ],
            "managedFields": [{"manager": "m"}]
        },
        "spec": {"nodeName": "n", "containers": [{"name": "c"}],
                 "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "once"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"}],
            "containerStatuses": [{"name": "c", "restartCount": 2}, {"name": "d", "restartCount": 1}],
            "initContainerStatuses": [{"name": "s", "restartCount": 4}, {"name": "once", "restartCount": 9}]
        }
    }));
    let controller = Controller { uid: "g-uid".into(), group: Some("g".into()) };
    assert_eq!(pod.controller.as_ref(), Some(&controller));
    assert_eq!(
        (pod.header.version, pod.deletion_cost, pod.restarts, pod.sidecar_restarts),
        (Some(12), -7, 2, 4)
    );
    assert_eq!((pod.phase, pod.header.terminating, pod.ended_at), (Phase::Running, false, None));
    assert_eq!(pod.ready_since, "2026-01-01T00:00:05Z".parse().ok());
    assert_eq!(pod.buckets(), [Bucket::ControlledBy("g-uid".into()), Bucket::On("n".into())]);
}

#[test]
fn an_evicted_pod_tells_when_it_failed_and_takes_no_room() {
    let pod = pod(json!({
        "metadata": {"name": "a", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Failed", "reason": "Evicted", "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"},
            {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": "2026-01-01T00:01:00Z"}
        ]}
    }));
    assert_eq!(pod.ended_at, "2026-01-01T00:01:00Z".parse().ok());
    assert_eq!(pod.buckets(), [Bucket::Orphans("ns".into())]);
}

#[test]
fn trouble_tells_what() {
    let pod = |status: serde_json::Value| {
        pod(json!({
            "metadata": {"name": "a", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": status
        }))
    };
    let scheduled = |status: &str, reason: &str| {
        json!([{"type": "PodScheduled", "status": status, "reason": reason,
                "lastTransitionTime": "2026-01-01T00:00:03Z"}])
    };
    let waiting =
        |reason: &str| json!([{"name": "c", "restartCount": 7, "state": {"waiting": {"reason": reason}}}]);
    let unschedulable = pod(json!({"conditions": scheduled("False", "Unschedulable")}));
    assert_eq!(unschedulable.blocker, Some(Cause::Unschedulable));
    let gated = pod(json!({"conditions": scheduled("False", "SchedulingGated")}));
    assert_eq!(gated.blocker, Some(Cause::Gated));
    let unprepared = |phase: &str, reason: &str| {
        let condition = json!([{"type": "PodReadyToStartContainers", "status": "False"}]);
        pod(json!({"phase": phase, "conditions": condition, "containerStatuses": waiting(reason)})).blocker
    };
    assert_eq!(unprepared("Pending", "ContainerCreating"), Some(Cause::Setup));
    assert_eq!(unprepared("Pending", "ErrImagePull"), Some(Cause::Image));
    assert_eq!(unprepared("Running", "ContainerCreating"), None, "its sandbox is made anew");
    for (reason, cause) in [
        ("ImagePullBackOff", Some(Cause::Image)),
        ("CreateContainerConfigError", Some(Cause::Config)),
        ("ContainerCreating", None),
        ("CrashLoopBackOff", None),
    ] {
        for statuses in ["containerStatuses", "initContainerStatuses"] {
            let pod = pod(json!({"conditions": scheduled("True", ""), statuses: waiting(reason)}));
            assert_eq!(pod.blocker, cause, "{reason}");
            assert_eq!(pod.crashes, 7);
        }
    }
}

#[test]
fn a_change_in_place_is_over_when_all_its_containers_are_new_and_is_no_crash() {
    let pod = |id: &str, state: serde_json::Value, gate: &str| {
        pod(json!({
            "metadata": {
                "name": "a", "namespace": "ns", "uid": "u",
                "annotations": {IN_PLACE: r#"{"c": {"id": "old", "restarts": 2}}"#}
            },
            "spec": {"readinessGates": [{"conditionType": READINESS_GATE}]},
            "status": {
                "conditions": [{"type": READINESS_GATE, "status": gate}, {"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "c", "restartCount": 3, "containerID": id, "state": state}]
            }
        }))
    };
    let changing = |pod: &Pod| pod.in_place.as_ref().map(|in_place| in_place.changing);
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    let waiting = json!({"waiting": {"reason": "PodInitializing"}});
    let done = pod("new", running.clone(), "True");
    assert_eq!((changing(&done), done.crashes, done.ready_since.is_some()), (Some(false), 0, true));
    assert_eq!(changing(&pod("old", running.clone(), "False")), Some(true));
    assert_eq!(changing(&pod("new", waiting, "False")), Some(true));
    let closed = pod("old", running, "False");
    assert_eq!(closed.ready_since, None, "no matter what its node has seen");
    assert!(closed.in_place.is_some_and(|in_place| in_place.still_ready));
}

#[test]
fn what_befell_containers_before_their_pod_took_its_revision_is_no_crash_of_it() {
    let pod = |before: &BTreeMap<String, Before>| {
        pod(json!({
            "metadata": {
                "name": "a", "namespace": "ns", "uid": "u",
                "annotations": {IN_PLACE: serde_json::to_string(before).unwrap()}
            },
            "spec": {"readinessGates": [{"conditionType": READINESS_GATE}]},
            "status": {
                "containerStatuses": [
                    {"name": "c", "restartCount": 3, "containerID": "c-3", "state": {"running": {}}},
                    {"name": "proxy", "restartCount": 40, "containerID": "p-40", "state": {"running": {}}},
                    {"name": "log", "restartCount": 1, "containerID": "l-1", "state": {"running": {}}}
                ],
                "initContainerStatuses": [{"name": "sidecar", "restartCount": 9, "state": {"running": {}}}]
            }
        }))
    };
    let before = |id: &str, restarts| Before { id: id.into(), restarts };
    // The image of one container is changed; then the proxy has crashed twice.
    let replaced = BTreeMap::from([("c".to_owned(), before("c-2", 2))]);
    let mut note = pod(&BTreeMap::new()).before(replaced);
    assert_eq!(note["proxy"], before("", 40));
    let changed = pod(&note);
    assert_eq!((changed.crashes, changed.in_place.map(|in_place| in_place.changing)), (0, Some(false)));
    note.insert("proxy".to_owned(), before("", 38));
    assert_eq!(pod(&note).crashes, 2);
    // A note that somebody has made nonsense of counts nothing, and breaks nothing.
    note.insert("c".to_owned(), before("x", i32::MIN));
    assert_eq!(pod(&note).crashes, i32::MAX - 1);
}

#[test]
fn null_and_missing_fields_are_the_defaults() {
    let pod = pod(json!({"metadata": {"name": "a", "namespace": "ns", "uid": "u", "labels": null}}));
    assert_eq!((pod.phase, pod.ready_since, pod.node.as_deref()), (Phase::Pending, None, None));
}

#[test]
fn a_hook_stands_until_its_finalizer_is_gone_and_counts_from_when_its_owner_knows() {
    let hook = |finalizers: &[&str], notified: Option<&str>, deleted: Option<&str>| {
        let mut object = json!({"metadata": {
            "name": "a", "namespace": "ns", "finalizers": finalizers, "deletionTimestamp": deleted,
            "annotations": {PRE_DELETE_FINALIZER: "example.com/x"}
        }});
        if let Some(notified) = notified {
            object["metadata"]["annotations"][PRE_DELETE] = json!(notified);
        }
        let hook = pod(object).hook.unwrap();
        (hook.held, hook.since.map(|since| since.to_string()))
    };
    let (notified, deleted) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:30Z");
    assert_eq!(hook(&["other", "example.com/x"], None, None), (true, None));
    assert_eq!(hook(&["example.com/x"], None, Some(deleted)), (true, Some(deleted.to_owned())));
    assert_eq!(hook(&["other"], Some(notified), Some(deleted)), (false, Some(notified.to_owned())));
    assert_eq!(hook(&[], Some("nonsense"), None), (false, Some("1970-01-01T00:00:00Z".to_owned())));
    assert!(pod(json!({"metadata": {"name": "a", "finalizers": ["other"]}})).hook.is_none());
}

#[test]
fn the_slot_is_no_label_that_tells_pods_of_one_template_apart() {
    let pod = pod(json!({"metadata": {
        "name": "a", "namespace": "ns", "labels": {"app": "x", "mainstay.dev/slot": "bcdfg"}
    }}));
    assert_eq!((pod.slot.as_deref(), pod.labels.len()), (Some("bcdfg"), 1));
    assert!(pod.buckets().contains(&Bucket::Holding("ns".into(), "bcdfg".into())));
}

#[test]
fn of_a_pod_that_another_kind_controls_only_its_place_and_its_claims_are_kept() {
    let foreign = |ready: &str, restarts: u32| {
        pod(json!({
            "metadata": {
                "name": "a", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"app": "x", SLOT: "bcdfg"},
                "annotations": {DELETION_COST: "7", PRE_DELETE_FINALIZER: "example.com/x"},
                "finalizers": ["example.com/x"],
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r-uid", "controller": true}
                ]
            },
            "spec": {"nodeName": "n", "readinessGates": [{"conditionType": READINESS_GATE}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:05Z"}],
                "containerStatuses": [{"name": "c", "restartCount": restarts}]
            }
        }))
    };
    let kept = foreign("True", 3);
    assert!(kept.controller.is_some(), "it is no orphan");
    assert_eq!((kept.node.as_deref(), kept.phase), (Some("n"), Phase::Running));
    assert_eq!(kept.buckets(), [Bucket::On("n".into()), Bucket::Holding("ns".into(), "bcdfg".into())]);
    assert!(kept.labels.is_empty() && kept.restarted.is_empty());
    assert!(kept.hook.is_none() && kept.in_place.is_none());
    assert!(kept.is_same(&foreign("False", 4)), "a change of what is not read is none");
}
