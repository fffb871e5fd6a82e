//! What a cluster goes through while a controller serves it.

use std::{sync::Arc, time::Duration};

use http::Method;
use serde_json::Value;

use super::{controller::Controller, fault::Fault, oracle::Oracle};
use crate::{
    model::{request::Request, server::Server},
    world::Cluster,
};

/// What is done to the cluster.
pub type Act = Arc<dyn Fn(&mut Server, &mut Cluster) + Send + Sync>;
/// Makes the oracles of one run.
pub type Oracles = Arc<dyn Fn() -> Vec<Box<dyn Oracle>> + Send + Sync>;

/// What is wrong with a controller: what its processes send instead of a request, and do besides.
pub type Defect = fn(&mut Server, &mut Request);

/// After which faults something of an end is left open, and what takes it out.
pub type Open = (fn(&Fault) -> bool, fn(&mut Value));

/// A violation that is known and not repaired yet.
#[derive(Debug, Clone)]
pub struct Known {
    /// What it is called where it is written down.
    pub name: &'static str,
    /// A fault that shows it. Where it no longer does, the exploration fails: the mark is to be taken away.
    pub shown_by: Fault,
    /// Whether a run with another fault may break a promise for the same reason.
    pub explains: fn(&Fault) -> bool,
}

/// What a cluster goes through while a controller serves it. See the head of the crate.
#[derive(Clone)]
pub struct Scenario {
    /// Its name in reports; no two of a controller have the same.
    pub name: &'static str,
    /// Who serves it.
    pub controller: Controller,
    /// Flags of the controller.
    pub flags: Vec<&'static str>,
    /// What is there before the controller starts.
    pub given: Vec<Value>,
    /// What is done then, and how long after the start.
    pub steps: Vec<(Duration, Act)>,
    /// Requests that never end in a settled cluster.
    pub background: fn(&Request) -> bool,
    /// Takes out of an object what may differ between runs that end well; the whole object where it leaves null.
    pub scrub: fn(&mut Value),
    /// After which faults more is left open of an end, and what: it is taken out as by `scrub`.
    pub open: Open,
    /// What must hold on the way.
    pub oracles: Oracles,
    /// How many requests a fault may cost.
    pub more: usize,
    /// What it is about: a path as in a URL. Faults delete it.
    pub subject: Option<&'static str>,
    /// What is wrong with the controller, to show that an oracle sees it.
    pub defect: Option<Defect>,
    /// What is known to be broken.
    pub known: Vec<Known>,
}

impl Scenario {
    /// A scenario in which these objects are there when the controller starts, and nothing is done then.
    pub fn new(name: &'static str, controller: Controller, given: impl IntoIterator<Item = Value>) -> Self {
        Self {
            name,
            controller,
            flags: Vec::new(),
            given: given.into_iter().collect(),
            steps: Vec::new(),
            background: |_| false,
            scrub: |_| {},
            open: (|_| false, |_| {}),
            oracles: Arc::new(Vec::new),
            more: 60,
            subject: None,
            defect: None,
            known: Vec::new(),
        }
    }

    /// The same, and this many seconds after the start this is done.
    #[must_use]
    pub fn at(
        mut self,
        seconds: u64,
        act: impl Fn(&mut Server, &mut Cluster) + Send + Sync + 'static,
    ) -> Self {
        self.steps.push((Duration::from_secs(seconds), Arc::new(act)));
        self
    }

    /// The same, and this is what it is about: a path as in a URL.
    #[must_use]
    pub fn about(self, path: &'static str) -> Self {
        Self { subject: Some(path), ..self }
    }

    /// The same, by a controller that has this defect.
    #[must_use]
    pub fn with(self, defect: Defect) -> Self {
        Self { defect: Some(defect), ..self }
    }

    /// The same, and each run is watched by these oracles.
    #[must_use]
    pub fn watched(mut self, oracles: impl Fn() -> Vec<Box<dyn Oracle>> + Send + Sync + 'static) -> Self {
        self.oracles = Arc::new(oracles);
        self
    }
}

/// A user creates an object.
pub fn create(object: Value) -> impl Fn(&mut Server, &mut Cluster) + Send + Sync {
    move |server, _| drop(server.given(object.clone()))
}

/// A user changes an object by a merge patch. The path is as in a URL.
pub fn change(path: &'static str, patch: Value) -> impl Fn(&mut Server, &mut Cluster) + Send + Sync {
    move |server, _| user(server, Method::PATCH, path, patch.clone())
}

/// A user deletes an object. The path is as in a URL.
pub fn delete(path: &'static str) -> impl Fn(&mut Server, &mut Cluster) + Send + Sync {
    move |server, _| user(server, Method::DELETE, path, Value::Null)
}

/// A node stops to answer.
pub fn silence(node: &'static str) -> impl Fn(&mut Server, &mut Cluster) + Send + Sync {
    move |_, cluster| {
        cluster.silent.insert(node.to_owned());
    }
}

/// A silent node answers again.
pub fn revive(node: &'static str) -> impl Fn(&mut Server, &mut Cluster) + Send + Sync {
    move |_, cluster| {
        cluster.silent.remove(node);
    }
}

/// A node as a scenario has it given.
pub fn node(name: &str) -> Value {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": format!("zone-{name}")}},
        "spec": {}, "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.1"}]},
    })
}

/// A user sends a request. The path is as in a URL.
pub(super) fn user(server: &mut Server, method: Method, path: &str, body: Value) {
    let mut request = Request::new(method, path, body);
    request.query.insert("fieldManager".to_owned(), "user".to_owned());
    let reply = server.handle(&request);
    // What a controller has deleted already is not there for the user.
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(reply.is_success() || reply.code == 404, "{request:?}: {text}");
}
