//! A small API server in memory: one namespace with pods and groups, and of each only what the controller uses.
//!
//! It keeps the rules that a controller leans on: versions that count up, UIDs, names that conflict, generations,
//! preconditions, at most one controller an object, graceful deletion. Whatever else is asked of it is a mistake
//! in the test, and ends it. The kubelet and the garbage collector act when they are told to.

use std::collections::BTreeMap;

use http::Method;
use kube::core::{Selector, SelectorExt};
use mainstay_crds::ReplicaGroup;
use mainstay_replication::names::PRE_DELETE;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    kind::Kind,
    wire::{Reply, Request},
};

mod patch;

/// What watchers of a kind are told, in this order.
#[derive(Debug, Clone)]
pub struct Change {
    /// The kind.
    pub kind: Kind,
    /// The object after the change, or as it was last when it is gone.
    pub object: Value,
    /// It is no more.
    pub gone: bool,
}

/// What a request changed.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Nothing.
    None,
    /// A pod was made.
    Created(Value),
    /// A pod's deletion began, or it was removed at once; as it was before.
    Deleted(Value),
    /// A pod's metadata was changed.
    Patched {
        /// The pod before.
        before: Value,
        /// The pod after.
        after: Value,
    },
    /// A group's status was written; the group after.
    Status(Value),
    /// A volume claim was made.
    Claimed(Value),
}

/// The state of the cluster.
#[derive(Debug, Default)]
pub struct Server {
    objects: BTreeMap<(Kind, String), Value>,
    version: u64,
    uids: u64,
    /// All changes since the beginning.
    pub history: Vec<Change>,
    /// How many pods the quota of the namespace allows.
    pub quota: Option<usize>,
    /// How many ready pods a PodDisruptionBudget of the namespace asks for, where there is one.
    pub budget: Option<usize>,
    /// Pods of this image run and are not ready.
    pub broken_image: Option<&'static str>,
    /// A defect: whoever patches last is the controller.
    pub second_controller: bool,
}

/// Images that start with this are refused as invalid.
pub const BAD_IMAGE: &str = "!";

