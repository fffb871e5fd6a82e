//! What a slice records about its endpoints beyond their fields.
//!
//! A new leader knows no answer of the DNS and no result of a check. Endpoints alone do not show from which name an
//! address came, nor whether an endpoint that does not serve fails its check, is not ready, or was never checked. So
//! this is recorded in the slice itself: it is written together with the endpoints, and lasts as long as they do.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::names::NOTES;

/// The notes of one slice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    /// The addresses that DNS names stood for, by set and name. Those of the slice's endpoints that have no pod and are not
    /// here come from a list of addresses, or drain.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<Arc<str>, BTreeMap<Arc<str>, BTreeSet<IpAddr>>>,
    /// The tier of each set that is named here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<Arc<str>, u8>,
    /// The addresses that failed their check.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub failing: BTreeSet<IpAddr>,
}

impl Notes {
    /// Reads the annotation; `None` where it is missing or cannot be read.
    pub(super) fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        serde_json::from_str(annotations.get(NOTES)?).ok()
    }

    /// What the annotation is to say.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("names and addresses are strings")
    }

    /// The set and the name that an address came from.
    pub fn origin(&self, address: &IpAddr) -> Option<(&Arc<str>, &Arc<str>)> {
        let mut all = self.names.iter().flat_map(|(set, names)| names.iter().map(move |name| (set, name)));
        let (set, (name, _)) = all.find(|(_, (_, addresses))| addresses.contains(address))?;
        Some((set, name))
    }
}
