//! Remediations by the contract of medik8s: made from a template, timed out by an annotation, deleted when the node is
//! well. The remediator does the rest, and cleans up in its own finalizer.
//!
//! Contract: <https://github.com/medik8s/node-healthcheck-operator/blob/main/docs/configuration.md>.

use std::sync::Arc;

use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, Patch},
    core::{GroupVersionKind, Status},
    discovery,
};
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    reconcile::ReconcileError,
    request::{ObjectPath, in_time, read},
    writes::Writes,
};
use serde_json::json;

use super::{error::ApplyError, still::Precondition};
use crate::{
    names::{BOOT, FIELD_MANAGER, MULTIPLE, NODE_NAME, NODE_UID, POLICY, TEMPLATE_NAME, TIMED_OUT},
    plan::Wanted,
    settings::TemplateRef,
};

/// The policy and the node that remediations are for.
#[derive(Debug, Clone)]
pub struct Case {
    /// The policy's name.
    pub policy: Arc<str>,
    /// Its UID: it owns the remediations.
    pub policy_uid: Box<str>,
    /// The node, and why it is unhealthy: none is made for another node of its name, nor for one that has come back.
    pub node: Precondition,
    /// The templates, in their order.
    pub templates: Vec<TemplateRef>,
    /// Which of them is to stand.
    pub wanted: Wanted,
}

/// What came of a visit to a node's remediations.
#[derive(Debug, Default)]
pub struct Visit {
    /// The last template whose remediation stands, and what it says of itself.
    pub stands: Option<(usize, Option<bool>)>,
    /// Those of this policy that have succeeded, by their templates, and the boot for which each was made.
    pub succeeded: Vec<(TemplateRef, String)>,
    /// The remediation that was made.
    pub created: Option<String>,
    /// Those that were told that their time is over.
    pub timed_out: Vec<String>,
    /// What keeps a template out of reach: its kind is not there, or may not be read, or nothing can be made from it. Of
    /// such a kind nothing is seen to stand and nothing is made.
    pub out_of_reach: Option<ApplyError>,
    /// The templates that are.
    pub unreached: Vec<TemplateRef>,
    /// Whether a live read has shown that the node is no longer unhealthy, so that no remediation began or was ended.
    pub refuted: bool,
}

impl Visit {
    fn misses(&mut self, template: &TemplateRef, error: ApplyError) {
        self.out_of_reach.get_or_insert(error);
        self.unreached.push(template.clone());
    }
}

