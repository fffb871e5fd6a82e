//! Remediations that no visit to a node ends any more.

use std::sync::Arc;

use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};
use mainstay_runtime::{failure::RequestError, reconcile::ReconcileError, request::in_time, writes::Writes};

use super::{
    error::ApplyError,
    node,
    remediation::{self, delete, is_out_of_reach, path, resource},
};
use crate::{
    names::{FIELD_MANAGER, MULTIPLE, NODE_NAME, NODE_UID, POLICY, TEMPLATE_NAME},
    settings::TemplateRef,
};

/// A remediation that a policy has made.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The node that it is about.
    pub node: Arc<str>,
    /// That node's UID. `None`: it was made by a version that did not write it down.
    pub node_uid: Option<Box<str>>,
    /// What it was made from.
    pub template: TemplateRef,
    resource: ApiResource,
    name: String,
    uid: String,
}

/// What a list of the remediations of a policy has shown.
#[derive(Debug, Default)]
pub struct Listed {
    /// Those that there are.
    pub standing: Vec<Standing>,
    /// The kinds of which the server has not said: each by a template of it.
    pub refused: Vec<(TemplateRef, ApplyError)>,
}

impl Listed {
    /// Whether there may be one by this template, or by another one of its kind beside it.
    pub fn may_have(&self, template: &TemplateRef) -> bool {
        self.standing.iter().any(|one| one.template.is_beside(template))
            || self.refused.iter().any(|(kind, _)| kind.is_beside(template))
    }
}

/// The remediations of the policy of this name and UID that were made from templates of the kinds and in the namespaces
/// of `templates`, but for those that are being deleted. A kind that is refused keeps no other from being listed, and one that
/// is not there has no objects.
pub async fn list(client: &Client, policy: &str, uid: &str, templates: &[TemplateRef]) -> Listed {
    let mut listed = Listed::default();
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
                listed.standing.extend(owned.filter_map(|object| standing(object, template, &resource)));
            }
            Err(RequestError::NotFound(_)) => {}
            Err(source) => {
                let kind = template.remediation_kind();
                let what = format!("the {kind} objects in {}", template.namespace);
                listed.refused.push((template.clone(), ApplyError::Read { what, source }));
            }
        }
    }
    listed
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
        node_uid: annotations.get(NODE_UID).map(|uid| uid.as_str().into()),
        template: template.with_name(annotations.get(TEMPLATE_NAME)?),
        resource: resource.clone(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
    })
}

/// What is wrong with a template, or with its kind, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The template.
    pub template: TemplateRef,
    /// The sentence.
    pub words: String,
}

impl Flaw {
    /// That of this template among `flaws`.
    pub fn find<'a>(flaws: &'a [Self], template: &TemplateRef) -> Option<&'a Self> {
        flaws.iter().find(|flaw| flaw.template == *template)
    }
}

/// What keeps templates of a policy from being used: they are looked at before a node fails that needs them. Of a template of
/// which the server does not answer, what was known `before`.
pub async fn unusable(client: &Client, templates: &[TemplateRef], before: &[Flaw]) -> Vec<Flaw> {
    let mut unusable = Vec::new();
    let flaw = |template: &TemplateRef, words| Flaw { template: template.clone(), words };
    for template in templates {
        let found = match remediation::template(client, template).await {
            Ok(found) => found,
            Err(error) if is_out_of_reach(&error) => {
                let words = format!("template {template} cannot be used: {}", error.request());
                unusable.push(flaw(template, words));
                continue;
            }
            Err(error) => {
                tracing::debug!(%template, %error, "it is not known whether a template can be used");
                unusable.extend(Flaw::find(before, template).cloned());
                continue;
            }
        };
        let shares_names = templates.iter().filter(|other| other.is_beside(template)).count() > 1;
        if shares_names && !remediation::has_names_of_its_own(&found) {
            let words = format!(
                "template {template} has not the annotation {MULTIPLE}: \"true\": of several templates of a kind in a \
                 namespace only one can be used"
            );
            unusable.push(flaw(template, words));
        }
    }
    unusable
}

