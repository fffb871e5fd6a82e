//! Targets that pipelines apply again and again, and those whose pods are held back.

use mainstay_e2e::{
    Component::ConfigRollout, Scenario, config_rollout, deployment, eventually, reader, run, stage,
};
use serde_json::json;

#[tokio::test]
async fn a_target_that_is_applied_again_and_again_keeps_its_revision() {
    let scenario = Scenario::start("pipelines", &[ConfigRollout]).await;
    scenario.mode("one").await;
    scenario.secret("web", &[("token", "first")]).await;
    let namespace = format!("--namespace={}", scenario.namespace);
    let apply = |name: &str, words: &[&str]| {
        let words = [&["apply", "--filename=-", &namespace], words].concat();
        run("kubectl", &words, &deployment(name, reader()).to_string()).succeeded();
    };
    let ways = [("client", &[][..]), ("server", &["--server-side"][..])];
    for (name, words) in ways {
        apply(name, words);
    }
    let draft = config_rollout("web").with("spec.mode", "Admission").with("spec.takeOverFrom", json!([]));
    let draft = draft.with("spec.stages", json!([stage("all", &["client", "server"])]));
    let rollout = scenario.create(&draft).await;
    rollout.completes(1).await;
    for (name, words) in ways {
        let before = scenario.template(name).await;
        (0..4).for_each(|_| apply(name, words));
        assert_eq!(scenario.template(name).await, before, "{name}");
    }
    scenario.mode("two").await;
    rollout.completes(2).await;
    for (name, words) in ways {
        apply(name, words);
        scenario.read_by(name, "two", "first").await;
    }
    rollout.says("Conflict", false, "None").await;
}

#[tokio::test]
async fn a_target_that_is_rolled_back_by_hand_gets_the_next_revision() {
    let scenario = Scenario::start("undone", &[ConfigRollout]).await;
    scenario.mode("one").await;
    scenario.secret("web", &[("token", "first")]).await;
    scenario.apply(&deployment("web", reader()));
    let draft = config_rollout("web").with("spec.mode", "Admission").with("spec.takeOverFrom", json!([]));
    let rollout = scenario.create(&draft).await;
    rollout.completes(1).await;
    scenario.mode("two").await;
    rollout.completes(2).await;
    scenario.kubectl("rollout undo deployment/web").succeeded();
    rollout.says("Ready", false, "TargetHeld").await;
    scenario.read_by("web", "one", "first").await;
    scenario.mode("three").await;
    rollout.completes(3).await;
    scenario.read_by("web", "three", "first").await;
    rollout.says("Conflict", false, "None").await;
}

#[tokio::test]
async fn a_rollout_waits_for_a_target_that_is_paused() {
    let scenario = Scenario::start("heldback", &[ConfigRollout]).await;
    scenario.mode("one").await;
    scenario.secret("web", &[("token", "first")]).await;
    scenario.apply(&deployment("web", reader()));
    let mut all = stage("all", &["web"]);
    all["gate"] = json!({"deadlineSeconds": 2});
    let rollout = scenario.create(&config_rollout("web")).await;
    rollout.completes(1).await;
    rollout.patch(json!({"spec": {"stages": [all]}})).await;
    scenario.kubectl("rollout pause deployment/web").succeeded();
    scenario.mode("two").await;
    let said = rollout.says("Ready", false, "TargetPaused").await;
    assert!(said.contains("Deployment/web") && said.contains("spec.paused"), "{said}");
    rollout.patch(json!({"spec": {"stages": [stage("all", &["web"])]}})).await;
    scenario.kubectl("rollout resume deployment/web").succeeded();
    let status = rollout.completes(2).await;
    assert_eq!(status.failed_revision, None);
    scenario.read_by("web", "two", "first").await;
}

#[tokio::test]
async fn a_rollout_that_is_recreated_uses_no_name_twice_and_takes_over_from_the_one_before() {
    let scenario = Scenario::start("recreated", &[ConfigRollout]).await;
    scenario.mode("one").await;
    scenario.secret("web", &[("token", "first")]).await;
    scenario.apply(&deployment("web", reader()));
    scenario.create(&config_rollout("web")).await.completes(1).await;
    scenario.kubectl("delete configrollout web").succeeded();
    scenario.kubectl("delete configmaps,secrets --selector=mainstay.dev/config-rollout=web").succeeded();
    scenario.mode("two").await;
    let rollout = scenario.create(&config_rollout("other")).await;
    rollout.until("has a revision of another number", |status| status.current_revision == Some(2)).await;
    eventually("the template names the new objects", async || {
        let template = scenario.template("web").await.to_string();
        template.contains("\"web-2\"").then_some(()).ok_or(template)
    })
    .await;
    scenario.read_by("web", "two", "first").await;
}