impl Server {
    /// The objects of a kind, by name.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((of, _), _)| *of == kind).map(|(_, object)| object)
    }

    /// The object of that name.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.objects.get(&(kind, name.to_owned()))
    }

    /// The group of that name, decoded.
    pub fn group(&self, name: &str) -> Option<ReplicaGroup> {
        let group = self.get(Kind::Group, name)?;
        Some(ReplicaGroup::deserialize(group).expect("a scenario makes valid groups"))
    }

    /// The pods of the group that are neither ended nor on their way out, and that it selects.
    pub fn active<'a>(&'a self, group: &'a ReplicaGroup) -> impl Iterator<Item = &'a Value> {
        self.all(Kind::Pod).filter(move |pod| {
            let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
            controller(pod) == group.metadata.uid.as_deref()
                && !ended
                && !is_terminating(pod)
                && selects(group, pod)
        })
    }

    /// A user, or another controller, makes an object.
    pub fn create(&mut self, kind: Kind, mut object: Value) {
        let name = name(&object).to_owned();
        self.uids += 1;
        object["metadata"]["uid"] = format!("uid-{:04}", self.uids).into();
        object["metadata"]["namespace"] = "ns".into();
        object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        match kind {
            Kind::Group => object["metadata"]["generation"] = 1.into(),
            Kind::Pod => object["status"] = json!({"phase": "Pending"}),
            Kind::Revision | Kind::Claim => {}
        }
        let taken = self.objects.contains_key(&(kind, name));
        assert!(!taken, "the caller looks for the name first");
        self.put(kind, object);
    }

    /// A user, or another controller, changes an object. Nothing happens when it is gone or stays equal.
    pub fn edit(&mut self, kind: Kind, name: &str, change: impl FnOnce(&mut Value)) {
        let Some(before) = self.get(kind, name).cloned() else { return };
        let mut after = before.clone();
        change(&mut after);
        if kind == Kind::Group && after["spec"] != before["spec"] {
            let generation = before["metadata"]["generation"].as_i64().unwrap_or_default();
            after["metadata"]["generation"] = (generation + 1).into();
        }
        if after != before {
            self.put(kind, after);
        }
    }

    /// Deletes an object as the server does: a pod that runs is given time to end, and finalizers are waited for.
    pub fn delete(&mut self, kind: Kind, name: &str) {
        let Some(object) = self.get(kind, name) else { return };
        if kind == Kind::Pod && object["status"]["phase"] == "Running" || !finalizers(object).is_empty() {
            self.edit(kind, name, |object| {
                if !is_terminating(object) {
                    object["metadata"]["deletionTimestamp"] = "2026-01-01T01:00:00Z".into();
                    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
                    object["metadata"]["generation"] = (generation + 1).into();
                }
            });
        } else if let Some(object) = self.objects.remove(&(kind, name.to_owned())) {
            self.note(kind, object, true);
        }
    }

    /// Every pod gets as far as it can: it runs and is ready, or it ends; and whoever its hook belongs to does what it
    /// was told. Returns whether anything changed.
    pub fn kubelet(&mut self) -> bool {
        let before = self.version;
        let broken = self.broken_image;
        for pod in self.names(Kind::Pod) {
            self.edit(Kind::Pod, &pod, |pod| {
                if is_terminating(pod) || !pod["metadata"]["annotations"][PRE_DELETE].is_null() {
                    pod["metadata"]["finalizers"] = json!([]);
                }
            });
            if self.get(Kind::Pod, &pod).is_some_and(is_terminating) {
                let gone = self.objects.remove(&(Kind::Pod, pod)).expect("it was there");
                self.note(Kind::Pod, gone, true);
                continue;
            }
            self.edit(Kind::Pod, &pod, |pod| {
                // What has failed stays so.
                if pod["status"]["phase"] == "Failed" {
                    return;
                }
                if pod["status"]["phase"] == "Pending" {
                    pod["spec"]["nodeName"] = "node".into();
                }
                let is_ready = if Some(image(pod)) == broken { "False" } else { "True" };
                pod["status"] = json!({"phase": "Running", "conditions": [ready(is_ready)]});
            });
        }
        self.version != before
    }

    /// Deletes the pods whose controller is gone. Returns whether there were any.
    pub fn collect_garbage(&mut self) -> bool {
        let before = self.version;
        let owners: Vec<_> = self.all(Kind::Group).map(|group| uid(group).to_owned()).collect();
        let is_garbage =
            |pod: &&Value| controller(pod).is_some_and(|uid| !owners.iter().any(|own| own == uid));
        let garbage: Vec<_> =
            self.all(Kind::Pod).filter(is_garbage).map(|pod| name(pod).to_owned()).collect();
        garbage.iter().for_each(|pod| self.delete(Kind::Pod, pod));
        self.version != before
    }

    /// Carries a request of the controller out.
    pub fn handle(&mut self, request: &Request) -> (Reply, Effect) {
        let name = request.name.as_deref();
        match (&request.method, request.kind, name, request.status) {
            (&Method::GET, kind, Some(name), false) => (self.read(kind, name), Effect::None),
            (&Method::POST, Kind::Revision, None, false) => {
                (self.create_new(Kind::Revision, &request.body), Effect::None)
            }
            (&Method::POST, Kind::Claim, None, false) => {
                let reply = self.create_new(Kind::Claim, &request.body);
                let made = reply.code == 201;
                (reply, if made { Effect::Claimed(request.body.clone()) } else { Effect::None })
            }
            (&Method::GET, kind @ (Kind::Pod | Kind::Claim), None, false) => {
                (self.list(kind, request), Effect::None)
            }
            (&Method::DELETE, Kind::Claim, Some(name), false) => {
                (self.delete_claim(name, &request.body), Effect::None)
            }
            (&Method::POST, Kind::Pod, None, false) => self.create_pod(request),
            (&Method::DELETE, Kind::Pod, Some(name), false) => self.delete_pod(name, request),
            (&Method::PATCH, Kind::Pod, Some(name), false) => self.patch_pod(name, &request.body),
            (&Method::PATCH, Kind::Revision, Some(name), false) => {
                (self.renumber(name, &request.body), Effect::None)
            }
            (&Method::PATCH, Kind::Group, Some(name), false) => {
                (self.apply_finalizers(name, &request.body), Effect::None)
            }
            (&Method::PATCH, Kind::Group, Some(name), true) => self.apply_status(name, &request.body),
            _ => panic!("the model server does not serve {request:?}"),
        }
    }

    fn read(&self, kind: Kind, name: &str) -> Reply {
        let shown =
            |object: &Value| if kind == Kind::Revision { object.clone() } else { metadata_of(object) };
        self.get(kind, name).map_or_else(|| not_found(name), |object| Reply::ok(200, shown(object)))
    }

    fn create_new(&mut self, kind: Kind, object: &Value) -> Reply {
        let name = name(object);
        if self.get(kind, name).is_some() {
            return Reply::failure(409, "AlreadyExists", &format!("\"{name}\" already exists"));
        }
        self.create(kind, object.clone());
        Reply::ok(201, self.get(kind, name).expect("it was just made").clone())
    }

    fn list(&self, kind: Kind, request: &Request) -> Reply {
        // The groups of the scenarios select by one label, as `key=value`; that their claims have a slot as well goes
        // without saying.
        let selector = request.query.get("labelSelector").expect("the controller lists by its selector");
        let selector = selector.rsplit(',').next().unwrap_or_default();
        let (key, value) = selector.split_once('=').expect("a selector of one label");
        let matching = self.all(kind).filter(|pod| pod["metadata"]["labels"][key] == value);
        list_of(matching, self.version)
    }

    fn create_pod(&mut self, request: &Request) -> (Reply, Effect) {
        let pod = &request.body;
        let name = name(pod);
        // As upstream: admission is asked before it is seen that the name is taken.
        let refused = if self.quota.is_some_and(|quota| self.all(Kind::Pod).count() >= quota) {
            Reply::failure(403, "Forbidden", &format!("pods \"{name}\" is forbidden: exceeded quota: q"))
        } else if self.get(Kind::Pod, name).is_some() {
            Reply::failure(409, "AlreadyExists", &format!("pods \"{name}\" already exists"))
        } else if image(pod).starts_with(BAD_IMAGE) {
            Reply::failure(422, "Invalid", "spec.containers[0].image: Invalid value")
        } else {
            self.create(Kind::Pod, pod.clone());
            let made = self.get(Kind::Pod, name).expect("it was just made").clone();
            return (Reply::ok(201, metadata_of(&made)), Effect::Created(made));
        };
        (refused, Effect::None)
    }

    fn delete_pod(&mut self, name: &str, request: &Request) -> (Reply, Effect) {
        let Some(pod) = self.get(Kind::Pod, name).cloned() else { return (not_found(name), Effect::None) };
        let wanted = request.body["preconditions"]["uid"].as_str().expect("every delete names a UID");
        if wanted != uid(&pod) {
            return (Reply::failure(409, "Conflict", "the UID in the precondition is another"), Effect::None);
        }
        if is_terminating(&pod) {
            return (Reply::ok(200, pod), Effect::None);
        }
        // As upstream by default: too few ready pods, and none may be evicted that runs, be it ready or not.
        let healthy = self.all(Kind::Pod).filter(|pod| is_ready(pod) && !is_terminating(pod)).count();
        let left = healthy - usize::from(is_ready(&pod));
        if request.evicts && self.budget.is_some_and(|least| left < least) {
            return (Reply::disruption_budget(), Effect::None);
        }
        self.delete(Kind::Pod, name);
        (Reply::ok(200, pod.clone()), Effect::Deleted(pod))
    }

    fn names(&self, kind: Kind) -> Vec<String> {
        self.all(kind).map(|object| name(object).to_owned()).collect()
    }

    fn put(&mut self, kind: Kind, object: Value) {
        let name = name(&object).to_owned();
        let stored = self.note(kind, object, false);
        self.objects.insert((kind, name), stored);
    }

    fn note(&mut self, kind: Kind, mut object: Value, gone: bool) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.history.push(Change { kind, object: object.clone(), gone });
        object
    }
}

