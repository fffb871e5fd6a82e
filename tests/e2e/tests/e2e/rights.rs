//! Who may do what.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use mainstay_e2e::{NAME, NAMESPACE, Scenario, group, kubectl, pods};
use serde_json::json;

/// Name of the ServiceAccount and the ClusterRole of the endpoints controller.
const ENDPOINTS: &str = "mainstay-endpoints";

/// Name of the ServiceAccount and the ClusterRole of the node-health controller.
const NODE_HEALTH: &str = "mainstay-node-health";

/// Name of the ServiceAccount and the ClusterRole of the config-rollout controller.
const CONFIG_ROLLOUT: &str = "mainstay-config-rollout";

/// Name of the ServiceAccount and the ClusterRole of the accounts controller.
const ACCOUNTS: &str = "mainstay-accounts";

/// Questions of `kubectl auth can-i`: verb, resource, and options.
type Questions = &'static [(&'static str, &'static str, &'static str)];

/// What the replication controller's account may do.
const ALLOWED: Questions = &[
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
const DENIED: Questions = &[
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
    ("create", "endpointslices.discovery.k8s.io", "--all-namespaces"),
];

/// What the endpoints controller's account may do.
const ENDPOINTS_ALLOWED: Questions = &[
    ("watch", "endpointpools.mainstay.dev", "--all-namespaces"),
    ("patch", "endpointpools.mainstay.dev", "--all-namespaces --subresource=status"),
    ("update", "endpointpools.mainstay.dev", "--all-namespaces --subresource=finalizers"),
    ("watch", "endpointgrants.mainstay.dev", "--all-namespaces"),
    ("watch", "pods", "--all-namespaces"),
    ("patch", "pods", "--all-namespaces --subresource=status"),
    ("create", "services", "--all-namespaces"),
    ("patch", "services", "--all-namespaces"),
    ("watch", "nodes", ""),
    ("create", "endpointslices.discovery.k8s.io", "--all-namespaces"),
    ("update", "endpointslices.discovery.k8s.io", "--all-namespaces"),
    ("delete", "endpointslices.discovery.k8s.io", "--all-namespaces"),
    ("create", "events.events.k8s.io", "--all-namespaces"),
    ("update", "leases.coordination.k8s.io/mainstay-endpoints", "--namespace=mainstay"),
];

/// What it may not.
const ENDPOINTS_DENIED: Questions = &[
    ("get", "secrets", "--all-namespaces"),
    ("get", "configmaps", "--all-namespaces"),
    ("update", "endpointpools.mainstay.dev", "--all-namespaces"),
    ("create", "endpointpools.mainstay.dev", "--all-namespaces"),
    ("create", "endpointgrants.mainstay.dev", "--all-namespaces"),
    ("create", "pods", "--all-namespaces"),
    ("patch", "pods", "--all-namespaces"),
    ("delete", "pods", "--all-namespaces"),
    ("delete", "services", "--all-namespaces"),
    ("patch", "services", "--all-namespaces --subresource=status"),
    ("create", "endpoints", "--all-namespaces"),
    ("deletecollection", "endpointslices.discovery.k8s.io", "--all-namespaces"),
    ("patch", "nodes", ""),
    ("watch", "replicagroups.mainstay.dev", "--all-namespaces"),
    ("escalate", "clusterroles.rbac.authorization.k8s.io", ""),
    ("bind", "clusterroles.rbac.authorization.k8s.io", ""),
    ("update", "leases.coordination.k8s.io/mainstay-replication", "--namespace=mainstay"),
    ("create", "leases.coordination.k8s.io", "--namespace=kube-system"),
];

/// What the node-health controller's account may do.
const NODE_HEALTH_ALLOWED: Questions = &[
    ("watch", "nodehealthpolicies.mainstay.dev", ""),
    ("patch", "nodehealthpolicies.mainstay.dev", "--subresource=status"),
    ("patch", "nodes", ""),
    ("list", "pods", "--all-namespaces"),
    ("delete", "pods", "--all-namespaces"),
    ("create", "pods", "--all-namespaces --subresource=eviction"),
    ("patch", "pods", "--all-namespaces --subresource=status"),
    ("watch", "leases.coordination.k8s.io", "--namespace=kube-node-lease"),
    ("create", "events.events.k8s.io", "--all-namespaces"),
    ("update", "leases.coordination.k8s.io/mainstay-node-health", "--namespace=mainstay"),
];

/// What it may not.
const NODE_HEALTH_DENIED: Questions = &[
    ("get", "secrets", "--all-namespaces"),
    ("get", "configmaps", "--all-namespaces"),
    ("update", "nodehealthpolicies.mainstay.dev", ""),
    ("delete", "nodes", ""),
    ("patch", "nodes", "--subresource=status"),
    ("watch", "pods", "--all-namespaces"),
    ("create", "pods", "--all-namespaces"),
    ("patch", "pods", "--all-namespaces"),
    ("patch", "leases.coordination.k8s.io", "--namespace=kube-node-lease"),
    ("watch", "leases.coordination.k8s.io", "--all-namespaces"),
    ("escalate", "clusterroles.rbac.authorization.k8s.io", ""),
    ("bind", "clusterroles.rbac.authorization.k8s.io", ""),
];

/// What a role says: API group, resource, verbs.
type Rules = &'static [(&'static str, &'static str, &'static [&'static str])];

/// All that the replication controller's role says.
const ROLE: Rules = &[
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

/// All that the endpoints controller's role says.
const ENDPOINTS_ROLE: Rules = &[
    ("mainstay.dev", "endpointpools", &["list", "watch"]),
    ("mainstay.dev", "endpointpools/status", &["patch"]),
    ("mainstay.dev", "endpointpools/finalizers", &["update"]),
    ("mainstay.dev", "endpointgrants", &["list", "watch"]),
    ("", "pods", &["list", "watch"]),
    ("", "pods/status", &["patch"]),
    ("", "services", &["create", "list", "patch", "watch"]),
    ("", "nodes", &["list", "watch"]),
    ("discovery.k8s.io", "endpointslices", &["create", "delete", "get", "list", "update", "watch"]),
    ("events.k8s.io", "events", &["create", "patch"]),
];

/// All that the config-rollout controller's role says.
const CONFIG_ROLLOUT_ROLE: Rules = &[
    ("mainstay.dev", "configrollouts", &["list", "watch"]),
    ("mainstay.dev", "configrollouts/status", &["patch"]),
    ("", "configmaps", &["create", "delete", "get", "list", "watch"]),
    ("", "secrets", &["create", "delete", "get", "list", "watch"]),
    ("apps", "deployments", &["get", "list", "patch", "watch"]),
    ("apps", "statefulsets", &["get", "list", "patch", "watch"]),
    ("apps", "daemonsets", &["get", "list", "patch", "watch"]),
    ("mainstay.dev", "replicagroups", &["get", "list", "patch", "watch"]),
    ("", "pods", &["list"]),
    ("apps", "replicasets", &["list"]),
    ("apps", "controllerrevisions", &["list"]),
    ("", "services", &["get"]),
    ("events.k8s.io", "events", &["create", "patch"]),
];

/// All that the node-health controller's role says.
const NODE_HEALTH_ROLE: Rules = &[
    ("mainstay.dev", "nodehealthpolicies", &["list", "watch"]),
    ("mainstay.dev", "nodehealthpolicies/status", &["patch"]),
    ("mainstay.dev", "nodehealthpolicies/finalizers", &["update"]),
    ("", "nodes", &["get", "list", "patch", "watch"]),
    ("", "pods", &["delete", "list"]),
    ("", "pods/status", &["patch"]),
    ("", "pods/eviction", &["create"]),
    ("events.k8s.io", "events", &["create", "patch"]),
];

/// What the config-rollout controller's account may do.
const CONFIG_ROLLOUT_ALLOWED: Questions = &[
    ("watch", "configrollouts.mainstay.dev", "--all-namespaces"),
    ("patch", "configrollouts.mainstay.dev", "--all-namespaces --subresource=status"),
    ("get", "secrets", "--all-namespaces"),
    ("create", "configmaps", "--all-namespaces"),
    ("patch", "deployments.apps", "--all-namespaces"),
    ("patch", "replicagroups.mainstay.dev", "--all-namespaces"),
    ("update", "secrets/mainstay-config-rollout-webhook", "--namespace=mainstay"),
    (
        "patch",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io/mainstay-config-rollout-webhook",
        "",
    ),
    ("update", "leases.coordination.k8s.io/mainstay-config-rollout", "--namespace=mainstay"),
];

/// What it may not.
const CONFIG_ROLLOUT_DENIED: Questions = &[
    ("update", "secrets", "--all-namespaces"),
    ("patch", "secrets", "--all-namespaces"),
    ("update", "secrets/another", "--namespace=mainstay"),
    ("patch", "configmaps", "--all-namespaces"),
    ("deletecollection", "secrets", "--all-namespaces"),
    ("create", "deployments.apps", "--all-namespaces"),
    ("delete", "deployments.apps", "--all-namespaces"),
    ("update", "configrollouts.mainstay.dev", "--all-namespaces"),
    ("create", "pods", "--all-namespaces"),
    ("delete", "pods", "--all-namespaces"),
    ("create", "serviceaccounts", "--all-namespaces --subresource=token"),
    ("patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io/another", ""),
    ("create", "mutatingwebhookconfigurations.admissionregistration.k8s.io", ""),
    ("escalate", "clusterroles.rbac.authorization.k8s.io", ""),
    ("bind", "clusterroles.rbac.authorization.k8s.io", ""),
];

/// All that the accounts controller's role says.
const ACCOUNTS_ROLE: Rules = &[
    ("mainstay.dev", "accountpolicies", &["list", "patch", "watch"]),
    ("mainstay.dev", "accountpolicies/status", &["patch"]),
    ("", "namespaces", &["list", "watch"]),
    ("", "serviceaccounts", &["create", "delete", "get", "list", "patch", "watch"]),
    ("", "serviceaccounts/token", &["create"]),
    ("rbac.authorization.k8s.io", "rolebindings", &["create", "delete", "get", "list", "patch", "watch"]),
    ("rbac.authorization.k8s.io", "clusterroles", &["get"]),
    ("rbac.authorization.k8s.io", "roles", &["get"]),
    ("rbac.authorization.k8s.io", "clusterroles [\"view\", \"edit\"]", &["bind"]),
    ("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    ("", "secrets", &["create", "delete", "get", "list", "patch", "update", "watch"]),
    ("", "configmaps [\"kube-root-ca.crt\"]", &["get"]),
    ("events.k8s.io", "events", &["create", "patch"]),
];

/// What the accounts controller's account may do.
const ACCOUNTS_ALLOWED: Questions = &[
    ("create", "serviceaccounts", "--all-namespaces --subresource=token"),
    ("bind", "clusterroles.rbac.authorization.k8s.io/edit", ""),
    ("get", "configmaps/kube-root-ca.crt", "--namespace=kube-system"),
    ("patch", "validatingwebhookconfigurations.admissionregistration.k8s.io/mainstay-accounts-webhook", ""),
    ("update", "leases.coordination.k8s.io/mainstay-accounts", "--namespace=mainstay"),
];

/// What it may not.
const ACCOUNTS_DENIED: Questions = &[
    ("bind", "clusterroles.rbac.authorization.k8s.io/cluster-admin", ""),
    ("bind", "roles.rbac.authorization.k8s.io", "--all-namespaces"),
    ("escalate", "clusterroles.rbac.authorization.k8s.io", ""),
    ("create", "clusterrolebindings.rbac.authorization.k8s.io", ""),
    ("create", "roles.rbac.authorization.k8s.io", "--all-namespaces"),
    ("impersonate", "users", ""),
    ("create", "accountpolicies.mainstay.dev", ""),
    ("update", "accountpolicies.mainstay.dev", ""),
    ("patch", "namespaces", ""),
    ("get", "configmaps", "--namespace=kube-system"),
    ("create", "pods", "--all-namespaces"),
    ("patch", "validatingwebhookconfigurations.admissionregistration.k8s.io/another", ""),
];

/// Each resource of a role, with the names to which a rule is bound, and its verbs.
fn rules_of(role: ClusterRole) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut rules = BTreeMap::new();
    for rule in role.rules.unwrap_or_default() {
        assert_eq!(rule.non_resource_urls, None, "a rule of another kind: {rule:?}");
        let names = rule.resource_names.map(|names| format!(" {names:?}")).unwrap_or_default();
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let resource = format!("{resource}{names}");
                let verbs: &mut BTreeSet<_> = rules.entry((group.clone(), resource)).or_default();
                verbs.extend(rule.verbs.clone());
            }
        }
    }
    rules
}

#[tokio::test]
async fn the_role_of_each_controller_has_these_rules_and_no_other() {
    let scenario = Scenario::start("role").await;
    let text = |words: &[&str]| words.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let entry = |(group, resource, verbs): &(&str, &str, &[&str])| {
        (((*group).to_owned(), (*resource).to_owned()), text(verbs))
    };
    for (name, expected) in [
        (NAME, ROLE),
        (ENDPOINTS, ENDPOINTS_ROLE),
        (NODE_HEALTH, NODE_HEALTH_ROLE),
        (CONFIG_ROLLOUT, CONFIG_ROLLOUT_ROLE),
        (ACCOUNTS, ACCOUNTS_ROLE),
    ] {
        let role = Api::<ClusterRole>::all(scenario.client.clone()).get(name).await.unwrap();
        assert_eq!(rules_of(role), expected.iter().map(entry).collect::<BTreeMap<_, _>>(), "{name}");
    }
}

#[tokio::test]
async fn each_controller_may_do_what_it_does_and_no_more() {
    let _scenario = Scenario::start("rights").await;
    for (name, questions, expected) in [
        (NAME, ALLOWED, "yes"),
        (NAME, DENIED, "no"),
        (ENDPOINTS, ENDPOINTS_ALLOWED, "yes"),
        (ENDPOINTS, ENDPOINTS_DENIED, "no"),
        (NODE_HEALTH, NODE_HEALTH_ALLOWED, "yes"),
        (NODE_HEALTH, NODE_HEALTH_DENIED, "no"),
        (CONFIG_ROLLOUT, CONFIG_ROLLOUT_ALLOWED, "yes"),
        (CONFIG_ROLLOUT, CONFIG_ROLLOUT_DENIED, "no"),
        (ACCOUNTS, ACCOUNTS_ALLOWED, "yes"),
        (ACCOUNTS, ACCOUNTS_DENIED, "no"),
    ] {
        for (verb, resource, options) in questions {
            let account = format!("--as=system:serviceaccount:{NAMESPACE}:{name}");
            let answer = kubectl(&format!("auth can-i {verb} {resource} {options} {account}"));
            assert_eq!(
                answer.stdout.trim(),
                expected,
                "{name}: {verb} {resource} {options}: {}",
                answer.stderr
            );
        }
    }
}

/// Binds a role of the cluster to a new account of the scenario's namespace. Returns the option by which kubectl acts
/// as that account.
fn account(scenario: &Scenario, name: &str, role: &str) -> String {
    let namespace = &scenario.namespace;
    scenario.kubectl(&format!("create serviceaccount {name}")).succeeded();
    let binding =
        format!("create rolebinding {name} --clusterrole={role} --serviceaccount={namespace}:{name}");
    scenario.kubectl(&binding).succeeded();
    format!("--as=system:serviceaccount:{namespace}:{name}")
}

#[tokio::test]
async fn who_may_edit_a_namespace_may_run_groups_but_not_report_for_them() {
    let scenario = Scenario::start("edit").await;
    let editor = account(&scenario, "editor", "edit");
    let viewer = account(&scenario, "viewer", "view");

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

#[tokio::test]
async fn only_who_administers_a_namespace_may_say_where_its_traffic_goes() {
    let scenario = Scenario::start("admin").await;
    let [admin, editor, viewer] = ["admin", "edit", "view"].map(|role| account(&scenario, role, role));
    let member = json!({"name": "outside", "addresses": [{"ip": "192.0.2.1"}]});
    let pool = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool", "metadata": {"name": "pool"},
        "spec": {"serviceRef": {"name": "none"}, "members": [member]},
    });
    let grant = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointGrant", "metadata": {"name": "grant"},
        "spec": {"from": [{"namespace": "another"}]},
    });
    for (object, resource) in [(pool, "endpointpools/pool"), (grant, "endpointgrants/grant")] {
        for account in [&viewer, &editor] {
            let said = scenario.kubectl_create(&object, &[account]).refused();
            assert!(said.contains("orbidden"), "{resource} {account}: {said}");
        }
        scenario.kubectl_create(&object, &[&admin]).succeeded();
        for account in [&viewer, &editor, &admin] {
            scenario.kubectl(&format!("get {resource} {account}")).succeeded();
        }
        scenario.kubectl(&format!("delete {resource} {editor}")).refused();
        scenario.kubectl(&format!("delete {resource} {admin}")).succeeded();
    }
}
