//! Whether what was decided of a node still holds, read from the server right before what cannot be undone.
//!
//! A watch may be behind: a node that has come back in the meantime is neither drained nor repaired.

use std::sync::Arc;

use jiff::Timestamp;
use kube::{Api, Client};
use mainstay_runtime::{failure::RequestError, request::in_time};

use super::error::ApplyError;
use crate::watched::{self, Facts, LEASES, Lease, WatchedLease, WatchedNode};

/// What a decision about a node is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// Its name.
    pub node: Arc<str>,
    /// Its UID: another node of its name is another.
    pub uid: Box<str>,
    /// The boot that it reports.
    pub boot_id: Arc<str>,
    /// If it is silent: when its Lease says that it was last renewed, or without a Lease when it last posted its status.
    pub silent: Option<Option<Timestamp>>,
    /// The condition that is bad, and its status.
    pub failing: Option<(Arc<str>, Arc<str>)>,
}

/// What still holds of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holds {
    /// It is silent.
    pub silent: bool,
    /// Its condition is bad.
    pub failing: bool,
}

impl Holds {
    /// Whether the node is still unhealthy.
    pub fn is_bad(self) -> bool {
        self.silent || self.failing
    }
}

impl Precondition {
    /// Reads the node and its Lease. Of a node that is gone, was recreated or has booted nothing holds.
    ///
    /// # Errors
    /// When the server refuses to say.
    pub async fn holds(&self, client: &Client) -> Result<Holds, ApplyError> {
        let nodes: Api<WatchedNode> = Api::all(client.clone());
        let node = match in_time(nodes.get(&self.node)).await {
            Ok(node) => node,
            Err(RequestError::NotFound(_)) => return Ok(Holds::default()),
            Err(source) => return Err(ApplyError::Read { what: "the node".into(), source }),
        };
        if node.metadata.uid.as_deref() != Some(&*self.uid) {
            return Ok(Holds::default());
        }
        let posted = watched::posted(&node);
        let facts = Facts::from(node);
        if facts.boot_id != self.boot_id {
            return Ok(Holds::default());
        }
        let silent = match self.silent {
            Some(renewed) => last_renewal(client, &self.node).await?.or(posted) == renewed,
            None => false,
        };
        let failing = self.failing.as_ref().is_some_and(|(kind, status)| facts.has(kind, status));
        Ok(Holds { silent, failing })
    }
}

/// When the node's Lease was last renewed, read from the server and not from a watch.
///
/// # Errors
/// When the server refuses to say.
pub(super) async fn last_renewal(client: &Client, node: &str) -> Result<Option<Timestamp>, ApplyError> {
    let leases: Api<WatchedLease> = Api::namespaced(client.clone(), LEASES);
    let lease = in_time(leases.get_opt(node)).await;
    let lease = lease.map_err(|source| ApplyError::Read { what: "the Lease of the node".into(), source })?;
    Ok(lease.and_then(|lease| Lease::from(lease).renewed))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::apply::server::Server;

    /// Where the Lease of the node `n` is.
    pub(crate) const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
    const RENEWED: &str = "2026-01-01T00:00:00.000000Z";

    /// Of the node `n` with this UID, which was never heard of.
    pub(crate) fn silent(uid: &str) -> Precondition {
        Precondition {
            node: "n".into(),
            uid: uid.into(),
            boot_id: Arc::default(),
            silent: Some(None),
            failing: None,
        }
    }

    /// Its Lease, renewed at a time that the decision did not know.
    pub(crate) fn renewed() -> serde_json::Value {
        json!({"metadata": {"name": "n"}, "spec": {"renewTime": RENEWED}})
    }

    #[tokio::test]
    async fn nothing_holds_of_a_node_that_has_come_back() {
        let server = Server::default();
        let node = |uid: &str, boot: &str, ready: &str| {
            let conditions = json!([{"type": "Ready", "status": ready}]);
            let status = json!({"nodeInfo": {"bootID": boot}, "conditions": conditions});
            server
                .set("/api/v1/nodes/n", Ok(json!({"metadata": {"name": "n", "uid": uid}, "status": status})));
        };
        let known = Some(RENEWED.parse().unwrap());
        let condition = Some(("Ready".into(), "False".into()));
        let both =
            Precondition { boot_id: "boot-1".into(), silent: Some(known), failing: condition, ..silent("u") };
        let holds = async |of: &Precondition| of.holds(&server.client()).await.unwrap();
        server.set(LEASE, Ok(renewed()));
        node("u", "boot-1", "False");
        assert_eq!(holds(&both).await, Holds { silent: true, failing: true });
        assert_eq!(holds(&silent("u")).await, Holds::default(), "it says nothing of this boot");
        node("u", "boot-1", "True");
        assert_eq!(holds(&both).await, Holds { silent: true, failing: false });
        let before = Precondition { silent: Some(None), ..both.clone() };
        assert_eq!(holds(&before).await, Holds::default(), "it has renewed its Lease since");
        for (uid, boot) in [("u", "boot-2"), ("new", "boot-1")] {
            node(uid, boot, "False");
            assert_eq!(holds(&both).await, Holds::default(), "{uid} {boot}");
        }
        server.set("/api/v1/nodes/n", Err(404));
        assert_eq!(holds(&both).await, Holds::default());
        server.set("/api/v1/nodes/n", Err(500));
        assert!(both.holds(&server.client()).await.is_err());
    }
}
