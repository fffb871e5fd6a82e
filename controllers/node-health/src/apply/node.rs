//! Cordon, taints and the record of them, in one request.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self, Taint};
use kube::{Api, Client, api::Patch};
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    request::{ObjectPath, find, in_time},
    writes::Writes,
};
use serde_json::{Map, Value, json};

use super::{error::ApplyError, still::last_renewal};
use crate::{
    names::{FIELD_MANAGER, OUT_OF_SERVICE, RECORD, UNHEALTHY},
    record::{Record, Taken},
    watched::{self, Facts, WatchedNode},
};

/// How often a write is tried that others came before.
const TRIES: usize = 3;

/// What of a node is to differ from what stands. The default: nothing.
#[derive(Debug, Default, PartialEq)]
pub struct Change {
    unschedulable: Option<bool>,
    taints: Option<Vec<Taint>>,
    record: Option<Record>,
}

impl Change {
    /// What brings a node to what `wanted` says. Of what others have set nothing is taken over and nothing removed:
    /// whose the cordon and the taint out-of-service are is told by the record on the node itself, or, where others have
    /// removed that, by what it `lost`.
    pub fn of(facts: &Facts, lost: &Record, wanted: &Record) -> Self {
        let recorded = standing(facts, lost);
        // The watch that the record was decided from may be behind this node.
        let at_boot = |record: &Record| record.clone().at_boot(&facts.boot_id);
        let (mut wanted, stands) = (at_boot(wanted), facts.has_taint(OUT_OF_SERVICE));
        if stands {
            wanted = wanted.keeping(&at_boot(recorded));
        }
        // Somebody took the taint off that the record names, or a kubelet wrote the record. While the node is acted on the
        // record goes on to name it, so that no later look sets it; of one that is handed back nothing stays.
        let is_taken_off = !stands && at_boot(recorded).out_of_service().is_some();
        if is_taken_off && !wanted.is_taken() {
            wanted = wanted.in_service();
        }
        let standing = recorded.taken.clone().unwrap_or_default();
        let mut asked = wanted.taken.clone().unwrap_or_default();
        let cordon = asked.cordon && (standing.cordon || !facts.unschedulable);
        let unschedulable = facts.unschedulable && !standing.cordon || asked.cordon;
        let foreign = standing.out_of_service.is_none() && stands;
        let out_of_service = asked.out_of_service.clone().filter(|_| !foreign);
        asked.out_of_service.take_if(|_| is_taken_off);
        let taints = taints(facts, &standing, &asked);
        let taken = wanted.taken.as_ref().map(|taken| Taken { cordon, out_of_service, ..taken.clone() });
        let record = Record { taken, ..wanted };
        Self {
            unschedulable: (unschedulable != facts.unschedulable).then_some(unschedulable),
            taints: (taints != facts.taints).then_some(taints),
            record: (record != facts.record).then_some(record),
        }
    }

