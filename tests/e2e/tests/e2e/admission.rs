//! What the API server refuses, in words that name the field. No controller is asked.

use mainstay_e2e::{Component::Replication, Draft, Scenario, group, pods, unbound_claim};
use serde_json::{Value, json};

fn valid() -> Draft {
    group("checked", pods::gated())
}

/// Cases as in [`wrong`], of volume claims and hooks.
fn wrong_claims_and_hooks() -> Vec<(&'static str, Draft, [&'static str; 2])> {
    let claim = || unbound_claim("data");
    let with_claim = |path: &str, value: Value| {
        let mut wrong = claim();
        *wrong.pointer_mut(path).expect("the field is there") = value;
        valid().claims([wrong])
    };
    let hook = |finalizer: &str, seconds: i64| {
        valid().with("spec.lifecycle.preDelete", json!({"finalizer": finalizer, "timeoutSeconds": seconds}))
    };
    vec![
        (
            "two claims of one name",
            valid().claims([claim(), unbound_claim("log"), claim()]),
            ["spec.volumeClaimTemplates", "two templates with the same name"],
        ),
        (
            "more claims than eight",
            valid().claims((0..9).map(|number| unbound_claim(&format!("data-{number}")))),
            ["spec.volumeClaimTemplates", "at most 8"],
        ),
        (
            "a claim without a name",
            with_claim("/metadata", json!({})),
            ["spec.volumeClaimTemplates[0].metadata.name", "Required"],
        ),
        (
            "a claim whose name no volume can have",
            with_claim("/metadata/name", json!("Data")),
            ["spec.volumeClaimTemplates[0].metadata.name", "Invalid value"],
        ),
        (
            "a mistyped field of a claim",
            with_claim("/spec", json!({"storageClass": "fast"})),
            ["spec.volumeClaimTemplates[0].spec.storageClass", "unknown field"],
        ),
        (
            "a name that is too long for the label of claims",
            valid().claims([claim()]).with("metadata.name", "a".repeat(64)),
            ["metadata.name", "63"],
        ),
        (
            "an unknown way of using claims again",
            valid().with("spec.volumeClaims.reuse", "Sometimes"),
            ["spec.volumeClaims.reuse", "\"Never\""],
        ),
        (
            "an unknown fate of claims",
            valid().retention("Delete", "Recycle"),
            ["spec.volumeClaims.retention.whenDeleted", "\"Retain\""],
        ),
        ("a finalizer of nobody", hook("drain", 1), ["spec.lifecycle.preDelete.finalizer", "Invalid value"]),
        (
            "a hook that has no time",
            hook("example.com/drain", 0),
            ["spec.lifecycle.preDelete.timeoutSeconds", "greater than or equal to 1"],
        ),
        (
            "a hook without a finalizer",
            valid().with("spec.lifecycle.preDelete", json!({"timeoutSeconds": 1})),
            ["spec.lifecycle.preDelete.finalizer", "Required"],
        ),
    ]
}

