//! When nothing changes, nothing is written.

use std::{collections::BTreeMap, time::Duration};

use kube::{Api, ResourceExt};
use mainstay_crds::ReplicaGroup;
use mainstay_e2e::{Metrics, Scenario, group, pods, within};
use tokio::time::sleep;

const WINDOW: Duration = Duration::from_secs(10);

/// A leader reads and writes its Lease every 2 s (`--retry-period`); in a window one more of each may fall.
const RENEWALS: f64 = 6.0;

/// The server ends a watch after some minutes. Of the six, all may be begun anew in the same window.
const WATCHES: f64 = 6.0;

fn requests(metrics: &Metrics, method: &str) -> f64 {
    metrics.sum("rest_client_requests_total", &[("method", method)])
}

async fn versions(scenario: &Scenario) -> BTreeMap<String, Option<String>> {
    let groups: Api<ReplicaGroup> = Api::namespaced(scenario.client.clone(), &scenario.namespace);
    let listed = groups.list(&Default::default()).await.expect("groups are listed");
    listed.iter().map(|group| (group.name_any(), group.resource_version())).collect()
}

#[tokio::test]
async fn a_settled_controller_sends_nothing_but_its_lease() {
    let scenario = Scenario::alone("quiet").await;
    scenario.create(&group("running", pods::pause()).replicas(2)).await.ready().await;
    scenario.create(&group("waiting", pods::gated()).replicas(5)).await.reason("PodsNotReady").await;
    let controller = scenario.controller();
    let leader = controller.leader().await;
    // Namespaces of tests before this one may still be going, and on a shared cluster others may work: one quiet
    // window is enough, and a controller that is never quiet has none.
    within(Duration::from_secs(120), "10 s go by in which only the Lease is written", async || {
        let (before, versions_before) = (controller.metrics(&leader).await, versions(&scenario).await);
        // The time itself is what is waited for.
        sleep(WINDOW).await;
        let (after, versions_after) = (controller.metrics(&leader).await, versions(&scenario).await);
        let sent = |method| requests(&after, method) - requests(&before, method);
        let [put, get, patch, post, delete] = ["PUT", "GET", "PATCH", "POST", "DELETE"].map(sent);
        let seen = format!("PUT {put}, GET {get}, PATCH {patch}, POST {post}, DELETE {delete}");
        assert!(put > 0.0, "the leader has not renewed its Lease: {seen}");
        let quiet = put <= RENEWALS && get <= RENEWALS + WATCHES && patch + post + delete == 0.0;
        (quiet && versions_before == versions_after).then_some(()).ok_or(seen)
    })
    .await;
}
