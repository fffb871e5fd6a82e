//! Gives a target a revision, by server-side apply.

use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use mainstay_crds::{ConfigMode, ConfigRollout};
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    request::{LIMIT, METADATA_ONLY, Written, malformed, send},
    slim,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    error::ApplyError,
    writer::{Writer, target_path, target_version},
};
use crate::{
    names::{FIELD_MANAGER, annotation},
    observe::Seen,
    plan::{Number, TargetKey},
    references,
};

/// What an object without any field manager is said to be managed by.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// What has come of giving a target a revision.
#[derive(Debug, PartialEq, Eq)]
pub enum Given {
    /// It has it.
    Done,
    /// It is gone, or another of that name.
    Gone,
    /// Fields of another manager are in the way: whose, and what to do.
    Conflict(String),
}

/// A target as it is, with what a move must know.
#[derive(Deserialize)]
struct Live {
    #[serde(deserialize_with = "slim::metadata")]
    metadata: ObjectMeta,
    spec: LiveSpec,
}

#[derive(Deserialize)]
struct LiveSpec {
    template: LiveTemplate,
}

#[derive(Deserialize)]
struct LiveTemplate {
    #[serde(default)]
    spec: Value,
}

impl Writer {
    /// Gives `target` the revision `number`.
    ///
    /// # Errors
    /// When the target cannot be read or written for another reason than somebody else's fields.
    pub async fn give(
        &self,
        rollout: &ConfigRollout,
        seen: &Seen,
        target: &TargetKey,
        number: Number,
    ) -> Result<Given, ApplyError> {
        let failed = |source| ApplyError::Target { what: target.to_string(), source };
        let namespace = rollout.namespace().unwrap_or_default();
        let url = target_path(target.kind, &namespace, &target.name);
        let view = seen.observed.targets.iter().find(|view| view.key == *target);
        let live: Live = match send(&self.client, Request::get(&url).body(Vec::new())).await {
            Ok(live) => live,
            Err(RequestError::NotFound(_)) => return Ok(Given::Gone),
            Err(error) => return Err(failed(error)),
        };
        if view.is_none_or(|view| live.metadata.uid.as_deref() != Some(&*view.uid)) {
            return Ok(Given::Gone);
        }
        let body = json!({
            "apiVersion": target_version(target.kind),
            "kind": target.kind,
            "metadata": {"name": &*target.name, "namespace": &namespace, "uid": live.metadata.uid},
            "spec": {"template": self.template(rollout, seen, &live.spec.template.spec, number)},
        });
        let key = ObjectKey::new(&namespace, &target.name);
        match self.patch(rollout, target, &key, &url, &body, false).await {
            Ok(()) => Ok(Given::Done),
            Err(Refused::Managers(others)) if may_be_taken(rollout, &others) => {
                tracing::info!(%target, ?others, "taking fields over, as spec.takeOverFrom says");
                match self.patch(rollout, target, &key, &url, &body, true).await {
                    Ok(()) => Ok(Given::Done),
                    Err(Refused::Managers(others)) => Ok(Given::Conflict(sentence(target, &others))),
                    Err(Refused::Other(RequestError::NotFound(_))) => Ok(Given::Gone),
                    Err(Refused::Other(error)) => Err(failed(error)),
                }
            }
            Err(Refused::Managers(others)) => Ok(Given::Conflict(sentence(target, &others))),
            Err(Refused::Other(RequestError::NotFound(_))) => Ok(Given::Gone),
            Err(Refused::Other(error)) => Err(failed(error)),
        }
    }

