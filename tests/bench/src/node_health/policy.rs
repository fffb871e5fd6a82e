//! The policy that Mainstay's side works by.

use crate::{
    bed::Bed,
    error::{Context, Result},
    pods::object,
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use mainstay_crds::NodeHealthPolicy;
use serde_json::json;

const POLICY: &str = "mainstay-bench";

/// The policy of all fake nodes, with the kind's defaults but for one; gone when this is dropped. Their kubelets are not
/// asked: what is measured is how soon silence is noticed, and all fake nodes have the address of a real one, which lives.
pub(crate) struct Policy(Client);

impl Policy {
    pub(crate) async fn make(bed: &Bed) -> Result<Self> {
        let policies: Api<NodeHealthPolicy> = Api::all(bed.client.clone());
        drop(policies.delete(POLICY, &DeleteParams::default()).await);
        let policy = object(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "NodeHealthPolicy", "metadata": {"name": POLICY},
            "spec": {
                "nodeSelector": {"matchLabels": {"type": "kwok"}},
                "secondOpinion": {"kubelet": {"enabled": false}},
            },
        }))?;
        bed.until("the last policy to be gone", async || {
            Ok(policies.get_opt(POLICY).await.when("read the policy")?.is_none())
        })
        .await?;
        policies.create(&PostParams::default(), &policy).await.when("create the policy")?;
        Ok(Self(bed.client.clone()))
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        let policies: Api<NodeHealthPolicy> = Api::all(self.0.clone());
        tokio::spawn(async move { policies.delete(POLICY, &DeleteParams::default()).await.map(drop) });
    }
}
