//! Makes revisions: reads sources, compares them with what there is, and copies what has changed.
//!
//! Values are in memory for as long as one source is compared or copied, and nowhere else: no error, log line or
//! finding has them. What is to be copied is read a second time, so that never more than one source is held.

use std::{collections::BTreeSet, fmt, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mainstay_crds::SourceKind;
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    request::{find, read},
    slim,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    error::ApplyError,
    writer::{Writer, source_path},
};
use crate::{
    names::object_name,
    plan::{Finding, Findings, Number, Observed, Problem, SourceKey, SourceVersion, State, Uses},
    watched::Mark,
};

/// The longest name that an object may have.
const MAX_NAME: usize = 253;
/// A Secret of this type is filled by the cluster's own controller: its copy must not be.
const FILLED_BY_OTHERS: &str = "kubernetes.io/service-account-token";

/// A Secret or ConfigMap with its values.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    #[serde(deserialize_with = "slim::metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    data: Option<Map<String, Value>>,
    #[serde(default)]
    binary_data: Option<Map<String, Value>>,
    r#type: Option<String>,
}

/// No value is ever printed.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Content").field(&self.metadata.name).finish()
    }
}

impl Content {
    fn version(&self) -> SourceVersion {
        SourceVersion {
            uid: self.metadata.uid.as_deref().unwrap_or_default().into(),
            version: self.metadata.resource_version.as_deref().unwrap_or_default().into(),
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        let of =
            |values: &'_ Option<Map<String, Value>>| values.as_ref().is_some_and(|it| it.contains_key(key));
        let values = if of(&self.data) { &self.data } else { &self.binary_data };
        values.as_ref()?.get(key)
    }

    /// Whether pods that use it so see the same of both.
    fn equals(&self, other: &Self, uses: &Uses) -> bool {
        let same = |one: &Option<Map<String, Value>>, other: &Option<Map<String, Value>>| {
            let is_empty = |values: &Option<Map<String, Value>>| values.as_ref().is_none_or(Map::is_empty);
            one == other || is_empty(one) && is_empty(other)
        };
        if uses.all {
            return same(&self.data, &other.data) && same(&self.binary_data, &other.binary_data);
        }
        uses.keys.keys().all(|key| self.get(key) == other.get(key))
    }

    fn missing(&self, uses: &Uses) -> Option<Problem> {
        let required = uses.keys.iter().filter(|(_, required)| **required).map(|(key, _)| key);
        let missing: Vec<_> = required.filter(|key| self.get(key).is_none()).cloned().collect();
        (!missing.is_empty()).then_some(Problem::KeyMissing(missing))
    }

    /// The body of an immutable copy.
    fn copy(&self, kind: SourceKind, mark: &Mark, namespace: &str) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Copy<'a> {
            api_version: &'a str,
            kind: SourceKind,
            metadata: ObjectMeta,
            immutable: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: &'a Option<Map<String, Value>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            binary_data: &'a Option<Map<String, Value>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            r#type: Option<&'a str>,
        }
        let copy = Copy {
            api_version: "v1",
            kind,
            metadata: mark.write(namespace),
            immutable: true,
            data: &self.data,
            binary_data: &self.binary_data,
            r#type: self.r#type.as_deref().filter(|kind| *kind != FILLED_BY_OTHERS),
        };
        serde_json::to_vec(&copy).unwrap_or_default()
    }
}

/// What reading the sources has come to.
#[derive(Debug, Default)]
pub struct Examined {
    /// What was found.
    pub findings: Findings,
    /// The revision that was made.
    pub made: Option<Number>,
}

/// A source that has been read, and what was found.
type Read = (SourceKey, Finding);

impl Writer {
    /// Reads the sources that are not known to be as the newest revision has them. Where they are neither that nor the
    /// current one, makes a revision of what has changed; with `holds`, only if all can be in one.
    ///
    /// # Errors
    /// When a source cannot be read, or an object of the revision cannot be made. What has been made stays, and is
    /// part of the next revision.
    pub async fn examine(
        &self,
        rollout: &ObjectKey,
        observed: &Observed,
        state: &State,
        findings: &Findings,
        holds: bool,
    ) -> Result<Examined, ApplyError> {
        let mut reads = Vec::new();
        let mut examined = Examined::default();
        let mut is_complete = true;
        for source in observed.sound_sources(findings) {
            if observed.is_copied(source, state.newest) {
                continue;
            }
            let Some(finding) = self.compare(rollout, observed, state, source).await? else {
                is_complete = false;
                continue;
            };
            if finding.problem.is_none() {
                reads.push((source.clone(), finding));
            } else {
                examined.findings.insert(source.clone(), finding);
            }
        }
        let equal = |number: Number| {
            reads.iter().all(|(source, finding)| finding.equals.contains(&observed.object(source, number)))
        };
        let rolls_back = state.stable.is_some_and(|stable| {
            let untouched = observed.sound_sources(findings).all(|source| {
                reads.iter().any(|(read, _)| read == source)
                    || observed.object(source, stable) == observed.object(source, state.newest)
            });
            stable > 0 && untouched && equal(stable)
        });
        let settled = state.newest > 0 && equal(state.newest) || rolls_back;
        // What was found is known from now on, and holds the next revision up.
        let is_held = holds && !(is_complete && examined.findings.is_empty());
        if !settled && !is_held {
            reads.retain(|(source, finding)| {
                let object = observed.object(source, state.newest);
                !finding.equals.contains(&object)
            });
            // What was deleted with a ConfigRollout of the same name may be named by pods, and by templates to which
            // `kubectl rollout undo` goes back: they must not get other content under that name.
            let used = match state.newest {
                0 => self.highest_in_use(rollout, observed.uses.keys()).await?,
                newest => newest,
            };
            let number = used.max(observed.highest()) + 1;
            examined.made = self.make(rollout, number, &mut reads).await?;
        }
        examined.findings.extend(reads);
        Ok(examined)
    }

