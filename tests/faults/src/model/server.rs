//! The verbs of the API server.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::{
    defaults,
    kinds::Kind,
    list::{self, Age},
    managed::{self, Writer},
    object::{items, map, name, partial, tidy, uid, version, without_nulls},
    patch,
    request::{Reply, Request, Target},
    rules,
    selector::Selector,
    special,
    store::{Key, Store, key, now},
};

/// A rule of the cluster that may refuse a write: a quota, a policy, a webhook. It is given what would be stored.
pub type Admission = Box<dyn Fn(&Store, &Request, &Value) -> Option<Reply> + Send>;

/// The API server.
#[derive(Default)]
pub struct Server {
    /// Its objects.
    pub store: Store,
    /// What else is asked before a write.
    pub admission: Vec<Admission>,
    /// Watches that begin before this version, and lists that go on from there, are told that it is too old.
    pub compacted: u64,
    /// By how many versions lists are behind that allow it.
    pub behind: u64,
}

type Answer = Result<Reply, Reply>;

impl Server {
    /// A server with the namespaces that every cluster has, and `ns`.
    pub fn new() -> Self {
        // The store begins here: whatever is older is forgotten.
        let mut server = Self::default();
        server.compacted = server.store.version();
        for name in ["default", "kube-system", "kube-node-lease", "ns"] {
            let labels = json!({"kubernetes.io/metadata.name": name});
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            });
            server.store.create(Kind::named("namespaces"), namespace);
        }
        server
    }

    /// Stores an object that a user makes.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn given(&mut self, mut object: Value) -> Arc<Value> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = Kind::of(&text(&object["apiVersion"]), &text(&object["kind"]));
        if kind.row().namespaced && object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = "ns".into();
        }
        defaults::set(kind, &mut object);
        managed::updated(&json!({}), &mut object, writer("user", "", &now()));
        defaults::allocate(kind, &mut object);
        assert!(self.store.get(kind, &key(&object)).is_none(), "{object} is there already");
        self.store.create(kind, object)
    }

    /// Carries out any request but a watch.
    pub fn handle(&mut self, request: &Request) -> Reply {
        self.answer(request).unwrap_or_else(|failure| failure)
    }

    fn answer(&mut self, request: &Request) -> Answer {
        let kind = match &request.target {
            Target::Kind(kind) => *kind,
            Target::Other(path) => return special::other(path, request),
        };
        let key = (request.namespace.clone(), request.name.clone());
        if request.subresource == "status" && !kind.row().status {
            return Err(Reply::not_found(kind, &request.name));
        }
        match (&request.method, request.name.is_empty(), &*request.subresource) {
            (&Method::GET, true, _) => self.list(kind, request),
            (&Method::GET, false, _) => self.read(kind, &key, request),
            (&Method::POST, true, _) => self.create(kind, request),
            (&Method::POST, false, "eviction") => self.evict(kind, &key, request),
            (&Method::POST, false, "token") => special::token(&self.store, &key, request),
            (&Method::PUT, false, _) => self.update(kind, &key, request),
            (&Method::PATCH, false, _) => self.patch(kind, &key, request),
            (&Method::DELETE, false, _) => self.delete(kind, &key, &request.body, request),
            (&Method::DELETE, true, _) => self.delete_all(kind, request),
            _ => Err(Reply::failure(405, "MethodNotAllowed", "the server does not allow this method")),
        }
    }

    fn read(&self, kind: Kind, key: &Key, request: &Request) -> Answer {
        let object = self.store.get(kind, key).ok_or_else(|| Reply::not_found(kind, &key.1))?;
        Ok(shown(200, object, request))
    }

    fn create(&mut self, kind: Kind, request: &Request) -> Answer {
        let mut object = request.body.clone();
        without_nulls(&mut object);
        rules::is_meant(kind, &(request.namespace.clone(), name(&object).to_owned()), &object)?;
        if kind.row().namespaced {
            object["metadata"]["namespace"] = request.namespace.as_str().into();
            rules::namespace(&self.store, kind, &request.namespace, name(&object))?;
        }
        if name(&object).is_empty()
            && let Some(prefix) = object["metadata"]["generateName"].as_str()
        {
            let name = format!("{prefix}{:05}", self.store.version());
            object["metadata"]["name"] = name.into();
        }
        object["kind"] = kind.row().kind.into();
        object["apiVersion"] = kind.api_version().into();
        if kind.row().status {
            object.as_object_mut().expect("it is a map").remove("status");
        }
        tidy(&mut object);
        defaults::set(kind, &mut object);
        self.admit(request, &object)?;
        rules::valid(kind, None, &object)?;
        if self.store.get(kind, &key(&object)).is_some() {
            return Err(Reply::exists(kind, name(&object)));
        }
        if !version(&object).is_empty() {
            return Err(Reply::failure(
                500,
                "",
                "resourceVersion should not be set on objects to be created",
            ));
        }
        managed::updated(&json!({}), &mut object, writer(manager(request), "", &now()));
        defaults::allocate(kind, &mut object);
        self.made(kind, object, request)
    }

    /// Stores a new object, unless that is only tried.
    fn made(&mut self, kind: Kind, object: Value, request: &Request) -> Answer {
        let object = self.store.identified(kind, object);
        if request.query.contains_key("dryRun") {
            return Ok(shown(201, &object, request));
        }
        Ok(shown(201, &self.store.put(kind, object), request))
    }

    fn update(&mut self, kind: Kind, key: &Key, request: &Request) -> Answer {
        let Some(old) = self.store.get(kind, key).cloned() else {
            return Err(Reply::not_found(kind, &key.1));
        };
        let mut new = request.body.clone();
        without_nulls(&mut new);
        rules::is_meant(kind, key, &new)?;
        if !uid(&new).is_empty() && uid(&new) != uid(&old) {
            return Err(Reply::conflict(kind, &key.1, "Precondition failed: UID in precondition"));
        }
        if version(&new).is_empty() && !kind.is_replaced_unseen() {
            return Err(Reply::unseen(kind, &key.1));
        }
        self.write(kind, &old, new, request)
    }

    fn patch(&mut self, kind: Kind, key: &Key, request: &Request) -> Answer {
        let old = self.store.get(kind, key).cloned();
        if request.content.starts_with("application/apply-patch") {
            return self.apply(kind, key, old, request);
        }
        let Some(old) = old else { return Err(Reply::not_found(kind, &key.1)) };
        let mut new = Value::clone(&old);
        let body = &request.body;
        match &*request.content {
            "application/merge-patch+json" => patch::merge(&mut new, body),
            "application/strategic-merge-patch+json" if !kind.is_custom() => patch::strategic(&mut new, body),
            "application/json-patch+json" => {
                patch::json(&mut new, body).map_err(|why| Reply::unpatchable(&why))?
            }
            other => return Err(Reply::failure(415, "UnsupportedMediaType", other)),
        }
        rules::is_meant(kind, key, &new)?;
        if !is_same(kind, &new, &old, request) {
            return Err(Reply::stranger(kind, &key.1));
        }
        self.write(kind, &old, new, request)
    }

    fn apply(&mut self, kind: Kind, key: &Key, old: Option<Arc<Value>>, request: &Request) -> Answer {
        let mut config = request.body.clone();
        rules::is_meant(kind, key, &config)?;
        if !config["metadata"]["managedFields"].is_null() {
            return Err(Reply::bad("metadata.managedFields must be nil"));
        }
        config["metadata"]["name"] = key.1.as_str().into();
        if kind.row().namespaced {
            config["metadata"]["namespace"] = key.0.as_str().into();
        }
        let wanted = (uid(&config).to_owned(), version(&config).to_owned());
        rules::of_subresource(kind, &mut config, &request.subresource);
        let metadata = map(&mut config, "metadata");
        if kind.is_custom() && request.subresource == "status" {
            metadata.retain(|field, _| field == "name" || field == "namespace");
        }
        for server_alone in ["uid", "resourceVersion", "managedFields", "creationTimestamp"] {
            metadata.remove(server_alone);
        }
        let Some(old) = old else {
            if name(&request.body).is_empty() {
                return Err(Reply::bad("name must be provided"));
            }
            if !wanted.0.is_empty() || !request.subresource.is_empty() {
                return Err(if wanted.0.is_empty() {
                    Reply::not_found(kind, &key.1)
                } else {
                    Reply::conflict(kind, &key.1, "uid mismatch: no existing object was found")
                });
            }
            if kind.row().namespaced {
                rules::namespace(&self.store, kind, &key.0, &key.1)?;
            }
            let applied = managed::apply(&Value::Null, &config, writer(manager(request), "", &now()), true);
            let mut new = applied.unwrap_or_else(|_| config.clone());
            defaults::set(kind, &mut new);
            defaults::allocate(kind, &mut new);
            self.admit(request, &new)?;
            rules::valid(kind, None, &new)?;
            return self.made(kind, new, request);
        };
        if !wanted.0.is_empty() && !is_same(kind, &request.body, &old, request) {
            return Err(Reply::stranger(kind, &key.1));
        }
        if !wanted.1.is_empty() && wanted.1 != version(&old) {
            return Err(stale(kind, &key.1));
        }
        let force = request.parameter("force") == Some("true");
        let now = now();
        let writer = writer(manager(request), &request.subresource, &now);
        let new =
            managed::apply(&old, &config, writer, force).map_err(|conflicts| conflicting(&conflicts))?;
        self.keep(kind, &old, new, request, None)
    }

    /// Stores what an update or a patch has made of an object.
    fn write(&mut self, kind: Kind, old: &Arc<Value>, new: Value, request: &Request) -> Answer {
        if !version(&new).is_empty() && version(&new) != version(old) {
            return Err(stale(kind, name(old)));
        }
        self.keep(kind, old, new, request, Some(manager(request)))
    }

    fn keep(
        &mut self,
        kind: Kind,
        old: &Arc<Value>,
        mut new: Value,
        request: &Request,
        manager: Option<&str>,
    ) -> Answer {
        rules::restrict(kind, old, &mut new, &request.subresource);
        if manager.is_some() {
            new["metadata"]["managedFields"] = old["metadata"]["managedFields"].clone();
            tidy(&mut new);
        }
        defaults::set(kind, &mut new);
        defaults::allocate(kind, &mut new);
        if new == **old {
            return Ok(shown(200, old, request));
        }
        self.admit(request, &new)?;
        rules::valid(kind, Some(old), &new)?;
        if let Some(manager) = manager {
            managed::updated(old, &mut new, writer(manager, &request.subresource, &now()));
        }
        if request.query.contains_key("dryRun") {
            return Ok(shown(200, &new, request));
        }
        let stored = self.store.replace(kind, old, new);
        Ok(shown(200, &stored, request))
    }

    /// Deletes an object as the `DeleteOptions` say.
    fn delete(&mut self, kind: Kind, key: &Key, options: &Value, request: &Request) -> Answer {
        let Some(old) = self.store.get(kind, key).cloned() else {
            return Err(Reply::not_found(kind, &key.1));
        };
        precondition(kind, &old, &options["preconditions"])?;
        self.admit(request, &old)?;
        if request.query.contains_key("dryRun") || items(&options["dryRun"]).next().is_some() {
            return Ok(gone(kind, &old, request));
        }
        let policy = options["propagationPolicy"].as_str();
        self.store.delete_so(kind, key, options["gracePeriodSeconds"].as_i64(), policy);
        match (self.store.get(kind, key), self.store.history(kind).last()) {
            (Some(standing), _) => Ok(shown(200, standing, request)),
            (None, Some(last)) => Ok(gone(kind, &last.new, request)),
            (None, None) => Ok(gone(kind, &old, request)),
        }
    }

    /// Evicts a pod, which is told so by a condition.
    fn evict(&mut self, kind: Kind, key: &Key, request: &Request) -> Answer {
        let options = &request.body["deleteOptions"];
        special::budget(&self.store, key)?;
        let old = self.store.get(kind, key).cloned().ok_or_else(|| Reply::not_found(kind, &key.1))?;
        precondition(kind, &old, &options["preconditions"])?;
        if items(&options["dryRun"]).next().is_none() {
            self.store.edit(kind, key, special::disrupted);
        }
        // It has another version now.
        let mut options = options.clone();
        options["preconditions"] = Value::Null;
        self.delete(kind, key, &options, request)?;
        Ok(Reply::ok(
            201,
            &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
        ))
    }

    fn list(&self, kind: Kind, request: &Request) -> Answer {
        list::list(&self.store, Age { behind: self.behind, compacted: self.compacted }, kind, request)
    }

    /// Deletes what a list would show, and answers with it as it was.
    fn delete_all(&mut self, kind: Kind, request: &Request) -> Answer {
        let list = self.list(kind, request)?;
        let selector = Selector::of(kind, request)?;
        let is_meant = |object: &&Arc<Value>| {
            (request.namespace.is_empty() || super::object::namespace(object) == request.namespace)
                && selector.matches(object)
        };
        let keys: Vec<_> = self.store.all(kind).filter(is_meant).map(|object| key(object)).collect();
        for key in &keys {
            self.delete(kind, key, &request.body, request)?;
        }
        Ok(list)
    }

    fn admit(&self, request: &Request, object: &Value) -> Result<(), Reply> {
        self.admission.iter().find_map(|rule| rule(&self.store, request, object)).map_or(Ok(()), Err)
    }
}

