//! Keeps the certificate: in its Secret, in the server, and in what the API server trusts.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

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
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher::watch_object},
};
use mainstay_runtime::{failure::RequestError, request::in_time};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    certificate,
    server::Certificates,
    settings::{CertificatesFrom, ConfigurationKind, Names, Webhook},
};

/// The annotation of the Secret that says when a new certificate is to be made.
const RENEW_AT: &str = "mainstay.dev/renew-at";
/// When what has failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often it is looked at whom the API server trusts: no watch of the configuration is needed for that.
const LOOK: Duration = Duration::from_secs(30);
/// For what was told to one API server to be known to all.
const SPREADS: Duration = Duration::from_secs(5);
/// At most so many authorities are trusted: the current one and the one before.
const AUTHORITIES: usize = 2;
const END: &str = "-----END CERTIFICATE-----\n";

/// Why the certificate cannot be kept, as a sentence.
pub(crate) type Trouble = Arc<RwLock<Option<String>>>;

/// Keeps one webhook's certificate.
pub(crate) struct Keeper {
    pub(crate) client: Client,
    pub(crate) names: Names,
    pub(crate) webhook: Webhook,
    pub(crate) from: CertificatesFrom,
    pub(crate) certificates: Certificates,
    pub(crate) trouble: Trouble,
    /// The certificate and the key that are shown.
    pub(crate) shown: Option<(ByteString, ByteString)>,
    /// Whether the configuration was not there when it was last looked at.
    pub(crate) is_missed: bool,
}

/// Whom the API server trusts.
enum Trust {
    /// The authority, as before.
    Standing,
    /// The authority, from now on.
    Told,
    /// Nobody: there is no configuration by which it would ask.
    NotAsked,
    /// Another, which is not taken away: this is the Secret as it is by now, where there is one.
    Newer(Option<Box<Secret>>),
}

