//! What the charts render, and which values they refuse. Nothing is installed here.

use std::collections::BTreeSet;

use mainstay_e2e::{helm, root};
use serde_json::Value;

/// Asked for no cluster, Helm takes the version that it was built with, which may be none.
const TEMPLATE: &[&str] = &["template", "mainstay", "charts/mainstay", "--kube-version=1.36.0"];

/// The objects that the chart renders with these further words.
fn rendered(words: &[&str]) -> Vec<Value> {
    let text = helm(&[TEMPLATE, words].concat(), "").succeeded();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("no YAML: {error}\n{text}"))
}

/// The kinds of objects, with their names.
fn names(objects: &[Value]) -> BTreeSet<String> {
    let name = |object: &Value| {
        Some(format!("{}/{}", object["kind"].as_str()?, object["metadata"]["name"].as_str()?))
    };
    objects.iter().filter_map(name).collect()
}

#[test]
fn the_defaults_render_ten_objects() {
    let name = "mainstay-replication";
    let mut expected: BTreeSet<String> = [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "Service",
        "PodDisruptionBudget",
        "Deployment",
    ]
    .map(|kind| format!("{kind}/{name}"))
    .into();
    expected.extend(["ClusterRole/mainstay-view", "ClusterRole/mainstay-edit"].map(Into::into));
    let objects = rendered(&[]);
    assert_eq!(names(&objects), expected);
    assert_eq!(objects.len(), expected.len());
}

#[test]
fn one_replica_has_no_disruption_budget() {
    let objects = rendered(&["--set=controllers.replication.replicas=1"]);
    assert!(!names(&objects).iter().any(|name| name.starts_with("PodDisruptionBudget/")));
    assert_eq!(objects.len(), 9);
}

#[test]
fn a_controller_that_is_off_leaves_only_the_roles_of_users() {
    let objects = rendered(&["--set=controllers.replication.enabled=false"]);
    let expected = ["ClusterRole/mainstay-view", "ClusterRole/mainstay-edit"].map(String::from);
    assert_eq!(names(&objects), BTreeSet::from(expected));
}

#[test]
fn no_rule_has_a_wildcard() {
    for object in rendered(&[]) {
        for rule in object["rules"].as_array().into_iter().flatten() {
            assert!(!rule.to_string().contains('*'), "{} has {rule}", object["metadata"]["name"]);
        }
    }
}

#[test]
fn the_charts_have_the_version_of_the_workspace() {
    for chart in ["mainstay", "mainstay-crds"] {
        let text = std::fs::read_to_string(root().join("charts").join(chart).join("Chart.yaml")).unwrap();
        let chart: Value = serde_saphyr::from_str(&text).unwrap();
        for field in ["version", "appVersion"] {
            assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field} of {}", chart["name"]);
        }
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_path() {
    for (value, path) in [
        ("controllers.replication.replicas=two", "controllers/replication/replicas"),
        ("controllers.replication.replica=2", "'replica'"),
        ("controllers.replication.logFormat=xml", "controllers/replication/logFormat"),
        ("image.pullPolicy=Sometimes", "image/pullPolicy"),
        ("metrics.scrapeAnotations=false", "'scrapeAnotations'"),
        ("controllers.replication.extraArgs={--log-level=debug}", "--log-level=debug"),
    ] {
        let said = helm(&[TEMPLATE, &["--set", value]].concat(), "").refused();
        assert!(said.contains(path), "--set {value}: the refusal does not say {path:?}: {said}");
    }
}

#[test]
fn optional_objects_are_rendered_on_request() {
    let on = [
        "--set=serviceMonitor.enabled=true,serviceMonitor.policy=alwaysRender",
        "--set=prometheusRule.enabled=true,prometheusRule.policy=alwaysRender",
        "--set=networkPolicy.enabled=true,dashboards.enabled=true",
    ];
    let names = names(&rendered(&on));
    for kind in ["ServiceMonitor", "PrometheusRule", "NetworkPolicy", "ConfigMap"] {
        assert!(names.iter().any(|name| name.starts_with(&format!("{kind}/"))), "no {kind} in {names:?}");
    }
}
