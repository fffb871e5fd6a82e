//! The fake nodes that kwok plays, spread over zones.

use crate::{
    component::{REGION_LABEL, zone_name},
    error::{Context, Result},
    supervise::Supervisor,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

/// Makes the nodes `fake-1` to `fake-<count>` that do not exist yet; node number n is in zone n modulo
/// `zones`. Returns how many were made.
pub(crate) fn create(supervisor: &Supervisor, count: usize, zones: usize) -> Result<usize> {
    let listed = supervisor.kubectl(&["get", "nodes", "--selector=type=kwok", "--output=name"])?;
    let existing: BTreeSet<&str> = listed.lines().filter_map(|line| line.strip_prefix("node/")).collect();
    let missing: Vec<Value> = (1..=count)
        .map(|number| (format!("fake-{number}"), zone_name((number - 1) % zones)))
        .filter(|(name, _)| !existing.contains(name.as_str()))
        .map(|(name, zone)| node(&name, &zone))
        .collect();
    if missing.is_empty() {
        return Ok(0);
    }
    let path = supervisor.layout.config("nodes.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": missing}).to_string();
    fs::write(&path, list).context(|| format!("cannot write {}", path.display()))?;
    supervisor.kubectl(&["create", "--filename", &path.display().to_string()])?;
    Ok(missing.len())
}

/// Each node's name, and whether its Ready condition is True.
pub(crate) fn node_readiness(supervisor: &Supervisor) -> Result<Vec<(String, bool)>> {
    let line = r#"{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}"#;
    let format = format!("jsonpath={{range .items[*]}}{line}{{end}}");
    let listed = supervisor.kubectl(&["get", "nodes", "--output", &format])?;
    let split = |line: &str| line.split_once(' ').map(|(name, ready)| (name.to_owned(), ready == "True"));
    Ok(listed.lines().filter_map(split).collect())
}

fn node(name: &str, zone: &str) -> Value {
    // Room for benchmarks: no pod is kept from a node by anything but its taint.
    let room = json!({"cpu": "256", "memory": "1Ti", "ephemeral-storage": "1Ti", "pods": "1000"});
    let mut labels = json!({
        "type": "kwok",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/zone": zone,
    });
    if let Some((label, region)) = REGION_LABEL.split_once('=') {
        labels[label] = region.into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": room, "capacity": room},
    })
}