/// Each case: what is wrong, the group, and what the sentence must contain.
fn wrong() -> Vec<(&'static str, Draft, [&'static str; 2])> {
    vec![
        (
            "a selector that the template's labels do not match",
            valid().with("spec.selector.matchLabels", json!({"app": "other"})),
            ["spec.selector.matchLabels", "does not match spec.template.metadata.labels"],
        ),
        (
            "an expression that the template's labels do not match",
            valid().with(
                "spec.selector.matchExpressions",
                json!([{"key": "app", "operator": "NotIn", "values": ["checked"]}]),
            ),
            ["spec.selector.matchExpressions", "does not match spec.template.metadata.labels"],
        ),
        (
            "an empty selector",
            valid().with("spec.selector", json!({})),
            ["spec.selector", "must not be empty"],
        ),
        (
            "a template without labels",
            valid().with("spec.template.metadata", json!({})),
            ["spec.template.metadata.labels", "Required"],
        ),
        (
            "pods that are to finish",
            valid().with("spec.template.spec.restartPolicy", "OnFailure"),
            ["spec.template.spec.restartPolicy", "must be Always"],
        ),
        (
            "pods with a deadline",
            valid().with("spec.template.spec.activeDeadlineSeconds", 5),
            ["spec.template.spec.activeDeadlineSeconds", "must not be set"],
        ),
        (
            "pods that are being debugged",
            valid().with("spec.template.spec.ephemeralContainers", json!([{"name": "e", "image": "x"}])),
            ["spec.template.spec.ephemeralContainers", "must not be set"],
        ),
        (
            "pods without containers",
            valid().with("spec.template.spec.containers", json!([])),
            ["spec.template.spec.containers", "at least 1 item"],
        ),
        (
            "a container's name in capitals",
            valid().with("spec.template.spec.containers", json!([{"name": "Web_1", "image": "x"}])),
            ["spec.template.spec.containers[0].name", "should match"],
        ),
        (
            "a container with an empty image",
            valid().with("spec.template.spec.containers", json!([{"name": "web", "image": ""}])),
            ["spec.template.spec.containers[0].image", "at least 1 char"],
        ),
        (
            "fewer than no pods",
            valid().with("spec.replicas", -1),
            ["spec.replicas", "greater than or equal to 0"],
        ),
        (
            "negative seconds",
            valid().with("spec.minReadySeconds", -1),
            ["spec.minReadySeconds", "greater than or equal to 0"],
        ),
        (
            "an unknown way of replacing",
            valid().with("spec.podReplacement", "Never"),
            ["spec.podReplacement", "\"WhenTerminated\""],
        ),
        (
            "an unknown preference",
            valid().with("spec.scaleDown.prefer", "NewestNode"),
            ["spec.scaleDown.prefer", "\"EmptiestNode\""],
        ),
        (
            "more spread keys than four",
            valid().with("spec.scaleDown.spread", json!(["a", "b", "c", "d", "e"])),
            ["spec.scaleDown.spread", "at most 4"],
        ),
        (
            "a pod named twice",
            valid().with("spec.scaleDown.podsToDelete", json!(["a", "a"])),
            ["spec.scaleDown.podsToDelete", "Duplicate value"],
        ),
        (
            "an update that can exchange no pod",
            valid().rolling(0, "0%"),
            ["spec.update.maxUnavailable", "must not both be 0"],
        ),
        (
            "more unavailable than all",
            valid().rolling(1, "101%"),
            ["spec.update.maxUnavailable", "must not exceed 100%"],
        ),
        ("a surge that is no number", valid().rolling("half", 1), ["spec.update.maxSurge", "Invalid value"]),
        (
            "a surge that no number of pods reaches",
            valid().rolling(3_000_000_000_u32, 1),
            ["spec.update.maxSurge", "less than or equal to 2147483647"],
        ),
        (
            "more pods than can be counted",
            valid().with("spec.replicas", 3_000_000_000_u32),
            ["spec.replicas", "less than or equal to 2147483647"],
        ),
        (
            "a port that no pod can have",
            valid().with(
                "spec.template.spec.containers",
                json!([{"name": "a", "image": "a", "livenessProbe": {"tcpSocket": {"port": 3_000_000_000_u32}}}]),
            ),
            ["spec.template.spec.containers[0].livenessProbe.tcpSocket.port", "less than or equal to 2147483647"],
        ),
        (
            "a partition of more than all",
            valid().with("spec.update.partition", "101%"),
            ["spec.update.partition", "must not exceed 100%"],
        ),
        (
            "steps that go down",
            valid().steps(&[(50, None), (20, None)]),
            ["spec.update.steps", "out of order"],
        ),
        (
            "two steps of one weight",
            valid().steps(&[(20, None), (20, None)]),
            ["spec.update.steps", "two steps with the same weight"],
        ),
        (
            "a step of more than all",
            valid().steps(&[(101, None)]),
            ["spec.update.steps[0].weight", "less than or equal to 100"],
        ),
        (
            "steps beside Recreate",
            valid().steps(&[(20, None)]).update_type("Recreate"),
            ["spec.update.type", "are for spec.update.type Rolling"],
        ),
        (
            "steps beside a partition",
            valid().steps(&[(20, None)]).with("spec.update.partition", 1),
            ["spec.update.partition", "must not be set together"],
        ),
        ("an unknown way of updating", valid().update_type("Blue"), ["spec.update.type", "\"OnDelete\""]),
        (
            "a deadline before any pod can be available",
            valid().with("spec.minReadySeconds", 30).with("spec.progressDeadlineSeconds", 30),
            ["spec.progressDeadlineSeconds", "must be more than spec.minReadySeconds"],
        ),
        (
            "an unknown way of failing",
            valid().with("spec.failure.action", "Panic"),
            ["spec.failure.action", "\"Rollback\""],
        ),
        (
            "a history without end",
            valid().with("spec.revisionHistoryLimit", 1001),
            ["spec.revisionHistoryLimit", "less than or equal to 1000"],
        ),
        (
            "a rollback to nothing",
            valid().with("spec.rollbackTo", ""),
            ["spec.rollbackTo", "at least 1 char"],
        ),
        ("a mistyped field", valid().with("spec.replica", 3), ["spec.replica", "unknown field"]),
        (
            "a mistyped field of a container",
            valid().with(
                "spec.template.spec.containers",
                json!([{"name": "a", "image": "a", "imagePolicy": "Never"}]),
            ),
            ["spec.template.spec.containers[0].imagePolicy", "unknown field"],
        ),
        (
            "a container without a name",
            valid().with("spec.template.spec.containers", json!([{"image": "a"}])),
            ["spec.template.spec.containers[0].name", "Required"],
        ),
        (
            "a quantity that is none",
            valid().with(
                "spec.template.spec.containers",
                json!([{"name": "a", "image": "a", "resources": {"requests": {"cpu": "much"}}}]),
            ),
            ["spec.template.spec.containers[0].resources.requests.cpu", "Invalid value"],
        ),
    ]
}

