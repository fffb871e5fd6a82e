//! The components of a cluster, as data: program, flags, and the address that answers once one is ready.

use crate::{
    build::Cache,
    credentials::LOCAL_SERVER,
    discovery,
    error::{Error, Result},
    layout::{
        HOST_ADDRESS, HOST_ADDRESS_V6, Layout, POD_RANGE, POD_RANGE_V6, REAL_NODE, SERVICE_RANGE,
        SERVICE_RANGE_V6, both,
    },
};
use std::path::PathBuf;

/// What a component is; several may run of one kind, under names of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The store.
    Etcd,
    /// The API server.
    ApiServer,
    /// Kubernetes' own controllers.
    ControllerManager,
    /// Places pods on nodes.
    Scheduler,
    /// Runs the real node's containers.
    Containerd,
    /// Agent of the real node.
    Kubelet,
    /// Carries Service addresses to pods.
    KubeProxy,
    /// Answers DNS at the Service address 10.96.0.10.
    CoreDns,
    /// Plays the nodes and pods of one zone; zones are counted from 0.
    Kwok(usize),
    /// Tells Prometheus of annotated pods.
    Discovery,
    /// Scrapes annotated pods.
    Prometheus,
}

/// How a component is started and how one sees that it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    /// Program; without a folder it is one of the machine's.
    pub program: PathBuf,
    /// Flags in the form `--flag=value`.
    pub flags: Vec<String>,
    /// What answers once the component is ready.
    pub probe: Probe,
}

/// How one sees that a component is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    /// GET of this URL in the cluster's network namespace answers 2xx.
    Get(String),
    /// containerd answers at its socket.
    Containerd,
    /// This file exists.
    File(PathBuf),
}

/// Names and kinds of what every cluster runs besides kwok and Prometheus, in the order of their start.
pub(crate) const BASE: &[(&str, Kind)] = &[
    ("etcd", Kind::Etcd),
    ("containerd", Kind::Containerd),
    ("kube-apiserver", Kind::ApiServer),
    ("kube-controller-manager", Kind::ControllerManager),
    ("kube-scheduler", Kind::Scheduler),
    ("kubelet", Kind::Kubelet),
    ("kube-proxy", Kind::KubeProxy),
    ("coredns", Kind::CoreDns),
];
/// What runs in addition when Prometheus is wanted.
pub(crate) const PROMETHEUS: &[(&str, Kind)] =
    &[(discovery::NAME, Kind::Discovery), ("prometheus", Kind::Prometheus)];
/// Zones have one letter each.
pub(crate) const MOST_ZONES: usize = 26;

/// Name of a zone, counted from 0: `zone-a`, `zone-b`, ...
pub(crate) fn zone_name(index: usize) -> String {
    format!("zone-{}", char::from(b'a' + u8::try_from(index % MOST_ZONES).unwrap_or_default()))
}

/// Name of the component that plays a zone.
pub(crate) fn kwok_name(zone: &str) -> String {
    format!("kwok-{zone}")
}

impl Kind {
    /// The kind that a component of this name has.
    pub(crate) fn of(name: &str) -> Result<Self> {
        let named =
            BASE.iter().chain(PROMETHEUS).find(|(base, _)| *base == name).map(|(_, kind)| kind.clone());
        let zone = || (0..MOST_ZONES).find(|index| kwok_name(&zone_name(*index)) == name).map(Self::Kwok);
        named.or_else(zone).ok_or_else(|| {
            let names: Vec<&str> = BASE.iter().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            Error::Refused(format!(
                "there is no component {name}; there are {names}, kwok-zone-a..., prometheus"
            ))
        })
    }