/// The answer with an object, or with its metadata.
fn shown(code: u16, object: &Value, request: &Request) -> Reply {
    if request.partial { Reply::ok(code, &partial(object)) } else { Reply::ok(code, object) }
}

/// The answer that an object is gone.
fn gone(kind: Kind, old: &Value, request: &Request) -> Reply {
    if kind.is_shown_gone() { shown(200, old, request) } else { Reply::gone(kind, name(old), uid(old)) }
}

/// Whether the object is the one of these `preconditions`.
fn precondition(kind: Kind, object: &Value, wanted: &Value) -> Result<(), Reply> {
    let fails = |wanted: &Value, found: &str| wanted.as_str().is_some_and(|wanted| wanted != found);
    if fails(&wanted["uid"], uid(object)) || fails(&wanted["resourceVersion"], version(object)) {
        return Err(Reply::precondition(kind, name(object), "it is not the object of the precondition"));
    }
    Ok(())
}

/// Whether an object is written that has this UID. Of the status of a custom resource nothing else is looked at.
fn is_same(kind: Kind, new: &Value, old: &Value, request: &Request) -> bool {
    uid(new) == uid(old) || kind.is_custom() && request.subresource == "status"
}

fn writer<'a>(manager: &'a str, subresource: &'a str, now: &'a str) -> Writer<'a> {
    Writer { manager, subresource, now }
}

fn manager(request: &Request) -> &str {
    request.parameter("fieldManager").filter(|manager| !manager.is_empty()).unwrap_or("unknown")
}

fn stale(kind: Kind, name: &str) -> Reply {
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Reply::conflict(kind, name, why)
}

fn conflicting(conflicts: &[managed::Conflict]) -> Reply {
    let causes = conflicts.iter().map(|(manager, field)| {
        json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": field})
    });
    let causes: Vec<_> = causes.collect();
    let message = format!("Apply failed with {} conflicts", causes.len());
    Reply::detailed(409, "Conflict", &message, json!({"causes": causes}))
}
