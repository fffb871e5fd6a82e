//! Mode `Admission`: templates keep their references, and pods get those of a revision.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use mainstay_e2e::{
    Away, Component::ConfigRollout, Config, NAMESPACE, Scenario, config_rollout, deployment, eventually,
    kubectl, reader, rolled_out, stage, within,
};
use serde_json::{Value, json};

/// The webhook's Service, Secret and configuration.
const WEBHOOK: &str = "mainstay-config-rollout-webhook";
const MINUTE: Duration = Duration::from_secs(60);

/// Deployments as a tool keeps them that knows only what is in Git, and a rollout of two stages.
async fn kept_in_git(scenario: &Scenario) -> Config {
    scenario.mode("one").await;
    scenario.secret("web", &[("token", "first")]).await;
    for name in ["canary", "web"] {
        git(scenario, name).await;
    }
    let mut stages = json!([stage("canary", &["canary"]), stage("rest", &["web"])]);
    stages[0]["pause"] = json!({});
    let draft = config_rollout("web").with("spec.mode", "Admission").with("spec.stages", stages);
    let rollout = scenario.create(&draft).await;
    rollout.says("Ready", false, "StagePaused").await;
    go_on(scenario, 1);
    rollout.completes(1).await;
    rollout
}

/// What the tool does every few minutes.
async fn git(scenario: &Scenario, name: &str) {
    let params = PatchParams::apply("git-tool").force();
    let deployments = scenario.api::<k8s_openapi::api::apps::v1::Deployment>();
    let applied = deployments.patch(name, &params, &Patch::Apply(deployment(name, reader()))).await;
    applied.expect("the Deployment is applied");
}

fn go_on(scenario: &Scenario, revision: i64) {
    scenario
        .kubectl(&format!("annotate configrollout web --overwrite mainstay.dev/continue={revision}/canary"))
        .succeeded();
}

fn revision(template: &Value) -> &Value {
    &template["metadata"]["annotations"]["revision.mainstay.dev/web"]
}

#[tokio::test]
async fn pods_read_the_revision_of_their_stage_and_templates_stay_as_they_are() {
    let scenario = Scenario::start("admit", &[ConfigRollout]).await;
    let rollout = kept_in_git(&scenario).await;
    scenario.read_by("web", "one", "first").await;
    scenario.mode("two").await;
    rollout.says("Ready", false, "StagePaused").await;
    scenario.read_by("canary", "two", "first").await;
    // Pods that are made meanwhile do not read the source, which says something else by now.
    scenario.kubectl("delete pods --selector=app=web --wait=true").succeeded();
    scenario.read_by("web", "one", "first").await;
    let template = scenario.template("web").await;
    assert_eq!(template["spec"]["volumes"][0]["configMap"]["name"], "web");
    assert_eq!(revision(&template), "1");
    go_on(&scenario, 2);
    rollout.completes(2).await;
    scenario.read_by("web", "two", "first").await;

    // A tool that applies what it has in Git again changes nothing.
    let before = scenario.template("web").await;
    git(&scenario, "web").await;
    assert_eq!(scenario.template("web").await, before);
    rollout.says("Conflict", false, "None").await;
}

#[tokio::test]
async fn a_bad_value_is_taken_back_in_the_annotation() {
    let scenario = Scenario::start("admitbad", &[ConfigRollout]).await;
    let rollout = kept_in_git(&scenario).await;
    let mut canary = stage("canary", &["canary"]);
    canary["gate"] = json!({"deadlineSeconds": 3});
    rollout.patch(json!({"spec": {"stages": [canary, stage("rest", &["web"])]}})).await;
    scenario.mode("bad").await;
    rollout.says("RolledBack", true, "DeadlineExceeded").await;
    scenario.read_by("canary", "one", "first").await;
    assert_eq!(revision(&scenario.template("canary").await), "1");
}

fn pod(annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "by-hand-", "annotations": annotations},
        "spec": mainstay_e2e::pods::gated(),
    })
}

#[tokio::test]
async fn a_pod_of_a_revision_that_is_not_there_is_refused_with_a_sentence() {
    let scenario = Scenario::start("refused", &[ConfigRollout]).await;
    for (value, words) in
        [("7", "revision 7 of ConfigRollout"), ("latest", "must be the number of a revision")]
    {
        let refused = scenario.kubectl_create(&pod(&json!({"revision.mainstay.dev/web": value})), &[]);
        assert!(!refused.ok && refused.stderr.contains(words), "{}", refused.stderr);
    }
    scenario.kubectl_create(&pod(&json!({"another.example.com/web": "7"})), &[]).succeeded();
}

