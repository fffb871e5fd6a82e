//! What is taken for a part of a group, and what is made of that.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::runtime::watcher::Event;
use mainstay_runtime::{labels::LabelPool, slim::MetadataOf};
use serde_json::{Value, json};

use super::*;
use crate::{
    names::{GROUP, PRE_DELETE_FINALIZER, SLOT},
    revision,
    rollout::{Failed, Reason},
};

mod previous;

fn group(metadata: Value, spec: Value) -> ReplicaGroup {
    let mut object = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup",
        "metadata": {"name": "web", "namespace": "ns", "uid": "u"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}
        }
    });
    for (part, fields) in [("metadata", metadata), ("spec", spec)] {
        object[part].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    }
    serde_json::from_value(object).unwrap()
}

/// The reference by which the group owns an object.
fn owner() -> Value {
    json!([{"apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "name": "web", "uid": "u", "controller": true}])
}

#[test]
fn an_unknown_revision_changes_nothing_and_makes_no_failure_forgotten() {
    let group = group(json!({}), json!({"rollbackTo": "web-nope"}));
    let observed = Observed::gather(&group, &Stores::default()).unwrap();
    let own = Arc::clone(&observed.revisions.own);
    let stands = State { current: Some("old".into()), ..State::default() };
    assert_eq!(&*observed.wanted(&stands), "old");
    let failed = Failed { revision: Arc::clone(&own), reason: Reason::CrashLoop, message: String::new() };
    assert_eq!(observed.wanted(&State { failed: Some(failed), ..stands }), own);
}

#[test]
fn a_restart_has_no_steps_and_any_other_change_has() {
    let at = |time: &str, image: &str| {
        json!({
            "metadata": {"labels": {"app": "web"}, "annotations": {"kubectl.kubernetes.io/restartedAt": time}},
            "spec": {"containers": [{"name": "web", "image": image}]},
        })
    };
    let of = |template| {
        group(
            json!({}),
            json!({"template": template, "update": {"steps": [{"weight": 25, "pause": {}}]}, "replicas": 4}),
        )
    };
    let old = of(at("1", "a"));
    let stores = Stores::default();
    let current = revision::hash(&old.spec.template);
    let kept = json!({
        "metadata": {
            "name": revision::name("web", &current), "namespace": "ns", "uid": "r", "labels": {REVISION: &*current},
            "ownerReferences": owner(),
        },
        "data": {"spec": {"template": old.spec.template}}, "revision": 1,
    });
    let kept: revision::WatchedRevision = serde_json::from_value(kept).unwrap();
    stores.revisions.apply(Event::Apply(kept.into()), |_| {});
    let state = State { current: Some(current), ..State::default() };
    let moment = Duration::from_secs(1);
    let look = Look { moment, wall: Timestamp::now(), watched: moment, sure: true };
    let step = |template| {
        let group = of(template);
        let observed = Observed::gather(&group, &stores).unwrap();
        let assessed = observed.assess(&group, &state, Evidence::default(), &look);
        assessed.decision.state.rollout.and_then(|rollout| rollout.step)
    };
    assert_eq!((step(at("2", "a")), step(at("2", "b"))), (None, Some(0)));
}

#[test]
fn the_previous_revision_is_found_once_and_stays() {
    let stores = Stores::default();
    for (number, hash) in ["aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"].into_iter().enumerate() {
        add_revision(&stores, &format!("web-{hash}"), hash, i64::try_from(number).unwrap());
    }
    let group = group(json!({}), json!({"rollbackTo": "previous"}));
    let own = revision::hash(&group.spec.template);
    let known = |hash: &str| Some(Arc::<str>::from(hash));
    let failed =
        |hash: &str| Failed { revision: hash.into(), reason: Reason::CrashLoop, message: String::new() };
    let at_own = State { current: Some(Arc::clone(&own)), ..State::default() };
    for (state, expected) in [
        // In a rollout, and after an automatic rollback, it is what the group comes from.
        (
            State { current: known("bbbbbbbbbb"), previous: known("aaaaaaaaaa"), ..State::default() },
            "bbbbbbbbbb",
        ),
        (State { previous: known("aaaaaaaaaa"), ..at_own.clone() }, "aaaaaaaaaa"),
        // A status of an earlier version does not say it.
        (at_own.clone(), "cccccccccc"),
        (State { failed: Some(failed("cccccccccc")), ..at_own.clone() }, "bbbbbbbbbb"),
        (
            State { previous: known("aaaaaaaaaa"), pinned: known("bbbbbbbbbb"), ..at_own.clone() },
            "bbbbbbbbbb",
        ),
        // The template was corrected, and is now what the pods follow.
        (State { previous: known("cccccccccc"), pinned: Some(Arc::clone(&own)), ..at_own.clone() }, &own),
        // It was deleted.
        (
            State { pinned: known("dddddddddd"), previous: known("aaaaaaaaaa"), ..at_own.clone() },
            "aaaaaaaaaa",
        ),
    ] {
        let mut observed = Observed::gather(&group, &stores).unwrap();
        observed.revisions.resolve(&group, &state);
        assert_eq!(&*observed.wanted(&state), expected, "{state:?}");
        assert_eq!(
            (observed.revisions.pinned.as_deref(), &observed.revisions.unknown),
            (Some(expected), &None)
        );
    }
    let mut first = Observed::gather(&group, &Stores::default()).unwrap();
    first.revisions.resolve(&group, &at_own);
    assert_eq!((first.wanted(&at_own), first.revisions.unknown.as_deref()), (own, Some("previous")));
}

fn add_claim(stores: &Stores, name: &str, slot: &str, owned: bool) {
    let claim: MetadataOf<PersistentVolumeClaim> = serde_json::from_value(json!({"metadata": {
        "name": name, "namespace": "ns", "uid": name, "labels": {GROUP: "web", SLOT: slot},
        "ownerReferences": if owned { owner() } else { json!([]) },
    }}))
    .unwrap();
    stores.claims.apply(Event::Apply(claim.into()), |_| {});
}

#[test]
fn a_copy_of_a_claim_is_no_claim_of_the_group_and_is_not_owned_by_it() {
    let stores = Stores::default();
    add_claim(&stores, "data-web-bcdfg", "bcdfg", true);
    add_claim(&stores, "backup", "bcdfg", true);
    add_claim(&stores, "data-web-bcdfg-old", "bcdfg", false);
    // Its template is another group's.
    add_claim(&stores, "log-web-hjklm", "hjklm", false);
    let claims = json!({"reuse": "Never", "retention": {"whenScaled": "Delete", "whenDeleted": "Delete"}});
    let templates = json!([{"metadata": {"name": "data"}, "spec": {}}]);
    let group = group(json!({}), json!({"volumeClaims": claims, "volumeClaimTemplates": templates}));
    let observed = Observed::gather(&group, &stores).unwrap();
    let names = |claims: Vec<Arc<claim::Claim>>| -> Vec<String> {
        claims.iter().map(|claim| claim.header.key.name.to_string()).collect()
    };
    // No pod needs it any more.
    assert_eq!(names(observed.slots.discard(9, &[])), ["data-web-bcdfg"]);
    let repairs: Vec<_> =
        observed.upkeep.claims.iter().map(|repair| (&*repair.claim.header.key.name, repair.owned)).collect();
    assert_eq!(repairs, [("backup", false)], "the garbage collector would delete it with the group");
}

fn add_revision(stores: &Stores, name: &str, hash: &str, number: i64) {
    let revision: revision::WatchedRevision = serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": name, "labels": {REVISION: hash},
            "ownerReferences": owner(),
        },
        "data": {"spec": {"template": {"spec": {"containers": []}}}}, "revision": number
    }))
    .unwrap();
    stores.revisions.apply(Event::Apply(revision.into()), |_| {});
}

