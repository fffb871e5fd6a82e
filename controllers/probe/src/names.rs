//! What is known of each wanted name, and how long it is until it is asked again. Pure: the caller does the lookups.
//!
//! DNS is less reliable than the addresses that it returned before: a failed lookup never removes addresses, and an
//! answer that there are none counts when it was given three times in a row, each time anew. Before the first answer the addresses of
//! a name are not empty, but [unknown](Known::unknown).

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use crate::resolve::{Answer, Family, ResolveError};

/// This many negative answers in a row remove the addresses of a name.
const BELIEVED_NEGATIVES: u32 = 3;

/// Resolvers keep a negative answer, CoreDNS by default for 30 s: one that comes earlier may be the same again, and does
/// not count. A record that is replaced by being deleted and created is away for a moment only.
const ANEW: Duration = Duration::from_secs(30);

/// The delay after the first failure; each further one doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// No delay after a failure is longer.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The wanted names.
#[derive(Debug, Clone, Default)]
pub struct Names {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    addresses: Vec<IpAddr>,
    /// The families that were never answered for.
    unknown: Vec<Family>,
    failing: Option<Failing>,
}

#[derive(Debug, Clone)]
struct Failing {
    last: ResolveError,
    /// Failures in a row.
    failures: u32,
    /// Negative answers in a row, of those that count.
    negatives: u32,
    /// How long it was at least from the last one that counts to this failure.
    waited: Duration,
}

/// What a look-up has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// Whether the addresses of the name are others, or are known now that were not before.
    pub changed: bool,
    /// How long it is until the name is asked again.
    pub again: Duration,
}

/// What is known of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known<'a> {
    /// The last good addresses, sorted; empty while there was no good answer.
    pub addresses: &'a [IpAddr],
    /// The families for which it is not known yet whether the name has addresses. Addresses known from elsewhere may
    /// still be right as long as their family is one of these.
    pub unknown: &'a [Family],
    /// Why the last lookup failed; `None` when it succeeded, and before the first has ended.
    pub failure: Option<&'a ResolveError>,
    /// How many lookups have failed in a row.
    pub failures: u32,
}

impl Names {
    /// Wants a name from now on; what is known of it stays.
    pub fn know(&mut self, name: &str) {
        if !self.entries.contains_key(name) {
            let unknown = vec![Family::V4, Family::V6];
            self.entries.insert(name.to_owned(), Entry { addresses: Vec::new(), unknown, failing: None });
        }
    }

    /// Forgets a name that is wanted no more.
    pub fn forget(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// Takes in how a look-up of `name` ended. The answer for a name that is wanted no longer is ignored.
    pub fn answered(&mut self, name: &str, result: Result<Answer, ResolveError>) -> Option<Answered> {
        let entry = self.entries.get_mut(name)?;
        let unknown = entry.unknown.len();
        let (addresses, again) = match result {
            Ok(answer) => {
                entry.failing = None;
                entry.unknown.retain(|family| answer.unanswered == Some(*family));
                let again = answer.valid_for;
                (entry.merged(answer), again)
            }
            Err(error) => {
                let failing = Failing::again(entry.failing.take(), error);
                let (again, believed) = (failing.delay(), failing.negatives >= BELIEVED_NEGATIVES);
                entry.failing = Some(failing);
                if believed {
                    entry.unknown.clear();
                }
                (if believed { Vec::new() } else { entry.addresses.clone() }, again)
            }
        };
        let changed = addresses != entry.addresses || unknown != entry.unknown.len();
        entry.addresses = addresses;
        Some(Answered { changed, again })
    }

    /// What is known of `name`; nothing of one that is not wanted.
    pub fn get(&self, name: &str) -> Known<'_> {
        self.entries.get(name).map_or_else(Known::default, |entry| Known {
            addresses: &entry.addresses,
            unknown: &entry.unknown,
            failure: entry.failing.as_ref().map(|failing| &failing.last),
            failures: entry.failing.as_ref().map_or(0, |failing| failing.failures),
        })
    }
}

impl Entry {
    /// The addresses after `answer`: those of a family that was not answered for stay as they are.
    fn merged(&self, answer: Answer) -> Vec<IpAddr> {
        let mut addresses = answer.addresses;
        if let Some(family) = answer.unanswered {
            addresses.extend(self.addresses.iter().filter(|address| family.has(address)));
            addresses.sort_unstable();
        }
        addresses
    }
}

impl Failing {
    fn again(before: Option<Self>, last: ResolveError) -> Self {
        let waited = before.as_ref().map_or(ANEW, |before| before.waited.saturating_add(before.delay()));
        let (failures, negatives) = before.map_or((0, 0), |before| (before.failures, before.negatives));
        let failures = failures.saturating_add(1);
        if !last.is_negative() {
            return Self { last, failures, negatives: 0, waited: Duration::ZERO };
        }
        let counts = negatives == 0 || waited >= ANEW;
        let waited = if counts { Duration::ZERO } else { waited };
        Self { last, failures, negatives: negatives.saturating_add(counts.into()), waited }
    }

    fn delay(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(31);
        FIRST_RETRY.saturating_mul(1 << doublings).min(LAST_RETRY)
    }
}

#[cfg(test)]
mod tests;
