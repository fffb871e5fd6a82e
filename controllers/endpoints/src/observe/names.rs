//! The addresses of a pool's DNS names, as far as they are known.
//!
//! A name that has not been resolved by this process is unknown, and not without addresses. Until it is resolved, it
//! has the addresses that it had when the slices were written. When a name was replaced by another one, its addresses
//! are kept until the new name is resolved, but not forever: the spec does not name it any more.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
};

use super::member::{Member, Refused};
use crate::{
    lookups::{Lookup, Lookups},
    settings::Settings,
    watched::{Endpoint, Group, Slice},
};

/// A DNS name that may have addresses for all that is known, and has none yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// The set that names it.
    pub set: Arc<str>,
    /// The set's tier.
    pub tier: u8,
    /// The name.
    pub name: Arc<str>,
}

/// An endpoint that no set of the pool has, and that a name which is still unknown may bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its place in the slices.
    pub group: Group,
    /// The existing endpoint.
    pub endpoint: Endpoint,
    /// The set and the name that it came from; both empty if that is not known.
    pub origin: (Arc<str>, Arc<str>),
    /// The tier of that set, as far as it was noted.
    pub tier: Option<u8>,
}

impl Kept {
    fn of(slice: &Slice, endpoint: &Endpoint, origin: (Arc<str>, Arc<str>)) -> Self {
        let tier = slice.notes.as_ref().and_then(|notes| notes.tiers.get(&origin.0)).copied();
        Self { group: slice.group.clone(), endpoint: endpoint.clone(), origin, tier }
    }
}

/// What is known of the names of one pool.
pub(super) struct Names<'a> {
    known: BTreeMap<&'a str, Lookup>,
    /// The addresses in the slices, by the name that they came from.
    stood: BTreeMap<&'a str, BTreeSet<IpAddr>>,
    /// Those of names that the pool does not have any more, by set.
    replaced: BTreeMap<&'a str, Vec<(Arc<str>, IpAddr)>>,
    /// The names in the slices, by set.
    noted: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// The names of each set of the pool.
    sets: BTreeMap<&'a str, &'a [String]>,
}

impl<'a> Names<'a> {
    pub(super) fn new(settings: &'a Settings, slices: &'a [Arc<Slice>], lookups: &Lookups) -> Self {
        let known = settings.names().map(|name| (name, lookups.get(name))).collect();
        let sets = settings.sets.iter().map(|set| (&*set.name, set.names())).collect();
        let (stood, replaced, noted) = Default::default();
        let mut names = Self { known, stood, replaced, noted, sets };
        for slice in slices.iter().filter(|_| names.known.values().any(|known| !known.unknown.is_empty())) {
            let standing: HashSet<_> = standing(slice).map(|endpoint| endpoint.address).collect();
            let noted = slice.notes.iter().flat_map(|notes| &notes.names);
            for (set, name, addresses) in
                noted.flat_map(|(set, names)| names.iter().map(move |(name, all)| (set, name, all)))
            {
                names.noted.entry(set).or_default().insert(name);
                let addresses = addresses.iter().filter(|address| standing.contains(*address)).copied();
                match names.known.contains_key(&**name) {
                    true => names.stood.entry(name).or_default().extend(addresses),
                    false => {
                        let replaced = names.replaced.entry(set).or_default();
                        replaced.extend(addresses.map(|address| (Arc::clone(name), address)));
                    }
                }
            }
        }
        names
    }

    /// What is known of `name`, and the addresses that it may have beside those.
    pub(super) fn of(&self, name: &str) -> (Lookup, Vec<IpAddr>) {
        let known = self.known.get(name).cloned().unwrap_or_default();
        let stood = self.stood.get(name).into_iter().flatten().filter(|address| known.is_unknown(address));
        let stood = stood.copied().collect();
        (known, stood)
    }

    /// The names that a set had before, and their addresses, as long as one that took their place may have them.
    pub(super) fn replaced(&self, set: &str) -> Vec<(Arc<str>, IpAddr)> {
        let replaced = self.replaced.get(set).into_iter().flatten();
        replaced.filter(|(_, address)| self.is_awaited(set, address)).cloned().collect()
    }

