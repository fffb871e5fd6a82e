//! kube-controller-manager's Deployment controller, as far as rollouts of configuration need it: a ReplicaSet for each
//! template, new pods first, the old ones once the new are ready.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::timers::Timers;
use crate::model::{
    kinds::Kind,
    object::{controller, is_terminating, is_true, label, map, name, namespace, uid},
    store::{Store, key, now},
};

/// How long it takes to notice a change.
const TAKES: Duration = Duration::from_millis(100);
const HASH: &str = "pod-template-hash";

pub(super) fn step(store: &mut Store, timers: &mut Timers) {
    let deployments: Vec<Arc<Value>> = store.all(Kind::named("deployments")).cloned().collect();
    for deployment in deployments.iter().filter(|deployment| !is_terminating(deployment)) {
        let generation = format!("{} {}", uid(deployment), deployment["metadata"]["generation"]);
        if timers.passed(&generation, "deployment", TAKES) {
            keep(store, deployment);
        }
    }
}

fn keep(store: &mut Store, deployment: &Value) {
    let (pods, sets) = (Kind::named("pods"), Kind::named("replicasets"));
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    let wanted = usize::try_from(wanted).unwrap_or_default();
    let hash = hash(&deployment["spec"]["template"]);
    let own = format!("{}-{hash}", name(deployment));
    let set = store.find(sets, namespace(deployment), &own).cloned();
    let set = set.unwrap_or_else(|| store.create(sets, replica_set(deployment, &own, &hash)));
    let is_ours = |object: &&Arc<Value>, uid: &str| controller(object) == Some(uid);
    let old_sets: Vec<String> = store
        .all(sets)
        .filter(|other| is_ours(other, uid(deployment)) && uid(other) != uid(&set))
        .map(|other| uid(other).to_owned())
        .collect();
    let of = |store: &Store, set: &str| -> Vec<Arc<Value>> {
        store.all(pods).filter(|pod| is_ours(pod, set) && !is_terminating(pod)).cloned().collect()
    };
    let new = of(store, uid(&set));
    for number in new.len()..wanted {
        let free = (number..).map(|number| format!("{own}-{number}"));
        let free = free.into_iter().find(|name| store.find(pods, namespace(deployment), name).is_none());
        store.create(pods, pod(deployment, &set, free.unwrap_or_default(), &hash));
    }
    for pod in new.iter().skip(wanted) {
        store.delete(pods, &key(pod), None);
    }
    let ready = new.iter().filter(|pod| is_true(pod, "Ready")).count();
    let old: Vec<Arc<Value>> = old_sets.iter().flat_map(|set| of(store, set)).collect();
    // No more than the new ones that are ready may go.
    let stay = wanted.saturating_sub(ready);
    for pod in old.iter().skip(stay) {
        store.delete(pods, &key(pod), None);
    }
    report(store, deployment, &set, wanted);
}

fn report(store: &mut Store, deployment: &Value, set: &Value, wanted: usize) {
    let pods = Kind::named("pods");
    let sets: Vec<&str> = Vec::from([uid(set)]);
    let all =
        store.all(Kind::named("replicasets")).filter(|other| controller(other) == Some(uid(deployment)));
    let all: Vec<String> = all.map(|other| uid(other).to_owned()).collect();
    let is_of =
        |pod: &&&Arc<Value>, sets: &[&str]| controller(pod).is_some_and(|owner| sets.contains(&owner));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let standing: Vec<&Arc<Value>> = store.all(pods).filter(|pod| !is_terminating(pod)).collect();
    let count = |sets: &[&str], ready: bool| {
        standing.iter().filter(|pod| is_of(pod, sets) && (!ready || is_true(pod, "Ready"))).count()
    };
    let (total, updated, available) = (count(&all, false), count(&sets, false), count(&all, true));
    let is_done = updated == wanted && available == wanted && total == wanted;
    let reason = if is_done { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" };
    store.edit(Kind::named("deployments"), &key(deployment), |deployment| {
        let stands = deployment["status"]["conditions"][0]["reason"] == reason;
        let conditions = if stands {
            deployment["status"]["conditions"].clone()
        } else {
            json!([{"type": "Progressing", "status": "True", "reason": reason, "message": "",
                "lastUpdateTime": now(), "lastTransitionTime": now()}])
        };
        let status = json!({
            "observedGeneration": deployment["metadata"]["generation"], "replicas": total,
            "updatedReplicas": updated, "readyReplicas": available, "availableReplicas": available,
            "unavailableReplicas": total - available, "conditions": conditions,
        });
        deployment["status"] = status;
    });
}

fn replica_set(deployment: &Value, name: &str, hash: &str) -> Value {
    let mut template = deployment["spec"]["template"].clone();
    map(map_value(&mut template, "metadata"), "labels").insert(HASH.to_owned(), hash.into());
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": namespace(deployment), "labels": template["metadata"]["labels"],
            "ownerReferences": [owner(deployment)]},
        "spec": {"replicas": deployment["spec"]["replicas"], "selector": deployment["spec"]["selector"],
            "template": template},
    })
}

fn pod(deployment: &Value, set: &Value, name: String, hash: &str) -> Value {
    let mut metadata = deployment["spec"]["template"]["metadata"].clone();
    metadata["name"] = name.into();
    metadata["namespace"] = namespace(deployment).into();
    metadata["labels"][HASH] = hash.into();
    metadata["ownerReferences"] = json!([owner(set)]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": deployment["spec"]["template"]["spec"], "status": {"phase": "Pending"}});
    debug_assert!(label(&pod, HASH).is_some());
    pod
}

fn owner(object: &Value) -> Value {
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "name": name(object), "uid": uid(object),
        "controller": true, "blockOwnerDeletion": true})
}

fn map_value<'a>(object: &'a mut Value, key: &str) -> &'a mut Value {
    map(object, key);
    &mut object[key]
}

/// A short name of a template.
fn hash(template: &Value) -> String {
    let text = template.to_string();
    let sum = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{:08x}", sum >> 32)
}
