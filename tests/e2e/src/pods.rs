//! Pod specs that the tests' groups are made of, and what a pod is.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// The container that does nothing.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10.2";

/// The test program with many commands, among them a web server.
pub const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.63.0";

/// The program kubectl, for the cluster's version.
pub const KUBECTL: &str = mainstay_cluster::KUBECTL_IMAGE;

/// An image that no registry has: nobody answers at its place.
pub const NO_IMAGE: &str = "localhost/e2e/missing:1";

/// A pod that is never scheduled. It is there at once, is gone at once when deleted, and its status is what the
/// test writes: enough for all that is about the number of pods, on any cluster.
pub fn gated() -> Value {
    json!({
        "schedulingGates": [{"name": "e2e.mainstay.dev/never"}],
        "containers": [{"name": "none", "image": PAUSE}],
    })
}

/// A pod that no scheduler looks at, and that nothing holds back by its own word: as [`gated`] otherwise.
pub fn unscheduled() -> Value {
    json!({"schedulerName": "none", "containers": [{"name": "none", "image": PAUSE}]})
}

/// A pod that really runs, and does nothing.
pub fn pause() -> Value {
    // The program is the first process of its container, so it is told to stop by force.
    let mut spec = restricted(json!({"name": "pause", "image": PAUSE}));
    spec["terminationGracePeriodSeconds"] = 1.into();
    spec
}

/// A web server on port 8080 that can also ask others: `/dial`.
pub fn web() -> Value {
    restricted(json!({"name": "web", "image": AGNHOST, "args": ["netexec", "--http-port=8080"]}))
}

/// A web server as [`web`] that takes requests only when it is ready for them, and answers them until everybody knows
/// that it goes.
pub fn graceful_web() -> Value {
    let mut spec = web();
    let container = &mut spec["containers"][0];
    container["readinessProbe"] = json!({"httpGet": {"path": "/hostname", "port": 8080}, "periodSeconds": 1});
    container["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 5}}});
    spec
}

/// A web server as [`web`] beside a gRPC server on port 8090 that says of both whether they serve. It is told what to
/// say on port 8091; the pod is ready whatever it says.
pub fn judged() -> Value {
    let mut spec = web();
    let mut judge = spec["containers"][0].clone();
    judge["name"] = "judge".into();
    judge["args"] = json!(["grpc-health-checking", "--port=8090", "--http-port=8091"]);
    spec["containers"].as_array_mut().expect("a pod has a list of containers").push(judge);
    spec["terminationGracePeriodSeconds"] = 1.into();
    spec
}

/// A web server as [`web`] that writes what it is sent into the volume `data`.
pub fn storing() -> Value {
    let mut spec = web();
    // Where the program puts uploads, without a choice.
    spec["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/uploads"}]);
    spec["terminationGracePeriodSeconds"] = 1.into();
    spec
}

/// A web server as [`storing`] that runs on after it is deleted, until [`Scenario::let_end`](crate::Scenario::let_end).
pub fn lingering() -> Value {
    let mut spec = storing();
    // A second server, whose end is the end of the hook. The image has no shell.
    let wait = ["/agnhost".into(), "netexec".into(), format!("--http-port={END}"), "--udp-port=-1".into()];
    spec["containers"][0]["lifecycle"] = json!({"preStop": {"exec": {"command": wait}}});
    // Longer than a test looks on.
    spec["terminationGracePeriodSeconds"] = 120.into();
    spec
}

/// The port on which a pod of [`lingering`] that is being deleted is told that it may end.
pub(crate) const END: u16 = 8089;

/// A pod that runs kubectl once with these words, as whoever the key `kubeconfig` of the Secret says.
pub fn kubectl(secret: &str, words: &[&str]) -> Value {
    let args = [&["--kubeconfig=/config/kubeconfig"], words].concat();
    let mut spec = restricted(json!({
        "name": "kubectl",
        "image": KUBECTL,
        "args": args,
        "volumeMounts": [{"name": "config", "mountPath": "/config"}],
    }));
    spec["volumes"] = json!([{"name": "config", "secret": {"secretName": secret}}]);
    spec["automountServiceAccountToken"] = false.into();
    spec["restartPolicy"] = "Never".into();
    spec
}

/// A pod whose containers have all ended, and do not start again.
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// A pod that neither ended nor is on its way out.
pub fn is_active(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !has_ended(pod)
}

/// A pod that says that it is ready.
pub fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A pod of one container that reconciles the Pod Security level "restricted".
fn restricted(mut container: Value) -> Value {
    container["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    json!({
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    })
}