    /// Reads a source and compares it with its objects in the newest and the current revision; `None` when it is gone.
    async fn compare(
        &self,
        rollout: &ObjectKey,
        observed: &Observed,
        state: &State,
        source: &SourceKey,
    ) -> Result<Option<Finding>, ApplyError> {
        let namespace = &rollout.namespace;
        let content = self.read_config(source.kind, namespace, &source.name).await?;
        // The store is about to show that it is gone.
        let Some(content) = content else { return Ok(None) };
        let uses = observed.uses.get(source).cloned().unwrap_or_default();
        let mut equals = BTreeSet::new();
        let numbers = [Some(state.newest), state.stable].into_iter().flatten();
        let objects: BTreeSet<_> = numbers.map(|number| observed.object(source, number)).collect();
        for object in objects.into_iter().filter(|object| *object > 0) {
            let Some(snapshot) = observed.snapshots.get(source).and_then(|all| all.get(&object)) else {
                continue;
            };
            let other = self.read_config(source.kind, namespace, &snapshot.name).await?;
            if other.is_some_and(|other| content.equals(&other, &uses)) {
                equals.insert(object);
            }
        }
        Ok(Some(Finding { version: content.version(), problem: content.missing(&uses), uses, equals }))
    }

    /// Makes the objects of a revision. Returns its number, where one was made.
    async fn make(
        &self,
        rollout: &ObjectKey,
        mut number: Number,
        reads: &mut [Read],
    ) -> Result<Option<Number>, ApplyError> {
        let mut made = None;
        for (source, finding) in reads {
            let content = self.read_config(source.kind, &rollout.namespace, &source.name).await?;
            // One that has changed meanwhile is examined anew, and is in the revision after this one.
            let Some(content) = content.filter(|content| content.version() == finding.version) else {
                continue;
            };
            loop {
                let failed = |error| {
                    let what = format!("{:?} {}", source.kind, object_name(&source.name, number));
                    ApplyError::Create { what, source: error }
                };
                if number > Mark::LAST {
                    return Err(failed(used_up()));
                }
                match self.copy(rollout, number, source, &content).await {
                    Ok(true) => {
                        finding.equals.insert(number);
                        made = Some(number);
                        break;
                    }
                    // The name is another's. Names are not shared, so the number is left to it.
                    Ok(false) => number += 1,
                    Err(RequestError::Invalid(_)) => {
                        let said = "the API server refuses a copy of it as invalid or too large".to_owned();
                        finding.problem = Some(Problem::Refused(said));
                        break;
                    }
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        Ok(made)
    }

    /// Copies a source into an object of revision `number`; `false` when the name is taken.
    async fn copy(
        &self,
        rollout: &ObjectKey,
        number: Number,
        source: &SourceKey,
        content: &Content,
    ) -> Result<bool, RequestError> {
        let SourceKey { kind, name } = source;
        let SourceVersion { uid, version } = content.version();
        let mark = Mark {
            rollout: Arc::clone(&rollout.name),
            source: name.as_ref().into(),
            number,
            source_uid: uid,
            source_version: version,
        };
        let object = ObjectKey::new(&rollout.namespace, &mark.object_name());
        if object.name.len() > MAX_NAME {
            return Err(RequestError::Invalid(String::new()));
        }
        let body = content.copy(*kind, &mark, &object.namespace);
        match self.copies(*kind, rollout).create(&source_path(*kind, &object), body).await {
            Ok(_) => Ok(true),
            // A create whose answer was lost has made what is there.
            Err(RequestError::AlreadyExists(_)) => {
                let there = find(&self.client, &source_path(*kind, &object)).await?;
                Ok(there.is_some_and(|there| Mark::read(&there) == Some(mark)))
            }
            Err(error) => Err(too_large(error)),
        }
    }

    async fn read_config(
        &self,
        kind: SourceKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Content>, ApplyError> {
        let content = read(&self.client, &source_path(kind, &ObjectKey::new(namespace, name))).await;
        content.map_err(|error| ApplyError::Read {
            what: format!("{kind:?} {name}"),
            source: error.without_content(),
        })
    }
}

/// Numbers are not used twice, and only an object that was made by hand can have the last one.
fn used_up() -> RequestError {
    let last = Mark::LAST;
    RequestError::Invalid(format!(
        "no revision has a number above {last}: delete the object whose name ends in it"
    ))
}

/// etcd's own limit for a request is met by no field's check (etcd, `--max-request-bytes`, 1.5 MiB).
fn too_large(error: RequestError) -> RequestError {
    match error {
        RequestError::Server(said) if said.contains("request is too large") => RequestError::Invalid(said),
        other => other,
    }
}