#[test]
fn a_copy_of_a_revision_is_no_revision() {
    let stores = Stores::default();
    add_revision(&stores, "web-0123456789", "0123456789", 1);
    add_revision(&stores, "copy", "0123456789", 1);
    add_revision(&stores, "web-aaaaaaaaaa", "bbbbbbbbbb", 1);
    let observed = Observed::gather(&group(json!({}), json!({})), &stores).unwrap();
    let kept: Vec<_> = observed.revisions.kept.iter().map(|kept| &*kept.header.key.name).collect();
    assert_eq!(kept, ["web-0123456789"]);
}

fn add_pod(stores: &Stores, name: &str, metadata: Value, status: Value) {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}}, "status": status
    });
    pod["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    let pod = Pod::slim(serde_json::from_value(pod).unwrap(), &mut LabelPool::default());
    stores.pods.apply(Event::Apply(pod), |_| {});
}

#[test]
fn a_group_on_its_way_out_waits_for_hooks_of_pods_that_have_just_been_orphaned() {
    let ours = json!(["mainstay.dev/pre-delete"]);
    let going = json!({"finalizers": ours, "deletionTimestamp": "2026-01-01T00:00:00Z"});
    for (app, finalizers, is_held) in [
        ("web", json!(["example.com/x"]), true),
        // The pod was taken aside before, and the garbage collector was quicker than this controller.
        ("debug", json!(["example.com/x"]), true),
        ("debug", json!([]), false),
    ] {
        let (stores, annotations) = (Stores::default(), json!({PRE_DELETE_FINALIZER: "example.com/x"}));
        let labels = json!({"app": app});
        let metadata = json!({"labels": labels, "finalizers": finalizers, "annotations": annotations});
        add_pod(&stores, "a", metadata, json!({}));
        let finalizer = |metadata: &Value| {
            let group = group(metadata.clone(), json!({}));
            Observed::gather(&group, &stores).unwrap().upkeep.finalizer
        };
        assert_eq!(finalizer(&json!({"finalizers": ours})), Some(false));
        assert_eq!(finalizer(&going), (!is_held).then_some(false), "{app}");
    }
    // What nobody controls and has no hook is nobody's.
    let stores = Stores::default();
    add_pod(&stores, "a", json!({"labels": {"app": "debug"}}), json!({}));
    assert_eq!(Observed::gather(&group(going, json!({})), &stores).unwrap().pods().count(), 0);
}

