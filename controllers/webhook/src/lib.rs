//! An admission webhook's server and its certificates, and no rule about what is admitted.
//!
//! Every replica serves, leader or not: the API server asks any of them. They share one Secret with the certificate.
//! Whoever finds it missing, due or not whole makes a new one; the others take it up from their watch. An authority that
//! has not signed the certificate is told to nobody. A new certificate comes
//! with an authority of its own, and the API server is told to trust the one before as well, so that replicas that are
//! late are still believed. Whom it trusts is looked at again and again: an authority that somebody has taken out of the
//! configuration, or a configuration that is made anew, has it back within a minute.
//! A replica that ends goes on answering until it is asked no more ([`server`]).

mod certificate;
mod keep;
mod kept;
mod metrics;
mod server;
mod settings;

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
};
pub use self::{
    server::Handler,
    settings::{CertificatesFrom, ConfigurationKind, Webhook, WebhookFlags},
};

/// What is wrong, as a sentence.
type Trouble = Arc<RwLock<Option<String>>>;

/// Starts the webhook, where the flags name one. The probe says whether it can be asked; nothing else waits for that.
pub fn start<H: Handler>(manager: &Manager, flags: &WebhookFlags, webhook: Webhook, handler: H) -> Probe {
    let Some((service, address)) = flags.wanted() else { return Arc::new(|| Ok(())) };
    let names = Names { service, namespace: manager.namespace() };
    let metrics = Metrics::new(&manager.registry, webhook.path);
    let asked = Asked {
        secret: format!("{}/{}", names.namespace, names.service),
        certificates: Certificates::default(),
        unkept: Trouble::default(),
        unheard: Arc::new(RwLock::new(Some("it does not listen yet".to_owned()))),
    };
    let keeper = Keeper {
        client: manager.client.clone(),
        names,
        webhook,
        from: flags.webhook_certificates,
        certificates: asked.certificates.clone(),
        metrics: metrics.clone(),
        trouble: Arc::clone(&asked.unkept),
        shown: None,
        renewed: None,
        is_missed: false,
    };
    let server = Server {
        address,
        path: webhook.path,
        certificates: asked.certificates.clone(),
        metrics,
        trouble: Arc::clone(&asked.unheard),
        shutdown: manager.shutdown.clone(),
    };
    tokio::spawn(keeper.run());
    manager.outlasts(server.run(handler));
    Arc::new(move || asked.answers(Timestamp::now()))
}

/// Whether the API server can ask.
struct Asked {
    secret: String,
    certificates: Certificates,
    /// Why its certificate cannot be kept.
    unkept: Trouble,
    /// Why nobody can reach it.
    unheard: Trouble,
}

impl Asked {
    /// Whoever listens and shows a certificate of today can be asked. Otherwise a sentence says why not.
    fn answers(&self, now: Timestamp) -> Result<(), String> {
        if let Some(why) = &*self.unheard.read() {
            return Err(format!("the webhook cannot be asked: {why}"));
        }
        let which = match self.certificates.validity() {
            Some(validity) if now < validity.not_after => return Ok(()),
            Some(validity) => {
                format!("shows a certificate that has ended at {}, and no later one", validity.not_after)
            }
            None => "cannot show the certificate".to_owned(),
        };
        let why = self.unkept.read().clone().unwrap_or_else(|| "there is none yet".to_owned());
        Err(format!("the webhook {which} of the Secret {}: {why}", self.secret))
    }
}
