//! The verbs of the API server.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::{
    defaults,
    kinds::Kind,
    managed::{self, Writer},
    object::{is_terminating, items, map, name, partial, uid, version},
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
        let mut server = Self::default();
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
        match (&request.method, request.name.is_empty(), &*request.subresource) {
            (&Method::GET, true, _) => self.list(kind, request),
            (&Method::GET, false, _) => self.read(kind, &key, request),
            (&Method::POST, true, _) => self.create(kind, request),
            (&Method::POST, false, "eviction") => {
                special::budget(&self.store, &key)?;
                self.delete(kind, &key, &request.body["deleteOptions"], request)
            }
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

    fn list(&self, kind: Kind, request: &Request) -> Answer {
        let selector = Selector::read(request.parameter("labelSelector"), request.parameter("fieldSelector"));
        let (from, shown_version) = match request.parameter("continue") {
            Some(token) => {
                let mut parts = token.splitn(3, '|');
                let version = parts.next().and_then(|version| version.parse().ok()).unwrap_or_default();
                if version < self.compacted {
                    return Err(Reply::expired());
                }
                let mut part = || parts.next().unwrap_or_default().to_owned();
                (Some((part(), part())), version)
            }
            None => (None, self.store.version()),
        };
        let is_old = request.parameter("resourceVersion") == Some("0") && self.behind > 0;
        let old = is_old.then(|| self.store.at(kind, shown_version.saturating_sub(self.behind)));
        let shown_version = if is_old { shown_version.saturating_sub(self.behind) } else { shown_version };
        let limit = request.parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
        let in_namespace = |object: &&Arc<Value>| {
            request.namespace.is_empty() || object["metadata"]["namespace"] == request.namespace.as_str()
        };
        let objects: Box<dyn Iterator<Item = &Arc<Value>>> = match &old {
            Some(old) => Box::new(old.values()),
            None => Box::new(self.store.all(kind)),
        };
        let mut objects = objects
            .filter(in_namespace)
            .filter(|object| from.as_ref().is_none_or(|from| key(object) > *from))
            .filter(|object| selector.matches(object))
            .peekable();
        let mut page = Vec::new();
        while page.len() < limit
            && let Some(object) = objects.next()
        {
            page.push(object);
        }
        let next = objects.peek().and(page.last()).map(|last| {
            let (namespace, name) = key(last);
            format!("{shown_version}|{namespace}|{name}")
        });
        let texts = page
            .iter()
            .map(|object| if request.partial { partial(object).to_string() } else { object.to_string() });
        let (api_version, list) = if request.partial {
            ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata")
        } else {
            (kind.api_version(), kind.row().kind)
        };
        let metadata = json!({"resourceVersion": shown_version.to_string(), "continue": next});
        let body = format!(
            r#"{{"kind":"{list}List","apiVersion":"{api_version}","metadata":{metadata},"items":[{}]}}"#,
            texts.collect::<Vec<_>>().join(",")
        );
        Ok(Reply { body: body.into_bytes(), ..Reply::ok(200, &Value::Null) })
    }

    fn create(&mut self, kind: Kind, request: &Request) -> Answer {
        let mut object = request.body.clone();
        if kind.row().namespaced {
            object["metadata"]["namespace"] = request.namespace.as_str().into();
            rules::namespace(&self.store, &request.namespace)?;
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
            map(&mut object, "metadata");
            object.as_object_mut().expect("it is a map").remove("status");
        }
        defaults::set(kind, &mut object);
        self.admit(request, &object)?;
        rules::valid(kind, None, &object)?;
        if self.store.get(kind, &key(&object)).is_some() {
            let (plural, name) = (kind.row().plural, name(&object));
            let message = format!("{plural} \"{name}\" already exists");
            return Err(Reply::failure(409, "AlreadyExists", &message));
        }
        managed::updated(&json!({}), &mut object, writer(manager(request), "", &now()));
        if request.query.contains_key("dryRun") {
            object["metadata"]["uid"] = "dry-run".into();
            return Ok(shown(201, &object, request));
        }
        let made = self.store.create(kind, object);
        Ok(shown(201, &made, request))
    }

    fn update(&mut self, kind: Kind, key: &Key, request: &Request) -> Answer {
        let Some(old) = self.store.get(kind, key).cloned() else {
            return Err(Reply::not_found(kind, &key.1));
        };
        let new = request.body.clone();
        if !uid(&new).is_empty() && uid(&new) != uid(&old) {
            return Err(Reply::conflict(kind, &key.1, "Precondition failed: UID in precondition"));
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
            "application/strategic-merge-patch+json" => patch::strategic(&mut new, body),
            "application/json-patch+json" => patch::json(&mut new, body)
                .map_err(|why| Reply::invalid(kind, &key.1, &format!("the patch fails: {why}")))?,
            other => return Err(Reply::failure(415, "UnsupportedMediaType", other)),
        }
        if uid(&new) != uid(&old) {
            return Err(Reply::invalid(kind, &key.1, "metadata.uid: Invalid value: field is immutable"));
        }
        self.write(kind, &old, new, request)
    }

    fn apply(&mut self, kind: Kind, key: &Key, old: Option<Arc<Value>>, request: &Request) -> Answer {
        let mut config = request.body.clone();
        config["metadata"]["name"] = key.1.as_str().into();
        if kind.row().namespaced {
            config["metadata"]["namespace"] = key.0.as_str().into();
        }
        let wanted = (uid(&config).to_owned(), version(&config).to_owned());
        let metadata = map(&mut config, "metadata");
        for server_alone in ["uid", "resourceVersion", "managedFields", "creationTimestamp"] {
            metadata.remove(server_alone);
        }
        let Some(old) = old else {
            if !wanted.0.is_empty() || !request.subresource.is_empty() {
                return Err(if wanted.0.is_empty() {
                    Reply::not_found(kind, &key.1)
                } else {
                    Reply::conflict(kind, &key.1, "uid mismatch: no existing object was found")
                });
            }
            rules::namespace(&self.store, &key.0)?;
            let applied = managed::apply(&Value::Null, &config, writer(manager(request), "", &now()), true);
            let mut new = applied.unwrap_or_else(|_| config.clone());
            defaults::set(kind, &mut new);
            self.admit(request, &new)?;
            rules::valid(kind, None, &new)?;
            if request.query.contains_key("dryRun") {
                return Ok(shown(201, &new, request));
            }
            let made = self.store.create(kind, new);
            return Ok(shown(201, &made, request));
        };
        if !wanted.0.is_empty() && wanted.0 != uid(&old) {
            return Err(Reply::conflict(kind, &key.1, "Precondition failed: UID in precondition"));
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
        defaults::set(kind, &mut new);
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
        let wanted = &options["preconditions"];
        let fails = |wanted: &Value, found: &str| wanted.as_str().is_some_and(|wanted| wanted != found);
        if fails(&wanted["uid"], uid(&old)) || fails(&wanted["resourceVersion"], version(&old)) {
            return Err(Reply::conflict(kind, &key.1, "Precondition failed"));
        }
        self.admit(request, &old)?;
        if request.query.contains_key("dryRun") || items(&options["dryRun"]).next().is_some() {
            return Ok(shown(200, &old, request));
        }
        let holder = match options["propagationPolicy"].as_str() {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        if let Some(holder) = holder.filter(|_| !is_terminating(&old)) {
            self.store.edit(kind, key, |object| {
                let mut list = items(&object["metadata"]["finalizers"]).cloned().collect::<Vec<_>>();
                list.push(holder.into());
                object["metadata"]["finalizers"] = list.into();
            });
        }
        self.store.delete(kind, key, options["gracePeriodSeconds"].as_i64());
        match self.store.get(kind, key) {
            Some(standing) => Ok(shown(200, standing, request)),
            None => Ok(shown(200, &old, request)),
        }
    }

    fn delete_all(&mut self, kind: Kind, request: &Request) -> Answer {
        let selector = Selector::read(request.parameter("labelSelector"), request.parameter("fieldSelector"));
        let is_meant = |object: &&Arc<Value>| {
            (request.namespace.is_empty() || super::object::namespace(object) == request.namespace)
                && selector.matches(object)
        };
        let keys: Vec<_> = self.store.all(kind).filter(is_meant).map(|object| key(object)).collect();
        for key in &keys {
            self.delete(kind, key, &request.body, request)?;
        }
        Ok(Reply::ok(200, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})))
    }

    fn admit(&self, request: &Request, object: &Value) -> Result<(), Reply> {
        self.admission.iter().find_map(|rule| rule(&self.store, request, object)).map_or(Ok(()), Err)
    }
}

/// The answer with an object, or with its metadata.
fn shown(code: u16, object: &Value, request: &Request) -> Reply {
    if request.partial { Reply::ok(code, &partial(object)) } else { Reply::ok(code, object) }
}

fn writer<'a>(manager: &'a str, subresource: &'a str, now: &'a str) -> Writer<'a> {
    Writer { manager, subresource, now }
}

fn manager(request: &Request) -> &str {
    request.parameter("fieldManager").unwrap_or("unknown")
}

fn stale(kind: Kind, name: &str) -> Reply {
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Reply::conflict(kind, name, why)
}

fn conflicting(conflicts: &[managed::Conflict]) -> Reply {
    let causes = conflicts.iter().map(|(manager, field)| {
        json!({"reason": "FieldManagerConflict", "message": format!("conflict with \"{manager}\""), "field": field})
    });
    let causes: Vec<_> = causes.collect();
    let message = format!("Apply failed with {} conflicts", causes.len());
    Reply::detailed(409, "Conflict", &message, json!({"causes": causes}))
}
