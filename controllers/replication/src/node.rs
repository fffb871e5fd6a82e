//! Nodes as the store keeps them: what a scale-down reads of them, and nothing else.

use std::collections::BTreeMap;

use mainstay_runtime::{
    index::Indexed,
    node::{WatchedNode, ZONE},
    slim::Header,
};

/// The taints of nodes that are about to be emptied: of a cordoned node, of one that the cluster autoscaler removes, and of
/// one that Karpenter does (<https://kubernetes.io/docs/reference/labels-annotations-taints/>,
/// kubernetes/autoscaler `pkg/utils/taints`, kubernetes-sigs/karpenter `pkg/apis/v1/taints.go`).
const LEAVING: [&str; 4] = [
    "node.kubernetes.io/unschedulable",
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
];

/// A node.
#[derive(Debug, PartialEq)]
pub struct Node {
    /// Name, UID and version.
    pub header: Header,
    /// `metadata.labels`, which say what domains it lies in.
    pub labels: BTreeMap<String, String>,
    /// Whether its pods are about to go: it is cordoned, or to be removed.
    pub leaving: bool,
}

impl From<WatchedNode> for Node {
    fn from(watched: WatchedNode) -> Self {
        let header = Header::of(&watched);
        let is_leaving = watched.spec.taints.iter().any(|taint| LEAVING.contains(&taint.key.as_str()));
        Self {
            header,
            labels: watched.metadata.labels.unwrap_or_default(),
            leaving: watched.spec.unschedulable || is_leaving,
        }
    }
}

impl Indexed for Node {
    /// Whether it has a zone.
    type Bucket = bool;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<bool> {
        vec![self.labels.contains_key(ZONE)]
    }
    fn is_same(&self, other: &Self) -> bool {
        (&self.labels, self.leaving) == (&other.labels, other.leaving)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_node_is_left_that_is_cordoned_or_about_to_be_removed() {
        let leaving = |spec: Value| {
            let node = json!({"metadata": {"name": "a", "uid": "a"}, "spec": spec});
            Node::from(serde_json::from_value::<WatchedNode>(node).unwrap()).leaving
        };
        let tainted = |key: &str| json!({"taints": [{"key": key, "effect": "NoSchedule"}]});
        assert!(leaving(json!({"unschedulable": true})));
        assert!(
            leaving(tainted("ToBeDeletedByClusterAutoscaler")) && leaving(tainted("karpenter.sh/disrupted"))
        );
        assert!(!leaving(json!({})) && !leaving(tainted("DeletionCandidateOfClusterAutoscaler")));
    }
}
