//! Tokens, reviews, and the defaults of the project's own kinds.

use serde_json::{Value, json};

use super::{
    script::{Script, script},
    step::{Step, apply, delete, get, post},
};

const OURS: &str = "/apis/mainstay.dev/v1alpha1";
const STRANGER: &str = "00000000-0000-4000-8000-00000000abcd";

pub(super) fn scripts() -> Vec<Script> {
    vec![tokens(), reviews(), defaults()]
}

fn token(account: &str, spec: Value) -> Step {
    post(
        &format!("/api/v1/namespaces/{{ns}}/serviceaccounts/{account}/token"),
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}),
    )
}

fn tokens() -> Script {
    let bound = |name: &str, uid: &str| {
        json!({"audiences": ["a"], "expirationSeconds": 1200,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": name, "uid": uid}})
    };
    script(
        "tokens of an account",
        [
            post(
                "/api/v1/namespaces/{ns}/serviceaccounts",
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}}),
            ),
            post(
                "/api/v1/namespaces/{ns}/secrets",
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}),
            )
            .keeps("uid", "/metadata/uid"),
            token("a", json!({"audiences": ["a", "b"], "expirationSeconds": 3600})),
            token("a", json!({"audiences": ["a"]})),
            token("a", bound("s", "{uid}")),
            token("a", bound("s", STRANGER)).gives(409),
            token("a", bound("none", STRANGER)).gives(404),
            token("none", json!({"audiences": ["a"]})).gives(404),
            token("a", json!({"audiences": ["a"], "expirationSeconds": 60})).gives(422),
            delete("/api/v1/namespaces/{ns}/serviceaccounts/a", Value::Null),
            token("a", json!({"audiences": ["a"]})).gives(404),
        ],
    )
}

/// As a user who may do anything: the model knows no other.
fn reviews() -> Script {
    let attributes = json!({"namespace": "{ns}", "verb": "get", "group": "", "resource": "pods"});
    let review = |plural: &str, kind: &str, spec: Value| {
        post(
            &format!("/apis/authorization.k8s.io/v1/{plural}"),
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}),
        )
    };
    script(
        "reviews of what is allowed",
        [
            review(
                "selfsubjectaccessreviews",
                "SelfSubjectAccessReview",
                json!({"resourceAttributes": attributes}),
            ),
            review(
                "subjectaccessreviews",
                "SubjectAccessReview",
                json!({"user": "u", "groups": ["system:masters"], "resourceAttributes": attributes}),
            ),
        ],
    )
}

/// Nothing is kept, so that no controller writes it.
fn defaults() -> Script {
    let selector = json!({"matchLabels": {"app": "a"}});
    let template =
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let kinds = [
        ("replicagroups", "ReplicaGroup", true, json!({"selector": selector, "template": template})),
        (
            "replicagroups",
            "ReplicaGroup",
            true,
            json!({"replicas": 3, "selector": selector, "template": template,
                "update": {"maxSurge": 1}}),
        ),
        (
            "endpointpools",
            "EndpointPool",
            true,
            json!({"members": [{"name": "a", "podSelector": selector}],
            "serviceRef": {"name": "a", "create": {"spec": {"ports": [{"name": "http", "port": 80}]}}}}),
        ),
        (
            "nodehealthpolicies",
            "NodeHealthPolicy",
            false,
            json!({"nodeSelector": {}, "conditions": [{"type": "Ready", "status": "False", "for": "5m"}]}),
        ),
        (
            "configrollouts",
            "ConfigRollout",
            true,
            json!({"sources": [{"kind": "ConfigMap", "name": "a"}],
            "stages": [{"name": "a", "targets": [{"kind": "Deployment", "name": "a"}]}]}),
        ),
        (
            "accountpolicies",
            "AccountPolicy",
            false,
            json!({"namespaceSelector": selector,
            "serviceAccounts": [{"name": "a"}]}),
        ),
    ];
    let mut steps = Vec::new();
    for (plural, kind, namespaced, spec) in kinds {
        let all = if namespaced {
            format!("{OURS}/namespaces/{{ns}}/{plural}")
        } else {
            format!("{OURS}/{plural}")
        };
        let object = |name: &str| json!({"apiVersion": "mainstay.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        steps.extend([
            post(&format!("{all}?dryRun=All"), object("{ns}-a")),
            apply(&format!("{all}/{{ns}}-a?fieldManager=user&dryRun=All"), object("{ns}-a")).gives(201),
            get(&format!("{all}/{{ns}}-a")).gives(404),
        ]);
    }
    script("defaults of the project's kinds", steps)
}
