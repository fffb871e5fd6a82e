//! A change of configuration becomes a revision and reaches the pods; and what is in its way.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    ResourceExt,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use mainstay_e2e::{
    Component::{ConfigRollout, Replication},
    Config, Scenario, config_rollout, deployment, eventually, pods, reader, stage,
};
use serde_json::{Value, json};

/// The ConfigMap and the Secret `web`, and the Deployment that reads them.
async fn web(scenario: &Scenario) {
    scenario.config_map("web", &[("mode", "one"), ("port", "8080"), ("unused", "x")]).await;
    scenario.secret("web", &[("token", "first")]).await;
    scenario.apply(&deployment("web", reader()));
}

/// The names of the objects of revisions.
async fn objects(scenario: &Scenario) -> Vec<String> {
    let ours = ListParams::default().labels("mainstay.dev/config-rollout");
    let maps = scenario.api::<ConfigMap>().list(&ours).await.expect("ConfigMaps are listed");
    let secrets = scenario.api::<Secret>().list(&ours).await.expect("Secrets are listed");
    let maps = maps.iter().map(|map| format!("ConfigMap/{}", map.name_any()));
    let secrets = secrets.iter().map(|secret| format!("Secret/{}", secret.name_any()));
    let mut names: Vec<_> = maps.chain(secrets).collect();
    names.sort();
    names
}

async fn started(scenario: &Scenario) -> Config {
    web(scenario).await;
    let rollout = scenario.create(&config_rollout("web")).await;
    rollout.completes(1).await;
    rollout
}

#[tokio::test]
async fn a_change_reaches_the_environment_and_the_files_of_new_pods() {
    let scenario = Scenario::start("config", &[ConfigRollout]).await;
    let rollout = started(&scenario).await;
    assert_eq!(objects(&scenario).await, ["ConfigMap/web-1", "Secret/web-1"]);
    scenario.read_by("web", "one", "first").await;

    scenario.config_map("web", &[("mode", "two"), ("port", "8080"), ("unused", "x")]).await;
    rollout.completes(2).await;
    scenario.read_by("web", "two", "first").await;
    assert_eq!(objects(&scenario).await, ["ConfigMap/web-1", "ConfigMap/web-2", "Secret/web-1"]);
    let copy = scenario.api::<ConfigMap>().get("web-2").await.expect("the copy is there");
    assert_eq!(copy.immutable, Some(true));
    let annotations = copy.annotations().clone();
    let source = scenario.api::<ConfigMap>().get("web").await.expect("the source is there");
    assert_eq!(annotations.get("mainstay.dev/source-uid"), source.uid().as_ref());
    assert_eq!(annotations.get("mainstay.dev/source-resource-version"), source.resource_version().as_ref());

    scenario.secret("web", &[("token", "second")]).await;
    rollout.completes(3).await;
    scenario.read_by("web", "two", "second").await;
    assert!(rollout.event("RolloutCompleted").await.contains("revision"));
}

#[tokio::test]
async fn a_key_that_nobody_uses_rolls_nothing() {
    let scenario = Scenario::start("unused", &[ConfigRollout]).await;
    scenario.config_map("web", &[("mode", "one"), ("port", "8080"), ("unused", "x")]).await;
    scenario.secret("web", &[("token", "first")]).await;
    let mut pod = reader();
    pod["volumes"][0]["configMap"]["items"] = json!([{"key": "mode", "path": "mode"}]);
    scenario.apply(&deployment("web", pod));
    let rollout = scenario.create(&config_rollout("web")).await;
    rollout.completes(1).await;
    let before = scenario.template("web").await;

    scenario.config_map("web", &[("mode", "one"), ("port", "8080"), ("unused", "y")]).await;
    scenario.secret("web", &[("token", "first"), ("another", "z")]).await;
    // A change that is used shows that those before have been seen.
    let controller = scenario.config_controller();
    let reads = async || controller.total("rest_client_requests_total", &[("method", "GET")]).await;
    let read = reads().await;
    eventually("the sources are read", async || {
        let now = reads().await;
        (now >= read + 2.0).then_some(()).ok_or_else(|| format!("{now} GETs, {read} before"))
    })
    .await;
    rollout.says("Ready", true, "Current").await;
    assert_eq!(scenario.template("web").await, before);
    scenario.config_map("web", &[("mode", "two"), ("port", "8080"), ("unused", "y")]).await;
    rollout.completes(2).await;
    assert_eq!(objects(&scenario).await, ["ConfigMap/web-1", "ConfigMap/web-2", "Secret/web-1"]);
}

