//! The Service that a pool makes.

use k8s_openapi::{api::core::v1, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::api::Patch;
use mainstay_crds::ServiceTemplate;
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    owner,
    request::{ObjectPath, find},
};
use serde_json::{Value, json};

use super::{Job, Kept, Writer, error::ApplyError};
use crate::watched::{Service, ServicePort};

impl Writer {
    /// Whether the store shows what was last written of the pool's Service, so that it may be written.
    pub fn shows_service(&self, pool: &ObjectKey) -> bool {
        self.service_gate.is_open(pool, &self.stores.services)
    }

    /// Makes the pool's Service if there is none, and keeps it as the pool says if it is the pool's own. Returns whether
    /// it was made.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn keep_service(
        &self,
        job: &Job<'_>,
        template: &ServiceTemplate,
        standing: Option<&Service>,
    ) -> Result<bool, ApplyError> {
        let uid = job.pool.metadata.uid.as_deref();
        if standing.is_some_and(|standing| standing.owner.as_deref() != uid || standing.header.terminating) {
            return Ok(false);
        }
        let generation = job.pool.metadata.generation;
        if let Some(standing) = standing
            && let Some(kept) = self.services.lock().get(job.key)
            && kept.generation == generation
            && standing.header.version <= kept.version
        {
            return Ok(false);
        }
        let name = &job.pool.spec.service_ref.name;
        let failed = |source| ApplyError::Service { service: name.clone(), source };
        let version = self.apply_service(job, template, standing).await.map_err(failed)?;
        self.services.lock().insert(job.key.clone(), Kept { generation, version });
        Ok(standing.is_none())
    }

    async fn apply_service(
        &self,
        job: &Job<'_>,
        template: &ServiceTemplate,
        standing: Option<&Service>,
    ) -> Result<Option<u64>, RequestError> {
        let ServiceTemplate { labels, annotations, spec } = template;
        let name = &job.pool.spec.service_ref.name;
        let mut patch = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": name, "labels": labels, "annotations": annotations, "ownerReferences": [owner::reference(job.pool)],
            },
            "spec": spec,
        });
        let service = ObjectPath::of::<v1::Service>(&ObjectKey::new(&job.key.namespace, name));
        let writes = self.writes.noted(&self.service_gate, job.key);
        // Only what is the pool's own is written over, and not a later Service of the same name.
        let Some(standing) = standing else {
            // The store may not show one of somebody else yet: an apply would add the pool's owner reference to it.
            // Its own, of which the answer was lost, is written again.
            let is_ours = |found: ObjectMeta| {
                owner::controller(&found)
                    .is_some_and(|owner| Some(&owner.uid) == job.pool.metadata.uid.as_ref())
            };
            if !find(&self.client, &service).await?.is_none_or(is_ours) {
                return Err(RequestError::Conflict("it exists already".to_owned()));
            }
            return Ok(writes.patch(&service, &Patch::Apply(patch)).await?.version());
        };
        patch["metadata"]["uid"] = json!(&*standing.header.uid);
        if has_foreign_ports(standing, template) {
            // Server-side apply would leave ports that somebody else has added.
            let ports = json!({"metadata": patch["metadata"], "spec": {"ports": spec["ports"]}});
            writes.patch(&service, &Patch::Merge(ports)).await?;
        }
        Ok(writes.apply(&service, patch).await?.version())
    }
}

/// Whether a Service has a port that its pool does not name: ports are told apart by number and protocol.
fn has_foreign_ports(standing: &Service, template: &ServiceTemplate) -> bool {
    let ports = template.spec.get("ports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named = |port: &ServicePort| {
        let protocol = |named: &Value| named["protocol"].as_str().unwrap_or("TCP").to_owned();
        ports.iter().any(|named| named["port"] == port.port && protocol(named) == port.protocol)
    };
    !standing.ports.iter().all(named)
}
