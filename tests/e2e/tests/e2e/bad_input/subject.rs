//! The good object that others are made from, and the processes that must survive them.

use std::{env, time::Duration};

use http::{Method, Request, header::CONTENT_TYPE};
use kube::{
    Client, Resource,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use mainstay_cases::Case;
use mainstay_e2e::{Component, Controller, Scenario};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// So many objects are changed at the same time, besides the one that stays good.
pub(crate) const WORKERS: usize = 3;

/// A good object, and how it may be changed.
pub(crate) struct Subject {
    client: Client,
    resource: ApiResource,
    namespace: Option<String>,
    pub(crate) kind: String,
    /// The good object, and others that have what it does not have.
    bases: Vec<Value>,
    /// A field of the spec, and the two values between which the good object is changed.
    pub(crate) toggled: (&'static str, [Value; 2]),
    /// What is only asked about, and not written.
    pub(crate) only_asked: &'static [&'static str],
    /// Where the name of the object stands, so that each has a name of its own there.
    named_in: &'static [&'static str],
}

impl Subject {
    pub(crate) fn new(scenario: &Scenario, base: &Value) -> Self {
        let of = |field: &str| base[field].as_str().expect("an object has a kind");
        let (group, version) = of("apiVersion").split_once('/').expect("no kind of the core group");
        let namespace = (!of("kind").ends_with("Policy")).then(|| scenario.namespace.clone());
        Self {
            client: scenario.client.clone(),
            resource: ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, of("kind"))),
            namespace,
            kind: of("kind").to_owned(),
            bases: vec![base.clone()],
            toggled: ("", [Value::Null, Value::Null]),
            only_asked: &[],
            named_in: &[],
        }
    }

    pub(crate) fn changed_by(mut self, field: &'static str, values: [Value; 2]) -> Self {
        self.toggled = (field, values);
        self
    }

    pub(crate) fn only_asked(mut self, paths: &'static [&'static str]) -> Self {
        self.only_asked = paths;
        self
    }

    pub(crate) fn named_in(mut self, paths: &'static [&'static str]) -> Self {
        self.named_in = paths;
        self
    }

    /// Another good object, from which fields are changed that the first one does not have.
    pub(crate) fn or_from(mut self, base: &Value) -> Self {
        self.bases.push(base.clone());
        self
    }

    /// The good object that has what the first change lies in, or else the first object.
    pub(crate) fn base_for(&self, case: &Case) -> &Value {
        let outer = case.path().rsplit_once('/').map_or("", |(outer, _)| outer);
        let depth = |base: &&Value| {
            let steps = outer.match_indices('/').map(|(at, _)| &outer[..at]).chain([outer]);
            steps.filter(|path| base.pointer(path).is_some()).count()
        };
        // Of several the first.
        self.bases.iter().rev().max_by_key(depth).expect("there is a good object")
    }

    /// The object number `number` as `base` has it, which shares nothing with the others.
    pub(crate) fn named(&self, base: &Value, number: usize) -> Value {
        let mut object = base.clone();
        let own_name = ["/metadata/name"];
        let paths = self.named_in.iter().chain(own_name.iter().filter(|path| !self.named_in.contains(path)));
        for path in paths {
            if let Some(name) = object.pointer_mut(path) {
                *name = format!("{}-{number}", name.as_str().expect("a name is text")).into();
            }
        }
        object
    }

    /// The good object number `number`.
    pub(crate) fn object(&self, number: usize) -> Value {
        self.named(&self.bases[0], number)
    }

    /// The schema of its kind.
    pub(crate) fn schema(&self) -> Value {
        let crd = mainstay_crds::all().into_iter().find(|crd| crd.spec.names.kind == self.kind);
        let mut versions = crd.unwrap_or_else(|| panic!("{} is defined", self.kind)).spec.versions;
        let schema = versions.remove(0).schema.expect("each version has a schema").open_api_v3_schema;
        serde_json::to_value(schema).expect("a schema is JSON")
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: &Value) -> Result<Value, String> {
        let base = DynamicObject::url_path(&self.resource, self.namespace.as_deref());
        let request =
            Request::builder().method(method).uri(format!("{base}{path}")).header(CONTENT_TYPE, kind);
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        match self.client.request::<Value>(request.body(body).expect("a valid request")).await {
            Ok(answer) => Ok(answer),
            Err(kube::Error::Api(status)) => Err(status.message),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// What the API server would make of `object`; why it refuses it, otherwise.
    pub(crate) async fn would_be(&self, object: &Value) -> Result<Value, String> {
        self.send(Method::POST, "?dryRun=All&fieldValidation=Strict", "application/json", object).await
    }

    pub(crate) async fn create(&self, object: &Value) {
        let made = self.send(Method::POST, "?fieldValidation=Strict", "application/json", object).await;
        made.expect("the good object is admitted");
    }

    pub(crate) async fn get(&self, name: &str) -> Value {
        self.send(Method::GET, &format!("/{name}"), "application/json", &Value::Null)
            .await
            .expect("it is there")
    }

    pub(crate) async fn delete(&self, name: &str) {
        drop(self.send(Method::DELETE, &format!("/{name}"), "application/json", &Value::Null).await);
    }

    /// Gives the object of this name another spec.
    pub(crate) async fn set(&self, name: &str, spec: &Value) -> Result<Value, String> {
        let patch = json!([{"op": "replace", "path": "/spec", "value": spec}]);
        let path = format!("/{name}?fieldValidation=Strict");
        self.send(Method::PATCH, &path, "application/json-patch+json", &patch).await
    }

    /// Waits until the status is about the spec as it is and `holds`; what was seen last, otherwise.
    pub(crate) async fn answers(
        &self,
        name: &str,
        limit: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value, String> {
        let end = Instant::now() + limit;
        loop {
            let object = self.get(name).await;
            let status = &object["status"];
            let answered = status["observedGeneration"] == object["metadata"]["generation"];
            if answered && holds(status) {
                return Ok(object);
            }
            if Instant::now() > end {
                return Err(format!("generation {}, status {status}", object["metadata"]["generation"]));
            }
            sleep(Duration::from_millis(150)).await;
        }
    }
}

/// The pods of a controller, and how often they had restarted.
pub(crate) struct Processes {
    controller: Controller,
    restarts: i32,
}

impl Processes {
    pub(crate) async fn of(scenario: &Scenario, component: Component) -> Self {
        let controller = Controller::new(scenario.client.clone(), component);
        let restarts = restarts(&controller).await;
        Self { controller, restarts }
    }

    pub(crate) async fn have_survived(&self) {
        assert_eq!(restarts(&self.controller).await, self.restarts, "a process has restarted");
        for series in ["controller_runtime_reconcile_panics_total", "mainstay_watch_panics_total"] {
            let panics = self.controller.total(series, &[]).await;
            assert!(panics == 0.0, "{series} is {panics}");
        }
    }
}

async fn restarts(controller: &Controller) -> i32 {
    let pods = controller.all_pods().await;
    let statuses = pods.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref());
    statuses.flatten().map(|status| status.restart_count).sum()
}

/// Whether all changes are made, and not only a part.
pub(crate) fn all() -> bool {
    env::var("MAINSTAY_E2E_ALL").is_ok_and(|all| all == "1")
}
