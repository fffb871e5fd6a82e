//! Gives a target a revision, by server-side apply.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    ResourceExt,
    api::{DynamicObject, Patch},
};
use mainstay_crds::{ConfigMode, ConfigRollout};
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    request::{ObjectPath, read},
    slim,
    writes::Writes,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    error::ApplyError,
    writer::{Writer, resource},
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
pub enum TargetResult {
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
    /// When the target cannot be read or written for another reason than another manager's fields.
    pub async fn give(
        &self,
        rollout: &ConfigRollout,
        seen: &Seen,
        target: &TargetKey,
        number: Number,
    ) -> Result<TargetResult, ApplyError> {
        let failed = |source| ApplyError::Target { what: target.to_string(), source };
        let namespace = rollout.namespace().unwrap_or_default();
        let key = ObjectKey::new(&namespace, &target.name);
        let resource = resource(target.kind);
        let path = ObjectPath::of_kind::<DynamicObject>(&resource, &key);
        let view = seen.observed.targets.iter().find(|view| view.key == *target);
        let Some(live) = read::<Live>(&self.client, &path).await.map_err(failed)? else {
            return Ok(TargetResult::Gone);
        };
        if view.is_none_or(|view| live.metadata.uid.as_deref() != Some(&*view.uid)) {
            return Ok(TargetResult::Gone);
        }
        let body = json!({
            "apiVersion": resource.api_version,
            "kind": target.kind,
            "metadata": {"name": &*target.name, "namespace": &namespace, "uid": live.metadata.uid},
            "spec": {"template": self.template(rollout, seen, &live.spec.template.spec, number)},
        });
        let (writes, rollout_key) = (self.of_rollout(rollout), ObjectKey::of(rollout));
        let noted = writes.noted(&self.targets[target.kind as usize], &rollout_key);
        let mut given = noted.patch(&path, &Patch::Apply(&body)).await;
        if let Err(RequestError::FieldManagerConflict { managers, .. }) = &given
            && may_be_taken(rollout, managers)
        {
            tracing::info!(%target, ?managers, "taking fields over, as spec.takeOverFrom says");
            given = noted.apply(&path, &body).await;
        }
        match given {
            Ok(_) => Ok(TargetResult::Done),
            Err(RequestError::FieldManagerConflict { managers, .. }) => {
                Ok(TargetResult::Conflict(sentence(target, &managers)))
            }
            Err(RequestError::NotFound(_)) => Ok(TargetResult::Gone),
            Err(error) => Err(failed(error)),
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

    /// Writes under the rollout's own field manager, so that two rollouts do not take each other's fields away.
    fn of_rollout(&self, rollout: &ConfigRollout) -> Writes<'static> {
        Writes::new(self.client.clone(), &format!("{FIELD_MANAGER}.{}", rollout.name_any()))
    }
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
