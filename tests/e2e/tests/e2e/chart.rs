//! What the charts render, and which values they refuse. Nothing is installed here.

use std::collections::BTreeSet;

use mainstay_e2e::{helm, root};
use serde_json::{Value, json};

/// Asked for no cluster, Helm takes the version that it was built with, which may be none.
const TEMPLATE: &[&str] = &[
    "template",
    "mainstay",
    "charts/mainstay",
    "--kube-version=1.36.0",
    "--set=image.repository=registry.example.com/mainstay",
];

/// What switches every controller on.
const ALL: &str = "--set=controllers.accounts.enabled=true";

/// The objects that the chart renders with every controller and these further words.
pub(crate) fn rendered(words: &[&str]) -> Vec<Value> {
    objects(&[&[ALL], words].concat())
}

/// The objects that the chart renders with these further words.
fn objects(words: &[&str]) -> Vec<Value> {
    let text = helm(&[TEMPLATE, words].concat(), "").succeeded();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("no YAML: {error}\n{text}"))
}

/// The kinds of objects, with their names, and their namespaces where those are not the release's.
pub(crate) fn names(objects: &[Value]) -> BTreeSet<String> {
    let name = |object: &Value| {
        let namespace = object["metadata"]["namespace"].as_str().filter(|namespace| *namespace != "default");
        let (kind, name) = (object["kind"].as_str()?, object["metadata"]["name"].as_str()?);
        Some(format!(
            "{kind}/{name}{}",
            namespace.map(|namespace| format!(" in {namespace}")).unwrap_or_default()
        ))
    };
    objects.iter().filter_map(name).collect()
}

/// The chart's controllers, and the keys of their values.
const CONTROLLERS: [(&str, &str); 5] = [
    ("replication", "replication"),
    ("endpoints", "endpoints"),
    ("node-health", "nodeHealth"),
    ("config-rollout", "configRollout"),
    ("accounts", "accounts"),
];

/// The controllers with a webhook, and the kind of its configuration.
const WEBHOOKS: [(&str, &str); 2] =
    [("config-rollout", "MutatingWebhookConfiguration"), ("accounts", "ValidatingWebhookConfiguration")];

/// What a webhook needs.
const OF_WEBHOOKS: [&str; 5] = ["Service", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];

/// What only this controller has: rights in another namespace, and those that remediators bring.
const OF_NODE_HEALTH: [&str; 4] = [
    "Role/mainstay-node-health in kube-node-lease",
    "RoleBinding/mainstay-node-health in kube-node-lease",
    "ClusterRole/mainstay-node-health-remediation",
    "ClusterRoleBinding/mainstay-node-health-remediation",
];

/// What only this controller has: it reads one ConfigMap.
const OF_ACCOUNTS: [&str; 2] =
    ["Role/mainstay-accounts-authority", "RoleBinding/mainstay-accounts-authority"];

/// What is there for users, whichever controllers are on.
const ROLES: [&str; 3] =
    ["ClusterRole/mainstay-view", "ClusterRole/mainstay-edit", "ClusterRole/mainstay-admin"];

/// What the chart makes of a controller.
fn objects_of(controller: &str) -> BTreeSet<String> {
    let kinds = [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "Service",
        "PodDisruptionBudget",
        "Deployment",
    ];
    let own: &[&str] = match controller {
        "node-health" => &OF_NODE_HEALTH,
        "accounts" => &OF_ACCOUNTS,
        _ => &[],
    };
    let all = kinds.map(|kind| format!("{kind}/mainstay-{controller}"));
    let webhook = WEBHOOKS.iter().filter(|(name, _)| *name == controller).flat_map(|(_, configuration)| {
        OF_WEBHOOKS.iter().chain([configuration]).map(|kind| format!("{kind}/mainstay-{controller}-webhook"))
    });
    all.into_iter().chain(webhook).chain(own.iter().map(ToString::to_string)).collect()
}

/// The object of this kind and name.
fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is_it).unwrap_or_else(|| panic!("no {kind}/{name}"))
}

/// The flags that a controller is started with.
fn flags(objects: &[Value], controller: &str) -> Vec<String> {
    let deployment = find(objects, "Deployment", &format!("mainstay-{controller}"));
    let flags = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    serde_json::from_value(flags.clone()).expect("flags are text")
}

