//! What a webhook is, where it is asked, and what belongs to it.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use mainstay_runtime::flags::BindAddress;

/// Where the webhook listens, and who issues its certificate.
#[derive(Debug, Clone, Args)]
pub struct WebhookFlags {
    /// Where the admission webhook listens, over HTTPS; 0 turns it off
    #[arg(long, env = "MAINSTAY_WEBHOOK_BIND_ADDRESS", default_value = ":9443")]
    pub webhook_bind_address: BindAddress,
    /// Who issues the webhook's certificate: this program, or another one, such as cert-manager
    #[arg(long, env = "MAINSTAY_WEBHOOK_CERTIFICATES", default_value = "own")]
    pub webhook_certificates: CertificatesFrom,
    /// The Service by which the API server reaches the webhook; its Secret and configuration have the same name; without
    /// it there is no webhook
    #[arg(long, env = "MAINSTAY_WEBHOOK_NAME")]
    pub webhook_name: Option<String>,
}

impl WebhookFlags {
    /// The Service of the webhook and where it listens, if there is to be one.
    pub(crate) fn wanted(&self) -> Option<(String, SocketAddr)> {
        Some((self.webhook_name.clone()?, self.webhook_bind_address.0?))
    }

    /// Whether there is to be a webhook.
    pub fn is_on(&self) -> bool {
        self.wanted().is_some()
    }
}

/// Who issues the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CertificatesFrom {
    /// This program, which also writes the `caBundle`.
    Own,
    /// Another program, which writes it into the same Secret and writes the `caBundle`.
    Secret,
}

/// The kind of a webhook's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigurationKind {
    /// `MutatingWebhookConfiguration`
    Mutating,
    /// `ValidatingWebhookConfiguration`
    Validating,
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
pub(crate) struct Names {
    /// The Service, the Secret with the certificate, and the configuration.
    pub(crate) service: String,
    /// The namespace of the Service and the Secret.
    pub(crate) namespace: String,
}

impl Names {
    /// The name by which the API server asks, and for which the certificate has to be.
    pub(crate) fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}