    /// Whether it lets volumes detach from the node.
    fn sets_out_of_service(&self, facts: &Facts) -> bool {
        let sets = |taint: &Taint| taint.key == OUT_OF_SERVICE;
        !facts.has_taint(OUT_OF_SERVICE) && self.taints.iter().flatten().any(sets)
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As a JSON merge patch of this node at this version: lists are replaced as a whole, so no other will do.
    fn patch(self, uid: &str, version: Option<&str>) -> Value {
        let mut spec = Map::new();
        if let Some(unschedulable) = self.unschedulable {
            spec.insert("unschedulable".into(), if unschedulable { json!(true) } else { Value::Null });
        }
        if let Some(taints) = self.taints {
            spec.insert("taints".into(), if taints.is_empty() { Value::Null } else { json!(taints) });
        }
        let mut metadata = json!({"uid": uid, "resourceVersion": version});
        if let Some(record) = self.record {
            metadata["annotations"] = json!({RECORD: record.write()});
        }
        json!({"metadata": metadata, "spec": spec})
    }
}

/// What the controller has set on the node: what its record says or, where others have removed that, what it last said.
fn standing<'a>(facts: &'a Facts, lost: &'a Record) -> &'a Record {
    if facts.has_lost(lost) { lost } else { &facts.record }
}

/// The taints that the node is to have. The key `mainstay.dev/unhealthy` is this controller's own.
fn taints(facts: &Facts, standing: &Taken, asked: &Taken) -> Vec<Taint> {
    let effect = asked.taint.map(|effect| format!("{effect:?}"));
    let mut taints = facts.taints.clone();
    taints.retain(|taint| match taint.key.as_str() {
        UNHEALTHY => effect.as_ref() == Some(&taint.effect),
        OUT_OF_SERVICE => asked.out_of_service.is_some() || standing.out_of_service.is_none(),
        _ => true,
    });
    let mut add = |key: &str, value: Option<&str>, effect: &str| {
        if !taints.iter().any(|taint| taint.key == key) {
            let (key, value) = (key.to_owned(), value.map(str::to_owned));
            taints.push(Taint { key, value, effect: effect.to_owned(), time_added: None });
        }
    };
    if let Some(effect) = &effect {
        add(UNHEALTHY, None, effect);
    }
    if asked.out_of_service.is_some() {
        add(OUT_OF_SERVICE, Some("nodeshutdown"), "NoExecute");
    }
    taints
}

/// A write of a node.
#[derive(Debug, PartialEq)]
pub struct Written {
    /// What stood on the node, as its record said right before.
    pub before: Record,
    /// What stands on it now.
    pub after: Record,
    /// Whether the taint of an unhealthy node was there without a record of it: whose the cordon is, is not known.
    pub is_lost: bool,
}

/// Brings the node of this name and UID to what `wanted` says. Returns what was written. `lost` is what its record last said, for
/// the case that others have removed it. The taint out-of-service is set only
/// on a node whose Lease still says that it was last `renewed` then, or which, without a Lease, last posted its status then:
/// what was detached cannot be undone.
///
/// # Errors
/// When the server refuses it. A node that is gone, or was recreated, carries nothing, and that is no error.
pub async fn bring(
    client: &Client,
    (name, uid): (&str, &str),
    wanted: &Record,
    lost: &Record,
    renewed: Option<Timestamp>,
) -> Result<Option<Written>, ApplyError> {
    let nodes: Api<WatchedNode> = Api::all(client.clone());
    let writes = Writes::new(client.clone(), FIELD_MANAGER);
    let mut tries = 0;
    loop {
        let node = match in_time(nodes.get(name)).await {
            Ok(node) => node,
            Err(RequestError::NotFound(_)) => return Ok(None),
            Err(source) => return Err(ApplyError::Read { what: "the node".into(), source }),
        };
        if node.metadata.uid.as_deref() != Some(uid) {
            return Ok(None);
        }
        let version = node.metadata.resource_version.clone();
        let posted = watched::posted(&node);
        let facts = Facts::from(node);
        let mut change = Change::of(&facts, lost, wanted);
        if change.sets_out_of_service(&facts) && last_renewal(client, name).await?.or(posted) != renewed {
            change = Change::of(&facts, lost, &wanted.clone().in_service());
        }
        if change.is_empty() {
            return Ok(None);
        }
        let before = standing(&facts, lost).clone();
        let after = change.record.clone().unwrap_or_else(|| facts.record.clone());
        let is_lost = before == Record::default() && facts.has_taint(UNHEALTHY);
        tries += 1;
        let patch = Patch::Merge(change.patch(uid, version.as_deref()));
        match writes.patch(&path(name), &patch).await {
            Ok(_) => return Ok(Some(Written { before, after, is_lost })),
            Err(RequestError::NotFound(_)) => return Ok(None),
            Err(RequestError::Conflict(_)) if tries < TRIES => {}
            Err(source) => return Err(ApplyError::Node(source)),
        }
    }
}

/// Whether there is a node of this name, and of this UID where one is known, by the server and not by a watch.
///
/// # Errors
/// When the server refuses to say.
pub(super) async fn is_there(client: &Client, name: &str, uid: Option<&str>) -> Result<bool, ApplyError> {
    let found = find(client, &path(name)).await;
    let found = found.map_err(|source| ApplyError::Read { what: "the node".into(), source })?;
    Ok(found.is_some_and(|node| uid.is_none() || node.uid.as_deref() == uid))
}

fn path(node: &str) -> ObjectPath {
    ObjectPath::of::<v1::Node>(&ObjectKey::new("", node))
}

#[cfg(test)]
mod tests;
