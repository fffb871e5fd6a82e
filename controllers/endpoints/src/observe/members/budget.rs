//! How many addresses of a pool are judged.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use crate::{
    observe::names::Names,
    settings::{MAX_MEMBERS, Settings, Source},
    watched::Slice,
};

/// What is left of the addresses that may be judged.
pub(super) struct Budget {
    /// The addresses of existing endpoints, and how many of them may still be judged.
    standing: HashMap<IpAddr, usize>,
    others: usize,
    taken: usize,
}

impl Budget {
    /// Whoever comes first.
    pub(super) fn any() -> Self {
        Self { standing: HashMap::new(), others: MAX_MEMBERS, taken: 0 }
    }

    /// Existing endpoints first, wherever they are named: what works is not left out for what is new.
    pub(super) fn preferring(settings: &Settings, names: &Names<'_>, slices: &[Arc<Slice>]) -> Self {
        let mut named = HashSet::new();
        for set in &settings.sets {
            if let Source::Addresses(addresses) = &set.source {
                named.extend(addresses.iter().map(|fixed| fixed.address));
            }
            for name in set.names() {
                let (known, stood) = names.of(name);
                named.extend(known.addresses.into_iter().chain(stood));
            }
        }
        let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
        let standing = endpoints.filter(|endpoint| {
            endpoint.target.is_some() || !endpoint.conditions.terminating && named.contains(&endpoint.address)
        });
        let mut budget = Self::any();
        for endpoint in standing.take(MAX_MEMBERS) {
            *budget.standing.entry(endpoint.address).or_default() += 1;
            budget.others -= 1;
        }
        budget
    }

    /// Whether one more may be judged.
    pub(super) fn take(&mut self, address: &IpAddr) -> bool {
        let left = match self.standing.get_mut(address) {
            Some(left) if *left > 0 => left,
            _ => &mut self.others,
        };
        let Some(rest) = left.checked_sub(1) else { return false };
        *left = rest;
        self.taken += 1;
        true
    }

    /// How many were.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }
}