/// Why a remediation is no longer needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Its policy has no use for it.
    Unwanted,
    /// Its node is gone, as the watch shows.
    NodeGone,
}

impl Standing {
    /// Whether it is no longer needed. `in_use`: whether its policy may have one of this node, where the node
    /// exists; `named`: the templates that the policy names. No remediator makes a node anew that it has deleted
    /// (medik8s/node-healthcheck-operator#360), and a node of another UID is another one.
    pub fn over(&self, in_use: Option<bool>, named: &[TemplateRef]) -> Option<Over> {
        match in_use {
            None => Some(Over::NodeGone),
            Some(in_use) => (!in_use || !named.contains(&self.template)).then_some(Over::Unwanted),
        }
    }

    /// Deletes it. Where its node is gone that is looked at live before: a watch may be behind.
    ///
    /// # Errors
    /// When the server refuses it. One that is gone, or recreated, is no error.
    pub async fn delete(&self, client: &Client, over: Over) -> Result<(), ApplyError> {
        if over == Over::NodeGone && node::is_there(client, &self.node, self.node_uid.as_deref()).await? {
            return Ok(());
        }
        let (kind, name) = (&*self.resource.kind, &*self.name);
        let path = path(&self.resource, &self.template, name);
        if delete(&Writes::new(client.clone(), FIELD_MANAGER), &path, kind, &self.uid).await? {
            tracing::info!(
                node = &*self.node,
                kind,
                name,
                ?over,
                "a remediation that is no longer needed was deleted"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::apply::server::Server;

    fn template(name: &str) -> TemplateRef {
        TemplateRef {
            api_version: "x.dev/v1".into(),
            kind: "RepairTemplate".into(),
            namespace: "ns".into(),
            name: name.into(),
        }
    }

    /// Made from the template `gentle` for the node `n`, of this UID where it says so.
    pub(crate) fn made(node_uid: Option<&str>) -> Standing {
        let mut object = json!({
            "metadata": {
                "name": "n-gentle", "uid": "r", "annotations": {NODE_NAME: "n", TEMPLATE_NAME: "gentle"},
            },
        });
        if let Some(uid) = node_uid {
            object["metadata"]["annotations"][NODE_UID] = json!(uid);
        }
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Node>(&());
        standing(&object, &template("other"), &resource).unwrap()
    }

    #[test]
    fn a_remediation_is_over_when_nobody_waits_for_it() {
        let (standing, named) = (made(None), [template("gentle")]);
        assert_eq!((&*standing.node, &standing.template), ("n", &named[0]));
        assert_eq!(standing.over(Some(true), &named), None);
        let unwanted = Some(Over::Unwanted);
        assert_eq!(
            standing.over(Some(false), &named),
            unwanted,
            "the node is well, or not the policy's any more"
        );
        assert_eq!(
            standing.over(Some(true), &[template("hard")]),
            unwanted,
            "the policy has another template now"
        );
        assert_eq!(standing.over(None, &named), Some(Over::NodeGone));
    }

    #[tokio::test]
    async fn a_template_that_cannot_be_used_is_known_before_a_node_fails() {
        let server = Server::default();
        let kinds = json!({"kind": "APIResourceList", "groupVersion": "x.dev/v1", "resources": [{
            "name": "repairtemplates", "singularName": "repairtemplate", "kind": "RepairTemplate", "namespaced": true,
            "verbs": ["get"],
        }]});
        server.set("/apis/x.dev/v1", Ok(kinds));
        let path = |name: &str| format!("/apis/x.dev/v1/namespaces/ns/repairtemplates/{name}");
        let with =
            |multiple: &str| Ok(json!({"metadata": {"name": "t", "annotations": {MULTIPLE: multiple}}}));
        server.set(&path("gentle"), with("false"));
        server.set(&path("hard"), with("true"));
        let found = async |names: &[&str]| {
            let templates: Vec<_> = names.iter().map(|name| template(name)).collect();
            let found = unusable(&server.client(), &templates, &[]).await;
            found.into_iter().map(|flaw| flaw.words).collect::<Vec<_>>()
        };
        assert_eq!(found(&["gentle"]).await, Vec::<String>::new());
        let typo = found(&["gnetle", "hard"]).await;
        assert!(matches!(&typo[..], [said] if said.contains("RepairTemplate ns/gnetle")), "{typo:?}");
        let both = found(&["gentle", "hard"]).await;
        assert!(
            matches!(&both[..], [said] if said.contains("ns/gentle") && said.contains(MULTIPLE)),
            "{both:?}"
        );
        // What is known of one stays while the server says nothing of it, and what it says of others counts.
        server.set(&path("gentle"), Err(503));
        let flaw = |name: &str| Flaw { template: template(name), words: "before".into() };
        let templates = ["gentle", "hard", "gone"].map(template);
        let said = unusable(&server.client(), &templates, &["gentle", "hard", "other"].map(flaw)).await;
        let said: Vec<_> = said.iter().map(|flaw| (&*flaw.template.name, flaw.words == "before")).collect();
        assert_eq!(said, [("gentle", true), ("gone", false)]);
    }

    #[tokio::test]
    async fn a_kind_that_may_not_be_listed_keeps_no_other_from_being_swept() {
        let server = Server::default();
        let kinds = ["Lost", "Refused", "Repair"].map(|kind| {
            let plural = format!("{}s", kind.to_lowercase());
            json!({"name": plural, "singularName": "", "kind": kind, "namespaced": true, "verbs": ["list"]})
        });
        let kinds = json!({"kind": "APIResourceList", "groupVersion": "x.dev/v1", "resources": kinds});
        server.set("/apis/x.dev/v1", Ok(kinds));
        let path = |plural: &str| format!("/apis/x.dev/v1/namespaces/ns/{plural}");
        server.set(&path("refuseds"), Err(403));
        let standing = json!({
            "metadata": {
                "name": "n-gentle", "uid": "r", "annotations": {NODE_NAME: "n", TEMPLATE_NAME: "gentle"},
                "ownerReferences": [{"apiVersion": "v", "kind": "k", "name": "ours", "uid": "ours"}],
            },
        });
        server.set(&path("repairs"), Ok(json!({"metadata": {}, "items": [standing]})));
        let of = |kind: &str| TemplateRef { kind: format!("{kind}Template"), ..template("gentle") };
        let listed = list(&server.client(), "ours", "ours", &["Refused", "Lost", "Repair"].map(of)).await;
        assert_eq!(listed.standing.len(), 1, "{listed:?}");
        let [(refused, error)] = &listed.refused[..] else { panic!("{listed:?}") };
        assert_eq!(*refused, of("Refused"));
        assert!(error.to_string().contains("the Refused objects in ns"), "{error}");
        let may_have = ["Refused", "Lost", "Repair"].map(|kind| listed.may_have(&of(kind)));
        assert_eq!(may_have, [true, false, true]);
    }

    #[tokio::test]
    async fn of_a_node_that_is_gone_all_are_deleted_and_none_before_the_server_says_so() {
        // The UID that the remediation names, that of the node, and whether it is deleted.
        for (made_for, there, ends) in [
            (Some("u"), None, true),
            (Some("u"), Some("new"), true),
            (Some("u"), Some("u"), false),
            (None, None, true),
            (None, Some("u"), false),
        ] {
            let server = Server::default();
            let node = there.map(|uid| json!({"metadata": {"name": "n", "uid": uid}}));
            server.set("/api/v1/nodes/n", node.ok_or(404));
            made(made_for).delete(&server.client(), Over::NodeGone).await.unwrap();
            let bodies: Vec<_> =
                server.writes().into_iter().map(|(.., body)| body["preconditions"].clone()).collect();
            let expected = if ends { vec![json!({"uid": "r"})] } else { vec![] };
            assert_eq!(bodies, expected, "{made_for:?} {there:?}");
        }
        let server = Server::default();
        server.set("/api/v1/nodes/n", Err(503));
        made(None).delete(&server.client(), Over::NodeGone).await.unwrap_err();
        assert_eq!(server.writes(), []);
    }
}
