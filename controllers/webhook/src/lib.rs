//! An admission webhook's server and its certificates, and no rule about what is admitted.
//!
//! Every replica serves, leader or not: the API server asks any of them. They share one Secret with the certificate.
//! Whoever finds it missing or due makes a new one; the others take it up from their watch. A new certificate comes
//! with an authority of its own, and the API server is told to trust the one before as well, so that replicas that are
//! late are still believed.

mod certificate;
mod keep;
mod server;

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
pub use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use mainstay_runtime::manager::Manager;

pub use self::{keep::ConfigurationKind, server::Handler};
use self::{keep::Keeper, server::Certificates};

/// Where the webhook listens, and who makes its certificate.
#[derive(Debug, Clone, Args)]
pub struct WebhookFlags {
    /// Where the admission webhook listens, over HTTPS
    #[arg(long, env = "MAINSTAY_WEBHOOK_BIND_ADDRESS", default_value = "0.0.0.0:9443")]
    pub webhook_bind_address: SocketAddr,
    /// Who makes the webhook's certificate: this program, or another, such as cert-manager
    #[arg(long, env = "MAINSTAY_WEBHOOK_CERTIFICATES", default_value = "own")]
    pub webhook_certificates: CertificatesFrom,
}

/// Who makes the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CertificatesFrom {
    /// This program, which also tells the API server whom to trust.
    Own,
    /// Another program, which puts it into the same Secret and tells the API server.
    Secret,
}

/// What a webhook is called in the cluster.
#[derive(Debug, Clone)]
pub struct Names {
    /// The Service by which the API server reaches it, and the Secret with its certificate.
    pub service: String,
    /// The namespace of both.
    pub namespace: String,
    /// Whether it changes objects or only judges them.
    pub kind: ConfigurationKind,
    /// The name of its configuration.
    pub configuration: String,
    /// The names of the webhooks in it.
    pub webhooks: Vec<&'static str>,
}

/// Starts the webhook `path`. The returned future ends when it can be asked.
pub fn start<H: Handler>(
    manager: &Manager,
    flags: &WebhookFlags,
    names: Names,
    path: &'static str,
    handler: H,
) -> impl Future<Output = ()> + Send + 'static + use<H> {
    let certificates = Certificates::default();
    let ready = certificates.ready();
    let from = flags.webhook_certificates;
    tokio::spawn(Keeper::new(manager.client.clone(), names, from, certificates.clone()).run());
    tokio::spawn(server::serve(flags.webhook_bind_address, path, certificates, handler));
    ready
}