    /// How a component of this kind is started with `overrides` on its flags.
    pub(crate) fn definition(
        &self,
        layout: &Layout,
        cache: &Cache,
        overrides: &[String],
    ) -> Result<Definition> {
        let built = |name: &str| cache.bin().join(name);
        let (program, flags, probe) = match self {
            Self::Etcd => (built("etcd"), etcd(layout), get("http://127.0.0.1:2379/readyz")),
            Self::ApiServer => (
                built("kube-apiserver"),
                api_server(layout),
                get(&format!("https://{HOST_ADDRESS}:6443/readyz")),
            ),
            Self::ControllerManager => {
                let probe = get("https://127.0.0.1:{--secure-port}/healthz");
                (built("kube-controller-manager"), controller_manager(layout), probe)
            }
            Self::Scheduler => {
                let probe = get("https://127.0.0.1:{--secure-port}/readyz");
                (built("kube-scheduler"), scheduler(layout), probe)
            }
            Self::Containerd => {
                let flags = vec![format!("--config={}", layout.config("containerd.toml").display())];
                ("containerd".into(), flags, Probe::Containerd)
            }
            Self::Kubelet => (built("kubelet"), kubelet(layout), get("http://127.0.0.1:10248/healthz")),
            Self::KubeProxy => (built("kube-proxy"), kube_proxy(layout), get("http://127.0.0.1:10256/livez")),
            Self::CoreDns => {
                let flags = vec![format!("-conf={}", layout.config("Corefile").display())];
                (built("coredns"), flags, get("http://127.0.0.1:8181/ready"))
            }
            Self::Kwok(zone) => (built("kwok"), kwok(layout, *zone), get("http://{--server-address}/readyz")),
            Self::Discovery => {
                let flags = vec![
                    "discover-pods".into(),
                    format!("--kubeconfig={}", layout.kubeconfig("prometheus").display()),
                    format!("--targets={}", layout.targets().display()),
                ];
                (layout.command(), flags, Probe::File(layout.targets()))
            }
            Self::Prometheus => {
                ("prometheus".into(), prometheus(layout), get("http://{--web.listen-address}/-/ready"))
            }
        };
        let flags = merge(flags, overrides)?;
        let probe = match probe {
            Probe::Get(url) => Probe::Get(fill(&url, &flags)),
            other => other,
        };
        Ok(Definition { program, flags, probe })
    }
}

fn get(url: &str) -> Probe {
    Probe::Get(url.into())
}

/// A flag's name: the part before `=`.
fn flag_name(flag: &str) -> &str {
    flag.split_once('=').map_or(flag, |(name, _)| name)
}

/// `flags` with `overrides`: an override takes the place of every flag of its name, and others are added.
/// A flag may be given several times among the overrides.
fn merge(mut flags: Vec<String>, overrides: &[String]) -> Result<Vec<String>> {
    if let Some(word) = overrides.iter().find(|word| !word.starts_with('-')) {
        return Err(Error::Refused(format!("{word:?} is no flag; write flags as --flag=value")));
    }
    flags.retain(|flag| !overrides.iter().any(|other| flag_name(other) == flag_name(flag)));
    flags.extend_from_slice(overrides);
    Ok(flags)
}

/// `url` with `{--flag}` replaced by that flag's value.
fn fill(url: &str, flags: &[String]) -> String {
    flags
        .iter()
        .filter_map(|flag| flag.split_once('='))
        .fold(url.to_owned(), |url, (name, value)| url.replace(&format!("{{{name}}}"), value))
}

fn etcd(layout: &Layout) -> Vec<String> {
    vec![
        format!("--data-dir={}", layout.data.join("etcd").display()),
        "--listen-client-urls=http://127.0.0.1:2379".into(),
        "--advertise-client-urls=http://127.0.0.1:2379".into(),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        // The data dies with the cluster, so nothing is gained by waiting for the disk.
        "--unsafe-no-fsync=true".into(),
    ]
}

fn api_server(layout: &Layout) -> Vec<String> {
    let pki = |file| layout.pki(file).display().to_string();
    vec![
        "--etcd-servers=http://127.0.0.1:2379".into(),
        "--bind-address=0.0.0.0".into(),
        format!("--advertise-address={HOST_ADDRESS}"),
        "--secure-port=6443".into(),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--kubelet-certificate-authority={}", pki("ca.crt")),
        format!("--kubelet-client-certificate={}", pki("apiserver-kubelet-client.crt")),
        format!("--kubelet-client-key={}", pki("apiserver-kubelet-client.key")),
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        format!("--service-cluster-ip-range={}", both(SERVICE_RANGE, SERVICE_RANGE_V6)),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        format!("--service-account-key-file={}", pki("service-account.pub")),
        format!("--service-account-signing-key-file={}", pki("service-account.key")),
    ]
}

/// The flags that the controller manager and the scheduler share.
fn controller(layout: &Layout, user: &str, port: u16) -> Vec<String> {
    let pki = |extension| layout.pki(&format!("{LOCAL_SERVER}.{extension}")).display().to_string();
    vec![
        format!("--kubeconfig={}", layout.kubeconfig(user).display()),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", pki("crt")),
        format!("--tls-private-key-file={}", pki("key")),
        "--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics".into(),
        "--leader-elect=false".into(),
    ]
}

