//! Keeps the certificate: in its Secret, in the server, and in what the API server trusts.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        core::v1::Secret,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use mainstay_runtime::{failure::RequestError, request::in_time, watch};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    certificate,
    kept::{Certified, Flaw, Kept, RENEW_AT, roots},
    metrics::Metrics,
    server::Certificates,
    settings::{CertificatesFrom, ConfigurationKind, Names, Webhook},
    trouble::Trouble,
};

/// When what has failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often the `caBundle` is checked: no watch of the configuration is needed for that. A Secret that becomes invalid again
/// and again is not recreated more often either.
const LOOK: Duration = Duration::from_secs(30);
/// For what was told to one API server to be known to all.
const SPREADS: Duration = Duration::from_secs(5);
/// The maximum number of authorities in the `caBundle`: the current one and the previous one.
const AUTHORITIES: usize = 2;
const END: &str = "-----END CERTIFICATE-----\n";

/// Keeps one webhook's certificate.
pub(crate) struct Keeper {
    pub(crate) client: Client,
    pub(crate) names: Names,
    pub(crate) webhook: Webhook,
    pub(crate) from: CertificatesFrom,
    pub(crate) certificates: Certificates,
    pub(crate) metrics: Metrics,
    /// Why the certificate cannot be kept.
    pub(crate) trouble: Trouble,
    /// What is shown.
    pub(crate) shown: Option<Kept>,
    /// When this process last made a certificate.
    pub(crate) renewed: Option<Instant>,
    /// Whether the configuration was not there when it was last looked at.
    pub(crate) is_missed: bool,
}

/// Whom the API server trusts.
enum Trust {
    /// The authority, as before.
    Standing,
    /// The authority, from now on.
    Told,
    /// None: there is no webhook configuration.
    NotAsked,
    /// Another, which is not taken away: this is the Secret as it is by now, where there is one.
    Newer(Option<Box<Secret>>),
}