    /// Addresses that belong to no set, although a name of the pool may have them: they came from a set that was
    /// replaced by another one, or their origin is not known.
    pub(super) fn kept(&self, slices: &[Arc<Slice>], members: &[Member], refused: &[Refused]) -> Vec<Kept> {
        if self.known.values().all(|known| known.unknown.is_empty()) {
            return Vec::new();
        }
        let judged = judged(members, refused);
        let mut kept = Vec::new();
        for slice in slices {
            for endpoint in standing(slice) {
                let address = &endpoint.address;
                if judged.contains(address) || !self.is_unknown(address) {
                    continue;
                }
                let noted = slice.notes.as_ref().map(|notes| notes.origin(address));
                let origin = match noted {
                    None => <(Arc<str>, Arc<str>)>::default(),
                    // A former leader did not know either.
                    Some(Some((set, name))) if name.is_empty() => (Arc::clone(set), Arc::clone(name)),
                    Some(Some((set, name)))
                        if !self.known.contains_key(&**name) && self.is_awaited(set, address) =>
                    {
                        (Arc::clone(set), Arc::clone(name))
                    }
                    // It comes from a list of addresses, from a name whose addresses are known, or from one that nothing
                    // took the place of.
                    Some(_) => continue,
                };
                kept.push(Kept::of(slice, endpoint, origin));
            }
        }
        kept
    }

    /// What a name of the pool stood for by its last answer, and does not by this one.
    pub(super) fn exchanged(
        &self,
        slices: &[Arc<Slice>],
        members: &[Member],
        refused: &[Refused],
    ) -> Vec<Kept> {
        if self.known.is_empty() {
            return Vec::new();
        }
        let judged = judged(members, refused);
        let has = |set: &str, name: &str| {
            self.sets.get(set).is_some_and(|names| names.iter().any(|known| *known == *name))
        };
        let mut exchanged = Vec::new();
        for slice in slices {
            let Some(notes) = &slice.notes else { continue };
            for endpoint in standing(slice).filter(|endpoint| !judged.contains(&endpoint.address)) {
                let origin = notes.origin(&endpoint.address).filter(|(set, name)| has(set, name));
                if let Some((set, name)) = origin {
                    exchanged.push(Kept::of(slice, endpoint, (Arc::clone(set), Arc::clone(name))));
                }
            }
        }
        exchanged
    }

    /// Whether an answer that may come is waited for before this address goes, which a set had through a name that the
    /// pool does not have any more: that for a name which is new in the set. Where the set is gone, a new one took its
    /// place.
    fn is_awaited(&self, set: &str, address: &IpAddr) -> bool {
        let is_gone = !self.sets.contains_key(set);
        self.sets.iter().any(|(other, names)| {
            let noted = self.noted.get(other);
            let is_successor = if is_gone { noted.is_none() } else { *other == set };
            let is_new = |name: &&String| !noted.is_some_and(|noted| noted.contains(name.as_str()));
            let may_come = |name: &String| {
                let known = self.known.get(name.as_str());
                known.is_some_and(|known| known.is_unknown(address) && !known.given_up)
            };
            is_successor && names.iter().filter(is_new).any(may_come)
        })
    }

    /// Whether a name of the pool may resolve to this address, as far as is known.
    fn is_unknown(&self, address: &IpAddr) -> bool {
        self.known.values().any(|known| known.is_unknown(address))
    }
}

/// The addresses that are members, or are not for a reason.
fn judged(members: &[Member], refused: &[Refused]) -> HashSet<IpAddr> {
    let members = members.iter().filter(|member| member.pod.is_none()).map(|member| member.target.address);
    members.chain(refused.iter().filter_map(|refused| refused.address)).collect()
}

/// The endpoints of a slice that have no pod and do not drain.
fn standing(slice: &Slice) -> impl Iterator<Item = &Endpoint> {
    slice.endpoints.iter().filter(|endpoint| endpoint.target.is_none() && !endpoint.conditions.terminating)
}
