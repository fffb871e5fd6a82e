//! Writes the components' configuration files from the templates under config/.

use crate::{
    build::Cache,
    error::{Context, Result},
    layout::{DNS_SERVICE_ADDRESS, HOST_ADDRESS, Layout, POD_RANGE, POD_RANGE_V6, REAL_NODE, both_as},
    pins::PAUSE_IMAGE,
};
use std::{fs, path::Path};

const TEMPLATES: &[(&str, &str)] = &[
    ("containerd.toml", include_str!("../config/containerd.toml")),
    ("cni/10-bridge.conflist", include_str!("../config/cni.conflist")),
    ("kubelet.yaml", include_str!("../config/kubelet.yaml")),
    ("resolv.conf", include_str!("../config/resolv.conf")),
    ("Corefile", include_str!("../config/Corefile")),
    ("prometheus.yml", include_str!("../config/prometheus.yml")),
    (BASE_MANIFESTS, include_str!("../config/base.yaml")),
];
const KWOK: &str = include_str!("../config/kwok.yaml");

/// File with the objects that every cluster needs.
pub(crate) const BASE_MANIFESTS: &str = "base.yaml";

/// The behaviour of fake nodes and pods: kwok's fast stages, with heartbeats by Lease as kubelets send.
const STAGES: &[&str] = &[
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
];

/// Makes the cluster's folders and writes every configuration file.
pub(crate) fn write_all(layout: &Layout, cache: &Cache) -> Result<()> {
    let state = ["components", "logs", "pki", "kubeconfig", "config/cni", "containerd"];
    let data = ["etcd", "containerd", "containerd-opt", "kubelet", "pod-logs", "volume-plugins"];
    let folders = state.map(|folder| layout.state.join(folder)).into_iter();
    for folder in folders.chain(data.map(|folder| layout.data.join(folder))) {
        fs::create_dir_all(&folder).context(|| format!("cannot make {}", folder.display()))?;
    }
    for (file, template) in TEMPLATES {
        write(&layout.config(file), &fill(template, layout))?;
    }
    let mut kwok = KWOK.to_owned();
    for stage in STAGES {
        let path = cache.stages().join(stage);
        let text = fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        kwok.push_str("---\n");
        kwok.push_str(&text);
    }
    write(&layout.config("kwok.yaml"), &kwok)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context(|| format!("cannot write {}", path.display()))
}

fn fill(template: &str, layout: &Layout) -> String {
    template
        .replace("{{state}}", &layout.state.display().to_string())
        .replace("{{data}}", &layout.data.display().to_string())
        .replace("{{name}}", &layout.name)
        .replace("{{host}}", HOST_ADDRESS)
        .replace("{{dns}}", DNS_SERVICE_ADDRESS)
        .replace(
            "{{pods}}",
            &both_as(POD_RANGE, POD_RANGE_V6, |range| format!(r#"[{{"subnet": "{range}"}}]"#)),
        )
        .replace("{{routes}}", &both_as("0.0.0.0/0", "::/0", |range| format!(r#"{{"dst": "{range}"}}"#)))
        .replace("{{node}}", REAL_NODE)
        .replace("{{pause}}", PAUSE_IMAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_placeholder_is_left() {
        let layout = Layout { name: "x".into(), state: "/run/x".into(), data: "/var/lib/x".into() };
        for (file, template) in TEMPLATES {
            let text = fill(template, &layout);
            assert!(!text.contains("{{"), "{file} has an unknown placeholder: {text}");
        }
    }
}