#[test]
fn restarts_before_a_pod_is_adopted_are_no_matter_of_its_revision() {
    let stores = Stores::default();
    let restarted = json!({"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 40}]});
    add_pod(&stores, "orphan", json!({}), restarted.clone());
    add_pod(&stores, "own", json!({"ownerReferences": owner()}), restarted);
    let observed = Observed::gather(&group(json!({}), json!({})), &stores).unwrap();
    let mut crashes: Vec<_> = observed.pods.iter().map(|member| observed.view(member)).collect();
    crashes.sort_by_key(|pod| pod.name);
    assert_eq!(crashes.iter().map(|pod| pod.crashes).collect::<Vec<_>>(), [0, 40]);
}

/// Adds so many pods of a revision of the group, all of them available.
fn add_pods(stores: &Stores, revision: &str, count: usize) {
    let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    for number in 0..count {
        let labels = json!({"app": "web", REVISION: revision});
        let metadata = json!({"labels": labels, "ownerReferences": owner()});
        let status = json!({"phase": "Running", "conditions": [ready]});
        add_pod(stores, &format!("{revision}-{number}"), metadata, status);
    }
}

/// What is decided of a group of ten of which no revision was ever complete.
fn decided(stores: &Stores, mut spec: Value) -> (Decision, Arc<str>) {
    spec["replicas"] = json!(10);
    let group = group(json!({}), spec);
    let observed = Observed::gather(&group, stores).unwrap();
    let moment = Duration::from_secs(1);
    let look = Look { moment, wall: Timestamp::now(), watched: moment, sure: true };
    let assessed = observed.assess(&group, &State::default(), Evidence::default(), &look);
    (assessed.decision, observed.revisions.own)
}

#[test]
fn where_no_revision_was_ever_complete_a_change_starts_from_the_one_whose_pods_serve() {
    let stores = Stores::default();
    add_pods(&stores, "aaaaaaaaaa", 9);
    let rolling = json!({"update": {"maxSurge": 1, "maxUnavailable": 2}});
    // Its template is lost, so that no pod of it can be made.
    let (lost, _) = decided(&stores, rolling.clone());
    assert_eq!((lost.state.current, lost.keep), (None, None));

    add_revision(&stores, "web-aaaaaaaaaa", "aaaaaaaaaa", 1);
    let old = |replicas| plan::Share { revision: "aaaaaaaaaa".into(), replicas };
    let (change, _) = decided(&stores, rolling);
    assert_eq!(change.state.current.as_deref(), Some("aaaaaaaaaa"));
    assert_eq!(change.keep, Some(old(8)), "what is lost is made anew of it");
    let (canary, own) = decided(&stores, json!({"update": {"steps": [{"weight": 10, "pause": {}}]}}));
    assert_eq!(canary.shares, [plan::Share { revision: own, replicas: 1 }, old(9)]);
}

#[test]
fn of_several_revisions_that_serve_a_change_starts_from_the_largest_or_else_the_oldest() {
    for (first, second, current) in [(2, 3, "bbbbbbbbbb"), (3, 3, "aaaaaaaaaa"), (3, 2, "aaaaaaaaaa")] {
        let stores = Stores::default();
        for (hash, number, pods) in [("aaaaaaaaaa", 1, first), ("bbbbbbbbbb", 2, second)] {
            add_revision(&stores, &format!("web-{hash}"), hash, number);
            add_pods(&stores, hash, pods);
        }
        assert_eq!(
            decided(&stores, json!({})).0.state.current.as_deref(),
            Some(current),
            "{first}, {second}"
        );
    }
}

#[test]
fn the_first_revision_starts_from_nothing_however_many_of_its_pods_serve() {
    let stores = Stores::default();
    let (_, own) = decided(&stores, json!({}));
    add_pods(&stores, &own, 9);
    let (first, _) = decided(&stores, json!({}));
    assert_eq!((first.state.current, first.news.as_slice()), (None, &[][..]));
}

#[test]
fn while_the_template_cannot_be_stored_nothing_is_brought_to_it_and_what_exists_is_repaired_and_scaled() {
    let planned = |stores: &Stores, replicas: usize, stored: bool| {
        let group = group(json!({}), json!({"replicas": replicas}));
        let mut observed = Observed::gather(&group, stores).unwrap();
        observed.revisions.stored = stored;
        let moment = Duration::from_secs(1);
        let look = Look { moment, wall: Timestamp::now(), watched: moment, sure: true };
        let plan = observed.assess(&group, &State::default(), Evidence::default(), &look).plan;
        let create: Vec<_> =
            plan.create.into_iter().map(|made| (made.revision.to_string(), made.count)).collect();
        (create, plan.delete.len())
    };
    let stores = Stores::default();
    assert_eq!(planned(&stores, 3, false), (vec![], 0), "the first pods of a group");
    assert_eq!(planned(&stores, 3, true).0.len(), 1);

    add_revision(&stores, "web-aaaaaaaaaa", "aaaaaaaaaa", 1);
    add_pods(&stores, "aaaaaaaaaa", 9);
    let old = |count| vec![("aaaaaaaaaa".to_owned(), count)];
    assert_eq!(planned(&stores, 10, false), (old(1), 0));
    assert_eq!(planned(&stores, 20, false), (old(11), 0));
    assert_eq!(planned(&stores, 4, false), (vec![], 5));
    assert_ne!(planned(&stores, 9, true), (vec![], 0));
}

#[test]
fn a_rollback_goes_on_while_the_failed_template_cannot_be_stored() {
    let stores = Stores::default();
    let group = group(json!({}), json!({"replicas": 10}));
    let own = revision::hash(&group.spec.template);
    add_revision(&stores, "web-aaaaaaaaaa", "aaaaaaaaaa", 1);
    add_pods(&stores, "aaaaaaaaaa", 8);
    add_pods(&stores, &own, 2);
    let mut observed = Observed::gather(&group, &stores).unwrap();
    observed.revisions.stored = false;
    let failed = Failed { revision: own, reason: Reason::CrashLoop, message: String::new() };
    let state = State { current: Some("aaaaaaaaaa".into()), failed: Some(failed), ..State::default() };
    let moment = Duration::from_secs(1);
    let look = Look { moment, wall: Timestamp::now(), watched: moment, sure: true };
    let assessed = observed.assess(&group, &state, Evidence::default(), &look);
    assert_eq!(assessed.decision.phase, rollout::Phase::RollingBack);
    assert!(assessed.plan.delete.len() + assessed.plan.creations() > 0, "the failed pods are exchanged");
}

#[test]
fn a_stored_template_that_is_equal_is_the_groups_revision_whatever_its_hash() {
    let stores = Stores::default();
    let mut group = group(json!({}), json!({}));
    group.spec.template = serde_json::from_value(json!({"spec": {"containers": []}})).unwrap();
    let hash = revision::hash(&group.spec.template);
    assert_eq!(Observed::gather(&group, &stores).unwrap().revisions.own, hash);
    // As an earlier version has computed it.
    add_revision(&stores, "web-aaaaaaaaaa", "aaaaaaaaaa", 1);
    assert_eq!(&*Observed::gather(&group, &stores).unwrap().revisions.own, "aaaaaaaaaa");
    add_revision(&stores, &revision::name("web", &hash), &hash, 2);
    assert_eq!(Observed::gather(&group, &stores).unwrap().revisions.own, hash);
}