#[test]
fn each_controller_has_its_objects_and_accounts_has_none_by_default() {
    let mut expected: BTreeSet<String> = ROLES.map(Into::into).into();
    expected.extend(CONTROLLERS.into_iter().flat_map(|(controller, _)| objects_of(controller)));
    let all = rendered(&[]);
    assert_eq!(names(&all), expected);
    assert_eq!(all.len(), expected.len());
    assert_eq!(names(&objects(&[])), &expected - &objects_of("accounts"));
}

#[test]
fn one_replica_has_no_disruption_budget() {
    let all = names(&rendered(&[]));
    for (controller, key) in CONTROLLERS {
        let single = names(&rendered(&[&format!("--set=controllers.{key}.replicas=1")]));
        let missing: Vec<_> = all.difference(&single).collect();
        assert_eq!(missing, [&format!("PodDisruptionBudget/mainstay-{controller}")]);
    }
}

#[test]
fn a_controller_that_is_off_leaves_nothing() {
    let all = names(&rendered(&[]));
    for (controller, key) in CONTROLLERS {
        let others = names(&rendered(&[&format!("--set=controllers.{key}.enabled=false")]));
        assert_eq!(others, &all - &objects_of(controller));
    }
}

#[test]
fn what_only_endpoints_are_told_is_no_flag_of_another_controller() {
    let ranges = |objects: &[Value], controller| {
        let mut flags = flags(objects, controller).into_iter();
        flags.find(|flag| flag.starts_with("--forbidden-ranges="))
    };
    let objects = rendered(&["--set=controllers.endpoints.forbiddenRanges={10.0.0.0/8,nodes}"]);
    assert_eq!(ranges(&objects, "endpoints").as_deref(), Some("--forbidden-ranges=10.0.0.0/8,nodes"));
    assert_eq!(ranges(&objects, "replication"), None);
    let extra = "--set=controllers.endpoints.extraForbiddenRanges={10.0.0.0/8}";
    let added = ranges(&rendered(&[extra]), "endpoints").unwrap();
    assert!(added.ends_with(",nodes,api-server,services,pods,10.0.0.0/8"), "{added}");
    let objects = rendered(&["--set-json=controllers.endpoints.forbiddenRanges=[]"]);
    assert_eq!(
        ranges(&objects, "endpoints").as_deref(),
        Some("--forbidden-ranges="),
        "an empty list is a choice"
    );
}

#[test]
fn the_roles_that_policies_may_give_are_a_right_and_a_flag() {
    let objects = rendered(&[
        "--set=controllers.accounts.grantableClusterRoles={view,deployer}",
        "--set-json=controllers.accounts.grantableRoles=[]",
    ]);
    let flags = flags(&objects, "accounts");
    for flag in ["--grantable-cluster-roles=view,deployer", "--grantable-roles="] {
        assert!(flags.iter().any(|it| it == flag), "{flag} is not among {flags:?}");
    }
    let role = find(&objects, "ClusterRole", "mainstay-accounts");
    let rules = role["rules"].as_array().expect("it has rules").iter();
    let bound: Vec<_> = rules.filter(|rule| rule["verbs"] == json!(["bind"])).collect();
    assert_eq!(bound.len(), 1, "{bound:?}");
    assert_eq!(bound[0]["resourceNames"], json!(["view", "deployer"]));
}

#[test]
fn only_controllers_that_check_may_reach_more_than_the_cluster_itself() {
    let to = |words: &[&str], controller: &str| {
        let objects = rendered(&[&["--set=networkPolicy.enabled=true"], words].concat());
        let policy = find(&objects, "NetworkPolicy", &format!("mainstay-{controller}"));
        let rules = policy["spec"]["egress"].as_array().expect("egress has rules");
        rules.iter().find(|rule| rule["ports"][0].get("port").is_none()).cloned()
    };
    assert_eq!(to(&[], "replication"), None);
    assert_eq!(to(&[], "endpoints"), Some(json!({"ports": [{"protocol": "TCP"}]})));
    assert_eq!(to(&[], "config-rollout"), to(&[], "endpoints"));
    let bounded = to(&["--set=networkPolicy.checksTo[0].ipBlock.cidr=10.0.0.0/8"], "endpoints");
    assert_eq!(bounded.expect("a rule")["to"], json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]));
}