impl Keeper {
    /// Runs until the process ends.
    pub(crate) async fn run(mut self) {
        let mut events = pin!(watch::object(self.secrets(), &self.names.service));
        let mut secret = None;
        let mut due = None;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(now)) => secret = now,
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the watch of the webhook's Secret failed and is tried again");
                        *self.trouble.write() = Some(format!("its watch failed: {error}"));
                        continue;
                    }
                    None => return,
                },
                () = at(due) => {}
            }
            due = match self.take_up(secret.as_ref()).await {
                Ok(due) => {
                    *self.trouble.write() = None;
                    due
                }
                Err(error) => {
                    *self.trouble.write() = Some(error.to_string());
                    tracing::warn!(%error, secret = self.names.service, "the webhook's certificate cannot \
                        be kept up to date");
                    Timestamp::now().checked_add(AGAIN).ok()
                }
            };
        }
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.names.namespace)
    }

    /// Uses what the Secret has, or recreates it. Returns when to look again.
    async fn take_up(&mut self, secret: Option<&Secret>) -> Result<Option<Timestamp>, RequestError> {
        let look = look();
        let Some(secret) = secret else {
            return match self.from {
                CertificatesFrom::Own => self.renew(None).await.map(|()| look),
                CertificatesFrom::Secret => Ok(None),
            };
        };
        let kept = Kept::read(secret);
        match (self.from, kept.whole(&self.names.host(), Timestamp::now())) {
            (CertificatesFrom::Own, Ok(certified)) => self.follow(secret, kept, certified).await,
            (CertificatesFrom::Own, Err(flaw)) => {
                tracing::warn!(%flaw, secret = self.names.service, "the webhook's Secret is not valid and \
                                                                    is recreated");
                if self.renewed.is_none_or(|renewed| renewed.elapsed() >= LOOK) {
                    self.renew(Some(secret)).await?;
                }
                Ok(look)
            }
            (CertificatesFrom::Secret, Ok(certified)) => {
                self.show(kept, certified);
                Ok(None)
            }
            (CertificatesFrom::Secret, Err(flaw)) => {
                Ok(look.filter(|_| self.keeps_to_what_works(kept, flaw)))
            }
        }
    }

    /// Has the API server trust the authority of a Secret that is whole, and shows its certificate.
    async fn follow(
        &mut self,
        secret: &Secret,
        kept: Kept,
        certified: Certified,
    ) -> Result<Option<Timestamp>, RequestError> {
        let trusted = match self.publish(kept.authority.clone()).await {
            Ok(Trust::Newer(now)) => return Box::pin(self.take_up(now.as_deref())).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if self.shown.as_ref().is_some_and(|shown| shown.pair != kept.pair) {
            // Trusted first, shown then: what is shown is believed, and by all API servers.
            if trusted.is_err() {
                return trusted.map(|()| None);
            }
            tokio::time::sleep(SPREADS).await;
        }
        // One that is not trusted yet is better than none.
        let renew_at = kept.renew_at;
        self.show(kept, certified);
        if renew_at.is_none_or(|at| at <= Timestamp::now()) {
            self.renew(Some(secret)).await?;
            return Ok(look());
        }
        trusted?;
        Ok([look(), renew_at].into_iter().flatten().min())
    }

    /// Shows this certificate.
    fn show(&mut self, kept: Kept, certified: Certified) {
        if self.shown.as_ref().is_none_or(|shown| shown.pair != kept.pair) {
            self.metrics.valid(certified.validity);
            self.certificates.show(certified);
            tracing::info!(secret = self.names.service, "the webhook uses the certificate of its Secret");
        }
        self.shown = Some(kept);
    }

    /// What works gives way to nothing that is not whole, and which another program has to put right. Returns whether
    /// something works; if not, this is shown all the same: whom the API server trusts is not known here.
    fn keeps_to_what_works(&mut self, kept: Kept, flaw: Flaw) -> bool {
        let (host, now) = (self.names.host(), Timestamp::now());
        let works = self.shown.as_ref().is_some_and(|shown| shown.whole(&host, now).is_ok());
        let secret = &self.names.service;
        tracing::warn!(%flaw, secret, works, "the webhook's Secret is not valid; its owner must correct it");
        if let Some(certified) = kept.certified().ok().filter(|_| !works) {
            self.show(kept, certified);
        }
        works
    }

    /// Makes a certificate and puts it into the Secret, unless another replica has been quicker. The watch shows it.
    async fn renew(&mut self, secret: Option<&Secret>) -> Result<(), RequestError> {
        let Names { service, namespace } = &self.names;
        let host = self.names.host();
        let made = certificate::make(vec![format!("{host}.cluster.local"), host], Timestamp::now());
        let made = made.map_err(|error| RequestError::Invalid(error.to_string()))?;
        // Not that of the Secret, which may have been replaced: this one was whole when it was shown, or stands where
        // the API server reads it, so that it believes what other replicas show meanwhile.
        let before = match &self.shown {
            Some(shown) => shown.authority.clone(),
            None => self.trusted().await?.unwrap_or_default(),
        };
        let data = BTreeMap::from([
            ("tls.crt".to_owned(), ByteString(made.certificate.into_bytes())),
            ("tls.key".to_owned(), ByteString(made.key.into_bytes())),
            ("ca.crt".to_owned(), ByteString(bundle(&made.authority, &before.0).into_bytes())),
        ]);
        let metadata = ObjectMeta {
            name: Some(service.clone()),
            namespace: Some(namespace.clone()),
            annotations: Some([(RENEW_AT.to_owned(), made.renew_at.to_string())].into()),
            resource_version: secret.and_then(|secret| secret.metadata.resource_version.clone()),
            ..ObjectMeta::default()
        };
        let wanted = Secret {
            metadata,
            data: Some(data),
            type_: Some("kubernetes.io/tls".to_owned()),
            ..Secret::default()
        };
        let params = PostParams::default();
        let written = match secret {
            None => in_time(self.secrets().create(&params, &wanted)).await,
            Some(_) => in_time(self.secrets().replace(service, &params, &wanted)).await,
        };
        match written {
            Ok(_) => self.renewed = Some(Instant::now()),
            Err(RequestError::AlreadyExists(_) | RequestError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn configurations(&self) -> (Api<DynamicObject>, ApiResource) {
        let kind = match self.webhook.kind {
            ConfigurationKind::Mutating => ApiResource::erase::<MutatingWebhookConfiguration>(&()),
            ConfigurationKind::Validating => ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
        };
        (Api::all_with(self.client.clone(), &kind), kind)
    }

    /// The `caBundle` that the API server uses at present; empty where it has no certificate that can be read, `None` where there is
    /// no webhook configuration.
    async fn trusted(&self) -> Result<Option<ByteString>, RequestError> {
        let configuration = match in_time(self.configurations().0.get(&self.names.service)).await {
            Ok(configuration) => configuration,
            Err(RequestError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut webhooks = configuration.data["webhooks"].as_array().into_iter().flatten();
        let ours = webhooks.find(|webhook| webhook["name"] == self.webhook.name);
        Ok(ours.map(|ours| {
            let trusted = serde_json::from_value(ours["clientConfig"]["caBundle"].clone());
            trusted.ok().filter(|trusted| roots(trusted).is_some()).unwrap_or_default()
        }))
    }

    /// Writes the authority into the `caBundle`. A missing webhook configuration is no failure; the authority is written when
    /// there is one.
    async fn publish(&mut self, authority: ByteString) -> Result<Trust, RequestError> {
        let trust = self.told(authority).await?;
        let (configuration, webhook) = (&self.names.service, self.webhook.name);
        let was_missed = std::mem::replace(&mut self.is_missed, matches!(trust, Trust::NotAsked));
        match &trust {
            Trust::NotAsked if !was_missed => tracing::warn!(
                configuration,
                webhook,
                "the webhook configuration does not exist, so the API server does not call the webhook; \
                 install the chart again to restore it"
            ),
            Trust::Told => tracing::info!(configuration, webhook, "the caBundle is written"),
            Trust::NotAsked | Trust::Standing | Trust::Newer(_) => {}
        }
        Ok(trust)
    }

    async fn told(&self, authority: ByteString) -> Result<Trust, RequestError> {
        let Some(trusted) = self.trusted().await? else { return Ok(Trust::NotAsked) };
        if trusted == authority {
            return Ok(Trust::Standing);
        }
        // The watch may be late, or have stopped without a word: an authority that another replica has renewed since is
        // not written over with the one before.
        let now = in_time(self.secrets().get_opt(&self.names.service)).await?;
        let is_kept = now.as_ref().map(Kept::read).is_some_and(|now| now.authority == authority);
        if !is_kept {
            return Ok(Trust::Newer(now.map(Box::new)));
        }
        let ((configurations, kind), configuration) = (self.configurations(), &self.names.service);
        let patch = json!({
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": configuration},
            "webhooks": [{"name": self.webhook.name, "clientConfig": {"caBundle": authority}}],
        });
        let params = PatchParams::apply(configuration).force();
        in_time(configurations.patch_metadata(configuration, &params, &Patch::Apply(patch)))
            .await
            .map(|_| Trust::Told)
    }
}

/// When to look again at whom the API server trusts.
fn look() -> Option<Timestamp> {
    Timestamp::now().checked_add(LOOK).ok()
}

async fn at(due: Option<Timestamp>) {
    match due {
        Some(due) => {
            let left = Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default();
            tokio::time::sleep(left).await;
        }
        None => std::future::pending().await,
    }
}

/// The new authority, and with it the one before.
fn bundle(authority: &str, before: &[u8]) -> String {
    let before = String::from_utf8_lossy(before);
    let before = before.split_inclusive(END).filter(|certificate| certificate.ends_with(END));
    let mut bundle = authority.to_owned();
    bundle.extend(before.take(AUTHORITIES - 1));
    bundle
}

#[cfg(test)]
mod tests;
