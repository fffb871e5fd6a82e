//! What slices record about their endpoints.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::place::Place;
use crate::{
    names::{NOTES, TRIGGER_TIME},
    pack::Item,
    watched::{Endpoint, Group, Notes, Slice},
};

/// The maximum total length of the names and values of all annotations of an object.
const ANNOTATIONS: usize = 256 * 1024;
/// For the time that is written beside the notes.
const RESERVED: usize = 1024;
/// The notes leave space for annotations of others.
const LIMIT: usize = 128 * 1024;

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
    /// What `slices` note.
    pub fn of(slices: &[Arc<Slice>]) -> Self {
        let mut noted = Self::default();
        for (slice, notes) in slices.iter().filter_map(|slice| Some((slice, slice.notes.as_ref()?))) {
            noted.has_names = true;
            noted.tiers.extend(notes.tiers.iter().map(|(set, tier)| (Arc::clone(set), *tier)));
            for endpoint in &slice.endpoints {
                let place = || (slice.group.clone(), endpoint.key());
                let origin = notes.origin(&endpoint.address).filter(|_| endpoint.target.is_none());
                if let Some((set, name)) = origin {
                    noted.origins.insert(place(), (Arc::clone(set), Arc::clone(name)));
                }
                if notes.failing.contains(&endpoint.address) {
                    noted.failing.insert(place());
                }
            }
        }
        noted
    }

    /// The annotation of a slice that holds these endpoints, beside `others`. Where it would not fit, it says less, which
    /// then counts as unknown: no slice is refused for its notes.
    pub fn text(
        &self,
        group: &Group,
        endpoints: &[Endpoint],
        others: &BTreeMap<String, String>,
    ) -> Option<String> {
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
        if notes == Notes::default() && !(self.has_names && outside) {
            return None;
        }
        let others = others.iter().filter(|(name, _)| ![NOTES, TRIGGER_TIME].contains(&name.as_str()));
        let taken = others.map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let room = ANNOTATIONS.saturating_sub(taken + RESERVED).min(LIMIT);
        let fits = |text: &String| text.len() <= room;
        Some(notes.text()).filter(fits).or_else(|| {
            let failing = BTreeSet::new();
            // Without the names, what is left would say that there are none.
            Some(Notes { failing, ..notes }.text()).filter(fits)
        })
    }
}