#[test]
fn with_cert_manager_the_controller_makes_no_certificate_and_has_no_right_to() {
    let words = ["--set=webhooks.certificates=certManager", "--set=webhooks.certManager.issuerRef.name=own"];
    let (objects, before) = (rendered(&words), names(&rendered(&[])));
    let each = |kinds: &[&str]| -> BTreeSet<_> {
        let names = WEBHOOKS
            .iter()
            .flat_map(|(name, _)| kinds.iter().map(move |kind| format!("{kind}/mainstay-{name}-webhook")));
        names.collect()
    };
    let now = names(&objects);
    assert_eq!(&before - &now, each(&["ClusterRole", "ClusterRoleBinding"]));
    assert_eq!(&now - &before, each(&["Certificate"]));
    for (controller, kind) in WEBHOOKS {
        let name = format!("mainstay-{controller}-webhook");
        let role = find(&objects, "Role", &name);
        assert!(!role.to_string().contains("create") && !role.to_string().contains("update"), "{role}");
        let annotations = &find(&objects, kind, &name)["metadata"]["annotations"];
        assert_eq!(annotations["cert-manager.io/inject-ca-from"], format!("default/{name}"));
        assert!(flags(&objects, controller).contains(&"--webhook-certificates=secret".to_owned()));
    }
}

#[test]
fn a_webhook_that_is_off_leaves_nothing_of_it() {
    for (controller, key) in [("config-rollout", "configRollout"), ("accounts", "accounts")] {
        let off = rendered(&[&format!("--set=controllers.{key}.webhook.enabled=false")]);
        let gone: Vec<_> = names(&rendered(&[])).difference(&names(&off)).cloned().collect();
        let webhook = |name: &&String| name.ends_with(&format!("/mainstay-{controller}-webhook"));
        assert_eq!(gone.len(), OF_WEBHOOKS.len() + 1);
        assert_eq!(gone.iter().filter(webhook).count(), gone.len(), "{gone:?}");
        let flags = flags(&off, controller);
        assert!(flags.iter().all(|flag| !flag.contains("webhook")), "{flags:?}");
        let deployment = find(&off, "Deployment", &format!("mainstay-{controller}"));
        assert!(!deployment.to_string().contains("9443"), "{deployment}");
    }
}

#[test]
fn a_webhook_is_asked_where_and_as_its_values_say() {
    for (controller, kind) in WEBHOOKS {
        let key = if controller == "accounts" { "accounts" } else { "configRollout" };
        let set = |values: &str| format!("--set={}", values.replace("./", &format!("controllers.{key}.")));
        let words = [
            set("./webhook.port=10250,./webhook.timeoutSeconds=9"),
            set("./hostNetwork=true,./metricsPort=18080,./probesPort=18081"),
            set("networkPolicy.enabled=true,networkPolicy.webhooksFrom[0].ipBlock.cidr=10.0.0.0/8"),
            set("controllers.configRollout.webhook.namespaceSelector.matchLabels.team=blue"),
        ];
        let objects = rendered(&words.each_ref().map(String::as_str));
        let flags = flags(&objects, controller);
        for flag in [
            "--webhook-bind-address=:10250",
            "--metrics-bind-address=:18080",
            "--health-probe-bind-address=:18081",
        ] {
            assert!(flags.iter().any(|it| it == flag), "{flag} is not among {flags:?}");
        }
        let name = format!("mainstay-{controller}");
        let deployment = &find(&objects, "Deployment", &name)["spec"];
        let pod = &deployment["template"];
        let makes_room = json!({"maxUnavailable": 1, "maxSurge": 0});
        assert_eq!(
            deployment["strategy"]["rollingUpdate"], makes_room,
            "two pods of a node have the same ports"
        );
        assert_eq!(pod["spec"]["hostNetwork"], true);
        assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"], "18080");
        let ports = pod["spec"]["containers"][0]["ports"].as_array().expect("it has ports");
        let numbers: Vec<_> = ports.iter().map(|port| port["containerPort"].clone()).collect();
        assert_eq!(numbers, [18080, 18081, 10250]);
        let policy = find(&objects, "NetworkPolicy", &name);
        let from = json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]);
        assert_eq!(
            policy["spec"]["ingress"][1],
            json!({"ports": [{"port": "webhook", "protocol": "TCP"}], "from": from})
        );
        let webhook = &find(&objects, kind, &format!("{name}-webhook"))["webhooks"][0];
        assert_eq!(webhook["timeoutSeconds"], 9);
        let selector = if key == "accounts" { Value::Null } else { json!({"matchLabels": {"team": "blue"}}) };
        assert_eq!(webhook["namespaceSelector"], selector);
    }
}

