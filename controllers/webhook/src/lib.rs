//! An admission webhook's server and its certificates, and no rule about what is admitted.
//!
//! Every replica serves, leader or not: the API server asks any of them. They share one Secret with the certificate.
//! Whoever finds it missing or due makes a new one; the others take it up from their watch. A new certificate comes
//! with an authority of its own, and the API server is told to trust the one before as well, so that replicas that are
//! late are still believed. Whom it trusts is looked at again and again: an authority that somebody has taken out of the
//! configuration, or a configuration that is made anew, has it back within a minute.

mod certificate;
mod keep;
mod server;

use std::{net::SocketAddr, sync::Arc};

use clap::{Args, ValueEnum};
pub use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use mainstay_runtime::{manager::Manager, serve::Probe};

pub use self::{keep::ConfigurationKind, server::Handler};
use self::{
    keep::{Keeper, Trouble},
    server::Certificates,
};

/// Where the webhook listens, and who makes its certificate.
#[derive(Debug, Clone, Args)]
pub struct WebhookFlags {
    /// Where the admission webhook listens, over HTTPS
    #[arg(long, env = "MAINSTAY_WEBHOOK_BIND_ADDRESS", default_value = "0.0.0.0:9443")]
    pub webhook_bind_address: SocketAddr,
    /// Who makes the webhook's certificate: this program, or another, such as cert-manager
    #[arg(long, env = "MAINSTAY_WEBHOOK_CERTIFICATES", default_value = "own")]
    pub webhook_certificates: CertificatesFrom,
    /// The Service by which the API server reaches the webhook, which has the name of its Secret and configuration, too;
    /// without it there is no webhook
    #[arg(long, env = "MAINSTAY_WEBHOOK_NAME")]
    pub webhook_name: Option<String>,
}

/// Who makes the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CertificatesFrom {
    /// This program, which also tells the API server whom to trust.
    Own,
    /// Another program, which puts it into the same Secret and tells the API server.
    Secret,
}

/// A webhook: what it is, and where it is asked.
#[derive(Debug, Clone, Copy)]
pub struct Webhook {
    /// Whether it changes objects or only judges them.
    pub kind: ConfigurationKind,
    /// Its name in its configuration.
    pub name: &'static str,
    /// The path at which it is asked.
    pub path: &'static str,
}

/// What belongs to a webhook in the cluster.
#[derive(Debug, Clone)]
struct Names {
    /// The Service, the Secret with the certificate, and the configuration.
    service: String,
    /// The namespace of the Service and the Secret.
    namespace: String,
}

/// Starts the webhook, where the flags name one. The probe says whether it can be asked; nothing else waits for that.
pub fn start<H: Handler>(manager: &Manager, flags: &WebhookFlags, webhook: Webhook, handler: H) -> Probe {
    let Some(service) = flags.webhook_name.clone() else { return Arc::new(|| Ok(())) };
    let names = Names { service, namespace: manager.namespace() };
    let secret = format!("{}/{}", names.namespace, names.service);
    let (certificates, trouble) = (Certificates::default(), Trouble::default());
    let keeper = Keeper {
        client: manager.client.clone(),
        names,
        webhook,
        from: flags.webhook_certificates,
        certificates: certificates.clone(),
        trouble: trouble.clone(),
        shown: None,
        is_missed: false,
    };
    tokio::spawn(keeper.run());
    tokio::spawn(server::serve(flags.webhook_bind_address, webhook.path, certificates.clone(), handler));
    Arc::new(move || readiness(&certificates, &trouble, &secret))
}

/// The API server can ask whoever shows a certificate.
fn readiness(certificates: &Certificates, trouble: &Trouble, secret: &str) -> Result<(), String> {
    if certificates.are_shown() {
        return Ok(());
    }
    let why = trouble.read().clone().unwrap_or_else(|| "there is none yet".to_owned());
    Err(format!("the webhook cannot show the certificate of the Secret {secret}: {why}"))
}
