//! What the API server refuses of ConfigRollouts, NodeHealthPolicies and AccountPolicies, in words that name the field.

use mainstay_e2e::{
    Component::Accounts, PolicyDraft, Scenario, account_policy, config_rollout, kubectl, root, stage,
};
use serde_json::{Value, json};

/// The object is refused, and the refusal has these words.
async fn refused(scenario: &Scenario, what: &str, object: &Value, words: &[&str]) {
    let said = scenario.refusal(object).await;
    for word in words {
        assert!(said.contains(word), "{what}: the refusal does not say {word:?}: {said}");
    }
}

#[tokio::test]
async fn config_rollouts_that_make_no_sense_are_refused() {
    let scenario = Scenario::start("wrongconfig", &[]).await;
    let draft = |path: &str, value: Value| config_rollout("web").with(path, value).object().clone();
    let both = json!([{"kind": "Secret", "name": "a", "selector": {}}]);
    let targets = |targets: Value| json!([{"name": "all", "targets": targets}]);
    for (what, object, words) in [
        ("no source", draft("spec.sources", json!([])), ["spec.sources", "at least 1"]),
        (
            "a name and a selector",
            draft("spec.sources", both),
            ["spec.sources[0]", "either a name or a selector"],
        ),
        (
            "a source of another kind",
            draft("spec.sources", json!([{"kind": "Ingress", "name": "a"}])),
            ["spec.sources[0].kind", "\"ConfigMap\""],
        ),
        ("no stage", draft("spec.stages", json!([])), ["spec.stages", "at least 1"]),
        (
            "two stages of one name",
            draft("spec.stages", json!([stage("all", &["a"]), stage("all", &["b"])])),
            ["spec.stages[1]", "Duplicate value"],
        ),
        (
            "a target without a name",
            draft("spec.stages", targets(json!([{"kind": "Deployment"}]))),
            ["targets[0]", "either a name or a selector"],
        ),
        (
            "a target of another kind",
            draft("spec.stages", targets(json!([{"kind": "CronJob", "name": "a"}]))),
            ["targets[0].kind", "\"StatefulSet\""],
        ),
        ("an unknown mode", draft("spec.mode", json!("Inplace")), ["spec.mode", "\"Repoint\""]),
        ("a wrong duration", draft("spec.debounce", json!("soon")), ["spec.debounce", "should match"]),
        (
            "a name that is too long for a label",
            draft("metadata.name", json!("a".repeat(64))),
            ["metadata.name", "63"],
        ),
        ("a mistyped field", draft("spec.debouce", json!("1s")), ["spec.debouce", "unknown field"]),
    ] {
        refused(&scenario, what, &object, &words).await;
    }
    scenario.create(&config_rollout("web")).await;
    let said = scenario
        .kubectl(r#"patch configrollout web --type=merge --patch={"spec":{"mode":"Admission"}}"#)
        .refused();
    assert!(said.contains("spec.mode is immutable"), "{said}");
}

#[tokio::test]
async fn node_health_policies_that_make_no_sense_are_refused() {
    let scenario = Scenario::start("wrongnodes", &[]).await;
    let policy = |path: &str, value: Value| {
        let draft = PolicyDraft::new("e2e-wrong", json!({"nodeSelector": {}, "dryRun": true}));
        draft.with(path, value).object().clone()
    };
    for (what, object, word) in [
        ("no selector", policy("spec", json!({})), "spec.nodeSelector"),
        ("a wrong duration", policy("spec.unreachableAfter", json!("15")), "spec.unreachableAfter"),
        ("more than all nodes", policy("spec.breakers.zone.maxUnhealthy", json!("140%")), "maxUnhealthy"),
        (
            "more nodes than can be counted",
            policy("spec.breakers.zone.maxUnhealthy", json!(3_000_000_000_u32)),
            "maxUnhealthy",
        ),
        ("an unknown way on", policy("spec.actions.drain.onDeadline", json!("Force")), "onDeadline"),
        ("a name that is too long", policy("metadata.name", json!("a".repeat(64))), "metadata.name"),
        ("a mistyped field", policy("spec.dryrun", json!(true)), "spec.dryrun"),
    ] {
        refused(&scenario, what, &object, &[word]).await;
    }
    kubectl("get nodehealthpolicy e2e-wrong").refused();
}

#[tokio::test]
async fn account_policies_that_make_no_sense_are_refused() {
    let scenario = Scenario::start("wrongaccounts", &[Accounts]).await;
    let draft = |path: &str, value: Value| account_policy(&scenario).with(path, value).object().clone();
    for (what, object, words) in [
        (
            "a token of an account that is not there",
            draft("spec.tokens.0.serviceAccount", json!("another")),
            ["spec.tokens", "that spec.serviceAccounts does not have"],
        ),
        (
            "a binding of one",
            draft("spec.roleBindings.0.serviceAccounts", json!(["another"])),
            ["spec.roleBindings", "that spec.serviceAccounts does not have"],
        ),
        (
            "a copy with the name of a token",
            draft(
                "spec.serviceAccounts.0.imagePullSecrets",
                json!([{"name": "bot-token", "copyFrom": {"namespace": "from", "name": "pull"}}]),
            ),
            ["spec.tokens", "choose another name"],
        ),
        ("a life that is too short", draft("spec.tokens.0.ttl", json!("5m")), ["ttl", "10m"]),
        (
            "a role of another kind",
            draft("spec.roleBindings.0.roleRef.kind", json!("Group")),
            ["kind", "\"Role\""],
        ),
        (
            "a server without TLS",
            draft("spec.tokens.0.kubeconfig", json!({"server": "http://kubernetes"})),
            ["kubeconfig.server", "https://"],
        ),
        ("a name that is too long", draft("metadata.name", json!("a".repeat(64))), ["metadata.name", "63"]),
        ("a mistyped field", draft("spec.gracePeriods", json!("1s")), ["spec.gracePeriods", "unknown field"]),
    ] {
        refused(&scenario, what, &object, &words).await;
    }
}

#[tokio::test]
async fn all_examples_are_admitted() {
    let scenario = Scenario::start("examples", &[Accounts]).await;
    let files = std::fs::read_dir(root().join("examples")).expect("there are examples");
    let mut count = 0;
    for file in files {
        let file = file.expect("a file").path();
        scenario.kubectl(&format!("apply --dry-run=server --filename={}", file.display())).succeeded();
        count += 1;
    }
    assert!(count >= 6, "{count} examples");
}