impl Keeper {
    /// Runs until the process ends.
    pub(crate) async fn run(mut self) {
        let mut events = pin!(watch_object(self.secrets(), &self.names.service).default_backoff());
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
                    tracing::warn!(%error, secret = self.names.service, "the webhook's certificate cannot be kept");
                    Timestamp::now().checked_add(AGAIN).ok()
                }
            };
        }
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.names.namespace)
    }

    /// Takes up what the Secret has, or makes it anew. Returns when to look again.
    async fn take_up(&mut self, secret: Option<&Secret>) -> Result<Option<Timestamp>, RequestError> {
        let kept = secret.and_then(Kept::read);
        if self.from == CertificatesFrom::Secret {
            if let Some(Kept { pair, .. }) = kept {
                self.show(pair);
            }
            return Ok(None);
        }
        let look = Timestamp::now().checked_add(LOOK).ok();
        let Some(Kept { pair, authority, renew_at }) = kept else {
            self.renew(secret).await?;
            return Ok(look);
        };
        let trusted = match self.publish(authority).await {
            Ok(Trust::Newer(now)) => return Box::pin(self.take_up(now.as_deref())).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if self.shown.as_ref().is_some_and(|shown| *shown != pair) {
            // Trusted first, shown then: what is shown is believed, and by all API servers.
            if trusted.is_err() {
                return trusted.map(|()| None);
            }
            tokio::time::sleep(SPREADS).await;
        }
        // One that is not trusted yet is better than none.
        let is_usable = self.show(pair);
        if !is_usable || renew_at.is_none_or(|at| at <= Timestamp::now()) {
            self.renew(secret).await?;
            return Ok(look);
        }
        trusted?;
        Ok([look, renew_at].into_iter().flatten().min())
    }

    /// Shows this certificate. Returns whether it can be.
    fn show(&mut self, pair: (ByteString, ByteString)) -> bool {
        if self.shown.as_ref() == Some(&pair) {
            return true;
        }
        let (certificate, key) = &pair;
        if let Err(error) = self.certificates.show(&certificate.0, &key.0) {
            tracing::warn!(
                error,
                secret = self.names.service,
                "the Secret has no certificate that can be used"
            );
            return false;
        }
        tracing::info!(secret = self.names.service, "the webhook shows the certificate of its Secret");
        self.shown = Some(pair);
        true
    }

    /// Makes a certificate and puts it into the Secret, unless another replica has been quicker. The watch shows it.
    async fn renew(&self, secret: Option<&Secret>) -> Result<(), RequestError> {
        let Names { service, namespace, .. } = &self.names;
        let names =
            vec![format!("{service}.{namespace}.svc"), format!("{service}.{namespace}.svc.cluster.local")];
        let made = certificate::make(names, Timestamp::now());
        let made = made.map_err(|error| RequestError::Invalid(error.to_string()))?;
        let before =
            secret.and_then(|secret| secret.data.as_ref()?.get("ca.crt").cloned()).unwrap_or_default();
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
            Ok(_) => Ok(()),
            Err(RequestError::AlreadyExists(_) | RequestError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tells the API server whom to trust. Where there is no configuration, nobody asks, and nothing is wrong here; it
    /// is told when there is one.
    async fn publish(&mut self, authority: ByteString) -> Result<Trust, RequestError> {
        let trust = match self.webhook.kind {
            ConfigurationKind::Mutating => self.publish_in::<MutatingWebhookConfiguration>(authority).await?,
            ConfigurationKind::Validating => {
                self.publish_in::<ValidatingWebhookConfiguration>(authority).await?
            }
        };
        let (configuration, webhook) = (&self.names.service, self.webhook.name);
        let was_missed = std::mem::replace(&mut self.is_missed, matches!(trust, Trust::NotAsked));
        match &trust {
            Trust::NotAsked if !was_missed => tracing::warn!(
                configuration,
                webhook,
                "there is no such webhook configuration, so the API server does not ask; install the chart again to \
                 have it back"
            ),
            Trust::Told => tracing::info!(configuration, webhook, "the API server is told whom to trust"),
            Trust::NotAsked | Trust::Standing | Trust::Newer(_) => {}
        }
        Ok(trust)
    }

    async fn publish_in<K>(&self, authority: ByteString) -> Result<Trust, RequestError>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + DeserializeOwned,
    {
        let (configuration, name) = (&self.names.service, self.webhook.name);
        let configurations = Api::<K>::all(self.client.clone());
        let standing = match in_time(configurations.get(configuration)).await {
            Ok(standing) => standing,
            Err(RequestError::NotFound(_)) => return Ok(Trust::NotAsked),
            Err(error) => return Err(error),
        };
        let standing = serde_json::to_value(&standing).unwrap_or_default();
        let (kept, authority) = (&authority, json!(authority));
        let mut webhooks = standing["webhooks"].as_array().into_iter().flatten();
        let Some(ours) = webhooks.find(|webhook| webhook["name"] == name) else { return Ok(Trust::NotAsked) };
        if ours["clientConfig"]["caBundle"] == authority {
            return Ok(Trust::Standing);
        }
        // The watch may be late, or have stopped without a word: an authority that another replica has renewed since is
        // not written over with the one before.
        let now = in_time(self.secrets().get_opt(&self.names.service)).await?;
        let is_kept = now.as_ref().and_then(Kept::read).is_some_and(|now| now.authority == *kept);
        if !is_kept {
            return Ok(Trust::Newer(now.map(Box::new)));
        }
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": configuration},
            "webhooks": [{"name": name, "clientConfig": {"caBundle": authority}}],
        });
        let params = PatchParams::apply(&self.names.service).force();
        in_time(configurations.patch_metadata(configuration, &params, &Patch::Apply(patch)))
            .await
            .map(|_| Trust::Told)
    }
}

/// What a Secret keeps.
struct Kept {
    /// The certificate and its key.
    pair: (ByteString, ByteString),
    authority: ByteString,
    renew_at: Option<Timestamp>,
}

impl Kept {
    fn read(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let annotations = secret.metadata.annotations.as_ref();
        Some(Self {
            pair: (data.get("tls.crt")?.clone(), data.get("tls.key")?.clone()),
            authority: data.get("ca.crt").cloned().unwrap_or_default(),
            renew_at: annotations.and_then(|all| all.get(RENEW_AT)?.parse().ok()),
        })
    }
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
