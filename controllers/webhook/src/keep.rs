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
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher::watch_object},
};
use mainstay_runtime::{failure::RequestError, request::in_time};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{CertificatesFrom, Names, Webhook, certificate, server::Certificates};

/// The annotation of the Secret that says when a new certificate is to be made.
const RENEW_AT: &str = "mainstay.dev/renew-at";
/// When what has failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// For what was told to one API server to be known to all.
const SPREADS: Duration = Duration::from_secs(5);
/// At most so many authorities are trusted: the current one and the one before.
const AUTHORITIES: usize = 2;
const END: &str = "-----END CERTIFICATE-----\n";

/// The kind of a webhook's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigurationKind {
    /// `MutatingWebhookConfiguration`
    Mutating,
    /// `ValidatingWebhookConfiguration`
    Validating,
}

/// Keeps one webhook's certificate.
pub(crate) struct Keeper {
    client: Client,
    names: Names,
    webhook: Webhook,
    from: CertificatesFrom,
    certificates: Certificates,
    shown: Option<(ByteString, ByteString)>,
}

impl Keeper {
    pub(crate) fn new(
        client: Client,
        names: Names,
        webhook: Webhook,
        from: CertificatesFrom,
        certificates: Certificates,
    ) -> Self {
        Self { client, names, webhook, from, certificates, shown: None }
    }

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
                        continue;
                    }
                    None => return,
                },
                () = at(due) => {}
            }
            due = match self.take_up(secret.as_ref()).await {
                Ok(due) => due,
                Err(error) => {
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
        let is_own = self.from == CertificatesFrom::Own;
        let Some(kept) = secret.and_then(Kept::read) else {
            if is_own {
                self.renew(secret).await?;
            }
            return Ok(None);
        };
        // Trusted first, shown then.
        let changed = is_own && self.publish(kept.authority.clone()).await?;
        if changed && self.shown.is_some() {
            tokio::time::sleep(SPREADS).await;
        }
        let is_usable = self.show(kept.certificate, kept.key);
        if is_own && (!is_usable || kept.renew_at.is_none_or(|at| at <= Timestamp::now())) {
            self.renew(secret).await?;
            return Ok(None);
        }
        Ok(kept.renew_at.filter(|_| is_own))
    }

    /// Shows this certificate. Returns whether it can be.
    fn show(&mut self, certificate: ByteString, key: ByteString) -> bool {
        let shown = Some((certificate, key));
        if self.shown == shown {
            return true;
        }
        let Some((certificate, key)) = &shown else { return false };
        if let Err(error) = self.certificates.show(&certificate.0, &key.0) {
            tracing::warn!(
                error,
                secret = self.names.service,
                "the Secret has no certificate that can be used"
            );
            return false;
        }
        tracing::info!(secret = self.names.service, "the webhook shows the certificate of its Secret");
        self.shown = shown;
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

    /// Tells the API server whom to trust. Returns whether it was not so before.
    async fn publish(&self, authority: ByteString) -> Result<bool, RequestError> {
        match self.webhook.kind {
            ConfigurationKind::Mutating => self.publish_in::<MutatingWebhookConfiguration>(authority).await,
            ConfigurationKind::Validating => {
                self.publish_in::<ValidatingWebhookConfiguration>(authority).await
            }
        }
    }

    async fn publish_in<K>(&self, authority: ByteString) -> Result<bool, RequestError>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + DeserializeOwned,
    {
        let (configuration, name) = (&self.names.service, self.webhook.name);
        let configurations = Api::<K>::all(self.client.clone());
        let standing = in_time(configurations.get(configuration)).await?;
        let standing = serde_json::to_value(&standing).unwrap_or_default();
        let authority = json!(authority);
        let mut webhooks = standing["webhooks"].as_array().into_iter().flatten();
        let ours = webhooks.find(|webhook| webhook["name"] == name);
        if ours.is_some_and(|webhook| webhook["clientConfig"]["caBundle"] == authority) {
            return Ok(false);
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
            .map(|_| true)
    }
}

/// What a Secret keeps.
struct Kept {
    certificate: ByteString,
    key: ByteString,
    authority: ByteString,
    renew_at: Option<Timestamp>,
}

impl Kept {
    fn read(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let annotations = secret.metadata.annotations.as_ref();
        Some(Self {
            certificate: data.get("tls.crt")?.clone(),
            key: data.get("tls.key")?.clone(),
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
mod tests {
    use super::*;

    #[test]
    fn the_authority_before_is_trusted_for_one_more_life() {
        let made: Vec<_> = (0..3)
            .map(|_| certificate::make(vec!["a.b.svc".to_owned()], Timestamp::now()).unwrap().authority)
            .collect();
        let second = bundle(&made[1], made[0].as_bytes());
        assert_eq!(second, format!("{}{}", made[1], made[0]));
        assert_eq!(bundle(&made[2], second.as_bytes()), format!("{}{}", made[2], made[1]));
    }

    #[tokio::test]
    async fn a_certificate_that_was_made_can_be_shown_and_anything_else_is_refused_in_words() {
        let certificates = Certificates::default();
        let refused = certificates.show(b"nothing", b"nothing").unwrap_err();
        assert!(refused.starts_with("tls."), "{refused}");
        let made = certificate::make(vec!["a.b.svc".to_owned()], Timestamp::now()).unwrap();
        certificates.show(made.certificate.as_bytes(), made.key.as_bytes()).unwrap();
        certificates.ready().await;
    }
}
