//! Stages and gates: what a revision must show before it goes on, and how it goes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::api::ListParams;
use mainstay_e2e::{
    Component::ConfigRollout, Config, Scenario, config_rollout, deployment, eventually, reader, rolled_out,
    stage,
};
use serde_json::json;
use tokio::time::sleep;

/// Deployments of these names that read the sources, and a rollout in two stages: the first of them, then the others.
async fn staged(scenario: &Scenario, change: impl FnOnce(&mut serde_json::Value)) -> Config {
    scenario.mode("one").await;
    scenario.secret("web", &[("token", "first")]).await;
    for name in ["canary", "web"] {
        scenario.apply(&deployment(name, reader()));
    }
    let mut stages = json!([stage("canary", &["canary"]), stage("rest", &["web"])]);
    let rollout = scenario.create(&config_rollout("web").with("spec.stages", stages.clone())).await;
    rollout.completes(1).await;
    change(&mut stages);
    rollout.patch(json!({"spec": {"stages": stages}})).await;
    rollout.completes(1).await;
    rollout
}

#[tokio::test]
async fn a_bad_value_is_taken_back_and_the_old_one_is_served_throughout() {
    let scenario = Scenario::start("bad", &[ConfigRollout]).await;
    let rollout = staged(&scenario, |stages| stages[0]["gate"] = json!({"deadlineSeconds": 5})).await;
    scenario.kubectl("expose deployment canary --port=80 --target-port=8082").succeeded();
    // The pod before may still be among the endpoints when its server has ended.
    let ours = ListParams::default().labels("app=canary");
    eventually("one pod is left, and the Service answers", async || {
        let pods = scenario.pods().list(&ours).await.map_err(|error| error.to_string())?.items.len();
        let said = scenario.served("services/canary:80").await?;
        (pods == 1).then_some(()).ok_or_else(|| format!("{pods} pods; {said}"))
    })
    .await;
    let done = Arc::new(AtomicBool::new(false));
    let (asked, answers) = (Arc::clone(&done), async {
        let mut said = Vec::new();
        // On a busy machine it takes longer than the change to ask so often.
        while !done.load(Ordering::Relaxed) || said.len() <= 50 {
            said.push(scenario.served("services/canary:80").await);
            sleep(Duration::from_millis(50)).await;
        }
        said
    });
    let change = async {
        scenario.mode("bad").await;
        let said = rollout.says("RolledBack", true, "DeadlineExceeded").await;
        assert!(said.contains("revision 2") && said.contains("Deployment/canary"), "{said}");
        rollout
            .until("is back", |status| status.rollout.is_none() && status.failed_revision == Some(2))
            .await;
        asked.store(true, Ordering::Relaxed);
    };
    let (said, ()) = tokio::join!(answers, change);
    let wrong: Vec<_> = said.iter().filter(|said| said.as_deref() != Ok("one")).collect();
    assert!(said.len() > 50 && wrong.is_empty(), "{} answers, of which wrong: {wrong:?}", said.len());
    for name in ["canary", "web"] {
        scenario.read_by(name, "one", "first").await;
    }
    let said = rollout.says("Stalled", true, "DeadlineExceeded").await;
    assert!(said.contains("mainstay.dev/retry=2"), "{said}");
    assert!(rollout.event("RolledBack").await.contains("revision 1"));

    // A good value may take its pod's time to start.
    rollout.patch(json!({"spec": {"stages": [stage("canary", &["canary"]), stage("rest", &["web"])]}})).await;
    scenario.mode("three").await;
    let status = rollout.completes(3).await;
    assert_eq!(status.failed_revision, None);
    scenario.read_by("web", "three", "first").await;
}

#[tokio::test]
async fn without_a_way_back_what_has_failed_stays_and_goes_no_further() {
    let scenario = Scenario::start("never", &[ConfigRollout]).await;
    let rollout = staged(&scenario, |stages| stages[0]["gate"] = json!({"deadlineSeconds": 2})).await;
    rollout.patch(json!({"spec": {"rollbackPolicy": "Never"}})).await;
    scenario.mode("bad").await;
    rollout.says("Stalled", true, "DeadlineExceeded").await;
    let named = |template: &serde_json::Value| template["spec"]["volumes"][0]["configMap"]["name"].clone();
    assert_eq!(named(&scenario.template("canary").await), "web-2");
    assert_eq!(named(&scenario.template("web").await), "web-1");
}

#[tokio::test]
async fn a_stage_waits_for_its_pause_and_goes_on_when_somebody_says_so() {
    let scenario = Scenario::start("pause", &[ConfigRollout]).await;
    let rollout = staged(&scenario, |stages| stages[0]["pause"] = json!({})).await;
    scenario.mode("two").await;
    let said = rollout.says("Ready", false, "StagePaused").await;
    assert!(said.contains("mainstay.dev/continue=2/canary"), "{said}");
    scenario.read_by("canary", "two", "first").await;
    scenario.read_by("web", "one", "first").await;

    // A pod that is made anew meanwhile has what its stage has.
    for name in ["canary", "web"] {
        scenario.kubectl(&format!("delete pods --selector=app={name} --wait=true")).succeeded();
    }
    scenario.read_by("canary", "two", "first").await;
    scenario.read_by("web", "one", "first").await;

    scenario.kubectl("annotate configrollout web mainstay.dev/continue=2/canary").succeeded();
    rollout.completes(2).await;
    scenario.read_by("web", "two", "first").await;
}

