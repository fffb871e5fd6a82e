//! Whatever users write: it is refused with a sentence that names the field, or is carried out or reported on the object,
//! and no other object waits for it.
//!
//! From one good object of each kind others are made that differ in one field, at the bounds of its schema and beyond. The
//! API server is asked about all of them. Those that it admits are written for real, one after the other, and taken back:
//! each is answered within a deadline, and then all is as it was before. A good object is changed all the while, and is
//! answered, too. In the end no process has restarted, and none has panicked.
//!
//! By default that is a part of the changes, another one each time; `MAINSTAY_E2E_ALL=1` makes all of them.

mod asked;
mod played;
mod subject;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::PostParams;
use mainstay_e2e::{
    Component, FakeNodes, Scenario, account_policy, config_rollout, deployment, group, pods, policy, pool,
};
use serde_json::json;

use self::{
    asked::{Asked, ask},
    played::play,
    subject::Subject,
};

/// Asks about all changes, writes those that are admitted, and looks at the processes at the end.
async fn survives(scenario: &Scenario, component: Component, subject: &Subject) {
    let mainstay = subject::Processes::of(scenario, component).await;
    let Asked { admitted, faults } = ask(subject).await;
    let more = play(subject, admitted).await;
    let faults: Vec<_> = faults.into_iter().chain(more).collect();
    mainstay.have_survived().await;
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Holds the number of pods of a group that wants very many.
async fn limit_pods(scenario: &Scenario) {
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "12"}}});
    let quota: ResourceQuota = serde_json::from_value(quota).expect("a quota");
    scenario.api::<ResourceQuota>().create(&PostParams::default(), &quota).await.expect("it is created");
}

#[tokio::test]
async fn no_replica_group_stops_another() {
    let scenario = Scenario::start("badgroup", &[Component::Replication]).await;
    limit_pods(&scenario).await;
    let draft =
        group("base", pods::pause()).replicas(1).with("spec.template.spec.terminationGracePeriodSeconds", 0);
    let canary = draft
        .clone()
        .steps(&[(20, Some(json!({"seconds": 1}))), (50, None)])
        .with("spec.lifecycle.preDelete", json!({"finalizer": "example.com/drain", "timeoutSeconds": 1}));
    let subject = Subject::new(&scenario, draft.object())
        .or_from(canary.object())
        .changed_by("revisionHistoryLimit", [json!(10), json!(11)])
        .named_in(&["/spec/selector/matchLabels/app", "/spec/template/metadata/labels/app"]);
    survives(&scenario, Component::Replication, &subject).await;
}

#[tokio::test]
async fn no_endpoint_pool_stops_another() {
    let scenario = Scenario::start("badpool", &[Component::Endpoints]).await;
    let addresses = ["192.0.2.1".to_owned(), "192.0.2.2".to_owned()];
    let draft = pool("base").addresses("outside", &addresses);
    let (grpc, http) = (json!({"type": "GRPC", "grpc": {}}), json!({"type": "HTTP", "http": {}, "tls": {}}));
    let checked = pool("base").pods("web", 1).with("spec.check", grpc);
    let names =
        pool("base").set(json!({"name": "names", "dnsNames": ["a.example."]})).with("spec.check", http);
    let subject = Subject::new(&scenario, draft.object())
        .or_from(checked.object())
        .or_from(names.object())
        .changed_by("drainSeconds", [json!(0), json!(1)])
        .named_in(&["/spec/serviceRef/name"]);
    survives(&scenario, Component::Endpoints, &subject).await;
}

#[tokio::test]
async fn no_endpoint_grant_stops_a_pool() {
    let scenario = Scenario::start("badgrant", &[Component::Endpoints]).await;
    let grant = json!({
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "EndpointGrant",
        "metadata": {"name": "base"},
        "spec": {"from": [{"namespace": "elsewhere"}]},
    });
    // It has no status: that the API server names the field is all that it says.
    let Asked { faults, .. } = ask(&Subject::new(&scenario, &grant)).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn no_config_rollout_stops_another() {
    let scenario = Scenario::start("badconfig", &[Component::ConfigRollout]).await;
    scenario.config_map("web", &[("mode", "one")]).await;
    scenario.secret("web", &[("token", "first")]).await;
    for number in 0..=subject::WORKERS {
        let mut pod = pods::pause();
        pod["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "web"}}]);
        scenario.apply(&deployment(&format!("base-{number}"), pod));
    }
    let draft = config_rollout("base").with("spec.stages.0.targets.0.name", "base");
    let selected = json!({"matchLabels": {"app": "none"}});
    let by_label = draft
        .clone()
        .with("spec.sources.0", json!({"kind": "ConfigMap", "selector": selected}))
        .with("spec.stages.0.targets.0", json!({"kind": "Deployment", "selector": selected}));
    let subject = Subject::new(&scenario, draft.object())
        .or_from(by_label.object())
        .changed_by("historyLimit", [json!(5), json!(6)])
        .named_in(&["/spec/stages/0/targets/0/name"]);
    survives(&scenario, Component::ConfigRollout, &subject).await;
}

#[tokio::test]
async fn no_account_policy_stops_another() {
    let scenario = Scenario::start("badaccounts", &[Component::Accounts]).await;
    scenario.pick(&scenario, true);
    let draft = account_policy(&scenario);
    let subject = Subject::new(&scenario, draft.object())
        .changed_by("gracePeriod", [json!("1s"), json!("2s")])
        // Another selector would pick the namespaces of other tests.
        .only_asked(&["/spec/namespaceSelector"])
        .named_in(&[
            "/metadata/name",
            "/spec/serviceAccounts/0/name",
            "/spec/roleBindings/0/name",
            "/spec/roleBindings/0/serviceAccounts/0",
            "/spec/tokens/0/name",
            "/spec/tokens/0/serviceAccount",
        ]);
    survives(&scenario, Component::Accounts, &subject).await;
}

#[tokio::test]
async fn no_node_health_policy_stops_another() {
    let scenario = Scenario::start("badnodes", &[Component::NodeHealth]).await;
    let zones = ["zone-a", "zone-b", "zone-c", "zone-a"];
    let Some(nodes) = FakeNodes::make(&scenario, &zones).await else { return };
    for number in 0..=subject::WORKERS {
        let mark = format!("{}-{number}", scenario.namespace);
        nodes.patch(number, json!({"metadata": {"labels": {"e2e-worker": mark}}})).await;
    }
    let draft = policy(&scenario, &nodes)
        .with("spec.nodeSelector", json!({"matchLabels": {"e2e-worker": scenario.namespace}}));
    let subject = Subject::new(&scenario, draft.object())
        .changed_by("healthyFor", [json!("2s"), json!("3s")])
        // Another selector would pick the nodes of other tests, and a remediation would need a CRD.
        .only_asked(&["/spec/nodeSelector", "/spec/remediation"])
        .named_in(&["/metadata/name", "/spec/nodeSelector/matchLabels/e2e-worker"]);
    survives(&scenario, Component::NodeHealth, &subject).await;
}
