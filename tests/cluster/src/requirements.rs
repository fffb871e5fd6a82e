//! Says in one sentence what the machine lacks, before anything is started.

use crate::error::{Error, Result};
use std::{env, path::Path};

/// A program and the Debian package that brings it.
type Requirement = (&'static str, &'static str);

const CLUSTER: &[Requirement] = &[
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("conntrack", "conntrack"),
    ("socat", "socat"),
    ("mount", "mount"),
];
const BUILD: &[Requirement] = &[("cc", "build-essential")];
const PROMETHEUS: &[Requirement] = &[("prometheus", "prometheus")];

/// Fails unless `command` runs as root.
pub(crate) fn root(command: &'static str) -> Result<()> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Error::NotRoot(command)) }
}

/// Fails when a program that `up` starts or calls is missing.
pub(crate) fn cluster(prometheus: bool) -> Result<()> {
    let optional = if prometheus { PROMETHEUS } else { &[] };
    check([CLUSTER, BUILD, optional].concat(), &present)
}

/// Fails when a program that `build` calls, besides Go, is missing.
pub(crate) fn build() -> Result<()> {
    check(BUILD.to_vec(), &present)
}

/// root's PATH does not always hold the sbin folders.
fn present(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = env::split_paths(&path).collect();
    folders.extend(["/usr/sbin".into(), "/sbin".into()]);
    // An absolute program replaces the folder it is joined to.
    folders.iter().any(|folder| Path::new(folder).join(program).exists())
}

fn check(requirements: Vec<Requirement>, present: &dyn Fn(&str) -> bool) -> Result<()> {
    let mut packages: Vec<&str> =
        requirements.iter().filter(|(program, _)| !present(program)).map(|(_, package)| *package).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let sentence =
        format!("packages are missing; install them: apt-get install --yes {}", packages.join(" "));
    Err(Error::Missing(sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sentence_names_every_missing_package_once() {
        let error = check(CLUSTER.to_vec(), &|program| !["containerd", "ctr", "nft"].contains(&program));
        let sentence = error.unwrap_err().to_string();
        assert!(sentence.ends_with("apt-get install --yes containerd nftables"), "{sentence}");
        check(CLUSTER.to_vec(), &|_| true).unwrap();
    }
}
