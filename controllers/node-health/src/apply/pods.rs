//! The pods of a node that is unhealthy: taken out of Services, and moved away.

use std::sync::Arc;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, Toleration},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, VersionMatch},
};
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    owner::controller,
    request::{ObjectPath, in_time},
    slim::{self, Conditions},
    stands_for,
    writes::Writes,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{error::ApplyError, still::Precondition};
use crate::{
    names::{FIELD_MANAGER, MIRROR, UNHEALTHY},
    plan::{Evict, PodsPlan},
};

/// How many pods of one node are written at the same time. Before each such batch of evictions the node is read again.
const IN_FLIGHT: usize = 16;

/// A pod as it is listed.
#[derive(Debug, Clone, Deserialize)]
pub struct ListedPod {
    #[serde(deserialize_with = "slim::metadata")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    spec: ListedSpec,
    #[serde(default)]
    status: ListedStatus,
}
stands_for!(ListedPod, Pod);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ListedSpec {
    tolerations: Vec<Toleration>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ListedStatus {
    phase: String,
    conditions: Conditions,
}

impl ListedPod {
    fn name(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}/{}", text(&self.metadata.namespace), text(&self.metadata.name))
    }

    /// Since when it is ready, by the clock of its node; only the kubelet says so.
    pub fn ready_since(&self) -> Option<Timestamp> {
        self.status.conditions.changed("Ready").filter(|_| self.is_ready())
    }

    fn is_ready(&self) -> bool {
        self.status.conditions.is_true("Ready")
    }

    fn is_going(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether it is to leave a node that is drained, by `kubectl drain --ignore-daemonsets`' rules: not those that
    /// would come back on the same node, nor those that have ended. A pod that tolerates the taint of an unhealthy
    /// node for as long as it lasts has said that it stays.
    fn is_to_leave(&self) -> bool {
        let of_daemon_set = controller(&self.metadata).is_some_and(|owner| owner.kind == "DaemonSet");
        let mirror = self.metadata.annotations.iter().flatten().any(|(key, _)| key == MIRROR);
        let ended = matches!(self.status.phase.as_str(), "Succeeded" | "Failed");
        !of_daemon_set && !mirror && !ended && !self.spec.tolerations.iter().any(stays)
    }
}

/// Whether the toleration holds for NoExecute taints of this project without an end.
fn stays(toleration: &Toleration) -> bool {
    let exists = toleration.operator.as_deref() == Some("Exists");
    let key = match toleration.key.as_deref().unwrap_or_default() {
        "" => exists,
        key => key == UNHEALTHY && (exists || toleration.value.as_deref().unwrap_or_default().is_empty()),
    };
    let effect = matches!(toleration.effect.as_deref().unwrap_or_default(), "" | "NoExecute");
    key && effect && toleration.toleration_seconds.is_none()
}

/// What came of a visit to a node's pods.
#[derive(Debug, Default)]
pub struct Visit {
    /// How many were marked not ready.
    pub marked: usize,
    /// How many were evicted or deleted.
    pub evicted: usize,
    /// How many are to leave and have not begun to.
    pub left: usize,
    /// What the server said when a PodDisruptionBudget refused an eviction, and the pod that it was about.
    pub blocked: Option<(String, String)>,
    /// Whether a live read has shown that the node is no longer unhealthy, so that its pods were left alone.
    pub refuted: bool,
    /// The first failure.
    pub error: Option<ApplyError>,
}

/// The pods of a node, as the API server's watch cache has them.
///
/// # Errors
/// When the server refuses the list.
pub async fn list(client: &Client, node: &str) -> Result<Vec<ListedPod>, RequestError> {
    let pods: Api<ListedPod> = Api::all(client.clone());
    let params =
        ListParams::default().fields(&format!("spec.nodeName={node}")).matching(VersionMatch::NotOlderThan);
    in_time(pods.list(&params.at("0"))).await.map(|list| list.items)
}

/// Does with the pods of the node what the plan says, as long as what it is based on holds. Those of a node that was recreated
/// are another's.
pub async fn visit(client: &Client, node: &Precondition, plan: PodsPlan) -> Visit {
    let mut visit = Visit::default();
    let pods = match list(client, &node.node).await {
        Ok(pods) => pods,
        Err(source) => {
            visit.error = Some(ApplyError::Read { what: "the pods of the node".into(), source });
            return visit;
        }
    };
    let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
    let serving: Vec<_> = pods.iter().filter(|pod| plan.not_ready && pod.is_ready()).cloned().collect();
    let leaving: Vec<_> = pods.into_iter().filter(|pod| pod.is_to_leave() && !pod.is_going()).collect();
    visit.left = leaving.len();
    // The node is read after the list: what was listed before is of the node that is still there.
    // Those that serve are taken out of Services first: it is what users feel.
    if !serving.is_empty() && visit.may_go_on(client, node, true).await {
        visit.mark_all(client, serving).await;
    }
    if let Some(evict) = plan.evict {
        visit.remove_all(client, node, leaving, evict).await;
    }
    visit
}

impl Visit {
    async fn mark_all(&mut self, client: &Client, pods: Vec<Arc<ListedPod>>) {
        let marks = pods.into_iter().map(|pod| async move { (mark(client, &pod).await, pod) });
        let mut marks = stream::iter(marks).buffer_unordered(IN_FLIGHT);
        while let Some((result, pod)) = marks.next().await {
            match result {
                Ok(()) => self.marked += 1,
                // Another pod of the name, or none: this one is gone.
                Err(RequestError::NotFound(_) | RequestError::Conflict(_)) => {}
                Err(source) => self.fail(ApplyError::NotReady { pod: pod.name(), source }),
            }
        }
    }

    async fn remove_all(
        &mut self,
        client: &Client,
        node: &Precondition,
        pods: Vec<Arc<ListedPod>>,
        evict: Evict,
    ) {
        for batch in pods.chunks(IN_FLIGHT) {
            if !self.may_go_on(client, node, false).await {
                return;
            }
            self.left -= batch.len();
            self.remove_batch(client, batch.to_vec(), evict).await;
        }
    }

    /// Whether the node is still unhealthy, or even silent: nothing that was decided is done to one that has come back.
    async fn may_go_on(&mut self, client: &Client, node: &Precondition, only_silent: bool) -> bool {
        if self.refuted {
            return false;
        }
        match node.holds(client).await {
            Ok(holds) => {
                self.refuted = !holds.is_bad();
                holds.silent || holds.failing && !only_silent
            }
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    async fn remove_batch(&mut self, client: &Client, pods: Vec<Arc<ListedPod>>, evict: Evict) {
        let evictions = pods.into_iter().map(|pod| async move { (remove(client, &pod, evict).await, pod) });
        let mut evictions = stream::iter(evictions).buffer_unordered(IN_FLIGHT);
        while let Some((result, pod)) = evictions.next().await {
            match result {
                Ok(true) => self.evicted += 1,
                Ok(false) | Err(RequestError::Conflict(_)) => {}
                Err(RequestError::DisruptionBudget(text)) => {
                    self.left += 1;
                    self.blocked.get_or_insert((pod.name(), text));
                }
                Err(source) => {
                    self.left += 1;
                    self.fail(ApplyError::Evict { pod: pod.name(), source });
                }
            }
        }
    }

    fn fail(&mut self, error: ApplyError) {
        self.error.get_or_insert(error);
    }
}

/// Marks a pod not ready, as kube-controller-manager does for nodes that it finds unreachable. The kubelet puts it
/// right when it is back.
async fn mark(client: &Client, pod: &ListedPod) -> Result<(), RequestError> {
    let condition = json!({
        "type": "Ready", "status": "False", "reason": "NodeUnreachable",
        "message": "the node of this pod does not answer",
        "lastTransitionTime": Time(Timestamp::now()),
    });
    set_condition(client, pod, &condition).await
}

async fn set_condition(client: &Client, pod: &ListedPod, condition: &Value) -> Result<(), RequestError> {
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
    let path = ObjectPath::of::<Pod>(&ObjectKey::of(pod));
    Writes::new(client.clone(), FIELD_MANAGER).patch_status(&path, &Patch::Strategic(patch)).await.map(drop)
}

async fn remove(client: &Client, pod: &ListedPod, evict: Evict) -> Result<bool, RequestError> {
    let writes = Writes::new(client.clone(), FIELD_MANAGER);
    let (key, uid) = (ObjectKey::of(pod), pod.metadata.uid.as_deref().unwrap_or_default());
    match evict {
        Evict::Politely => writes.evict(&key, uid).await,
        Evict::Force => {
            if let Err(error) = mark_disrupted(client, pod).await {
                tracing::debug!(pod = pod.name(), %error, "a pod that is to be deleted could not be marked");
            }
            writes.delete(&ObjectPath::of::<Pod>(&key), uid, None).await
        }
    }
}

/// Says of a pod that is about to be deleted that this is no failure of its own: a Job's `podFailurePolicy` goes by it, and an
/// eviction says the same.
async fn mark_disrupted(client: &Client, pod: &ListedPod) -> Result<(), RequestError> {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByNodeHealthPolicy",
        "message": "the node of this pod is unhealthy, and the deadline of its drain is over",
        "lastTransitionTime": Time(Timestamp::now()),
    });
    set_condition(client, pod, &condition).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::{
        server::Server,
        still::tests::{LEASE, renewed, silent},
    };

    fn pod(metadata: Value, tolerations: Value, phase: &str) -> ListedPod {
        let pod =
            json!({"metadata": metadata, "spec": {"tolerations": tolerations}, "status": {"phase": phase}});
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn only_pods_that_would_run_elsewhere_are_to_leave() {
        let plain = json!({"name": "a", "namespace": "ns"});
        let owned = |kind| {
            json!({"ownerReferences": [
                {"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u", "controller": true}
            ]})
        };
        assert!(pod(plain.clone(), json!([]), "Running").is_to_leave());
        assert!(pod(owned("ReplicaSet"), json!([]), "Pending").is_to_leave());
        assert!(!pod(owned("DaemonSet"), json!([]), "Running").is_to_leave());
        assert!(!pod(json!({"annotations": {MIRROR: "x"}}), json!([]), "Running").is_to_leave());
        assert!(!pod(plain.clone(), json!([]), "Succeeded").is_to_leave());
        assert!(!pod(plain, json!([]), "Failed").is_to_leave());
    }

    #[test]
    fn a_pod_stays_that_tolerates_the_taint_without_an_end() {
        let leaves = |toleration| pod(json!({}), json!([toleration]), "Running").is_to_leave();
        assert!(!leaves(json!({"operator": "Exists"})));
        assert!(!leaves(json!({"key": UNHEALTHY, "operator": "Exists", "effect": "NoExecute"})));
        assert!(leaves(json!({"key": UNHEALTHY, "operator": "Exists", "tolerationSeconds": 60})));
        assert!(leaves(json!({"key": UNHEALTHY, "operator": "Exists", "effect": "NoSchedule"})));
        assert!(leaves(json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists"})));
    }

    #[tokio::test]
    async fn the_pods_of_a_node_that_was_made_anew_are_left_alone() {
        let server = Server::default();
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let pod = json!({"metadata": {"name": "a", "namespace": "ns", "uid": "p"}, "status": ready});
        server.set("/api/v1/pods", Ok(json!({"metadata": {}, "items": [pod]})));
        server.set("/api/v1/nodes/n", Ok(json!({"metadata": {"name": "n", "uid": "new"}})));
        let plan = PodsPlan { not_ready: true, evict: Some(Evict::Politely) };
        let visited = visit(&server.client(), &silent("old"), plan).await;
        assert_eq!((server.writes().len(), visited.marked, visited.refuted), (0, 0, true));
        let visited = visit(&server.client(), &silent("new"), plan).await;
        assert_eq!((visited.marked, visited.evicted, visited.left), (1, 1, 0), "{:?}", visited.error);
        let (_, path, eviction) = server.writes().pop().unwrap();
        assert_eq!(path, "/api/v1/namespaces/ns/pods/a/eviction");
        assert_eq!(eviction["deleteOptions"]["preconditions"]["uid"], "p");
    }

    #[tokio::test]
    async fn the_pods_of_a_node_that_comes_back_are_left_alone_from_then_on() {
        let server = Server::default();
        let pods: Vec<_> = (0..2 * IN_FLIGHT + 1)
            .map(|index| json!({"metadata": {"name": format!("p{index}"), "namespace": "ns", "uid": "p"}}))
            .collect();
        server.set("/api/v1/pods", Ok(json!({"metadata": {}, "items": pods})));
        server.set("/api/v1/nodes/n", Ok(json!({"metadata": {"name": "n", "uid": "u"}})));
        let plan = PodsPlan { not_ready: false, evict: Some(Evict::Politely) };
        server.set(LEASE, Ok(renewed()));
        let visited = visit(&server.client(), &silent("u"), plan).await;
        assert_eq!((server.writes().len(), visited.refuted), (0, true), "its Lease is newer than the watch");
        // It renews its Lease while the first pods leave.
        server.set(LEASE, Err(404));
        server.set_once_written(LEASE, Ok(renewed()));
        let visited = visit(&server.client(), &silent("u"), plan).await;
        assert_eq!((visited.evicted, visited.left, visited.refuted), (IN_FLIGHT, IN_FLIGHT + 1, true));
        assert_eq!(server.writes().len(), IN_FLIGHT);
    }

    #[tokio::test]
    async fn a_pod_that_is_deleted_past_its_budget_is_marked_as_disrupted_before() {
        let server = Server::default();
        let pod = json!({"metadata": {"name": "a", "namespace": "ns", "uid": "p"}});
        server.set("/api/v1/pods", Ok(json!({"metadata": {}, "items": [pod]})));
        server.set("/api/v1/nodes/n", Ok(json!({"metadata": {"name": "n", "uid": "u"}})));
        let plan = PodsPlan { not_ready: false, evict: Some(Evict::Force) };
        assert_eq!(visit(&server.client(), &silent("u"), plan).await.evicted, 1);
        let [(_, marked, mark), (_, deleted, delete)] = &server.writes()[..] else { panic!("two writes") };
        assert_eq!(
            (&**marked, &**deleted),
            ("/api/v1/namespaces/ns/pods/a/status", "/api/v1/namespaces/ns/pods/a")
        );
        assert_eq!(mark["status"]["conditions"][0]["type"], "DisruptionTarget");
        assert_eq!((&mark["metadata"]["uid"], &delete["preconditions"]["uid"]), (&json!("p"), &json!("p")));
    }

    #[test]
    fn only_a_ready_pod_says_since_when() {
        let mut ready = pod(json!({}), json!([]), "Running");
        assert_eq!(ready.ready_since(), None);
        let at = |status| {
            let condition =
                json!({"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"});
            serde_json::from_value(json!([condition])).unwrap()
        };
        ready.status.conditions = at("True");
        assert_eq!(ready.ready_since(), Some("2026-01-01T00:00:00Z".parse().unwrap()));
        ready.status.conditions = at("False");
        assert_eq!(ready.ready_since(), None);
    }
}
