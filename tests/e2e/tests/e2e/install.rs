//! The controllers as Helm installs, upgrades and removes them.

use std::{collections::BTreeSet, panic, thread};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use mainstay_crds::ReplicaGroup;
use mainstay_e2e::{
    Component::{ConfigRollout, Replication},
    NAMESPACE, Scenario, eventually, group, helm, is_local, kinds_release, kubectl, pods, release, run,
    values,
};
use serde_json::{Value, json};

/// Where Prometheus answers on the local cluster.
const PROMETHEUS: &str = "http://10.88.0.1:9090/api/v1/query";

/// The value of an instant query, summed over its series.
fn query(expression: &str) -> Result<f64, String> {
    let query = format!("query={expression}");
    let words =
        ["--silent", "--show-error", "--max-time", "5", "--get", "--data-urlencode", &query, PROMETHEUS];
    let answer = run("curl", &words, "");
    let json: Value = serde_json::from_str(&answer.stdout).map_err(|_| answer.stderr)?;
    let series = json["data"]["result"].as_array().ok_or(json.to_string())?;
    let values: Option<Vec<f64>> =
        series.iter().map(|series| series["value"][1].as_str()?.parse().ok()).collect();
    values.filter(|values| !values.is_empty()).map(|values| values.iter().sum()).ok_or("no series".into())
}

#[tokio::test]
async fn the_controllers_run_under_restricted_pod_security() {
    let scenario = Scenario::start("restricted", &[Replication]).await;
    let label = "{.metadata.labels.pod-security\\.kubernetes\\.io/enforce}";
    let level = kubectl(&format!("get namespace {NAMESPACE} --output=jsonpath={label}")).succeeded();
    assert_eq!(level, "restricted");
    let controller = scenario.controller();
    let pods = controller.pod_names().await;
    assert_eq!(pods.len(), 2);
    for name in pods {
        let pod = controller.pods().get(&name).await.unwrap();
        let spec = pod.spec.unwrap();
        let context = spec.containers[0].security_context.as_ref().unwrap();
        assert_eq!(
            (context.read_only_root_filesystem, context.allow_privilege_escalation),
            (Some(true), Some(false))
        );
        assert_eq!(spec.security_context.unwrap().run_as_non_root, Some(true));
        for probe in ["healthz", "readyz"] {
            controller
                .get(&name, 8081, probe)
                .await
                .unwrap_or_else(|error| panic!("{name} /{probe}: {error}"));
        }
    }
}

#[tokio::test]
async fn prometheus_scrapes_the_controllers_and_sees_the_series_move() {
    let scenario = Scenario::start("prometheus", &[Replication]).await;
    if !is_local() || query("vector(1)").is_err() {
        eprintln!("skipped: no Prometheus answers at {PROMETHEUS} (mainstay-cluster up --prometheus)");
        return;
    }
    for pod in scenario.controller().pod_names().await {
        eventually(&format!("the target {pod} is up"), async || {
            match query(&format!("up{{pod=\"{pod}\"}}")) {
                Ok(1.0) => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        })
        .await;
    }
    let series = ["controller_runtime_reconcile_total", "mainstay_replication_pods_created_total"];
    let mut before = Vec::new();
    for series in series {
        let sum = format!("sum({series}{{namespace=\"{NAMESPACE}\"}})");
        before.push((eventually(&sum, async || query(&sum)).await, sum));
    }
    scenario.create(&group("scraped", pods::gated()).replicas(2)).await.has(2).await;
    for (before, sum) in before {
        eventually(&format!("{sum} has moved"), async || {
            let now = query(&sum)?;
            (now > before).then_some(()).ok_or(format!("{now}, before {before}"))
        })
        .await;
    }
}

/// The names of series that a text speaks of, of the replication controller and of webhooks. Those of the process are the
/// same everywhere.
fn series(text: &str) -> BTreeSet<&str> {
    let prefixes = [
        "mainstay_replication_",
        "controller_runtime_",
        "workqueue_",
        "rest_client_",
        "leader_election_",
        "stale_sync_",
        "mainstay_webhook_",
    ];
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).collect()
}

