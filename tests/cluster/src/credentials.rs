//! Fresh keys and certificates for one cluster, and a kubeconfig for each of its users.
//!
//! A user is a client certificate: its common name is the user's name, its organization the group.

use crate::{
    error::{Context, Error, Result},
    layout::{API_SERVICE_ADDRESS, HOST_ADDRESS, Layout, REAL_NODE},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

/// File name of the kubeconfig, user and group. Kubernetes binds the `system:` names itself; the others
/// are bound in manifests/base.yaml.
const USERS: &[(&str, &str, Option<&str>)] = &[
    ("admin", "admin", Some("system:masters")),
    ("kube-controller-manager", "system:kube-controller-manager", None),
    ("kube-scheduler", "system:kube-scheduler", None),
    ("kubelet", "system:node:real-1", Some("system:nodes")),
    ("kube-proxy", "system:kube-proxy", None),
    ("coredns", "mainstay:coredns", None),
    ("kwok", "mainstay:kwok", None),
    ("prometheus", "mainstay:prometheus", None),
];

/// The certificate of the components that serve on 127.0.0.1 alone.
pub(crate) const LOCAL_SERVER: &str = "local-server";

/// Makes all keys, certificates and kubeconfigs of the cluster.
pub(crate) fn create(layout: &Layout) -> Result<()> {
    let authority = authority(layout)?;
    let names = [
        "127.0.0.1",
        HOST_ADDRESS,
        API_SERVICE_ADDRESS,
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    issue(layout, &authority, "apiserver", ("kube-apiserver", None), &names, server.clone())?;
    let local = ["127.0.0.1", "localhost"];
    issue(layout, &authority, LOCAL_SERVER, (LOCAL_SERVER, None), &local, server.clone())?;
    issue(layout, &authority, "kubelet-server", (REAL_NODE, None), &[HOST_ADDRESS, REAL_NODE], server)?;
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let kubelet_client = ("kube-apiserver", Some("system:masters"));
    issue(layout, &authority, "apiserver-kubelet-client", kubelet_client, &[], client.clone())?;
    for (file, user, group) in USERS {
        issue(layout, &authority, file, (user, *group), &[], client.clone())?;
        write(&layout.kubeconfig(file), &kubeconfig(layout, file))?;
    }
    let tokens = KeyPair::generate().map_err(refused)?;
    write(&layout.pki("service-account.key"), &tokens.serialize_pem())?;
    write(&layout.pki("service-account.pub"), &tokens.public_key_pem())
}

fn authority(layout: &Layout) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::generate().map_err(refused)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "mainstay-cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key).map_err(refused)?;
    write(&layout.pki("ca.crt"), &certificate.pem())?;
    Ok(Issuer::new(params, key))
}

fn issue(
    layout: &Layout,
    authority: &Issuer<'_, KeyPair>,
    file: &str,
    (user, group): (&str, Option<&str>),
    names: &[&str],
    usage: ExtendedKeyUsagePurpose,
) -> Result<()> {
    let key = KeyPair::generate().map_err(refused)?;
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(refused)?;
    params.distinguished_name.push(DnType::CommonName, user);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, authority).map_err(refused)?;
    write(&layout.pki(&format!("{file}.crt")), &certificate.pem())?;
    write(&layout.pki(&format!("{file}.key")), &key.serialize_pem())
}

fn kubeconfig(layout: &Layout, user: &str) -> String {
    let (authority, certificate, key) =
        (layout.pki("ca.crt"), layout.pki(&format!("{user}.crt")), layout.pki(&format!("{user}.key")));
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: mainstay
  cluster: {{server: 'https://{HOST_ADDRESS}:6443', certificate-authority: '{}'}}
users:
- name: {user}
  user: {{client-certificate: '{}', client-key: '{}'}}
contexts:
- name: mainstay
  context: {{cluster: mainstay, user: {user}}}
current-context: mainstay
",
        authority.display(),
        certificate.display(),
        key.display()
    )
}

/// Writes a file that only its owner reads.
fn write(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .context(|| format!("cannot write {}", path.display()))
}

fn refused(error: rcgen::Error) -> Error {
    Error::Refused(format!("cannot make a certificate: {error}"))
}