    /// What the target's template is to say. What an earlier apply said and this one does not is taken away by the
    /// server, so all references are named each time.
    fn template(&self, rollout: &ConfigRollout, seen: &Seen, spec: &Value, number: Number) -> Value {
        let Seen { observed, names } = seen;
        match annotation(rollout.spec.mode, &rollout.name_any()) {
            Some(_) if number == 0 => json!({}),
            Some(key) => json!({"metadata": {"annotations": {key: number.to_string()}}}),
            None => {
                let rename = |kind, name: &str| {
                    let (source, _) = names.resolve(&self.stores, kind, name)?;
                    let object = observed.snapshots.get(&source)?.get(&observed.object(&source, number));
                    Some(object.map_or_else(|| source.name.to_string(), |object| object.name.to_string()))
                };
                let spec = references::apply_body(spec, rename);
                spec.map_or_else(|| json!({}), |spec| json!({"spec": spec}))
            }
        }
    }

    async fn patch(
        &self,
        rollout: &ConfigRollout,
        target: &TargetKey,
        key: &ObjectKey,
        url: &str,
        body: &Value,
        force: bool,
    ) -> Result<(), Refused> {
        let url = format!("{url}?fieldManager={}&force={force}", field_manager(rollout));
        let request = Request::patch(url)
            .header(http::header::ACCEPT, METADATA_ONLY)
            .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
            .body(serde_json::to_vec(body).unwrap_or_default());
        let request = request.map_err(|error| Refused::Other(malformed(error)))?;
        let answer = tokio::time::timeout(LIMIT, self.client.request::<Written>(request)).await;
        match answer.map_err(|_| Refused::Other(RequestError::timed_out(LIMIT)))? {
            Ok(Written { metadata }) => {
                let gate = &self.targets[target.kind as usize];
                gate.stored(
                    &ObjectKey::of(rollout),
                    key,
                    &metadata.uid,
                    metadata.resource_version.as_deref(),
                );
                Ok(())
            }
            Err(kube::Error::Api(status)) => {
                let managers = managers(&status);
                Err(if managers.is_empty() {
                    Refused::Other((*status).into())
                } else {
                    Refused::Managers(managers)
                })
            }
            Err(error) => Err(Refused::Other(error.into())),
        }
    }
}

/// The name of a rollout's field manager: of each its own, so that two of them do not take each other's fields away.
fn field_manager(rollout: &ConfigRollout) -> String {
    format!("{FIELD_MANAGER}.{}", rollout.name_any())
}

/// Why a patch was refused.
enum Refused {
    /// These managers have fields of it.
    Managers(Vec<String>),
    /// Anything else.
    Other(RequestError),
}

/// The managers that the server names in a refused apply: each cause of the reason `FieldManagerConflict` says
/// `conflict with "manager"…` (apimachinery, structured-merge-diff's conflicts as `pkg/api/errors` words them).
fn managers(status: &kube::core::Status) -> Vec<String> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let conflicts = causes.filter(|cause| cause.reason == "FieldManagerConflict");
    let mut managers: Vec<_> =
        conflicts.map(|cause| cause.message.split('"').nth(1).unwrap_or(&cause.message).to_owned()).collect();
    managers.sort();
    managers.dedup();
    managers
}

fn may_be_taken(rollout: &ConfigRollout, managers: &[String]) -> bool {
    managers
        .iter()
        .all(|manager| manager == BEFORE_FIRST_APPLY || rollout.spec.take_over_from.contains(manager))
}

fn sentence(target: &TargetKey, managers: &[String]) -> String {
    format!(
        "{target} is managed by {}: use spec.mode {:?}, which does not change its references, or name that \
         manager in spec.takeOverFrom",
        managers.join(" and "),
        ConfigMode::Admission
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_manager_is_named() {
        let status: kube::core::Status = serde_json::from_value(json!({
            "status": "Failure", "reason": "Conflict", "code": 409, "message": "Apply failed with 1 conflict",
            "details": {"causes": [{
                "reason": "FieldManagerConflict",
                "message": "conflict with \"argocd-controller\" using apps/v1",
                "field": ".spec.template.spec.volumes[name=\"c\"].configMap.name",
            }]},
        }))
        .unwrap();
        assert_eq!(managers(&status), ["argocd-controller"]);
    }
}