#[tokio::test]
async fn every_series_of_the_dashboard_the_alerts_and_the_manual_exists() {
    let scenario = Scenario::start("series", &[Replication, ConfigRollout]).await;
    // Series whose labels are not known beforehand exist from the first event of their kind on.
    let used = scenario.create(&group("used", pods::gated()).replicas(2)).await;
    used.has(2).await;
    used.scale(1).await;
    used.has(1).await;
    scenario.drive(&used, "").await;
    used.change("2").await;
    used.settles_at(&[("", 1), ("2", 1)]).await;
    used.annotate("mainstay.dev/abort", &used.revision("2").await).await;
    used.rolls_back("", "Aborted").await;
    scenario
        .create(&group("broken", json!({"containers": [{"name": "a"}]})))
        .await
        .reason("InvalidTemplate")
        .await;

    let words = [
        "template",
        "mainstay",
        "charts/mainstay",
        "--kube-version=1.36.0",
        "--set=image.repository=localhost/mainstay",
        "--set=dashboards.enabled=true",
        "--set=prometheusRule.enabled=true,prometheusRule.policy=alwaysRender",
    ];
    let chart = helm(&words, "").succeeded();
    let manual = std::fs::read_to_string(mainstay_e2e::root().join("docs/operations.md")).unwrap();
    let names: BTreeSet<_> = series(&chart).into_iter().chain(series(&manual)).collect();
    assert!(names.len() > 15, "the texts speak of few series: {names:?}");
    let mut served = Vec::new();
    for controller in [scenario.controller(), scenario.config_controller()] {
        served.push(controller.metrics(&controller.leader().await).await);
    }
    let has = |name: &str| served.iter().any(|metrics| metrics.has(name));
    let missing: Vec<_> = names.iter().filter(|name| !has(name) && !has(&format!("{name}_bucket"))).collect();
    assert!(missing.is_empty(), "not on /metrics: {missing:?}");
}

/// Installs again what a failed test has left uninstalled, for the sake of the others.
struct PutBack;

impl Drop for PutBack {
    fn drop(&mut self) {
        if thread::panicking() {
            // The test has failed already: a second failure would end the whole run.
            let _ = panic::catch_unwind(|| {
                kinds_release();
                release(&values());
            });
        }
    }
}

#[tokio::test]
async fn an_upgrade_and_an_uninstall_leave_pods_and_groups_alone() {
    let scenario = Scenario::alone_in_the_cluster("reinstall").await;
    let _put_back = PutBack;
    let kept = scenario.create(&group("kept", pods::pause()).replicas(2)).await;
    kept.ready().await;
    let before = kept.pod_uids().await;

    let mut louder = values();
    louder["controllers"]["replication"]["logLevel"] = "info,mainstay_replication=debug".into();
    release(&louder);
    scenario.controller().leader().await;
    kept.patch(json!({"spec": {"paused": true}})).await;
    kept.ready().await;
    assert_eq!(kept.pod_uids().await, before, "the upgrade restarted pods");
    let restarts = |pod: &Pod| {
        pod.status
            .iter()
            .flat_map(|status| status.container_statuses.iter().flatten())
            .map(|c| c.restart_count)
            .sum::<i32>()
    };
    assert_eq!(kept.pods().await.iter().map(restarts).sum::<i32>(), 0);

    helm(&["uninstall", "mainstay", &format!("--namespace={NAMESPACE}"), "--wait"], "").succeeded();
    helm(&["uninstall", "mainstay-crds"], "").succeeded();
    kubectl("get crd replicagroups.mainstay.dev endpointpools.mainstay.dev endpointgrants.mainstay.dev")
        .succeeded();
    for role in ["mainstay-replication", "mainstay-endpoints", "mainstay-admin"] {
        assert!(
            !kubectl(&format!("get clusterrole {role}")).ok,
            "the uninstallation left ClusterRole {role}"
        );
    }
    let groups: Api<ReplicaGroup> = Api::namespaced(scenario.client.clone(), &scenario.namespace);
    assert_eq!(groups.list(&Default::default()).await.unwrap().items.len(), 1);
    assert_eq!(kept.pod_uids().await, before, "the uninstallation touched pods");

    let victim = kept.pods().await.remove(0).name_any();
    scenario.kubectl(&format!("delete pod {victim}")).succeeded();
    assert_eq!(kept.pods().await.len(), 1, "somebody else replaces pods");
    kinds_release();
    release(&values());
    eventually("the new installation goes on where the old one stopped", async || {
        let pods = kept.pod_uids().await;
        (pods.len() == 2 && pods.intersection(&before).count() == 1).then_some(()).ok_or(format!("{pods:?}"))
    })
    .await;
    kept.ready().await;
}
