//! Bindings that a policy adopts and releases.

use super::*;

fn account(name: &str, namespace: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"})
}

/// One that has the binding `bot`.
fn with_binding(uid: &'static str, annotations: Value, subjects: Value) -> Server {
    Server::new(move |_, _| {
        let metadata = json!({
            "name": "bot", "namespace": "ns", "uid": uid, "resourceVersion": "7", "annotations": annotations,
        });
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"});
        (200, json!({"metadata": metadata, "roleRef": role, "subjects": subjects}))
    })
}

#[tokio::test]
async fn who_is_bound_is_written_down_before_the_accounts_of_the_policy_are() {
    let Action::UpdateBinding { policy, name, binding, .. } = anew("ClusterRole") else { unreachable!() };
    let server = with_binding("b", json!({}), json!([user("jane")]));
    for (uid, expected) in [("b", Done::Written), ("other", Done::Stale)] {
        let update = Action::UpdateBinding {
            policy: Arc::clone(&policy),
            name: Arc::clone(&name),
            uid: uid.into(),
            binding: binding.clone(),
            anew: false,
            adopted: true,
            first: true,
        };
        assert_eq!(server.writer.apply(&ObjectKey::new("", "ns"), &update).await.unwrap(), expected);
    }
    let [noted, applied] = &server.bodies(&Method::PATCH)[..] else { panic!("two patches") };
    assert_eq!(noted["metadata"]["resourceVersion"], "7");
    let subjects = noted["metadata"]["annotations"]["mainstay.dev/subjects"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(subjects).unwrap(), json!([user("jane")]));
    assert_eq!(applied["subjects"], json!([account("bot", "ns")]));
}

#[tokio::test]
async fn what_is_written_down_stays() {
    let Action::UpdateBinding { policy, name, uid, binding, .. } = anew("ClusterRole") else {
        unreachable!()
    };
    let update =
        Action::UpdateBinding { policy, name, uid, binding, anew: false, adopted: true, first: true };
    let noted = |subjects: Value| json!({"mainstay.dev/subjects": subjects.to_string()});
    for (annotations, bound, expected) in [
        // It was released before, and jane has not got her access back.
        (noted(json!([user("jane")])), json!([]), json!([user("jane")])),
        (
            noted(json!([user("jane")])),
            json!([user("joe"), user("jane")]),
            json!([user("jane"), user("joe")]),
        ),
        (noted(json!("no list")), json!([user("joe")]), json!([user("joe")])),
    ] {
        let server = with_binding("old", annotations, bound);
        assert_eq!(server.writer.apply(&ObjectKey::new("", "ns"), &update).await.unwrap(), Done::Written);
        let note = &server.bodies(&Method::PATCH)[0]["metadata"]["annotations"]["mainstay.dev/subjects"];
        assert_eq!(serde_json::from_str::<Value>(note.as_str().unwrap()).unwrap(), expected);
    }
    // Where the watch is behind, the policy has bound its accounts already; a label alone says nothing.
    for (manager, labelled, expected) in [
        ("mainstay-accounts", "ci", Done::Stale),
        ("mainstay-accounts", "other", Done::Written),
        ("kubectl-label", "ci", Done::Written),
    ] {
        let metadata = json!({
            "name": "bot", "namespace": "ns", "uid": "old", "resourceVersion": "7",
            "labels": {"mainstay.dev/account-policy": labelled},
            "managedFields": [{
                "manager": manager, "operation": "Apply", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:labels": {"f:mainstay.dev/account-policy": {}}}},
            }],
        });
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"});
        let standing = json!({"metadata": metadata, "roleRef": role, "subjects": [account("bot", "ns")]});
        let server = Server::new(move |_, _| (200, standing.clone()));
        assert_eq!(server.writer.apply(&ObjectKey::new("", "ns"), &update).await.unwrap(), expected);
        let patches = if expected == Done::Written { 2 } else { 0 };
        assert_eq!(server.bodies(&Method::PATCH).len(), patches, "{manager} {labelled}");
    }
}

#[tokio::test]
async fn the_accounts_of_the_policy_are_bound_no_more_and_nobody_is_anew() {
    let both = json!([account("bot", "ns"), account("ci", "ns"), account("bot", "other"), user("jane")]);
    let rest = json!([account("bot", "other"), user("jane")]);
    let noted = |subjects: Value| json!({"mainstay.dev/subjects": subjects.to_string()});
    for (annotations, kept, is_done) in [
        (json!({}), rest.clone(), true),
        (noted(json!([user("jane")])), rest.clone(), true),
        // An annotation binds nobody.
        (noted(json!([user("mallory")])), rest.clone(), false),
        (noted(json!("no list")), rest, true),
        (
            noted(json!([account("ci", "ns")])),
            json!([account("ci", "ns"), account("bot", "other"), user("jane")]),
            true,
        ),
    ] {
        let server = with_binding("b", annotations, both.clone());
        let restore = Action::RestoreBinding("bot".into(), "b".into());
        server.writer.apply(&ObjectKey::new("", "ns"), &restore).await.unwrap();
        let [patch] = &server.bodies(&Method::PATCH)[..] else { panic!("one patch") };
        assert_eq!(patch["subjects"], kept, "{patch}");
        let metadata = &patch["metadata"];
        assert_eq!((&metadata["uid"], &metadata["resourceVersion"]), (&json!("b"), &json!("7")));
        assert_eq!(metadata["labels"].get("mainstay.dev/account-policy"), Some(&Value::Null));
        let note = metadata["annotations"].get("mainstay.dev/subjects");
        assert_eq!(note, is_done.then_some(&Value::Null), "{patch}");
    }
}
