//! Tells Prometheus which pods to scrape: those of the real node annotated `prometheus.io/scrape: "true"`,
//! at `prometheus.io/port` and `prometheus.io/path` (default /metrics).
//!
//! Debian builds Prometheus without Kubernetes discovery, so this watches pods through kubectl and writes
//! the file that Prometheus's file discovery reads. Pods of fake nodes are left out: their addresses lead
//! nowhere.

use crate::{
    error::{Context, Result},
    layout::REAL_NODE,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::BufReader,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// Name of the component.
pub(crate) const NAME: &str = "prometheus-discovery";

/// A line of `kubectl get --watch --output-watch-events`.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Pod,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize)]
struct Metadata {
    uid: String,
    name: String,
    namespace: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
}

/// Keeps the file `targets` in step with the pods until the process is ended.
pub fn discover_pods(kubeconfig: &Path, targets: &Path) -> Result<()> {
    write(targets, &BTreeMap::new())?;
    loop {
        watch(kubeconfig, targets)?;
        // The watch ends now and then, and when the API server restarts.
        thread::sleep(Duration::from_secs(1));
    }
}

fn watch(kubeconfig: &Path, targets: &Path) -> Result<()> {
    let mut kubectl = Command::new("kubectl");
    kubectl.arg("--kubeconfig").arg(kubeconfig);
    kubectl.args(["get", "pods", "--all-namespaces", "--watch", "--output-watch-events", "--output=json"]);
    kubectl.arg(format!("--field-selector=spec.nodeName={REAL_NODE}")).stdout(Stdio::piped());
    let mut child = kubectl.spawn().context(|| "cannot run kubectl".into())?;
    let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut found = BTreeMap::new();
    for event in serde_json::Deserializer::from_reader(stdout).into_iter::<Event>() {
        let Ok(Event { kind, object }) = event else { break };
        let target = if kind == "DELETED" { None } else { target(&object) };
        let before = match &target {
            Some(target) => found.insert(object.metadata.uid, target.clone()),
            None => found.remove(&object.metadata.uid),
        };
        if before != target {
            write(targets, &found)?;
        }
    }
    let _ = child.kill();
    child.wait().map(|_| ()).context(|| "cannot wait for kubectl".into())
}

/// What file discovery says of a pod; none when it is not to be scraped.
fn target(pod: &Pod) -> Option<Value> {
    let Metadata { name, namespace, annotations, .. } = &pod.metadata;
    let annotation = |key: &str| annotations.get(&format!("prometheus.io/{key}"));
    let wanted = annotation("scrape").is_some_and(|value| value == "true");
    if !wanted || pod.status.phase != "Running" || pod.status.pod_ip.is_empty() {
        return None;
    }
    let address = format!("{}:{}", pod.status.pod_ip, annotation("port")?);
    let path = annotation("path").map_or("/metrics", String::as_str);
    let labels = json!({"__metrics_path__": path, "namespace": namespace, "pod": name, "node": REAL_NODE});
    Some(json!({"targets": [address], "labels": labels}))
}

/// Renamed into place, so that Prometheus never reads half a file.
fn write(path: &Path, targets: &BTreeMap<String, Value>) -> Result<()> {
    let bytes = serde_json::to_vec(&targets.values().collect::<Vec<_>>()).expect("JSON is plain data");
    let part = path.with_extension("part");
    fs::write(&part, bytes)
        .and_then(|()| fs::rename(&part, path))
        .context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(annotations: Value, status: Value) -> Pod {
        let metadata = json!({"uid": "1", "name": "p", "namespace": "n", "annotations": annotations});
        serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
    }

    #[test]
    fn annotated_running_pods_are_targets() {
        let running = json!({"phase": "Running", "podIP": "10.244.0.9"});
        let wanted = json!({"prometheus.io/scrape": "true", "prometheus.io/port": "8080"});
        let found = target(&pod(wanted.clone(), running.clone())).unwrap();
        assert_eq!(found["targets"], json!(["10.244.0.9:8080"]));
        assert_eq!(found["labels"]["__metrics_path__"], "/metrics");
        assert_eq!(target(&pod(wanted, json!({"phase": "Pending"}))), None);
        assert_eq!(target(&pod(json!({"prometheus.io/port": "8080"}), running.clone())), None);
        assert_eq!(target(&pod(json!({"prometheus.io/scrape": "true"}), running)), None);
    }
}