/// Brings the remediations of a node to what is wanted. A template that is out of reach until a person changes something
/// keeps no other from its turn, and a node that is well from no policy.
///
/// # Errors
/// When the server refuses a request, or does not answer: what stands is then not known.
pub async fn visit(client: &Client, case: &Case) -> Result<Visit, ApplyError> {
    let mut visit = Visit::default();
    for (index, template) in case.templates.iter().enumerate() {
        let remediation = match Remediation::find(client, case, template).await {
            Ok(remediation) => remediation,
            Err(error) if is_out_of_reach(&error) => {
                visit.misses(template, error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(standing) = &remediation.standing else {
            match case.wanted {
                Wanted::Template(wanted) if index == wanted => {
                    match remediation.create(client, case, template).await {
                        Ok(created) => {
                            visit.refuted |= created.is_none();
                            // That of an earlier template still stands.
                            if created.is_some() {
                                visit.stands = Some((index, None));
                            }
                            visit.created = created;
                        }
                        Err(error) if is_out_of_reach(&error) => visit.misses(template, error),
                        Err(error) => return Err(error),
                    }
                }
                // It had its turn.
                Wanted::Template(wanted) if index < wanted => {
                    if let Err(error) = remediation.template {
                        visit.misses(template, error);
                    }
                }
                _ => {}
            }
            continue;
        };
        let succeeded = succeeded(standing);
        visit.stands = Some((index, succeeded));
        if let Some(boot) = standing.annotations().get(BOOT)
            && succeeded == Some(true)
            && is_made_from(standing, template)
            && standing.owner_references().iter().any(|owner| owner.uid == *case.policy_uid)
        {
            visit.succeeded.push((template.clone(), boot.clone()));
        }
        match case.wanted {
            Wanted::None => remediation.delete(standing).await?,
            Wanted::Template(wanted)
                if index < wanted
                    && succeeded.is_none()
                    && !standing.annotations().contains_key(TIMED_OUT) =>
            {
                if case.node.holds(client).await?.is_bad() {
                    visit.timed_out.push(remediation.time_out(standing).await?);
                } else {
                    visit.refuted = true;
                }
            }
            Wanted::Look | Wanted::Template(_) => {}
        }
    }
    Ok(visit)
}

/// Whether it stays so until a person changes something.
pub(super) fn is_out_of_reach(error: &ApplyError) -> bool {
    use RequestError::{AlreadyExists, Forbidden, NotFound};
    matches!(error.request(), NotFound(_) | Forbidden(_) | AlreadyExists(_))
}

/// The remediation of one node by one template.
struct Remediation {
    writes: Writes<'static>,
    resource: ApiResource,
    /// Or why nothing can be made from it, which matters only where something is to be.
    template: Result<DynamicObject, ApplyError>,
    path: ObjectPath,
    standing: Option<DynamicObject>,
}

impl Remediation {
    async fn find(client: &Client, case: &Case, reference: &TemplateRef) -> Result<Self, ApplyError> {
        let mut template = match template(client, reference).await {
            Err(error) if !is_out_of_reach(&error) => return Err(error),
            template => template,
        };
        let kind = reference.remediation_kind();
        let resource = resource(client, &reference.api_version, kind).await;
        let resource = resource.map_err(unread(format!("the kind {kind}")))?;
        let (mut path, mut standing, mut is_name_taken) = (path(&resource, reference, ""), None, false);
        for name in names(&case.node.node, reference, template.as_ref().ok()) {
            path.key.name = name.as_str().into();
            let found: Option<DynamicObject> =
                read(client, &path).await.map_err(unread(format!("{kind} {name}")))?;
            is_name_taken = found.as_ref().is_some_and(|found| is_of_another(found, reference, case));
            // One that somebody else has made is his to end; to wait for its end is right all the same.
            standing =
                found.filter(|found| !is_name_taken && (template.is_ok() || is_made_from(found, reference)));
            if standing.is_some() {
                break;
            }
        }
        if standing.is_none() && is_name_taken {
            template = Err(name_taken(kind, &path.key.name));
        }
        let writes = Writes::new(client.clone(), FIELD_MANAGER);
        Ok(Self { writes, resource, template, path, standing })
    }

    fn label(&self) -> String {
        format!("{} {}", self.resource.kind, self.path.key.name)
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(RequestError) -> ApplyError {
        let remediation = self.label();
        move |source| ApplyError::Remediation { action, remediation, source }
    }

    /// Makes it. `None`: the node that it was to be for is gone, was recreated, or is no longer unhealthy.
    async fn create(
        self,
        client: &Client,
        case: &Case,
        reference: &TemplateRef,
    ) -> Result<Option<String>, ApplyError> {
        let template = match self.template {
            Ok(ref template) => template,
            Err(error) => return Err(error),
        };
        if !case.node.holds(client).await?.is_bad() {
            return Ok(None);
        }
        let object = json!({
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "metadata": {
                "name": &*self.path.key.name,
                "namespace": reference.namespace,
                "labels": {POLICY: &*case.policy},
                "annotations": {
                    NODE_NAME: &*case.node.node, NODE_UID: &*case.node.uid, BOOT: &*case.node.boot_id,
                    TEMPLATE_NAME: reference.name,
                },
                "ownerReferences": [{
                    "apiVersion": "mainstay.dev/v1alpha1", "kind": "NodeHealthPolicy",
                    "name": &*case.policy, "uid": &*case.policy_uid, "controller": false,
                }],
            },
            "spec": template.data.pointer("/spec/template/spec").cloned().unwrap_or_else(|| json!({})),
        });
        match self.writes.create(&self.path, object.to_string()).await {
            Ok(_) | Err(RequestError::AlreadyExists(_)) => Ok(Some(self.label())),
            Err(source) => Err(self.failed("create")(source)),
        }
    }

    async fn time_out(&self, standing: &DynamicObject) -> Result<String, ApplyError> {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let patch = json!({"metadata": {"uid": standing.metadata.uid, "annotations": {TIMED_OUT: now}}});
        let patched = self.writes.patch(&self.path, &Patch::Merge(patch)).await;
        patched.map(|_| self.label()).map_err(self.failed("time out"))
    }

    /// Only what this project has made.
    async fn delete(&self, standing: &DynamicObject) -> Result<(), ApplyError> {
        if standing.metadata.deletion_timestamp.is_some() || !standing.labels().contains_key(POLICY) {
            return Ok(());
        }
        let uid = standing.metadata.uid.as_deref().unwrap_or_default();
        delete(&self.writes, &self.path, &self.resource.kind, uid).await.map(drop)
    }
}

/// Where the object of this name is, beside the template.
pub(super) fn path(kind: &ApiResource, template: &TemplateRef, name: &str) -> ObjectPath {
    ObjectPath::of_kind::<DynamicObject>(kind, &ObjectKey::new(&template.namespace, name))
}

fn unread(what: String) -> impl FnOnce(RequestError) -> ApplyError {
    move |source| ApplyError::Read { what, source }
}

pub(super) async fn template(client: &Client, reference: &TemplateRef) -> Result<DynamicObject, ApplyError> {
    let resource = resource(client, &reference.api_version, &reference.kind).await;
    let resource = resource.map_err(unread(format!("the kind {}", reference.kind)))?;
    let templates: Api<DynamicObject> = Api::namespaced_with(client.clone(), &reference.namespace, &resource);
    in_time(templates.get(&reference.name)).await.map_err(unread(reference.to_string()))
}

/// Which names a node's remediation may have; without the template, which decides it, either.
fn names(node: &str, reference: &TemplateRef, template: Option<&DynamicObject>) -> Vec<String> {
    let (own, shared) = (format!("{node}-{}", reference.name), node.to_owned());
    match template.map(has_names_of_its_own) {
        Some(true) => vec![own],
        Some(false) => vec![shared],
        None => vec![own, shared],
    }
}

/// Whether remediations are named after the template as well, so that several of its kind can be used.
pub(super) fn has_names_of_its_own(template: &DynamicObject) -> bool {
    template.annotations().get(MULTIPLE).is_some_and(|value| value == "true")
}

fn is_made_from(remediation: &DynamicObject, reference: &TemplateRef) -> bool {
    remediation.annotations().get(TEMPLATE_NAME).is_some_and(|name| *name == reference.name)
}

/// Whether it says that it was made from another template of its kind, or for another node: names may be the same, also
/// those of a node and of one that was there before it.
fn is_of_another(remediation: &DynamicObject, reference: &TemplateRef, case: &Case) -> bool {
    let says = |key: &str, other: &str| remediation.annotations().get(key).is_some_and(|said| said != other);
    says(TEMPLATE_NAME, &reference.name) || says(NODE_NAME, &case.node.node) || says(NODE_UID, &case.node.uid)
}

fn name_taken(kind: &str, name: &str) -> ApplyError {
    let words = format!(
        "another remediation has this name; one of an earlier node of this name will be deleted soon; \
         several templates of a kind in one namespace need the annotation {MULTIPLE}: \"true\""
    );
    let (remediation, source) = (format!("{kind} {name}"), RequestError::AlreadyExists(words));
    ApplyError::Remediation { action: "create", remediation, source }
}

/// Deletes the remediation of this name and UID, whose remediator cleans up in its own finalizer. Returns whether it
/// stood: one that is gone, or was recreated, is no error.
pub(super) async fn delete(
    writes: &Writes<'_>,
    path: &ObjectPath,
    kind: &str,
    uid: &str,
) -> Result<bool, ApplyError> {
    match writes.delete(path, uid, None).await {
        Err(RequestError::Conflict(_)) => Ok(false),
        deleted => deleted.map_err(|source| {
            let remediation = format!("{kind} {}", path.key.name);
            ApplyError::Remediation { action: "delete", remediation, source }
        }),
    }
}

/// The API's own description of a kind.
pub(super) async fn resource(
    client: &Client,
    api_version: &str,
    kind: &str,
) -> Result<ApiResource, RequestError> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = GroupVersionKind::gvk(group, version, kind);
    let found = in_time(async {
        discovery::pinned_kind(client, &kind).await.map_err(|error| match error {
            // The group is there and the kind is not: to who asks, both are the same.
            kube::Error::Discovery(missing) => {
                kube::Error::Api(Box::new(Status::failure(&missing.to_string(), "NotFound").with_code(404)))
            }
            error => error,
        })
    });
    found.await.map(|(resource, _)| resource)
}

/// The condition `Succeeded`; nothing while it is not decided.
fn succeeded(remediation: &DynamicObject) -> Option<bool> {
    let conditions = remediation.data.pointer("/status/conditions")?.as_array()?;
    let condition = conditions.iter().find(|condition| condition["type"] == "Succeeded")?;
    match condition["status"].as_str()? {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
