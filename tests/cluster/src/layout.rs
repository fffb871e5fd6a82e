//! Where a cluster lives on its machine. Everything is derived from the cluster's name, so that two
//! clusters of different names share nothing, and `down` knows all that may be left of one.

use crate::error::{Context, Error, Result};
use std::{
    env,
    path::{Path, PathBuf},
};

/// Address of the API server, CoreDNS and Prometheus inside the cluster's network namespace.
pub const HOST_ADDRESS: &str = "10.88.0.1";
/// The same, where the kernel has IPv6.
pub(crate) const HOST_ADDRESS_V6: &str = "fd00:88::1";
pub(crate) const SERVICE_RANGE_V6: &str = "fd00:96::/112";
pub(crate) const POD_RANGE_V6: &str = "fd00:244::/64";
/// Range of Service addresses.
pub(crate) const SERVICE_RANGE: &str = "10.96.0.0/16";
/// First Service address: the API server's, `kubernetes.default`.
pub const API_SERVICE_ADDRESS: &str = "10.96.0.1";
/// Service address of CoreDNS.
pub const DNS_SERVICE_ADDRESS: &str = "10.96.0.10";
/// Range of the real node's pod addresses; reachable from the network namespace.
pub const POD_RANGE: &str = "10.244.0.0/24";
/// Name of the node whose containers really run.
pub const REAL_NODE: &str = "real-1";

/// The paths and kernel names of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Name of the network namespace, the cgroup and the CNI network.
    pub name: String,
    /// Process records, logs, credentials, sockets; dies with the cluster.
    pub state: PathBuf,
    /// etcd's data, containers and volumes; dies with the cluster.
    pub data: PathBuf,
}

impl Layout {
    /// The cluster this environment names: `MAINSTAY_CLUSTER_NAME` (default `mainstay`), with its state in
    /// `MAINSTAY_CLUSTER_DIR` (default `/run/<name>-cluster`) and its data in `/var/lib/<name>-cluster`.
    pub fn from_env() -> Result<Self> {
        let name = env::var("MAINSTAY_CLUSTER_NAME").unwrap_or_else(|_| "mainstay".into());
        // Folders that `down` removes are made of the name.
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        if name.is_empty() || !name.chars().all(plain) {
            let sentence =
                format!("MAINSTAY_CLUSTER_NAME={name:?}: a name has lower-case letters and digits only");
            return Err(Error::Refused(sentence));
        }
        let state = env::var_os("MAINSTAY_CLUSTER_DIR")
            .map_or_else(|| PathBuf::from(format!("/run/{name}-cluster")), PathBuf::from);
        let state = std::path::absolute(&state).context(|| format!("cannot use {}", state.display()))?;
        let data = PathBuf::from(format!("/var/lib/{name}-cluster"));
        Ok(Self { name, state, data })
    }

    /// Held by every command that changes the cluster; outside `state`, which such a command may remove.
    pub fn lock(&self) -> PathBuf {
        self.state.with_extension("lock")
    }

    /// Written when `up` has finished: a state folder without it is what a crash left.
    pub fn settings(&self) -> PathBuf {
        self.state.join("settings.json")
    }

    /// One record a running component.
    pub fn components(&self) -> PathBuf {
        self.state.join("components")
    }

    /// Log of the component `name`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.state.join("logs").join(format!("{name}.log"))
    }

    /// Keys and certificates.
    pub fn pki(&self, file: &str) -> PathBuf {
        self.state.join("pki").join(file)
    }

    /// Kubeconfig of one user, for example `admin`.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.state.join("kubeconfig").join(user)
    }

    /// Configuration file of a component.
    pub fn config(&self, file: &str) -> PathBuf {
        self.state.join("config").join(file)
    }

    /// What Prometheus is to scrape.
    pub fn targets(&self) -> PathBuf {
        self.state.join("targets.json")
    }

    /// The command itself, copied for components that are parts of it.
    pub fn command(&self) -> PathBuf {
        self.state.join("mainstay-cluster")
    }

    /// containerd's socket.
    pub fn containerd_socket(&self) -> PathBuf {
        self.state.join("containerd/containerd.sock")
    }

    /// Mount point of the network namespace.
    pub fn namespace(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}

/// Whether the kernel has IPv6. Where it does the cluster has both families, IPv4 first.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// A list of what the families of the cluster have.
pub(crate) fn both(v4: &str, v6: &str) -> String {
    both_as(v4, v6, str::to_owned)
}

/// A list of what the families of the cluster have, each written by `form`.
pub(crate) fn both_as(v4: &str, v6: &str, form: impl Fn(&str) -> String) -> String {
    if has_ipv6() { format!("{},{}", form(v4), form(v6)) } else { form(v4) }
}
