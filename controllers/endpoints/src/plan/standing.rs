//! The earlier decisions, as the existing slices show them.

use std::{collections::HashMap, sync::Arc};

use super::place::{Place, group_of};
use crate::{
    health::Verdict,
    observe::Member,
    pack::Item,
    watched::{Conditions, EndpointKey, Slice},
};

/// One existing endpoint.
#[derive(Debug, Clone, Copy)]
struct Stood {
    conditions: Conditions,
    /// Whether its slice notes that it fails its check.
    failing: bool,
}

/// The existing endpoints of the slices.
#[derive(Debug, Default)]
pub struct Standing {
    places: HashMap<Place, Stood>,
    /// The same whatever their ports are: with another port in the Service a server is still the one that was checked.
    keys: HashMap<EndpointKey, Stood>,
}

impl Standing {
    /// Those of `slices`.
    pub fn of(slices: &[Arc<Slice>]) -> Self {
        let mut standing = Self::default();
        for slice in slices {
            for endpoint in &slice.endpoints {
                let failing =
                    slice.notes.as_ref().is_some_and(|notes| notes.failing.contains(&endpoint.address));
                let stood = Stood { conditions: endpoint.conditions, failing };
                standing.places.insert((slice.group.clone(), endpoint.key()), stood);
                standing.keys.insert(endpoint.key(), stood);
            }
        }
        standing
    }

    fn get(&self, member: &Member) -> Option<&Stood> {
        let key = member.endpoint.key();
        self.places.get(&(group_of(member), key.clone())).or_else(|| self.keys.get(&key))
    }

    /// Whether the member has an endpoint.
    pub fn has(&self, member: &Member) -> bool {
        self.get(member).is_some()
    }

    /// Whether its endpoint gets traffic.
    pub fn is_used(&self, member: &Member) -> bool {
        self.get(member).is_some_and(|stood| stood.conditions.ready)
    }

    /// Whether the existing endpoint is recorded as failing its check.
    pub fn fails(&self, place: &Place) -> bool {
        self.places.get(place).is_some_and(|stood| stood.failing)
    }

    /// What was decided of a member, as far as its endpoint tells. One that serves has passed, and one that does not has
    /// failed when that was noted. Otherwise nothing is known of its check: its pod was not ready when the endpoint was
    /// written, or there was no verdict yet.
    pub fn verdict(&self, member: &Member) -> Option<Verdict> {
        match self.get(member)? {
            stood if stood.conditions.serving => Some(Verdict::Passing),
            stood if stood.failing => Some(Verdict::Failing),
            _ => None,
        }
    }
}
