//! What is asked of the API server but to store objects: evictions, tokens, reviews, its version and its kinds.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    kinds::{Kind, ROWS},
    object::{is_terminating, is_true, uid},
    request::{Reply, Request},
    store::{Key, Store},
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
                "InternalError",
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
    let left = healthy - usize::from(is_true(pod, "Ready"));
    if left >= least {
        return Ok(());
    }
    let details =
        json!({"causes": [{"reason": "DisruptionBudget", "message": "The disruption budget needs more"}]});
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    Err(Reply::detailed(429, "TooManyRequests", message, details))
}

/// A token of an account, which expires with what it is bound to.
///
/// # Errors
/// 404 where the account or the bound object is not there, 409 where it is another one.
pub(super) fn token(store: &Store, key: &Key, request: &Request) -> Result<Reply, Reply> {
    let accounts = Kind::named("serviceaccounts");
    let account = store.get(accounts, key).ok_or_else(|| Reply::not_found(accounts, &key.1))?;
    let spec = &request.body["spec"];
    let bound = &spec["boundObjectRef"];
    if let Some(name) = bound["name"].as_str() {
        let kind = if bound["kind"] == "Pod" { "pods" } else { "secrets" };
        let found = store.find(Kind::named(kind), &key.0, name);
        let found = found.ok_or_else(|| Reply::not_found(Kind::named(kind), name))?;
        if bound["uid"].as_str().is_some_and(|wanted| wanted != uid(found)) {
            return Err(Reply::conflict(Kind::named(kind), name, "the UID in the bound object reference"));
        }
    }
    let (now, lasts) = (Timestamp::now(), spec["expirationSeconds"].as_i64().unwrap_or(3600));
    let expires = now.checked_add(SignedDuration::from_secs(lasts)).unwrap_or(now);
    let claims = json!({
        "iat": now.as_second(), "exp": expires.as_second(), "aud": spec["audiences"],
        "sub": format!("system:serviceaccount:{}:{}", key.0, key.1),
        "kubernetes.io": {"namespace": key.0, "serviceaccount": {"name": key.1, "uid": uid(account)},
            "secret": {"name": bound["name"], "uid": bound["uid"]}},
    });
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!("{}.{}.c2lnbmF0dXJl", part(&json!({"alg": "RS256"})), part(&claims));
    let mut answer = request.body.clone();
    answer["status"] = json!({"token": token, "expirationTimestamp": expires.strftime("%FT%TZ").to_string()});
    Ok(Reply::ok(201, &answer))
}

/// The answer to a review, which is stored nowhere; `None` for other kinds. Everything is allowed.
pub(super) fn review(body: &Value) -> Option<Reply> {
    let is_review = body["kind"].as_str().is_some_and(|kind| kind.ends_with("AccessReview"));
    is_review.then(|| {
        let mut answer = body.clone();
        answer["status"] = json!({"allowed": true});
        Reply::ok(201, &answer)
    })
}

/// What is under a path that is of no kind.
///
/// # Errors
/// 404 where there is nothing.
pub(super) fn other(path: &str, request: &Request) -> Result<Reply, Reply> {
    if let Some(answer) = review(&request.body) {
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