#[tokio::test]
async fn without_its_canary_a_change_goes_no_further_and_a_workload_that_is_applied_again_reads_what_is_proven()
 {
    let scenario = Scenario::start("nocanary", &[ConfigRollout]).await;
    let rollout = staged(&scenario, |_| ()).await;
    scenario.kubectl("delete deployment canary --wait=true").succeeded();
    scenario.mode("two").await;
    // That it is missing is said before the change as well, in other words.
    eventually("the stage says which target it waits for", async || {
        let said = rollout.says("Ready", false, "TargetMissing").await;
        said.contains("Deployment/canary of stage canary").then_some(()).ok_or(said)
    })
    .await;
    // As `helm upgrade` does: the template names the source again, which says `two`.
    scenario.apply(&deployment("web", reader()));
    rollout.event("TargetReverted").await;
    scenario.read_by("web", "one", "first").await;
    rollout.says("Ready", false, "TargetMissing").await;

    scenario.apply(&deployment("canary", reader()));
    rollout.completes(2).await;
    scenario.read_by("web", "two", "first").await;
}

#[tokio::test]
async fn a_change_that_is_taken_back_under_way_goes_back_without_a_new_revision() {
    let scenario = Scenario::start("back", &[ConfigRollout]).await;
    let rollout = staged(&scenario, |stages| stages[0]["pause"] = json!({})).await;
    scenario.mode("two").await;
    rollout.says("Ready", false, "StagePaused").await;
    scenario.mode("one").await;
    let status = rollout.completes(1).await;
    assert_eq!((status.revision, status.failed_revision), (2, None));
    scenario.read_by("canary", "one", "first").await;
    // And a third value in the middle of the second.
    scenario.mode("two").await;
    rollout.says("Ready", false, "StagePaused").await;
    scenario.mode("three").await;
    rollout
        .until("waits after the canary with revision 3", |status| {
            status.rollout.as_ref().is_some_and(|it| it.revision == 3 && it.passed_at.is_some())
        })
        .await;
    scenario.read_by("canary", "three", "first").await;
    scenario.read_by("web", "one", "first").await;
}

#[tokio::test]
async fn a_probe_that_does_not_succeed_takes_the_revision_back() {
    let scenario = Scenario::start("probe", &[ConfigRollout]).await;
    scenario.kubectl("create service clusterip canary --tcp=80:8080").succeeded();
    let probe = json!({"service": "canary", "path": "/hostname"});
    let rollout = staged(&scenario, |stages| stages[0]["gate"] = json!({"probe": probe})).await;
    scenario.mode("two").await;
    rollout.completes(2).await;

    // Nobody is behind this one. The deadline leaves a busy machine the time to run the new pod: the probe alone fails.
    scenario.kubectl("create service clusterip nobody --tcp=80:8080").succeeded();
    let mut canary = stage("canary", &["canary"]);
    canary["gate"] = json!({"deadlineSeconds": 60, "probe": {"service": "nobody"}});
    rollout.patch(json!({"spec": {"stages": [canary, stage("rest", &["web"])]}})).await;
    scenario.mode("three").await;
    let said = rollout.says("RolledBack", true, "DeadlineExceeded").await;
    assert!(said.contains("probe") && said.contains("Service nobody"), "{said}");
    scenario.read_by("canary", "two", "first").await;
}

#[tokio::test]
async fn a_pod_that_restarts_takes_the_revision_back() {
    let scenario = Scenario::start("restarts", &[ConfigRollout]).await;
    let rollout = staged(&scenario, |stages| stages[0]["soakSeconds"] = 3600.into()).await;
    scenario.mode("two").await;
    rollout.until("soaks", |status| status.targets[0].state == "Soaking").await;
    let pod = scenario.active("canary").await;
    let pod = pod.first().and_then(|pod| pod.metadata.name.clone()).expect("a pod runs");
    scenario.end_server(&pod, 8080).await;
    let said = rollout.says("RolledBack", true, "MoreRestarts").await;
    assert!(said.contains("Deployment/canary"), "{said}");
    scenario.read_by("canary", "one", "first").await;
}

/// The moments of a rollout at which its controller dies.
const PHASES: [&str; 4] = ["RevisionMade", "RolloutStarted", "StagePassed", "RolloutFailed"];

#[tokio::test]
async fn whenever_the_controller_dies_the_rollout_comes_to_its_end() {
    let scenario = Scenario::alone("dies", &[ConfigRollout]).await;
    let rollout = staged(&scenario, |_| {}).await;
    let controller = scenario.config_controller();
    let mut revision = 1;
    for (place, phase) in PHASES.into_iter().enumerate() {
        let victim = controller.victim(&controller.leader().await).await;
        let is_bad = phase == "RolloutFailed";
        if is_bad {
            let mut canary = stage("canary", &["canary"]);
            canary["gate"] = json!({"deadlineSeconds": 5});
            rollout.patch(json!({"spec": {"stages": [canary, stage("rest", &["web"])]}})).await;
        }
        let value = if is_bad { "bad".to_owned() } else { format!("value-{place}") };
        revision += 1;
        let before = events(&scenario, phase);
        scenario.mode(&value).await;
        eventually(&format!("{phase} is told"), async || {
            let now = events(&scenario, phase);
            (now > before).then_some(()).ok_or_else(|| format!("{now} events, {before} before"))
        })
        .await;
        victim.kill().await;
        if is_bad {
            rollout
                .until("is back", |status| {
                    status.failed_revision == Some(revision) && status.rollout.is_none()
                })
                .await;
            scenario.read_by("canary", "value-2", "first").await;
        } else {
            rollout.completes(revision).await;
            scenario.read_by("web", &value, "first").await;
        }
        rolled_out(&controller.name()).succeeded();
    }
}

/// How many events of this reason there are.
fn events(scenario: &Scenario, reason: &str) -> usize {
    let listed = scenario.kubectl(&format!(
        "get events.events.k8s.io --output=jsonpath={{.items[?(@.reason==\"{reason}\")].metadata.name}}"
    ));
    listed.stdout.split_whitespace().count()
}