fn controller_manager(layout: &Layout) -> Vec<String> {
    let mut flags = controller(layout, "kube-controller-manager", 10257);
    flags.extend([
        format!("--service-account-private-key-file={}", layout.pki("service-account.key").display()),
        format!("--root-ca-file={}", layout.pki("ca.crt").display()),
        "--use-service-account-credentials=true".into(),
        // Faster than the defaults (5 s and 50 s), so that tests of dead nodes need not wait a minute.
        "--node-monitor-period=2s".into(),
        "--node-monitor-grace-period=16s".into(),
    ]);
    flags
}

fn scheduler(layout: &Layout) -> Vec<String> {
    controller(layout, "kube-scheduler", 10259)
}

fn kubelet(layout: &Layout) -> Vec<String> {
    vec![
        format!("--config={}", layout.config("kubelet.yaml").display()),
        format!("--kubeconfig={}", layout.kubeconfig("kubelet").display()),
        format!("--root-dir={}", layout.data.join("kubelet").display()),
        format!("--cert-dir={}", layout.data.join("kubelet/pki").display()),
        format!("--hostname-override={REAL_NODE}"),
        format!("--node-ip={}", both(HOST_ADDRESS, HOST_ADDRESS_V6)),
        format!("--node-labels=topology.kubernetes.io/zone={},{REGION_LABEL}", zone_name(0)),
    ]
}

/// The region of all nodes.
pub(crate) const REGION_LABEL: &str = "topology.kubernetes.io/region=region-1";

fn kube_proxy(layout: &Layout) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", layout.kubeconfig("kube-proxy").display()),
        "--proxy-mode=nftables".into(),
        format!("--cluster-cidr={}", both(POD_RANGE, POD_RANGE_V6)),
        format!("--hostname-override={REAL_NODE}"),
        // Connection tracking's limits belong to the machine, and so does the OOM score.
        "--conntrack-max-per-core=0".into(),
        "--conntrack-tcp-timeout-established=0s".into(),
        "--conntrack-tcp-timeout-close-wait=0s".into(),
        "--oom-score-adj=0".into(),
    ]
}

/// Port of the first zone's kwok; the other zones follow.
const KWOK_PORT: usize = 11250;

fn kwok(layout: &Layout, zone: usize) -> Vec<String> {
    let selector = format!("type=kwok,topology.kubernetes.io/zone={}", zone_name(zone));
    vec![
        format!("--config={}", layout.config("kwok.yaml").display()),
        format!("--kubeconfig={}", layout.kubeconfig("kwok").display()),
        format!("--manage-nodes-with-label-selector={selector}"),
        // A range a zone, as each kwok hands out pod addresses on its own.
        format!("--cidr=10.{}.0.0/16", 200 + zone),
        format!("--node-ip={HOST_ADDRESS}"),
        format!("--server-address=127.0.0.1:{}", KWOK_PORT + zone),
        "--node-lease-duration-seconds=40".into(),
    ]
}

fn prometheus(layout: &Layout) -> Vec<String> {
    vec![
        format!("--config.file={}", layout.config("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", layout.data.join("prometheus").display()),
        format!("--web.listen-address={HOST_ADDRESS}:9090"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn an_override_replaces_its_flag_and_others_are_added() {
        let merged = |overrides| merge(words("--a=1 --b=2"), &words(overrides));
        assert_eq!(merged("").unwrap(), words("--a=1 --b=2"));
        assert_eq!(merged("--a=3").unwrap(), words("--b=2 --a=3"));
        assert_eq!(merged("--c").unwrap(), words("--a=1 --b=2 --c"));
        assert_eq!(merged("--a=3 --a=4").unwrap(), words("--b=2 --a=3 --a=4"));
        assert!(merged("a=3").unwrap_err().to_string().contains("--flag=value"));
    }

    #[test]
    fn names_and_kinds_agree() {
        for (name, kind) in BASE {
            assert_eq!(Kind::of(name).unwrap(), *kind);
        }
        assert_eq!(Kind::of("kwok-zone-c").unwrap(), Kind::Kwok(2));
        assert_eq!(Kind::of("prometheus").unwrap(), Kind::Prometheus);
        assert!(Kind::of("kubelet2").unwrap_err().to_string().contains("there are etcd,"));
    }

    #[test]
    fn the_probe_follows_the_port() {
        let url = fill("https://127.0.0.1:{--secure-port}/healthz", &words("--x --secure-port=10300"));
        assert_eq!(url, "https://127.0.0.1:10300/healthz");
    }
}
