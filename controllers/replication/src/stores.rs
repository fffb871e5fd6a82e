//! The stores that a reconcile reads.

use mainstay_runtime::index::Index;

use crate::{
    claim::Claim,
    node::Node,
    pod::{Pod, Present},
    revision::Revision,
};

/// The stores that a reconcile reads.
#[derive(Clone, Default)]
pub struct Stores {
    /// All pods.
    pub pods: Index<Pod>,
    /// All nodes.
    pub nodes: Index<Node>,
    /// All PodDisruptionBudgets.
    pub budgets: Index<Present>,
    /// The ControllerRevisions of all groups.
    pub revisions: Index<Revision>,
    /// The volume claims of all groups.
    pub claims: Index<Claim>,
}

impl Stores {
    /// Whether every node has a zone, as far as there are nodes.
    pub fn all_nodes_have_zones(&self) -> bool {
        let nodes = |zoned| self.nodes.count(&zoned);
        nodes(true) > 0 && nodes(false) == 0
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use mainstay_runtime::node::{WatchedNode, ZONE};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn one_node_without_a_zone_is_enough_until_it_gets_one() {
        let stores = Stores::default();
        let show = |name: &str, labels: Value| {
            let node = json!({"metadata": {"name": name, "uid": name, "labels": labels}});
            let node: WatchedNode = serde_json::from_value(node).unwrap();
            stores.nodes.apply(Event::Apply(node.into()), |_| {});
            stores.all_nodes_have_zones()
        };
        assert!(!stores.all_nodes_have_zones(), "nothing is known of nodes that may come");
        assert!(show("a", json!({ZONE: "eu-1"})));
        assert!(!show("b", json!({})));
        assert!(show("b", json!({ZONE: "eu-2"})));
    }
}