#[tokio::test]
async fn wrong_groups_are_refused_with_a_sentence_that_names_the_field() {
    let scenario = Scenario::start("refused", &[Replication]).await;
    for (what, draft, expected) in wrong().into_iter().chain(wrong_claims_and_hooks()) {
        let said = scenario.refusal(draft.object()).await;
        for part in expected {
            assert!(said.contains(part), "{what}: the refusal does not say {part:?}: {said}");
        }
    }
}

/// Templates leave such fields behind, and built-in kinds take them the same way.
#[tokio::test]
async fn a_field_without_a_value_has_its_default() {
    let scenario = Scenario::start("nulls", &[Replication]).await;
    let fields =
        ["spec.update.maxSurge", "spec.update.partition", "spec.update.steps", "spec.minReadySeconds"];
    let draft = fields.into_iter().fold(valid(), |draft, field| draft.with(field, Value::Null));
    let said = scenario.kubectl_create(draft.object(), &["--dry-run=server", "--output=json"]).succeeded();
    let group: Value = serde_json::from_str(&said).expect("kubectl prints JSON");
    assert_eq!(group["spec"]["update"]["maxSurge"], "25%", "{group}");
    assert_eq!(
        (&group["spec"]["update"]["partition"], &group["spec"]["minReadySeconds"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(group["spec"]["update"].get("steps"), None, "{group}");
}

#[tokio::test]
async fn the_selector_of_a_group_cannot_be_changed() {
    let scenario = Scenario::start("selector", &[Replication]).await;
    scenario.create(&valid().replicas(0).with("spec.template.metadata.labels.tier", "back")).await;
    let patch = r#"{"spec":{"selector":{"matchLabels":{"tier":"back"}}}}"#;
    let said = scenario.kubectl(&format!("patch rg/checked --type=merge --patch={patch}")).refused();
    for part in ["spec.selector", "is immutable"] {
        assert!(said.contains(part), "the refusal does not say {part:?}: {said}");
    }
}

#[tokio::test]
async fn the_names_of_volume_claims_cannot_be_changed_and_all_else_of_them_can() {
    let scenario = Scenario::start("claimnames", &[Replication]).await;
    let [data, log] = ["data", "log"].map(unbound_claim);
    let draft = valid().replicas(0);
    scenario.create(&draft.clone().claims([data.clone(), log.clone()])).await;
    scenario.create(&draft.with("metadata.name", "plain")).await;
    let patch = |group: &str, templates: Value, words: &[&str]| {
        let patch = json!({"spec": {"volumeClaimTemplates": templates}});
        let patch = format!("patch rg/{group} --type=merge --patch={patch} {}", words.join(" "));
        scenario.kubectl(&patch)
    };
    let other = unbound_claim("other");
    for (group, templates) in [
        ("checked", json!([data])),
        ("checked", json!([data, log, other])),
        ("checked", json!([data, other])),
        ("checked", json!([])),
        ("checked", json!(null)),
        ("plain", json!([data])),
    ] {
        let said = patch(group, templates.clone(), &[]).refused();
        assert!(said.contains("spec.volumeClaimTemplates"), "{group} to {templates}: {said}");
        assert!(said.contains("must keep its names"), "{group} to {templates}: {said}");
    }
    let mut larger = data.clone();
    larger["spec"]["resources"]["requests"]["storage"] = json!("2Mi");
    for templates in [json!([larger, log]), json!([log, data])] {
        patch("checked", templates, &["--dry-run=server"]).succeeded();
    }
}

/// As `kubectl create deployment --output=yaml` and `kubectl get statefulset --output=yaml` print templates.
#[tokio::test]
async fn what_the_built_in_kinds_take_and_ignore_is_taken() {
    let scenario = Scenario::start("taken", &[Replication]).await;
    let mut claim = unbound_claim("data");
    (claim["apiVersion"], claim["kind"]) = (json!("v1"), json!("PersistentVolumeClaim"));
    (claim["status"], claim["metadata"]["creationTimestamp"]) = (json!({"phase": "Pending"}), Value::Null);
    let container = json!({
        "name": "a", "image": pods::PAUSE, "env": null, "resources": {"requests": {"cpu": 0.5, "memory": "64Mi"}},
        "ports": [{"name": "http", "containerPort": 80}, {"name": "web", "containerPort": 80}]
    });
    let alias = json!({"ip": "10.0.0.1", "hostnames": ["a"]});
    let draft = valid()
        .replicas(0)
        .claims([claim])
        .with("spec.template.metadata.name", "web")
        .with("spec.template.metadata.creationTimestamp", Value::Null)
        .with("spec.template.metadata.annotations", Value::Null)
        .with("spec.template.spec.affinity", Value::Null)
        .with("spec.template.spec.hostAliases", json!([alias, alias]))
        .with("spec.template.spec.containers", json!([container]));
    let said = scenario.kubectl_create(draft.object(), &["--dry-run=server", "--output=json"]).succeeded();
    let group: Value = serde_json::from_str(&said).expect("kubectl prints JSON");
    let requests = &group["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"];
    assert_eq!(requests, &json!({"cpu": 0.5, "memory": "64Mi"}), "{group}");
}

#[tokio::test]
async fn a_template_is_taken_as_it_is_written() {
    let scenario = Scenario::start("verbatim", &[Replication]).await;
    let container =
        json!({"name": "a", "image": pods::PAUSE, "resources": {"limits": {"cpu": 1, "memory": "64Mi"}}});
    let draft = valid().with("spec.template.spec.containers", json!([container]));
    let said = scenario.kubectl_create(draft.object(), &["--output=name"]).succeeded();
    assert_eq!(said.trim(), "replicagroup.mainstay.dev/checked");
    let checked = scenario.group("checked").await;
    checked.has(1).await;
    let written =
        checked.get().await.spec.template.spec["containers"][0]["resources"]["limits"]["cpu"].clone();
    assert_eq!(written, json!(1));
    let pod = checked.pods().await.remove(0);
    let resources = pod.spec.unwrap().containers.remove(0).resources.unwrap();
    assert_eq!(resources.limits.unwrap()["cpu"].0, "1");
}
