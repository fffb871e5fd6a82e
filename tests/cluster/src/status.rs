//! What runs, for people and programs.

use crate::{
    error::Result,
    nodes::node_readiness,
    process::{Process, Usage},
    settings::Settings,
    supervise::{Record, Supervisor},
};
use serde::Serialize;
use std::{fmt, path::PathBuf};

/// The state of a cluster.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Every expected component runs, the API server is ready and every node is.
    pub healthy: bool,
    /// The components, expected and further ones.
    pub components: Vec<ComponentStatus>,
    /// Nodes whose Ready condition is True.
    pub ready_nodes: usize,
    /// All nodes.
    pub nodes: usize,
    /// The admin kubeconfig, which works inside the network namespace.
    pub kubeconfig: PathBuf,
    /// The built programs.
    pub bin: PathBuf,
    /// The components' logs.
    pub logs: PathBuf,
}

/// The state of one component.
#[derive(Debug, Serialize)]
pub struct ComponentStatus {
    /// Its name.
    pub name: String,
    /// Whether its process lives.
    pub state: State,
    /// Its process, when it runs.
    pub pid: Option<u32>,
    /// What it costs, when it runs.
    pub usage: Option<Usage>,
    /// Where it answers.
    pub endpoint: String,
}

/// Whether a component's process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It lives.
    Running,
    /// It ended on its own.
    Dead,
    /// It was stopped.
    Stopped,
}

impl Status {
    /// Reads the cluster's state.
    pub(crate) fn read(supervisor: &Supervisor, settings: &Settings) -> Result<Self> {
        let records = supervisor.records();
        let expected = settings.components();
        let further = records.iter().filter(|record| !expected.contains(&record.name));
        let further: Vec<_> = further.map(|record| ComponentStatus::of(&record.name, Some(record))).collect();
        let find = |name: &String| records.iter().find(|record| record.name == *name);
        let components: Vec<_> =
            expected.iter().map(|name| ComponentStatus::of(name, find(name))).chain(further).collect();

        let alive = supervisor.kubectl(&["get", "--raw=/readyz", "--request-timeout=5s"]).is_ok();
        let nodes = if alive { node_readiness(supervisor)? } else { Vec::new() };
        let ready_nodes = nodes.iter().filter(|(_, ready)| *ready).count();
        let nodes = nodes.len();
        let running = components.iter().all(|component| component.state == State::Running);
        Ok(Self {
            healthy: running && alive && nodes == ready_nodes,
            components,
            ready_nodes,
            nodes,
            kubeconfig: supervisor.layout.kubeconfig("admin"),
            bin: supervisor.cache.bin(),
            logs: supervisor.layout.state.join("logs"),
        })
    }
}

impl ComponentStatus {
    fn of(name: &str, record: Option<&Record>) -> Self {
        let process = record.map(|record| &record.process).filter(|process| process.alive());
        Self {
            name: name.into(),
            state: match (record, process) {
                (_, Some(_)) => State::Running,
                (Some(_), None) => State::Dead,
                (None, None) => State::Stopped,
            },
            pid: process.map(|process| process.pid),
            usage: process.and_then(Process::usage),
            endpoint: record.map(|record| record.endpoint.clone()).unwrap_or_default(),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Dead => "dead",
            Self::Stopped => "stopped",
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:26} {:8} {:>8} {:>7}  ENDPOINT", "COMPONENT", "STATE", "PID", "RSS MB")?;
        for component in &self.components {
            let pid = component.pid.map(|pid| pid.to_string()).unwrap_or_default();
            let memory =
                component.usage.map(|usage| (usage.resident_bytes >> 20).to_string()).unwrap_or_default();
            let (name, state, endpoint) = (&component.name, component.state, &component.endpoint);
            writeln!(f, "{name:26} {state:8} {pid:>8} {memory:>7}  {endpoint}")?;
        }
        writeln!(f, "nodes: {} of {} ready", self.ready_nodes, self.nodes)?;
        writeln!(f, "kubeconfig: {} (inside the network namespace)", self.kubeconfig.display())?;
        write!(f, "{}", if self.healthy { "healthy" } else { "NOT healthy; `mainstay-cluster up` mends it" })
    }
}
