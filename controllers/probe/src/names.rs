//! The known addresses of each wanted name, and when to look it up next. Pure: the caller does the lookups and passes
//! the time.
//!
//! DNS is less reliable than the addresses that it returned before: a failed lookup never removes addresses, and an
//! answer that there are none counts when it was given three times in a row. Before the first answer the addresses of
//! a name are not empty, but [unknown](Known::unknown).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

use crate::resolve::{Answer, Family, ResolveError};

/// This many negative answers in a row remove the addresses of a name.
const BELIEVED_NEGATIVES: u32 = 3;

/// The delay after the first failure; each further one doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// No delay after a failure is longer.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The wanted names.
#[derive(Debug, Clone)]
pub struct Names {
    /// Since when this exists: a name that was never asked for is due since then.
    since: Instant,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    addresses: Vec<IpAddr>,
    /// The families that were never answered for.
    unknown: Vec<Family>,
    due: Instant,
    /// A lookup has begun and was not answered; none other is due.
    running: bool,
    failing: Option<Failing>,
}

#[derive(Debug, Clone)]
struct Failing {
    since: Instant,
    last: ResolveError,
    /// Failures in a row.
    failures: u32,
    /// Negative answers in a row.
    negatives: u32,
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
    /// When the first of the lookups failed that have failed in a row since.
    pub failing_since: Option<Instant>,
    /// How many lookups have failed in a row.
    pub failures: u32,
}

impl Names {
    /// No name is wanted yet. `now` must not be later than any instant that is passed in afterwards.
    pub fn new(now: Instant) -> Self {
        Self { since: now, entries: BTreeMap::new() }
    }

    /// Wants exactly `names`: new ones are due at once, those of before keep what is known of them, and all others
    /// are forgotten.
    pub fn want(&mut self, names: impl IntoIterator<Item = String>) {
        let wanted: BTreeSet<String> = names.into_iter().collect();
        self.entries.retain(|name, _| wanted.contains(name));
        for name in wanted {
            self.entries.entry(name).or_insert_with(|| Entry {
                addresses: Vec::new(),
                unknown: vec![Family::V4, Family::V6],
                due: self.since,
                running: false,
                failing: None,
            });
        }
    }

    /// The names to look up at `now`, in the order of the alphabet; not those whose lookup has
    /// [begun](Self::began).
    pub fn due(&self, now: Instant) -> Vec<String> {
        let due = self.entries.iter().filter(|(_, entry)| !entry.running && entry.due <= now);
        due.map(|(name, _)| name.clone()).collect()
    }

    /// When the next name is due, which may be in the past; `None` when no name waits for its time.
    pub fn next(&self) -> Option<Instant> {
        self.entries.values().filter(|entry| !entry.running).map(|entry| entry.due).min()
    }

    /// Notes that a lookup of `name` has begun. Each must be [answered](Self::answered), or the name is never due
    /// again.
    pub fn began(&mut self, name: &str) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.running = true;
        }
    }

    /// Records the result of a lookup of `name`. Returns whether the addresses of the name changed, or are known now
    /// that were not known before. The answer for a name that is no longer wanted is ignored.
    pub fn answered(&mut self, name: &str, result: Result<Answer, ResolveError>, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return false };
        entry.running = false;
        let unknown = entry.unknown.len();
        let addresses = match result {
            Ok(answer) => {
                entry.failing = None;
                entry.unknown.retain(|family| answer.unanswered == Some(*family));
                entry.due = now + answer.valid_for;
                entry.merged(answer)
            }
            Err(error) => {
                let failing = Failing::again(entry.failing.take(), error, now);
                entry.due = now + failing.delay();
                let believed = failing.negatives >= BELIEVED_NEGATIVES;
                entry.failing = Some(failing);
                if believed {
                    entry.unknown.clear();
                    Vec::new()
                } else {
                    entry.addresses.clone()
                }
            }
        };
        let changed = addresses != entry.addresses || unknown != entry.unknown.len();
        entry.addresses = addresses;
        changed
    }

    /// What is known of `name`; nothing of one that is not wanted.
    pub fn get(&self, name: &str) -> Known<'_> {
        self.entries.get(name).map_or_else(Known::default, |entry| Known {
            addresses: &entry.addresses,
            unknown: &entry.unknown,
            failure: entry.failing.as_ref().map(|failing| &failing.last),
            failing_since: entry.failing.as_ref().map(|failing| failing.since),
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
    fn again(before: Option<Self>, last: ResolveError, now: Instant) -> Self {
        let (since, failures, negatives) =
            before.map_or((now, 0, 0), |before| (before.since, before.failures, before.negatives));
        let negatives = if last.is_negative() { negatives.saturating_add(1) } else { 0 };
        Self { since, last, failures: failures.saturating_add(1), negatives }
    }

    fn delay(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(31);
        FIRST_RETRY.saturating_mul(1 << doublings).min(LAST_RETRY)
    }
}

#[cfg(test)]
mod tests;
