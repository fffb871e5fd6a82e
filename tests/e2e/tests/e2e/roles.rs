//! What the roles of the controllers say.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use mainstay_e2e::{NAME, Scenario};

use crate::rights::{ACCOUNTS, CONFIG_ROLLOUT, ENDPOINTS, NODE_HEALTH};

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
    ("", "services", &["create", "get", "list", "patch", "watch"]),
    ("", "nodes", &["list", "watch"]),
    ("discovery.k8s.io", "endpointslices", &["create", "delete", "get", "list", "update", "watch"]),
    ("discovery.k8s.io", "endpointslices/restricted", &["create"]),
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
    ("", "nodes", &["get", "list", "patch", "watch"]),
    ("", "pods", &["delete", "list"]),
    ("", "pods/status", &["patch"]),
    ("", "pods/eviction", &["create"]),
    ("events.k8s.io", "events", &["create", "patch"]),
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
    ("", "secrets", &["create", "delete", "get", "list", "patch", "watch"]),
    ("events.k8s.io", "events", &["create", "patch"]),
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
    let scenario = Scenario::start("role", &[]).await;
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
