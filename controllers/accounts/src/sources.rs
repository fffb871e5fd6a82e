//! The Secrets that policies copy: one watch each, of their metadata alone, for as long as a policy names them.

use std::{collections::HashMap, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher::watch_object},
};
use mainstay_runtime::{index::ObjectKey, slim::MetadataOf};
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::{observe::Stores, plan::Source};

/// The watches of sources.
pub(crate) struct Sources {
    client: Client,
    stores: Stores,
    watches: Mutex<HashMap<ObjectKey, AbortOnDropHandle<()>>>,
    changed: Arc<dyn Fn() + Send + Sync>,
}

impl Sources {
    /// Calls `changed` whenever a source does.
    pub(crate) fn new(client: Client, stores: Stores, changed: impl Fn() + Send + Sync + 'static) -> Self {
        Self { client, stores, watches: Mutex::default(), changed: Arc::new(changed) }
    }

    /// Watches these and no others.
    pub(crate) fn watch(&self, wanted: &std::collections::HashSet<ObjectKey>) {
        let mut watches = self.watches.lock();
        watches.retain(|source, _| wanted.contains(source));
        self.stores.sources.lock().retain(|source, _| wanted.contains(source));
        for source in wanted {
            if !watches.contains_key(source) {
                watches.insert(source.clone(), self.follow(source.clone()));
            }
        }
    }

    fn follow(&self, source: ObjectKey) -> AbortOnDropHandle<()> {
        let api = Api::<MetadataOf<Secret>>::namespaced(self.client.clone(), &source.namespace);
        let (stores, changed) = (self.stores.clone(), Arc::clone(&self.changed));
        let seen = watch_object(api, &source.name).default_backoff();
        AbortOnDropHandle::new(tokio::spawn(seen.for_each(move |seen| {
            match seen {
                Ok(secret) => {
                    let text = |text: Option<String>| text.unwrap_or_default().into();
                    let known = secret.map_or(Source::Missing, |secret| {
                        Source::At(text(secret.metadata.uid), text(secret.metadata.resource_version))
                    });
                    let before = stores.sources.lock().insert(source.clone(), known.clone());
                    if before != Some(known) {
                        changed();
                    }
                }
                Err(error) => tracing::warn!(%error, "the watch of a pull secret failed and is tried again"),
            }
            std::future::ready(())
        })))
    }
}
