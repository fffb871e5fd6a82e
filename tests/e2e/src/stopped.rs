//! A controller that is stopped for a while.

use crate::{
    command::{Finished, kubectl},
    controller::{Controller, NAMESPACE, rolled_out},
    wait::eventually,
};

/// No replica of a controller runs while this lives.
pub struct Stopped {
    name: String,
    replicas: usize,
}

impl Stopped {
    /// Stops all replicas, and waits until they are gone.
    ///
    /// # Panics
    /// When that fails.
    pub async fn begin(controller: &Controller) -> Self {
        let stopped = Self { name: controller.name(), replicas: controller.pod_names().await.len() };
        stopped.scale(0).succeeded();
        eventually("no replica of the controller runs", async || {
            let left = controller.all_pods().await.len();
            (left == 0).then_some(()).ok_or(format!("{left} pods"))
        })
        .await;
        stopped
    }

    fn scale(&self, replicas: usize) -> Finished {
        let name = &self.name;
        kubectl(&format!("scale deployment/{name} --namespace={NAMESPACE} --replicas={replicas}"))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.scale(self.replicas);
        rolled_out(&self.name);
    }
}
