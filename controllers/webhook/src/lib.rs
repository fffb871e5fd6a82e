//! An admission webhook's server and its certificates, and no rule about what is admitted.
//!
//! Every replica serves, leader or not: the API server asks any of them. They share one Secret with the certificate.
//! Whoever finds it missing, due or not whole makes a new one; the others take it up from their watch. An authority that
//! has not signed the certificate is told to nobody. A new certificate comes
//! with an authority of its own, and the API server is told to trust the one before as well, so that replicas that are
//! late are still believed. Whom it trusts is looked at again and again: an authority that somebody has taken out of the
//! configuration, or a configuration that is made anew, has it back within a minute.

mod certificate;
mod keep;
mod kept;
mod server;
mod settings;

use std::sync::Arc;

pub use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use mainstay_runtime::{manager::Manager, serve::Probe};

use self::{
    keep::{Keeper, Trouble},
    server::Certificates,
    settings::Names,
};
pub use self::{
    server::Handler,
    settings::{CertificatesFrom, ConfigurationKind, Webhook, WebhookFlags},
};

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
        renewed: None,
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
    Err(format!("the webhook cannot use the certificate of the Secret {secret}: {why}"))
}
