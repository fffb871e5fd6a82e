//! Visits to the remediations of a node, on an API server that has only a few objects.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use http::{Method, Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;

use super::*;

/// Where the remediations and their templates are.
const API: &str = "/apis/x.dev/v1/namespaces/ns";

/// A server that answers to a path with what stands there, or with the code of a refusal.
#[derive(Clone, Default)]
struct Server {
    objects: Arc<Mutex<BTreeMap<String, Result<Value, u16>>>>,
    writes: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// One that knows these kinds of the group `x.dev`, and a template of each.
    fn with_kinds(kinds: &[&str]) -> Self {
        let server = Self::default();
        let resources = kinds.iter().map(|kind| {
            let plural = format!("{}s", kind.to_lowercase());
            json!({"name": plural, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"]})
        });
        let list = json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "x.dev/v1",
            "resources": resources.collect::<Vec<_>>(),
        });
        server.set("/apis/x.dev/v1", Ok(list));
        for kind in kinds.iter().filter(|kind| kind.ends_with("Template")) {
            let template = json!({"apiVersion": "x.dev/v1", "kind": kind, "metadata": {"name": "t"}});
            server.set(&format!("{API}/{}s/t", kind.to_lowercase()), Ok(template));
        }
        server
    }

    fn set(&self, path: &str, answer: Result<Value, u16>) {
        self.objects.lock().insert(path.to_owned(), answer);
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let answer = move |request: Request<Body>| {
            let answer = server.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    fn answer(&self, request: &Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        if request.method() != Method::GET {
            self.writes.lock().push(format!("{} {path}", request.method()));
        }
        let answer = if request.method() == Method::POST {
            Ok(json!({"metadata": {"name": "made"}}))
        } else {
            self.objects.lock().get(path).cloned().unwrap_or(Err(404))
        };
        let (code, body) = match answer {
            Ok(object) => (200, object),
            Err(code) => {
                let reason = if code == 404 { "NotFound" } else { "Forbidden" };
                (
                    code,
                    json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "no"}),
                )
            }
        };
        Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
    }
}

fn reference(kind: &str) -> TemplateRef {
    TemplateRef {
        api_version: "x.dev/v1".into(),
        kind: kind.into(),
        namespace: "ns".into(),
        name: "t".into(),
    }
}

fn case(kinds: &[&str], wanted: Wanted) -> Case {
    Case {
        policy: "p".into(),
        policy_uid: "uid".into(),
        node: "n".into(),
        boot_id: "boot-1".into(),
        templates: kinds.iter().map(|kind| reference(kind)).collect(),
        wanted,
    }
}

#[tokio::test]
async fn a_look_makes_and_ends_nothing() {
    let server = Server::with_kinds(&["RepairTemplate", "Repair"]);
    let look = case(&["RepairTemplate"], Wanted::Look);
    let seen = visit(&server.client(), &look).await.unwrap();
    assert_eq!((seen.stands, seen.out_of_reach.is_none()), (None, true));
    server.set(&format!("{API}/repairs/n"), Ok(json!({"metadata": {"name": "n", "labels": {POLICY: "p"}}})));
    let seen = visit(&server.client(), &look).await.unwrap();
    assert_eq!(seen.stands, Some((0, None)));
    assert!(server.writes.lock().is_empty());
}

#[tokio::test]
async fn a_kind_that_is_not_there_or_may_not_be_read_has_nothing_that_stands() {
    for wanted in [Wanted::Look, Wanted::None] {
        // Of the group only another kind is there, the template alone is not, the template may not be read, and nothing.
        let partly = Server::with_kinds(&["Other"]);
        let kinds = Server::with_kinds(&["Repair"]);
        let forbidden = Server::with_kinds(&["RepairTemplate", "Repair"]);
        for name in ["n", "n-t"] {
            forbidden.set(&format!("{API}/repairs/{name}"), Err(403));
        }
        for (what, server) in
            [("kind", partly), ("template", kinds), ("right", forbidden), ("group", Server::default())]
        {
            let seen = visit(&server.client(), &case(&["RepairTemplate"], wanted)).await;
            let seen = seen.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(seen.stands, None, "{what}");
            assert_eq!(seen.out_of_reach.is_some(), what != "template", "{what}");
        }
    }
}

#[tokio::test]
async fn a_template_that_is_out_of_reach_keeps_no_other_from_its_turn() {
    let server = Server::with_kinds(&["RepairTemplate", "Repair"]);
    let kinds = ["MissingTemplate", "RepairTemplate"];
    let seen = visit(&server.client(), &case(&kinds, Wanted::Template(1))).await.unwrap();
    assert_eq!((seen.stands, seen.created.as_deref()), (Some((1, None)), Some("Repair n")));
    assert!(seen.out_of_reach.is_some_and(|error| error.to_string().contains("the kind Missing")));
    let seen = visit(&server.client(), &case(&kinds, Wanted::Template(0))).await.unwrap();
    assert_eq!((seen.stands, seen.created), (None, None), "nothing can be made of it");
}

#[tokio::test]
async fn what_cannot_be_read_for_now_is_not_known() {
    let server = Server::with_kinds(&["RepairTemplate", "Repair"]);
    server.set(&format!("{API}/repairs/n"), Err(500));
    assert!(visit(&server.client(), &case(&["RepairTemplate"], Wanted::Look)).await.is_err());
}

#[test]
fn only_a_decided_condition_counts() {
    let remediation = |conditions: Value| -> DynamicObject {
        let object = json!({"metadata": {"name": "r"}, "status": {"conditions": conditions}});
        serde_json::from_value(object).unwrap()
    };
    assert_eq!(succeeded(&remediation(json!([{"type": "Succeeded", "status": "True"}]))), Some(true));
    assert_eq!(succeeded(&remediation(json!([{"type": "Succeeded", "status": "False"}]))), Some(false));
    assert_eq!(succeeded(&remediation(json!([{"type": "Succeeded", "status": "Unknown"}]))), None);
    assert_eq!(succeeded(&remediation(json!([{"type": "Processing", "status": "True"}]))), None);
}
