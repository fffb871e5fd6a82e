//! Who may do what.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};
use mainstay_e2e::{
    Component::{Endpoints, Replication},
    NAME, NAMESPACE, Scenario, group, pods,
};
use serde_json::json;

/// Name of the ServiceAccount and the ClusterRole of the endpoints controller.
pub(crate) const ENDPOINTS: &str = "mainstay-endpoints";

/// Name of the ServiceAccount and the ClusterRole of the node-health controller.
pub(crate) const NODE_HEALTH: &str = "mainstay-node-health";

/// Name of the ServiceAccount and the ClusterRole of the config-rollout controller.
pub(crate) const CONFIG_ROLLOUT: &str = "mainstay-config-rollout";

/// Name of the ServiceAccount and the ClusterRole of the accounts controller.
pub(crate) const ACCOUNTS: &str = "mainstay-accounts";

/// Questions, in the words of `kubectl auth can-i`: verb, resource, and options.
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

/// What the accounts controller's account may do.
const ACCOUNTS_ALLOWED: Questions = &[
    ("create", "serviceaccounts", "--all-namespaces --subresource=token"),
    ("bind", "clusterroles.rbac.authorization.k8s.io/edit", ""),
    ("get", "configmaps/kube-root-ca.crt", "--namespace=mainstay"),
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
    ("get", "configmaps", "--namespace=mainstay"),
    ("get", "configmaps/kube-root-ca.crt", "--namespace=kube-system"),
    ("create", "pods", "--all-namespaces"),
    ("patch", "validatingwebhookconfigurations.admissionregistration.k8s.io/another", ""),
];

#[tokio::test]
async fn each_controller_may_do_what_it_does_and_no_more() {
    let scenario = Scenario::start("rights", &[]).await;
    for (name, questions, expected) in [
        (NAME, ALLOWED, true),
        (NAME, DENIED, false),
        (ENDPOINTS, ENDPOINTS_ALLOWED, true),
        (ENDPOINTS, ENDPOINTS_DENIED, false),
        (NODE_HEALTH, NODE_HEALTH_ALLOWED, true),
        (NODE_HEALTH, NODE_HEALTH_DENIED, false),
        (CONFIG_ROLLOUT, CONFIG_ROLLOUT_ALLOWED, true),
        (CONFIG_ROLLOUT, CONFIG_ROLLOUT_DENIED, false),
        (ACCOUNTS, ACCOUNTS_ALLOWED, true),
        (ACCOUNTS, ACCOUNTS_DENIED, false),
    ] {
        for (verb, resource, options) in questions {
            let answer = may(&scenario.client, name, verb, resource, options).await;
            assert_eq!(answer, expected, "{name}: {verb} {resource} {options}");
        }
    }
}

/// Whether the ServiceAccount of a controller may do this, in the words of `kubectl auth can-i`.
async fn may(client: &Client, account: &str, verb: &str, resource: &str, options: &str) -> bool {
    let option =
        |name: &str| options.split(' ').find_map(|option| option.strip_prefix(name)).map(str::to_owned);
    let (resource, name) = match resource.split_once('/') {
        Some((resource, name)) => (resource, Some(name.to_owned())),
        None => (resource, None),
    };
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        resource: Some(resource.to_owned()),
        group: Some(group.to_owned()),
        name,
        namespace: option("--namespace="),
        subresource: option("--subresource="),
        ..ResourceAttributes::default()
    };
    let groups =
        ["system:serviceaccounts", &format!("system:serviceaccounts:{NAMESPACE}"), "system:authenticated"];
    let spec = SubjectAccessReviewSpec {
        user: Some(format!("system:serviceaccount:{NAMESPACE}:{account}")),
        groups: Some(groups.map(str::to_owned).to_vec()),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let answer =
        Api::<SubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await;
    answer.expect("the API server answers").status.expect("an answer").allowed
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
    let scenario = Scenario::start("edit", &[Replication]).await;
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
    let scenario = Scenario::start("admin", &[Endpoints]).await;
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