#[test]
fn a_certificate_that_ends_raises_an_alert_where_there_is_a_webhook() {
    let objects = rendered(&["--set=prometheusRule.enabled=true,prometheusRule.policy=alwaysRender"]);
    for (controller, _) in CONTROLLERS {
        let rule = find(&objects, "PrometheusRule", &format!("mainstay-{controller}")).to_string();
        let has_webhook = WEBHOOKS.iter().any(|(name, _)| *name == controller);
        assert_eq!(rule.contains("MainstayWebhookCertificateEnds"), has_webhook, "{controller}");
    }
}

#[test]
fn a_pool_of_which_nothing_is_expected_raises_no_critical_alert() {
    let objects = rendered(&["--set=prometheusRule.enabled=true,prometheusRule.policy=alwaysRender"]);
    let rule = find(&objects, "PrometheusRule", "mainstay-endpoints");
    let rules = rule["spec"]["groups"][0]["rules"].as_array().expect("it has rules");
    let alert = |name: &str| {
        let alert = rules.iter().find(|rule| rule["alert"] == name).expect("it is there");
        (alert["labels"]["severity"].as_str(), alert["expr"].as_str().expect("it has an expression"))
    };
    let (critical, expression) = alert("MainstayPoolServesNothing");
    assert_eq!(critical, Some("critical"));
    assert!(expression.contains("reason!~\"NoMembers|ServiceTaken\""), "{expression}");
    let (warning, expression) = alert("MainstayPoolUnused");
    assert_eq!(warning, Some("warning"));
    assert!(expression.contains("reason=~\"NoMembers|ServiceTaken\""), "{expression}");
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
        ("image.repository=", "image.repository is not set"),
        ("metrics.scrapeAnotations=false", "'scrapeAnotations'"),
        ("controllers.replication.extraArgs={--log-level=debug}", "--log-level=debug"),
        ("controllers.replication.forbiddenRanges={nodes}", "'forbiddenRanges'"),
        ("controllers.endpoints.extraArgs={--forbidden-ranges=nodes}", "--forbidden-ranges=nodes"),
        ("controllers.endpoints.forbiddenRange={nodes}", "'forbiddenRange'"),
        ("controllers.endpoints.forbiddenRanges={10.0.0.1}", "controllers/endpoints/forbiddenRanges/0"),
        ("controllers.endpoints.maxConcurrentChecks=0", "controllers/endpoints/maxConcurrentChecks"),
        ("controllers.configRollout.maxTargetsRolling=0", "controllers/configRollout/maxTargetsRolling"),
        ("controllers.accounts.grantableClusterRoles=edit", "controllers/accounts/grantableClusterRoles"),
        ("controllers.configRollout.webhook.timeoutSeconds=31", "configRollout/webhook/timeoutSeconds"),
        ("controllers.accounts.webhook.port=0", "controllers/accounts/webhook/port"),
        ("controllers.accounts.webhook.namespaceSelector.matchLabels.a=b", "'namespaceSelector'"),
        ("controllers.configRollout.extraArgs={--webhook-bind-address=:1}", "--webhook-bind-address=:1"),
        ("webhooks.certificates=vault", "webhooks/certificates"),
        ("webhooks.certificates=certManager", "webhooks.certManager.issuerRef.name"),
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
    for (controller, _) in CONTROLLERS {
        for name in [
            format!("ServiceMonitor/mainstay-{controller}"),
            format!("PrometheusRule/mainstay-{controller}"),
            format!("NetworkPolicy/mainstay-{controller}"),
            format!("ConfigMap/mainstay-{controller}-dashboard"),
        ] {
            assert!(names.contains(&name), "no {name} in {names:?}");
        }
    }
}
