//! Who may do what.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use mainstay_e2e::{NAME, NAMESPACE, Scenario, group, kubectl, pods};
use serde_json::json;

/// What the controller's account may do: verb, resource, and the options of `kubectl auth can-i`.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("list", "replicagroups.mainstay.dev", "--all-namespaces"),
    ("watch", "replicagroups.mainstay.dev", "--all-namespaces"),
    ("patch", "replicagroups.mainstay.dev", "--all-namespaces --subresource=status"),
    ("update", "replicagroups.mainstay.dev", "--all-namespaces --subresource=finalizers"),
    ("patch", "replicagroups.mainstay.dev", "--all-namespaces"),
    ("create", "persistentvolumeclaims", "--all-namespaces"),
    ("delete", "persistentvolumeclaims", "--all-namespaces"),
    ("create", "pods", "--all-namespaces"),
    ("patch", "pods", "--all-namespaces"),
    ("delete", "pods", "--all-namespaces"),
    ("create", "pods", "--all-namespaces --subresource=eviction"),
    ("patch", "pods", "--all-namespaces --subresource=status"),
    ("create", "controllerrevisions.apps", "--all-namespaces"),
    ("delete", "controllerrevisions.apps", "--all-namespaces"),
    ("watch", "nodes", ""),
    ("watch", "poddisruptionbudgets.policy", "--all-namespaces"),
    ("watch", "resourcequotas", "--all-namespaces"),
    ("create", "events.events.k8s.io", "--all-namespaces"),
    ("create", "leases.coordination.k8s.io", "--namespace=mainstay"),
    ("update", "leases.coordination.k8s.io/mainstay-replication", "--namespace=mainstay"),
];

/// What it may not.
const DENIED: &[(&str, &str, &str)] = &[
    ("get", "secrets", "--all-namespaces"),
    ("list", "secrets", "--namespace=mainstay"),
    ("get", "configmaps", "--all-namespaces"),
    ("create", "pods", "--all-namespaces --subresource=exec"),
    ("deletecollection", "persistentvolumeclaims", "--all-namespaces"),
    ("get", "persistentvolumes", ""),
    ("deletecollection", "controllerrevisions.apps", "--all-namespaces"),
    ("get", "poddisruptionbudgets.policy", "--all-namespaces"),
    ("patch", "deployments.apps", "--all-namespaces"),
    ("deletecollection", "pods", "--all-namespaces"),
    ("get", "pods", "--all-namespaces --subresource=log"),
    ("patch", "nodes", ""),
    ("create", "serviceaccounts", "--all-namespaces --subresource=token"),
    ("impersonate", "users", ""),
    ("escalate", "clusterroles.rbac.authorization.k8s.io", ""),
    ("bind", "clusterroles.rbac.authorization.k8s.io", ""),
    ("update", "replicagroups.mainstay.dev", "--all-namespaces"),
    ("create", "replicagroups.mainstay.dev", "--all-namespaces"),
    ("delete", "replicagroups.mainstay.dev", "--all-namespaces"),
    ("update", "leases.coordination.k8s.io/another", "--namespace=mainstay"),
    ("create", "leases.coordination.k8s.io", "--namespace=kube-system"),
    ("delete", "leases.coordination.k8s.io/mainstay-replication", "--namespace=mainstay"),
];

/// All that the controller's role says: API group, resource, verbs.
const ROLE: &[(&str, &str, &[&str])] = &[
    ("mainstay.dev", "replicagroups", &["get", "list", "patch", "watch"]),
    ("mainstay.dev", "replicagroups/status", &["patch"]),
    ("mainstay.dev", "replicagroups/finalizers", &["update"]),
    ("", "pods", &["create", "delete", "get", "list", "patch", "watch"]),
    ("", "pods/eviction", &["create"]),
    ("", "pods/status", &["patch"]),
    ("policy", "poddisruptionbudgets", &["list", "watch"]),
    ("", "persistentvolumeclaims", &["create", "delete", "get", "list", "patch", "watch"]),
    ("", "nodes", &["list", "watch"]),
    ("", "resourcequotas", &["list", "watch"]),
    ("apps", "controllerrevisions", &["create", "delete", "get", "list", "patch", "watch"]),
    ("events.k8s.io", "events", &["create", "patch"]),
];

#[tokio::test]
async fn the_role_of_the_controller_has_these_rules_and_no_other() {
    let scenario = Scenario::start("role").await;
    let role = Api::<ClusterRole>::all(scenario.client.clone()).get(NAME).await.unwrap();
    let mut rules = BTreeMap::new();
    for rule in role.rules.unwrap_or_default() {
        let named = [rule.resource_names.is_some(), rule.non_resource_urls.is_some()];
        assert_eq!(named, [false; 2], "a rule of another kind: {rule:?}");
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let verbs: &mut BTreeSet<_> = rules.entry((group.clone(), resource.clone())).or_default();
                verbs.extend(rule.verbs.clone());
            }
        }
    }
    let text = |words: &[&str]| words.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let entry = |(group, resource, verbs): &(&str, &str, &[&str])| {
        (((*group).to_owned(), (*resource).to_owned()), text(verbs))
    };
    assert_eq!(rules, ROLE.iter().map(entry).collect::<BTreeMap<_, _>>());
}

#[tokio::test]
async fn the_controller_may_do_what_it_does_and_no_more() {
    let _scenario = Scenario::start("rights").await;
    for (rules, expected) in [(ALLOWED, "yes"), (DENIED, "no")] {
        for (verb, resource, options) in rules {
            let account = format!("--as=system:serviceaccount:{NAMESPACE}:{NAME}");
            let answer = kubectl(&format!("auth can-i {verb} {resource} {options} {account}"));
            assert_eq!(answer.stdout.trim(), expected, "{verb} {resource} {options}: {}", answer.stderr);
        }
    }
}

#[tokio::test]
async fn who_may_edit_a_namespace_may_run_groups_but_not_report_for_them() {
    let scenario = Scenario::start("edit").await;
    scenario.kubectl("create serviceaccount editor").succeeded();
    scenario.kubectl("create serviceaccount viewer").succeeded();
    let namespace = &scenario.namespace;
    for (account, role) in [("editor", "edit"), ("viewer", "view")] {
        let binding = format!(
            "create rolebinding {account} --clusterrole={role} --serviceaccount={namespace}:{account}"
        );
        scenario.kubectl(&binding).succeeded();
    }
    let editor = format!("--as=system:serviceaccount:{namespace}:editor");
    let viewer = format!("--as=system:serviceaccount:{namespace}:viewer");

    scenario.kubectl_create(group("edited", pods::gated()).object(), &[&editor]).succeeded();
    scenario.kubectl(&format!("scale rg/edited --replicas=2 {editor}")).succeeded();
    scenario.group("edited").await.has(2).await;
    let status = json!({"status": {"replicas": 7}});
    let report = format!("patch rg/edited --subresource=status --type=merge --patch={status} {editor}");
    let said = scenario.kubectl(&report).refused();
    assert!(said.contains("replicagroups/status"), "{said}");

    scenario.kubectl(&format!("get rg/edited {viewer}")).succeeded();
    let said = scenario.kubectl(&format!("scale rg/edited --replicas=3 {viewer}")).refused();
    assert!(said.contains("orbidden"), "{said}");
}
