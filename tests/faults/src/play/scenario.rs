//! What a cluster goes through while a controller serves it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::Method;
use mainstay_probe::Failure;
use serde_json::Value;

use super::{controller::Controller, oracle::Oracle};
use crate::{
    model::{request::Request, server::Server},
    world::Cluster,
};

/// What is done to the cluster.
pub type Act = Arc<dyn Fn(&mut Server, &mut Cluster) + Send + Sync>;
/// Makes the oracles of one run.
pub type Oracles = Arc<dyn Fn() -> Vec<Box<dyn Oracle>> + Send + Sync>;

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
    /// What checks of an address say.
    pub answers: Arc<dyn Fn(SocketAddr) -> Result<(), Failure> + Send + Sync>,
    /// Requests that never end in a settled cluster.
    pub background: fn(&Request) -> bool,
    /// Takes out of an object what may differ between runs that end well.
    pub scrub: fn(&mut Value),
    /// What must hold on the way.
    pub oracles: Oracles,
    /// How many requests a fault may cost.
    pub more: usize,
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
            answers: Arc::new(|_| Ok(())),
            background: |_| false,
            scrub: |_| {},
            oracles: Arc::new(Vec::new),
            more: 60,
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

fn user(server: &mut Server, method: Method, path: &str, body: Value) {
    let mut request = Request::new(method, path, body);
    request.query.insert("fieldManager".to_owned(), "user".to_owned());
    let reply = server.handle(&request);
    // What a controller has deleted already is not there for the user.
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(reply.is_success() || reply.code == 404, "{request:?}: {text}");
}
