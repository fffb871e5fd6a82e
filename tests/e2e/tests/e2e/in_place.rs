//! Changes of images in pods that go on running.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use mainstay_e2e::{
    Component::Replication, Draft, Group, Recorder, Scenario, condition, eventually, group, pods,
};
use serde_json::{Value, json};

/// Three real pods whose program is in either of the two images.
fn draft() -> Draft {
    let mut spec = pods::pause();
    spec["containers"][0]["image"] = pods::AGNHOST.into();
    spec["containers"][0]["args"] = json!(["pause"]);
    group("web", spec)
        .replicas(3)
        .rolling(1, 1)
        .with("spec.update.inPlace", "IfPossible")
        .with("spec.failure.unschedulableSeconds", 2)
}

/// Changes these fields of the container and nothing else.
async fn change(web: &Group, fields: Value) {
    let container = web.container_with(fields).await;
    web.patch(json!({"spec": {"template": {"spec": {"containers": [container]}}}})).await;
}

/// What stays of a pod that changes in place, by its name: UID, node and address.
async fn identities(web: &Group) -> BTreeMap<String, (Option<String>, Option<String>, Option<String>)> {
    let identity = |pod: Pod| {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        (pod.name_any(), (pod.uid(), node, address))
    };
    web.pods().await.into_iter().map(identity).collect()
}

/// The image of each pod's container as its node reports it running, and how often it was restarted.
async fn running(web: &Group) -> Vec<(bool, i32)> {
    let state = |pod: &Pod| {
        let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
        let is_pause = pod.spec.as_ref()?.containers.first()?.image.as_deref() == Some(pods::PAUSE);
        status.state.as_ref()?.running.as_ref()?;
        Some((is_pause, status.restart_count))
    };
    web.pods().await.iter().filter_map(state).collect()
}

#[tokio::test]
async fn new_images_reach_the_same_pods_within_the_bounds() {
    let scenario = Scenario::start("inplace", &[Replication]).await;
    let web = scenario.create(&draft()).await;
    web.ready().await;
    let before = identities(&web).await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;

    change(&web, json!({"image": pods::PAUSE})).await;
    eventually("all pods run the new image", async || {
        let (now, status) = (running(&web).await, web.get().await.status.unwrap_or_default());
        let done = now == [(true, 1); 3] && status.current_revision == status.update_revision;
        done.then_some(()).ok_or(format!("{now:?} {status:?}"))
    })
    .await;
    web.ready().await;
    assert_eq!(identities(&web).await, before, "a pod was replaced");
    record.stays_within(2..=3).await;
    let said = web.event("PodsChangedInPlace").await;
    assert!(said.contains("changed the images of"), "{said}");
    // The restart that a change brings about is no crash.
    let status = web.get().await.status.expect("the group has been reported on");
    assert_eq!((status.failed_revision, status.updated_replicas), (None, 3));
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_taken_back_in_the_same_pods() {
    let scenario = Scenario::start("inplacebad", &[Replication]).await;
    let web = scenario.create(&draft()).await;
    web.ready().await;
    let before = identities(&web).await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;

    change(&web, json!({"image": pods::NO_IMAGE})).await;
    let status = web
        .until("has rolled back", |status| {
            let back = status.failed_revision.is_some() && status.rollout.is_none();
            back && status.available_replicas == status.replicas
        })
        .await;
    assert_eq!(identities(&web).await, before, "a pod was replaced");
    record.stays_within(2..=3).await;
    assert_eq!(condition(&status, "RolledBack").reason, "ImagePullFailed", "{status:?}");
}

#[tokio::test]
async fn any_other_change_replaces_the_pods() {
    let scenario = Scenario::start("inplacenot", &[Replication]).await;
    let web = scenario.create(&draft()).await;
    web.ready().await;
    let before = identities(&web).await;
    change(&web, json!({"args": ["pause", "--"], "image": pods::PAUSE})).await;
    eventually("all pods are others", async || {
        let (now, status) = (identities(&web).await, web.get().await.status.unwrap_or_default());
        let done = now.keys().all(|pod| !before.contains_key(pod))
            && status.current_revision == status.update_revision;
        done.then_some(()).ok_or(format!("{now:?} {status:?}"))
    })
    .await;
}
