//! The main job, and kubectl's view of it.

use std::collections::BTreeSet;

use k8s_openapi::api::{autoscaling::v2::HorizontalPodAutoscaler, core::v1::Pod};
use kube::{Api, ResourceExt, api::PostParams};
use mainstay_crds::ReplicaGroup;
use mainstay_e2e::{Component::Replication, Scenario, dial, eventually, group, pods};
use serde_json::json;

#[tokio::test]
async fn the_example_serves_through_its_service_and_replaces_a_killed_pod() {
    let scenario = Scenario::start("example", &[Replication]).await;
    scenario.orphan("client", "client", pods::web()).await;
    scenario.kubectl("apply --filename=examples/replicagroup.yaml").succeeded();
    scenario.kubectl("wait --for=condition=Ready replicagroup/web --timeout=120s").succeeded();
    scenario.kubectl("wait --for=condition=Ready pod/client --timeout=60s").succeeded();
    let web = scenario.group("web").await;
    let names = web.pod_names().await;
    assert_eq!(names.len(), 3);

    let address = scenario.kubectl("get service web --output=jsonpath={.spec.clusterIP}").succeeded();
    let dns_name = format!("web.{}.svc.cluster.local", scenario.namespace);
    for address in [address, dns_name] {
        let mut answered = BTreeSet::new();
        eventually(&format!("every pod has answered by {address}"), async || {
            answered.insert(dial(&scenario, "client", &address).await?);
            (answered == names).then_some(()).ok_or(format!("{answered:?} of {names:?}"))
        })
        .await;
    }

    let victim = names.first().unwrap();
    scenario.kubectl(&format!("delete pod {victim} --wait=false")).succeeded();
    eventually("another pod has taken the place of the killed one", async || {
        let ready = web.get().await.status.unwrap_or_default().available_replicas;
        let now = web.pod_names().await;
        let replaced = ready == 3 && now.len() == 3 && !now.contains(victim);
        replaced.then_some(()).ok_or(format!("{ready} available of {now:?}, {victim} was killed"))
    })
    .await;
}

#[tokio::test]
async fn kubectl_shows_columns_and_knows_the_short_name_and_the_category() {
    let scenario = Scenario::start("columns", &[Replication]).await;
    scenario.create(&group("shown", pods::pause()).replicas(2)).await.ready().await;
    let table = scenario.kubectl("get rg").succeeded();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "DESIRED", "UPDATED", "READY", "AVAILABLE", "REASON", "AGE"]);
    assert_eq!(rows[1][..6], ["shown", "2", "2", "2", "2", "AllAvailable"]);
    let all = scenario.kubectl("get all").succeeded();
    assert!(all.contains("replicagroup.mainstay.dev/shown"), "kubectl get all shows no group:\n{all}");
    let explained = scenario.kubectl("explain replicagroup.spec.podReplacement").succeeded();
    assert!(explained.contains("WhenTerminated"), "kubectl explain says nothing of the values:\n{explained}");
}

#[tokio::test]
async fn kubectl_scale_and_an_autoscaler_use_the_scale_subresource() {
    let scenario = Scenario::start("scale", &[Replication]).await;
    let scaled = scenario.create(&group("scaled", pods::gated())).await;
    scenario.kubectl("scale replicagroup/scaled --replicas=2").succeeded();
    scaled.has(2).await;

    let scale = Api::<ReplicaGroup>::namespaced(scenario.client.clone(), &scenario.namespace)
        .get_scale("scaled")
        .await
        .unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(2));
    let status = scale.status.unwrap();
    assert_eq!((status.replicas, status.selector.as_deref()), (2, Some("app=scaled")));

    // Below its minimum an autoscaler asks for no metrics, which this cluster may not have.
    let autoscaler: HorizontalPodAutoscaler = serde_json::from_value(json!({
        "metadata": {"name": "scaled"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "name": "scaled"},
            "minReplicas": 4,
            "maxReplicas": 6,
        },
    }))
    .unwrap();
    scenario.api().create(&PostParams::default(), &autoscaler).await.unwrap();
    scaled.has(4).await;
    assert_eq!(scaled.get().await.spec.replicas, 4);
}

#[tokio::test]
async fn a_group_that_says_no_more_than_it_must_gets_one_pod_as_the_template_says() {
    let scenario = Scenario::start("defaults", &[Replication]).await;
    let draft = group("plain", pods::gated())
        .with("spec.template.metadata.annotations", json!({"example.com/note": "kept"}))
        .with("spec.template.spec.terminationGracePeriodSeconds", 7);
    let plain = scenario.create(&draft).await;
    let status = plain.has(1).await;
    assert_eq!(status.fully_labeled_replicas, 1);
    let spec = plain.get().await.spec;
    assert_eq!((spec.replicas, spec.min_ready_seconds, spec.paused), (1, 0, false));

    let pod: Pod = plain.pods().await.remove(0);
    assert!(pod.name_any().starts_with("plain-"), "{}", pod.name_any());
    assert_eq!(pod.labels()["app"], "plain");
    assert_eq!(pod.annotations()["example.com/note"], "kept");
    assert_eq!(pod.spec.as_ref().unwrap().termination_grace_period_seconds, Some(7));
    let owner = &pod.owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("ReplicaGroup", "plain"));
    assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
}

#[tokio::test]
async fn a_deleted_pod_is_replaced_and_zero_means_none() {
    let scenario = Scenario::start("replace", &[Replication]).await;
    let kept = scenario.create(&group("kept", pods::gated()).replicas(3)).await;
    kept.has(3).await;
    let before = kept.pod_names().await;
    let victim = before.first().unwrap();
    scenario.kubectl(&format!("delete pod {victim}")).succeeded();
    eventually("three pods again", async || {
        let names = kept.pod_names().await;
        let replaced =
            names.len() == 3 && !names.contains(victim) && names.intersection(&before).count() == 2;
        replaced.then_some(()).ok_or(format!("{names:?}, before {before:?}"))
    })
    .await;
    kept.scale(0).await;
    let status = kept.ready().await;
    assert_eq!((status.replicas, status.available_replicas), (0, 0));
    assert!(kept.pods().await.is_empty());
}