/// A Ready condition.
pub fn ready(status: &str) -> Value {
    json!({"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:10Z"})
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"][0]["status"] == "True"
}

/// The image of a pod's container; empty where there is none.
fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("every object has a name")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().expect("every stored object has a UID")
}

/// The UID of the object's controller.
pub fn controller(object: &Value) -> Option<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<String> {
    let all = object["metadata"]["finalizers"].as_array().into_iter().flatten();
    all.filter_map(|finalizer| finalizer.as_str().map(str::to_owned)).collect()
}

/// Whether its deletion has begun.
pub fn is_terminating(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// Whether the group's selector matches the pod's labels.
pub fn selects(group: &ReplicaGroup, pod: &Value) -> bool {
    let labels = Deserialize::deserialize(&pod["metadata"]["labels"]).unwrap_or_default();
    Selector::try_from(group.spec.selector.clone()).is_ok_and(|selector| selector.matches(&labels))
}

/// The metadata of the objects, as a list of this version.
pub fn list_of<'a>(objects: impl Iterator<Item = &'a Value>, version: u64) -> Reply {
    let items: Vec<_> = objects.map(metadata_of).collect();
    Reply::ok(
        200,
        json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
               "metadata": {"resourceVersion": version.to_string()}, "items": items}),
    )
}

/// The metadata of the object.
pub fn metadata_of(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

fn not_found(name: &str) -> Reply {
    Reply::failure(404, "NotFound", &format!("\"{name}\" not found"))
}
