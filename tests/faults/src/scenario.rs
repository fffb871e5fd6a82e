//! What users do in a run.

use serde_json::{Value, json};

use crate::{kind::Kind, server::Server};

/// When a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// When everything has settled.
    Settled,
    /// Just before the controller's change to pods of this number, counted from 1, is carried out; or when everything
    /// has settled.
    Before(usize),
    /// When the server has refused so many pods.
    Refused(usize),
}

/// What a user does.
pub type Act = fn(&mut Server);

/// A course of events. The controller runs from the first step on.
#[derive(Clone)]
pub struct Scenario {
    /// For people.
    pub name: &'static str,
    /// What is done when.
    pub steps: Vec<(When, Act)>,
    /// The step, counted from 0, up to which nothing goes wrong: what it sets up is explored elsewhere.
    pub from: usize,
    /// Whether every run makes as many pods as the undisturbed one, whatever happens. Not so where a user changes
    /// the spec while pods are being made.
    pub exact: bool,
}

/// Makes a group that runs so many pods of `app=<app>`.
pub fn group(server: &mut Server, name: &str, app: &str, replicas: i32, image: &str) {
    server.create(
        Kind::Group,
        json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup",
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": app}},
                "template": {
                    "metadata": {"labels": {"app": app}},
                    "spec": {"containers": [{"name": "c", "image": image}]}
                }
            }
        }),
    );
}

/// Makes a pod that no controller owns.
pub fn orphan(server: &mut Server, name: &str, app: &str) {
    server.create(Kind::Pod, json!({"metadata": {"name": name, "labels": {"app": app}}, "spec": {}}));
}

/// Sets `spec.replicas`.
pub fn scale(server: &mut Server, group: &str, replicas: i32) {
    server.edit(Kind::Group, group, |group| group["spec"]["replicas"] = replicas.into());
}

/// Changes the first pod, in order of UIDs, that `which` accepts.
pub fn edit_pod(server: &mut Server, which: impl Fn(&Value) -> bool, change: impl FnOnce(&mut Value)) {
    if let Some(name) = first_pod(server, which) {
        server.edit(Kind::Pod, &name, change);
    }
}

/// The name of the first pod, in order of UIDs, that `which` accepts.
pub fn first_pod(server: &Server, which: impl Fn(&Value) -> bool) -> Option<String> {
    let pods = server.all(Kind::Pod).filter(|pod| which(pod));
    let first = pods.min_by_key(|pod| pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned())?;
    first["metadata"]["name"].as_str().map(str::to_owned)
}
