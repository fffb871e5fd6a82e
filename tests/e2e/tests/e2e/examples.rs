//! The examples as they stand in the repository, and templates as people have them for the built-in kinds.

use std::{collections::BTreeSet, fs};

use mainstay_e2e::{
    AccountsDraft,
    Component::{Accounts, ConfigRollout, NodeHealth, Replication},
    PolicyDraft, Scenario, condition, root, run,
};
use serde_json::{Value, json};

/// The spec of an example that is for the whole cluster.
fn spec(name: &str) -> Value {
    let text = fs::read_to_string(root().join("examples").join(name)).expect("the example can be read");
    let object: Value = serde_saphyr::from_str(&text).expect("one object");
    object["spec"].clone()
}

#[test]
fn each_example_is_applied_by_a_test() {
    let files = fs::read_dir(root().join("examples")).unwrap();
    let there: BTreeSet<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let applied = [
        "accountpolicy.yaml",
        "configrollout.yaml",
        // endpoints.rs
        "endpointpool.yaml",
        "nodehealthpolicy.yaml",
        "replicagroup-zones.yaml",
        // basics.rs
        "replicagroup.yaml",
    ];
    assert_eq!(there, applied.map(str::to_owned).into());
}

#[tokio::test]
async fn the_example_of_a_config_rollout_becomes_ready() {
    let scenario = Scenario::start("greeter", &[ConfigRollout]).await;
    scenario.kubectl("apply --filename=examples/configrollout.yaml").succeeded();
    let soon = r#"[{"op":"replace","path":"/spec/stages/0/soakSeconds","value":1}]"#;
    scenario.kubectl(&format!("patch configrollout greeter --type=json --patch={soon}")).succeeded();
    scenario.kubectl("wait --for=condition=Ready configrollout/greeter --timeout=180s").succeeded();
}

#[tokio::test]
async fn the_example_of_zones_has_three_pods_in_each() {
    let scenario = Scenario::start("zones", &[Replication]).await;
    scenario.kubectl("apply --filename=examples/replicagroup-zones.yaml").succeeded();
    let zones = scenario.group("zones").await;
    let status = zones.has(9).await;
    assert_eq!(condition(&status, "Available").reason, "MinimumPodsAvailable", "{status:?}");
}

#[tokio::test]
async fn the_example_of_an_account_policy_gives_a_namespace_all_that_it_says() {
    let scenario = Scenario::start("pipelines", &[Accounts]).await;
    let policy = AccountsDraft::new(&scenario.namespace, spec("accountpolicy.yaml"));
    let policy = policy.create(&scenario.client).await;
    let namespace = &scenario.namespace;
    run("kubectl", &["label", "namespace", namespace, "team=blue"], "").succeeded();
    policy.ready(1).await;
    let given = "get serviceaccount/pipeline rolebinding/pipeline secret/pipeline-token --output=name";
    assert_eq!(scenario.kubectl(given).succeeded().lines().count(), 3);
}

#[tokio::test]
async fn the_example_of_a_node_health_policy_watches_all_nodes_and_acts_on_none() {
    let scenario = Scenario::alone("workers", &[NodeHealth]).await;
    let policy = PolicyDraft::new(&scenario.namespace, spec("nodehealthpolicy.yaml"));
    let policy = policy.create(&scenario.client).await;
    let status = policy.until("watches nodes", |status| status.nodes.healthy > 0).await;
    assert_eq!((status.nodes.acting, status.nodes.waiting), (0, 0), "{status:?}");
}

/// A template with what people write for a Deployment, and what the API server does not keep as it was written.
fn template() -> Value {
    let probe = json!({"exec": {"command": ["/pause", "-v"]}, "periodSeconds": 2});
    json!({
        "metadata": {"labels": {"app": "full"}, "annotations": {"example.com/a": "1"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                "weight": 1,
                "podAffinityTerm": {
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": {"matchLabels": {"app": "full"}},
                },
            }]}},
            "topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app": "full"}},
            }],
            "initContainers": [{
                "name": "beside", "image": "registry.k8s.io/pause:3.10.2", "restartPolicy": "Always",
            }],
            "containers": [{
                "name": "main", "image": "registry.k8s.io/pause:3.10.2",
                "resources": {"requests": {"cpu": 0.001, "memory": "0.5Mi"}, "limits": {"cpu": 1}},
                "ports": [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}],
                "env": [
                    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                ],
                "startupProbe": probe,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
            }],
            "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1M"}}],
        },
    })
}

#[tokio::test]
async fn a_full_template_is_applied_by_the_server_again_and_by_two_managers_without_another_revision() {
    let scenario = Scenario::start("full", &[Replication]).await;
    let mut object = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "metadata": {"name": "full"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "full"}}, "template": template()},
    });
    let namespace = format!("--namespace={}", scenario.namespace);
    let apply = |object: &Value, manager: &str| {
        let manager = format!("--field-manager={manager}");
        let words = ["apply", "--server-side", "--filename=-", &namespace, &manager];
        run("kubectl", &words, &object.to_string())
    };
    apply(&object, "one").succeeded();
    let group = scenario.group("full").await;
    let first = group.ready().await;
    for manager in ["one", "two", "two"] {
        apply(&object, manager).succeeded();
    }
    let again = group.ready().await;
    assert_eq!(again.observed_generation, first.observed_generation, "what is applied again is no change");
    assert_eq!(again.update_revision, first.update_revision);

    object["spec"]["replicas"] = json!(1);
    let conflict = apply(&object, "two").refused();
    assert!(conflict.contains(".spec.replicas"), "the refusal names no field: {conflict}");
    apply(&object, "one").refused();
    group.has(2).await;
}
