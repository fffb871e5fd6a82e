//! Sees through the API server alone when each namespace has what it is to get, with the same eyes for all sides.

use crate::{bed::Bed, error::Result};
use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{Secret, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::{
    Api, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::{sync::watch, task::JoinSet};

/// What a namespace is to get.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gift {
    Account,
    Binding,
    Token,
}

/// When a namespace first had its account, and when everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub account: Option<Instant>,
    pub all: Option<Instant>,
}

/// When each namespace first had something of one name.
type Seen = Arc<Mutex<HashMap<String, Instant>>>;

/// The watches, which end when this is dropped.
pub(super) struct Eyes {
    seen: Vec<Seen>,
    synced: Vec<watch::Receiver<bool>>,
    watches: JoinSet<()>,
}

impl Eyes {
    /// Looks for objects of these names, until all watches have listed what there is.
    pub(super) async fn open(bed: &Bed, gifts: &[(Gift, &str)]) -> Result<Self> {
        let mut eyes = Self { seen: Vec::new(), synced: Vec::new(), watches: JoinSet::new() };
        for (gift, name) in gifts {
            match gift {
                Gift::Account => eyes.follow::<ServiceAccount>(bed, name),
                Gift::Binding => eyes.follow::<RoleBinding>(bed, name),
                Gift::Token => eyes.follow::<Secret>(bed, name),
            }
        }
        let synced = eyes.synced.clone();
        bed.until("the bench's watches", async || Ok(synced.iter().all(|synced| *synced.borrow()))).await?;
        Ok(eyes)
    }

    fn follow<K>(&mut self, bed: &Bed, name: &str)
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    {
        let api = Api::<PartialObjectMeta<K>>::all(bed.client.clone());
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let (seen, (sender, receiver)) = (Seen::default(), watch::channel(false));
        self.seen.push(Arc::clone(&seen));
        self.synced.push(receiver);
        self.watches.spawn(watcher(api, config).default_backoff().for_each(move |event| {
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.entry(object.namespace().unwrap_or_default()).or_insert_with(Instant::now);
                }
                Ok(Event::InitDone) => drop(sender.send(true)),
                _ => {}
            }
            std::future::ready(())
        }));
    }

    /// What has been seen of a namespace.
    pub(super) fn of(&self, namespace: &str) -> Times {
        let first = |seen: &Seen| seen.lock().unwrap_or_else(PoisonError::into_inner).get(namespace).copied();
        let all: Option<Vec<_>> = self.seen.iter().map(first).collect();
        Times {
            account: self.seen.first().and_then(first),
            all: all.and_then(|times| times.into_iter().max()),
        }
    }
}
