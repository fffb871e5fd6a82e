//! What is asked of the API server but to store objects: evictions, tokens, reviews, its version and its kinds.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    kinds::{Kind, ROWS},
    managed::{self, Writer},
    object::{is_terminating, is_true, items, uid},
    request::{Reply, Request},
    store::{Key, Store, now},
};

/// Whether the budgets let a pod be evicted.
///
/// # Errors
/// 429 where one does not, 500 where several select the pod.
pub(super) fn budget(store: &Store, key: &Key) -> Result<(), Reply> {
    let Some(pod) = store.get(Kind::named("pods"), key) else { return Ok(()) };
    let has_ended = ["Succeeded", "Failed", "Pending"].iter().any(|phase| pod["status"]["phase"] == *phase);
    if has_ended || is_terminating(pod) {
        return Ok(());
    }
    let selects = |budget: &Value, pod: &Value| {
        let wanted = budget["spec"]["selector"]["matchLabels"].as_object();
        wanted
            .is_some_and(|wanted| wanted.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value))
            && budget["metadata"]["namespace"] == pod["metadata"]["namespace"]
    };
    let budgets = store.all(Kind::named("poddisruptionbudgets")).filter(|budget| selects(budget, pod));
    let budgets: Vec<_> = budgets.collect();
    let [budget] = budgets[..] else {
        return match budgets.len() {
            0 => Ok(()),
            _ => Err(Reply::failure(
                500,
                "",
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            )),
        };
    };
    let pods: Vec<_> = store.all(Kind::named("pods")).filter(|pod| selects(budget, pod)).collect();
    let healthy = pods.iter().filter(|pod| is_true(pod, "Ready") && !is_terminating(pod)).count();
    let count = |value: &Value| match value {
        Value::String(percent) => {
            let percent: usize = percent.trim_end_matches('%').parse().unwrap_or_default();
            Some((pods.len() * percent).div_ceil(100))
        }
        other => other.as_u64().and_then(|count| usize::try_from(count).ok()),
    };
    let least = match (count(&budget["spec"]["minAvailable"]), count(&budget["spec"]["maxUnavailable"])) {
        (Some(least), _) => least,
        (None, Some(most)) => pods.len().saturating_sub(most),
        (None, None) => 0,
    };
    // A pod that is not ready may go where enough others are (unhealthyPodEvictionPolicy: IfHealthyBudget).
    let is_ready = is_true(pod, "Ready");
    if !is_ready
        && (budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || healthy >= least && least > 0)
        || healthy > least
    {
        return Ok(());
    }
    let details =
        json!({"causes": [{"reason": "DisruptionBudget", "message": "The disruption budget needs more"}]});
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    Err(Reply::detailed(429, "TooManyRequests", message, details))
}

/// Says in a pod's status that it is evicted.
pub(super) fn disrupted(pod: &mut Value) {
    let mut conditions: Vec<_> = items(&pod["status"]["conditions"])
        .filter(|condition| condition["type"] != "DisruptionTarget")
        .cloned()
        .collect();
    conditions.push(json!({"type": "DisruptionTarget", "status": "True", "lastTransitionTime": now(),
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}));
    pod["status"]["conditions"] = conditions.into();
}

