//! The server and the certificates of an admission webhook; the rules of admission are the controllers'.
//!
//! Every replica serves, leader or not. They share one Secret with the certificate. A replica that finds it missing, due or
//! invalid makes a new one; the others use it when their watch shows it. A certificate authority that has not signed the
//! certificate is never published. A new certificate comes with an authority of its own, and the `caBundle` keeps the previous
//! authority as well, so that the API server trusts replicas that are late. The `caBundle` is checked again and again: if it
//! was removed, or the configuration was recreated, it is restored within a minute. A replica that stops drains its
//! connections first ([`server`]).

mod certificate;
mod keep;
mod kept;
mod metrics;
mod server;
mod settings;
mod trouble;

use std::sync::Arc;

use jiff::Timestamp;
pub use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use mainstay_runtime::{manager::Manager, serve::Probe};
use parking_lot::RwLock;

use self::{
    keep::Keeper,
    metrics::Metrics,
    server::{Certificates, Server},
    settings::Names,
    trouble::Trouble,
};
pub use self::{
    server::Handler,
    settings::{CertificatesFrom, ConfigurationKind, Webhook, WebhookFlags},
};

/// Starts the webhook, if the flags name one. The probe says whether it can serve; nothing else waits for that.
pub fn start<H: Handler>(manager: &Manager, flags: &WebhookFlags, webhook: Webhook, handler: H) -> Probe {
    let Some((service, address)) = flags.wanted() else { return Arc::new(|| Ok(())) };
    let names = Names { service, namespace: manager.namespace() };
    let metrics = Metrics::new(&manager.registry, webhook.path);
    let reachable = Reachable {
        secret: format!("{}/{}", names.namespace, names.service),
        certificates: Certificates::default(),
        certificate_trouble: Trouble::default(),
        server_trouble: Arc::new(RwLock::new(Some("it does not listen yet".to_owned()))),
    };
    let keeper = Keeper {
        client: manager.client.clone(),
        names,
        webhook,
        from: flags.webhook_certificates,
        certificates: reachable.certificates.clone(),
        metrics: metrics.clone(),
        trouble: Arc::clone(&reachable.certificate_trouble),
        shown: None,
        renewed: None,
        is_missed: false,
    };
    let server = Server {
        address,
        path: webhook.path,
        certificates: reachable.certificates.clone(),
        metrics,
        trouble: Arc::clone(&reachable.server_trouble),
        shutdown: manager.shutdown.clone(),
    };
    tokio::spawn(keeper.run());
    manager.outlasts(server.run(handler));
    Arc::new(move || reachable.check(Timestamp::now()))
}

/// Whether the API server can use the webhook.
struct Reachable {
    secret: String,
    certificates: Certificates,
    /// Why the certificate cannot be kept up to date.
    certificate_trouble: Trouble,
    /// Why no request is served.
    server_trouble: Trouble,
}

impl Reachable {
    /// It can if it listens and has a certificate that is valid now. Otherwise a sentence says why not.
    fn check(&self, now: Timestamp) -> Result<(), String> {
        if let Some(why) = &*self.server_trouble.read() {
            return Err(format!("the webhook serves no requests: {why}"));
        }
        let which = match self.certificates.validity() {
            Some(validity) if now < validity.not_after => return Ok(()),
            Some(validity) => {
                format!("uses a certificate that expired at {}, and no newer one", validity.not_after)
            }
            None => "cannot use the certificate".to_owned(),
        };
        let why = self.certificate_trouble.read().clone().unwrap_or_else(|| "there is none yet".to_owned());
        Err(format!("the webhook {which} of the Secret {}: {why}", self.secret))
    }
}
