//! The objects that own the pods of a bench, and the pods' template, which is the same on all sides.

use crate::{names::NAMESPACE, observer::ROUND};
use kube::api::ApiResource;
use serde_json::{Value, json};

/// The image of the pods. On fake nodes nobody pulls it.
pub(crate) const IMAGE: &str = "registry.k8s.io/pause:3.10.2";

/// The template of every pod: one small container on a fake node.
pub(crate) fn template(round: &str, image: &str) -> Value {
    json!({
        "metadata": {"labels": {ROUND: round}},
        "spec": {
            "containers": [{
                "name": "pause",
                "image": image,
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            }],
            "nodeSelector": {"type": "kwok"},
            "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}],
        },
    })
}

/// A ReplicaGroup, ReplicaSet or Deployment, which are alike as far as this goes.
pub(crate) fn owner(kind: &ApiResource, round: &str, replicas: usize) -> Value {
    json!({
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": round, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {ROUND: round}},
            "template": template(round, IMAGE),
        },
    })
}