#[tokio::test]
async fn while_nobody_answers_pods_that_name_a_revision_are_refused_and_no_others() {
    let scenario = Scenario::alone("closed", &[ConfigRollout]).await;
    let rollout = kept_in_git(&scenario).await;
    let deployment = format!("deployment/{}", scenario.config_controller().name());
    kubectl(&format!("scale {deployment} --namespace={NAMESPACE} --replicas=0")).succeeded();
    eventually("no replica is left", async || {
        let pods = scenario.config_controller().all_pods().await;
        pods.is_empty().then_some(()).ok_or_else(|| format!("{} pods", pods.len()))
    })
    .await;
    let named = scenario.kubectl_create(&pod(&json!({"revision.mainstay.dev/web": "1"})), &[]);
    let other = scenario.kubectl_create(&pod(&json!({})), &[]);
    kubectl(&format!("scale {deployment} --namespace={NAMESPACE} --replicas=2")).succeeded();
    rolled_out(&scenario.config_controller().name()).succeeded();
    assert!(!named.ok && named.stderr.contains("webhook"), "{}", named.stderr);
    other.succeeded();
    scenario.kubectl("delete pods --selector=app=web --wait=true").succeeded();
    scenario.read_by("web", "one", "first").await;
    rollout.completes(1).await;
}

/// A part of the Secret with the certificate.
fn part(key: &str) -> String {
    let path = format!("--output=jsonpath={{.data.{}}}", key.replace('.', "\\."));
    kubectl(&format!("get secret {WEBHOOK} --namespace={NAMESPACE} {path}")).succeeded()
}

/// Whom the API server trusts.
fn trusted() -> String {
    let path = "--output=jsonpath={.webhooks[0].clientConfig.caBundle}";
    kubectl(&format!("get mutatingwebhookconfiguration {WEBHOOK} {path}")).succeeded()
}

/// Whether the webhook is asked and answers, which it does with a sentence about a revision that is not there.
fn answers(scenario: &Scenario) -> Result<(), String> {
    let refused = scenario.kubectl_create(&pod(&json!({"revision.mainstay.dev/web": "7"})), &[]);
    refused.stderr.contains("revision 7 of ConfigRollout").then_some(()).ok_or(refused.stderr)
}

#[tokio::test]
async fn the_certificate_is_made_anew_when_it_is_due_and_the_webhook_answers_throughout() {
    let scenario = Scenario::alone("renewed", &[ConfigRollout]).await;
    let before = part("tls.crt");
    kubectl(&format!(
        "annotate secret {WEBHOOK} --namespace={NAMESPACE} --overwrite mainstay.dev/renew-at=2000-01-01T00:00:00Z"
    ))
    .succeeded();
    eventually("there is another certificate, and its authority is trusted", async || {
        answers(&scenario).unwrap();
        let is_new = part("tls.crt") != before && part("ca.crt") == trusted();
        is_new.then_some(()).ok_or_else(|| "it is as before".to_owned())
    })
    .await;
    answers(&scenario).unwrap();
}

#[tokio::test]
async fn an_authority_that_somebody_has_taken_out_is_trusted_again_within_a_minute() {
    let scenario = Scenario::alone("untrusted", &[ConfigRollout]).await;
    let patch = r#"[{"op":"remove","path":"/webhooks/0/clientConfig/caBundle"}]"#;
    kubectl(&format!("patch mutatingwebhookconfiguration {WEBHOOK} --type=json --patch={patch}")).succeeded();
    within(MINUTE, "the webhook is trusted and answers", async || {
        (trusted() == part("ca.crt")).then_some(()).ok_or_else(|| "the authority is not there".to_owned())?;
        answers(&scenario)
    })
    .await;
}

#[tokio::test]
async fn without_its_configuration_the_controller_leads_and_when_it_is_back_it_is_published() {
    let scenario = Scenario::alone("away", &[ConfigRollout]).await;
    scenario.mode("one").await;
    scenario.secret("web", &[("token", "first")]).await;
    scenario.apply(&deployment("web", reader()));
    let rollout = scenario.create(&config_rollout("web")).await;
    rollout.completes(1).await;

    let away = Away::take(&format!("mutatingwebhookconfiguration {WEBHOOK}"));
    let controller = scenario.config_controller();
    let all = "--selector=app.kubernetes.io/component=config-rollout --wait=true";
    kubectl(&format!("delete pods --namespace={NAMESPACE} {all}")).succeeded();
    rolled_out(&controller.name()).succeeded();
    scenario.mode("two").await;
    rollout.completes(2).await;

    drop(away);
    within(MINUTE, "the webhook is trusted and answers", async || answers(&scenario)).await;
}