/// A token of an account, which expires with what it is bound to.
///
/// # Errors
/// 404 where the account or the bound object is not there, 409 where it is another one.
pub(super) fn token(store: &Store, key: &Key, request: &Request) -> Result<Reply, Reply> {
    let accounts = Kind::named("serviceaccounts");
    let account = store.get(accounts, key).ok_or_else(|| Reply::not_found(accounts, &key.1))?;
    let mut answer = request.body.clone();
    let lasts = answer["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
    if lasts < 600 {
        let why = "TokenRequest is invalid: spec.expirationSeconds: Invalid value: may not specify a duration less than 10 minutes";
        let details = json!({"group": "authentication.k8s.io", "kind": "TokenRequest"});
        return Err(Reply::detailed(422, "Invalid", why, details));
    }
    let bound = answer["spec"]["boundObjectRef"].clone();
    let mut about = json!({"namespace": key.0, "serviceaccount": {"name": key.1, "uid": uid(account)}});
    if let Some(name) = bound["name"].as_str() {
        let kind = Kind::named(if bound["kind"] == "Pod" { "pods" } else { "secrets" });
        let found = store.find(kind, &key.0, name).ok_or_else(|| Reply::not_found(kind, name))?;
        if bound["uid"].as_str().is_some_and(|wanted| !wanted.is_empty() && wanted != uid(found)) {
            return Err(Reply::precondition(
                kind,
                name,
                "the UID in the bound object reference does not match the UID in record",
            ));
        }
        about[kind.row().kind.to_lowercase()] = json!({"name": name, "uid": uid(found)});
    }
    let issued = Timestamp::now();
    let expires = issued.checked_add(SignedDuration::from_secs(lasts)).unwrap_or(issued);
    let claims = json!({
        "iat": issued.as_second(), "nbf": issued.as_second(), "exp": expires.as_second(), "aud": answer["spec"]["audiences"],
        "sub": format!("system:serviceaccount:{}:{}", key.0, key.1), "kubernetes.io": about,
    });
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!("{}.{}.c2lnbmF0dXJl", part(&json!({"alg": "RS256"})), part(&claims));
    let at = now();
    answer["spec"]["expirationSeconds"] = lasts.into();
    written(&mut answer, request, "token", &at);
    for (field, value) in
        [("name", &*key.1), ("namespace", &*key.0), ("uid", uid(account)), ("creationTimestamp", &*at)]
    {
        answer["metadata"][field] = value.into();
    }
    answer["status"] = json!({"token": token, "expirationTimestamp": expires.strftime("%FT%TZ").to_string()});
    Ok(Reply::ok(201, &answer))
}

/// The answer to a review, which is stored nowhere; `None` for other kinds. Everything is allowed.
pub(super) fn review(request: &Request) -> Option<Reply> {
    let body = &request.body;
    let is_review = body["kind"].as_str().is_some_and(|kind| kind.ends_with("AccessReview"));
    is_review.then(|| {
        let mut answer = body.clone();
        if let Some(attributes) = answer["spec"]["resourceAttributes"].as_object_mut() {
            attributes.retain(|_, value| *value != "");
        }
        written(&mut answer, request, "", &now());
        answer["status"] = json!({"allowed": true});
        Reply::ok(201, &answer)
    })
}

/// Notes who wrote an object that is stored nowhere.
fn written(object: &mut Value, request: &Request, subresource: &str, now: &str) {
    let manager = request.parameter("fieldManager").unwrap_or("unknown");
    managed::updated(&json!({}), object, Writer { manager, subresource, now });
}

/// What is under a path that is of no kind.
///
/// # Errors
/// 404 where there is nothing.
pub(super) fn other(path: &str, request: &Request) -> Result<Reply, Reply> {
    if let Some(answer) = review(request) {
        return Ok(answer);
    }
    let steps: Vec<_> = path.split('/').filter(|step| !step.is_empty()).collect();
    let (group, version) = match steps[..] {
        ["version"] => {
            return Ok(Reply::ok(200, &json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0"})));
        }
        ["api", version] => ("", version),
        ["apis", group, version] => (group, version),
        _ => return Err(Reply::failure(404, "NotFound", "the server could not find the requested resource")),
    };
    let rows = ROWS.iter().filter(|row| row.group == group && row.version == version);
    let resources = rows.map(|row| {
        json!({"name": row.plural, "singularName": row.kind.to_lowercase(), "namespaced": row.namespaced,
            "kind": row.kind, "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]})
    });
    let resources: Vec<_> = resources.collect();
    if resources.is_empty() {
        return Err(Reply::failure(404, "NotFound", "the server could not find the requested resource"));
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(Reply::ok(
        200,
        &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}),
    ))
}
