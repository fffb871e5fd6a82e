//! What slices are to note of their endpoints.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::Place;
use crate::{
    pack::Item,
    watched::{Endpoint, Group, Notes},
};

/// What slices are to note, by the place of each endpoint, whichever slice that is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noted {
    /// Whether the pool has DNS names: a note without names then says that an address came from none.
    pub has_names: bool,
    /// The set and the name that an endpoint came from.
    pub origins: HashMap<Place, (Arc<str>, Arc<str>)>,
    /// The tier of each set that something came from.
    pub tiers: HashMap<Arc<str>, u8>,
    /// Those that fail their check.
    pub failing: HashSet<Place>,
}

impl Noted {
    /// The annotation of a slice that holds these endpoints.
    pub fn text(&self, group: &Group, endpoints: &[Endpoint]) -> Option<String> {
        if !self.has_names && self.origins.is_empty() && self.failing.is_empty() {
            return None;
        }
        let mut notes = Notes::default();
        let mut outside = false;
        for endpoint in endpoints {
            outside |= endpoint.target.is_none();
            let place = (group.clone(), endpoint.key());
            if let Some((set, name)) = self.origins.get(&place) {
                let names = notes.names.entry(Arc::clone(set)).or_default();
                names.entry(Arc::clone(name)).or_default().insert(endpoint.address);
                notes.tiers.extend(self.tiers.get(set).map(|tier| (Arc::clone(set), *tier)));
            }
            if self.failing.contains(&place) {
                notes.failing.insert(endpoint.address);
            }
        }
        (notes != Notes::default() || self.has_names && outside).then(|| notes.text())
    }
}
