//! No value of a Secret is anywhere but in Secrets.

use std::fmt::Write;

use k8s_openapi::ByteString;
use mainstay_e2e::{
    COMPONENTS, Controller, NAMESPACE, Scenario, config_rollout, deployment, kubectl, reader, stage,
};
use serde_json::json;
use sha2::{Digest, Sha256, Sha512};

/// Values that are found wherever they are.
const PLANTED: [&str; 3] = ["planted-first-8f3a1c", "planted-second-77b0de", "planted-third-c41e90"];

/// Each value as it could be written down: as it is, in base64, and as the hashes that others use, in hex and base64.
fn forms(value: &str) -> Vec<String> {
    let base64 = |bytes: &[u8]| json!(ByteString(bytes.to_vec())).as_str().unwrap_or_default().to_owned();
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    let mut forms = vec![value.to_owned(), base64(value.as_bytes())];
    for hash in [Sha256::digest(value).to_vec(), Sha512::digest(value).to_vec()] {
        // What is shortened begins alike.
        forms.push(hex(&hash[..8]));
        forms.push(base64(&hash)[..12].to_owned());
    }
    forms
}

#[tokio::test]
async fn no_value_or_hash_of_one_is_in_a_status_event_log_metric_or_annotation() {
    let scenario = Scenario::start("leak").await;
    scenario.mode("one").await;
    scenario.secret("web", &[("token", PLANTED[0])]).await;
    for name in ["canary", "web"] {
        scenario.apply(&deployment(name, reader()));
    }
    let mut stages = json!([stage("canary", &["canary"]), stage("rest", &["web"])]);
    let rollout = scenario.create_rollout(&config_rollout("web").with("spec.stages", stages.clone())).await;
    rollout.completes(1).await;
    // A change, one that fails, a key that is missing, and a source that is gone.
    scenario.secret("web", &[("token", PLANTED[1])]).await;
    rollout.completes(2).await;
    stages[0]["gate"] = json!({"deadlineSeconds": 5});
    rollout.patch(json!({"spec": {"stages": stages}})).await;
    scenario.mode("bad").await;
    scenario.secret("web", &[("token", PLANTED[2])]).await;
    rollout
        .until("has gone back", |status| status.failed_revision.is_some() && status.rollout.is_none())
        .await;
    scenario.secret("web", &[("another", PLANTED[2])]).await;
    rollout.says("SourcesReady", false, "KeyMissing").await;
    scenario.kubectl("delete secret web").succeeded();
    rollout.says("SourcesReady", false, "SourceMissing").await;

    let mut seen = String::new();
    let kinds = "configrollouts,configmaps,deployments,replicasets,pods,events,events.events.k8s.io,controllerrevisions";
    seen += &scenario.kubectl(&format!("get {kinds} --output=yaml --show-managed-fields")).succeeded();
    seen += &scenario.kubectl("get secrets --output=jsonpath={.items[*].metadata}").succeeded();
    for component in COMPONENTS {
        let controller = Controller::new(scenario.client.clone(), component);
        for pod in controller.pod_names().await {
            seen += &kubectl(&format!("logs {pod} --namespace={NAMESPACE}")).succeeded();
            seen += &controller.get(&pod, 8080, "metrics").await.expect("/metrics answers");
        }
    }
    assert!(
        seen.contains("SourceMissing") && seen.contains("mainstay_config_rollout"),
        "nothing was looked at"
    );
    for value in PLANTED {
        for form in forms(value) {
            let place = seen.find(&form).map(|at| &seen[at.saturating_sub(200)..(at + 100).min(seen.len())]);
            assert_eq!(place, None, "{form} of {value}");
        }
    }
}