/// A pod that is never scheduled and names `web` in every place that there is.
fn every_place() -> Value {
    let mut pod = pods::gated();
    pod["initContainers"] = json!([{
        "name": "init", "image": pods::PAUSE, "envFrom": [{"secretRef": {"name": "web"}}],
    }]);
    pod["containers"][0]["env"] =
        json!([{"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "web", "key": "mode"}}}]);
    pod["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "web"}}]);
    pod["volumes"] = json!([
        {"name": "a", "configMap": {"name": "web"}},
        {"name": "b", "secret": {"secretName": "web"}},
        {"name": "c", "projected": {"sources": [
            {"configMap": {"name": "web"}}, {"secret": {"name": "web"}}, {"downwardAPI": {"items": []}},
        ]}},
    ]);
    pod
}

fn workload(kind: &str, version: &str, extra: &Value) -> Value {
    let mut object = json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "selector": {"matchLabels": {"kind": kind}},
            "template": {"metadata": {"labels": {"kind": kind}}, "spec": every_place()},
        },
    });
    for (key, value) in extra.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

#[tokio::test]
async fn every_place_of_every_kind_of_target_is_moved() {
    let scenario = Scenario::start("kinds", &[ConfigRollout, Replication]).await;
    scenario.mode("one").await;
    scenario.secret("web", &[("token", "first")]).await;
    scenario.apply(&workload("Deployment", "apps/v1", &json!({"replicas": 1})));
    scenario.apply(&workload("StatefulSet", "apps/v1", &json!({"replicas": 1, "serviceName": "web"})));
    scenario.apply(&workload("DaemonSet", "apps/v1", &json!({})));
    scenario.apply(&workload("ReplicaGroup", "mainstay.dev/v1alpha1", &json!({"replicas": 1})));
    let kinds = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaGroup"];
    let targets: Vec<_> =
        kinds.iter().map(|kind| json!({"kind": kind, "selector": {"matchLabels": {"app": "web"}}})).collect();
    let draft = config_rollout("web").with("spec.stages", json!([{"name": "all", "targets": targets}]));
    scenario.create(&draft).await;
    for kind in kinds {
        eventually(&format!("all places of the {kind} name revision 1"), async || {
            let seen = scenario
                .kubectl(&format!("get {kind} web --output=jsonpath={{.spec.template.spec}}"))
                .succeeded();
            let (moved, left) = (seen.matches("\"web-1\"").count(), seen.matches("\"web\"").count());
            (moved == 7 && left == 0)
                .then_some(())
                .ok_or_else(|| format!("{moved} moved, {left} not: {seen}"))
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_missing_is_named_and_stops_nothing_else() {
    let scenario = Scenario::start("missing", &[ConfigRollout]).await;
    web(&scenario).await;
    let draft = config_rollout("web").with(
        "spec.sources",
        json!([
            {"kind": "ConfigMap", "name": "web"}, {"kind": "Secret", "name": "web"},
            {"kind": "Secret", "name": "absent"},
        ]),
    );
    let draft = draft.with("spec.stages", json!([stage("all", &["web", "gone"])]));
    let draft = draft.with("spec.incompletePolicy", "Proceed");
    let rollout = scenario.create(&draft).await;
    rollout.until("has moved what there is", |status| status.current_revision == Some(1)).await;
    assert!(rollout.says("SourcesReady", false, "SourceMissing").await.contains("Secret/absent"));
    assert!(rollout.says("Ready", false, "TargetMissing").await.contains("Deployment/gone"));

    scenario.secret("web", &[("other", "x")]).await;
    let said = rollout.says("SourcesReady", false, "SourceMissing").await;
    assert!(said.contains("absent"), "{said}");
    let status = rollout
        .until("names the key", |status| status.source_problems.iter().any(|it| it.reason == "KeyMissing"))
        .await;
    let said = &status.source_problems.iter().find(|it| it.reason == "KeyMissing").unwrap().message;
    assert!(said.contains("Secret/web") && said.contains("token"), "{said}");
    // The other source goes on meanwhile.
    scenario.mode("two").await;
    rollout.until("has moved the rest", |status| status.current_revision == Some(2)).await;
    scenario.read_by("web", "two", "first").await;
}

#[tokio::test]
async fn another_manager_of_a_field_is_named_and_left_alone() {
    let scenario = Scenario::start("conflict", &[ConfigRollout]).await;
    scenario.mode("one").await;
    scenario.secret("web", &[("token", "first")]).await;
    let apply = async || {
        let params = PatchParams::apply("git-tool").force();
        let deployments = scenario.api::<k8s_openapi::api::apps::v1::Deployment>();
        let applied = deployments.patch("web", &params, &Patch::Apply(deployment("web", reader()))).await;
        applied.expect("the Deployment is applied");
    };
    apply().await;
    let rollout = scenario.create(&config_rollout("web")).await;
    let said = rollout.says("Conflict", true, "FieldManagerConflict").await;
    assert!(said.contains("git-tool") && said.contains("Admission"), "{said}");
    rollout.says("Stalled", true, "FieldManagerConflict").await;
    scenario.read_by("web", "one", "first").await;

    // The author of the rollout may say that it is to be taken from that manager.
    rollout.patch(json!({"spec": {"takeOverFrom": ["git-tool"]}})).await;
    rollout.completes(1).await;
    scenario.mode("two").await;
    rollout.completes(2).await;
    // A tool that takes every change back is left to it after the third time.
    for _ in 0..3 {
        eventually("the change stands", async || {
            let template = scenario.template("web").await.to_string();
            template.contains("\"web-2\"").then_some(()).ok_or(template)
        })
        .await;
        apply().await;
    }
    let said = rollout.says("Conflict", true, "FieldManagerConflict").await;
    assert!(said.contains("Deployment/web"), "{said}");
    assert!(rollout.event("TargetReverted").await.contains("Deployment/web"));
}

#[tokio::test]
async fn a_restart_alone_changes_an_annotation_and_nothing_else() {
    let scenario = Scenario::start("restart", &[ConfigRollout]).await;
    web(&scenario).await;
    let rollout = scenario.create(&config_rollout("web").with("spec.mode", "RestartOnly")).await;
    rollout.completes(1).await;
    scenario.mode("two").await;
    rollout.completes(2).await;
    let template = scenario.template("web").await;
    assert_eq!(template["metadata"]["annotations"]["restarted-for.mainstay.dev/web"], "2");
    assert_eq!(template["spec"]["volumes"][0]["configMap"]["name"], "web");
    scenario.read_by("web", "two", "first").await;
}

#[tokio::test]
async fn old_revisions_go_when_nothing_refers_to_them_and_undo_finds_the_others() {
    let scenario = Scenario::start("collect", &[ConfigRollout]).await;
    web(&scenario).await;
    let mut kept = deployment("web", reader());
    kept["spec"]["revisionHistoryLimit"] = 1.into();
    scenario.apply(&kept);
    let rollout = scenario.create(&config_rollout("web").with("spec.historyLimit", 0)).await;
    rollout.completes(1).await;
    // Somebody's own, with all that marks an object of a revision.
    let mut mine = scenario.api::<ConfigMap>().get("web-1").await.expect("the copy is there");
    let ObjectMeta { labels, annotations, .. } = mine.metadata;
    mine.metadata = ObjectMeta { name: Some("mine".into()), labels, annotations, ..ObjectMeta::default() };
    scenario.api().create(&PostParams::default(), &mine).await.expect("it is copied");
    for (revision, mode) in [(2, "two"), (3, "three"), (4, "four")] {
        scenario.mode(mode).await;
        rollout.completes(revision).await;
    }
    // The current one, and the one of the ReplicaSet that the Deployment keeps. What pods on their way out refer to
    // may stay longer: it is looked at again with the next change.
    scenario.mode("five").await;
    rollout.completes(5).await;
    eventually("revisions that nothing refers to are gone", async || {
        let names = objects(&scenario).await;
        let gone =
            !names.contains(&"ConfigMap/web-1".to_owned()) && !names.contains(&"ConfigMap/web-2".to_owned());
        let stays =
            names.contains(&"ConfigMap/web-4".to_owned()) && names.contains(&"ConfigMap/web-5".to_owned());
        assert!(names.contains(&"ConfigMap/mine".to_owned()), "{names:?}");
        (gone && stays).then_some(()).ok_or_else(|| format!("{names:?}"))
    })
    .await;
    scenario.kubectl("rollout undo deployment/web").succeeded();
    scenario.read_by("web", "four", "first").await;
    let status = rollout.until("keeps its hands off", |status| status.targets[0].state == "Held").await;
    assert!(status.targets[0].message.as_deref().is_some_and(|said| said.contains("rolled back by hand")));
    scenario.mode("six").await;
    rollout.completes(6).await;
    scenario.read_by("web", "six", "first").await;
}
