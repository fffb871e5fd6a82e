//! Remediations that no visit to a node ends any more.

use std::sync::Arc;

use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};
use mainstay_runtime::{failure::RequestError, request::in_time};

use super::{
    error::ApplyError,
    remediation::{condition, delete, resource},
};
use crate::{
    names::{NODE_NAME, POLICY, TEMPLATE_NAME},
    settings::TemplateRef,
};

/// A remediation that a policy has made.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The node that it is about.
    pub node: Arc<str>,
    /// What it was made from.
    pub template: TemplateRef,
    /// Whether its remediator has said that the node will be gone for good.
    pub ends_node: bool,
    resource: ApiResource,
    name: String,
    uid: Option<String>,
}

/// The remediations of the policy of this name and UID that were made from templates of the kinds and in the namespaces
/// of `templates`, but for those that are being deleted.
///
/// # Errors
/// When the server refuses a list. A kind that is not there has no objects, and that is no error.
pub async fn list(
    client: &Client,
    policy: &str,
    uid: &str,
    templates: &[TemplateRef],
) -> Result<Vec<Standing>, ApplyError> {
    let mut all = Vec::new();
    for (index, template) in templates.iter().enumerate() {
        if templates[..index].iter().any(|before| before.is_beside(template)) {
            continue;
        }
        match of_kind(client, policy, template).await {
            Ok((resource, objects)) => {
                let owned = objects.iter().filter(|object| {
                    object.owner_references().iter().any(|owner| owner.uid == uid)
                        && object.metadata.deletion_timestamp.is_none()
                });
                all.extend(owned.filter_map(|object| standing(object, template, &resource)));
            }
            Err(RequestError::NotFound(_)) => {}
            Err(source) => {
                let kind = template.remediation_kind();
                let what = format!("the {kind} objects in {}", template.namespace);
                return Err(ApplyError::Read { what, source });
            }
        }
    }
    Ok(all)
}

async fn of_kind(
    client: &Client,
    policy: &str,
    template: &TemplateRef,
) -> Result<(ApiResource, Vec<DynamicObject>), RequestError> {
    let resource = resource(client, &template.api_version, template.remediation_kind()).await?;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &template.namespace, &resource);
    let params = ListParams::default().labels(&format!("{POLICY}={policy}"));
    let listed = in_time(api.list(&params)).await?;
    Ok((resource, listed.items))
}

fn standing(object: &DynamicObject, template: &TemplateRef, resource: &ApiResource) -> Option<Standing> {
    let annotations = object.annotations();
    Some(Standing {
        node: annotations.get(NODE_NAME)?.as_str().into(),
        template: template.with_name(annotations.get(TEMPLATE_NAME)?),
        ends_node: condition(object, "PermanentNodeDeletionExpected") == Some(true),
        resource: resource.clone(),
        name: object.name_any(),
        uid: object.uid(),
    })
}

impl Standing {
    /// Whether nobody waits for it any more. `in_use`: whether its policy may have one of this node, where the node
    /// exists; `named`: the templates that the policy names. A remediator may delete a node and make it anew, so that
    /// without a node it is over when the remediator says so.
    pub fn is_over(&self, in_use: Option<bool>, named: &[TemplateRef]) -> bool {
        match in_use {
            Some(in_use) => !in_use || !named.contains(&self.template),
            None => self.ends_node,
        }
    }

    /// Deletes it.
    ///
    /// # Errors
    /// When the server refuses it. One that is gone, or made anew, is no error.
    pub async fn delete(&self, client: &Client) -> Result<(), ApplyError> {
        let (kind, name) = (&*self.resource.kind, &*self.name);
        let api = Api::namespaced_with(client.clone(), &self.template.namespace, &self.resource);
        if delete(&api, kind, name, self.uid.clone()).await? {
            tracing::info!(
                node = &*self.node,
                kind,
                name,
                "a remediation has ended, as nobody waits for it any more"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    fn template(name: &str) -> TemplateRef {
        TemplateRef {
            api_version: "x.dev/v1".into(),
            kind: "RepairTemplate".into(),
            namespace: "ns".into(),
            name: name.into(),
        }
    }

    /// Made from the template `gentle` for the node `n`.
    pub(crate) fn made(conditions: serde_json::Value) -> Standing {
        let object = json!({
            "metadata": {"name": "n-gentle", "annotations": {NODE_NAME: "n", TEMPLATE_NAME: "gentle"}},
            "status": {"conditions": conditions},
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Node>(&());
        standing(&object, &template("other"), &resource).unwrap()
    }

    #[test]
    fn a_remediation_is_over_when_nobody_waits_for_it() {
        let (standing, named) = (made(json!([])), [template("gentle")]);
        assert_eq!((&*standing.node, &standing.template), ("n", &named[0]));
        assert!(!standing.is_over(Some(true), &named));
        assert!(standing.is_over(Some(false), &named), "the node is well, or not the policy's any more");
        assert!(standing.is_over(Some(true), &[template("hard")]), "the policy has another template now");
    }

    #[test]
    fn without_a_node_its_remediator_decides() {
        let named = [template("gentle")];
        assert!(!made(json!([])).is_over(None, &named), "it may make the node anew");
        let says = |status| made(json!([{"type": "PermanentNodeDeletionExpected", "status": status}]));
        assert!(!says("False").is_over(None, &named));
        assert!(says("True").is_over(None, &named));
    }
}
