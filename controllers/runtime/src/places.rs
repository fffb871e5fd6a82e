//! Fair shares of a limit: which of the keys that are due gets the next place. No I/O and no clock.
//!
//! Keys have owners, which share the places: pools, or kinds of work. It promises:
//!
//! - Of the owners with a key that is due, the one with the fewest keys under way comes first, and of several the one
//!   whose key is due since longest. Of an owner's keys, those that are due for the first time come first, and then the one that
//!   is due since longest. What owners are called decides nothing.
//! - Of an owner that is [bounded](Places::bound) to eight or more, keys that are due for the first time get at most seven eighths of
//!   what it may have under way while others are due, and the others get at most seven eighths too: neither holds up the other by
//!   hanging.
//! - An owner gets a place only while more are free than it has itself: the last one goes to an owner that has none, and
//!   one owner alone gets half of them. Whose jobs hang holds up no other.
//! - A key is under way once at a time.
//! - A call costs what changes, and not what there is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
};

use crate::clock::Moment;

/// The places and those who wait for one.
#[derive(Debug)]
pub struct Places<O, K> {
    limit: usize,
    under_way: usize,
    owners: HashMap<O, Owner<K>>,
    /// How many owners there were.
    made: u64,
    /// Owners by the time of their first key, as far as that was still to come, and by their number.
    later: BTreeMap<(Moment, u64), O>,
    /// Owners that may begin a key now, by how many they have under way.
    ready: BTreeMap<(usize, Moment, u64), O>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<O, K> {
    /// Begin this key of this owner, and tell its [end](Places::ended).
    Begin {
        /// Whose it is.
        owner: O,
        /// Which one.
        key: K,
        /// Since when it was due.
        due: Moment,
    },
    /// Nothing until then, or until something else changes.
    Wait(Option<Moment>),
}

#[derive(Debug)]
struct Owner<K> {
    number: u64,
    keys: HashMap<K, Key>,
    /// The keys that are due for the first time and not under way.
    new: BTreeSet<(Moment, K)>,
    /// The others that are not under way.
    waiting: BTreeSet<(Moment, K)>,
    under_way: usize,
    most: usize,
    /// How many of those under way were not due for the first time.
    repeated: usize,
    most_of_a_kind: usize,
    /// Its place in `later` or in `ready`; `None` while it may begin nothing at any time.
    listed: Option<(usize, Moment)>,
}

/// A key that waits, is under way, or both: then it waits for its end as well.
#[derive(Debug, Default)]
struct Key {
    due: Option<Moment>,
    /// Whether that is for the first time.
    is_new: bool,
    under_way: Option<Turn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Repeated,
}

impl<O: Hash + Eq + Clone, K: Hash + Ord + Clone> Places<O, K> {
    /// With this number of places; zero counts as one.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            under_way: 0,
            owners: HashMap::new(),
            made: 0,
            later: BTreeMap::new(),
            ready: BTreeMap::new(),
        }
    }

    /// A key is due at this time, and no longer when it was due before. One that is under way becomes due after its end.
    pub fn put(&mut self, owner: &O, key: K, due: Moment) {
        self.change(owner, key, |_, _| (due, false));
    }

    /// A key is due at this time for the first time, or when it was due before if that is sooner.
    pub fn begin(&mut self, owner: &O, key: K, due: Moment) {
        self.change(owner, key, |before, _| (before.map_or(due, |before| before.min(due)), true));
    }

    /// A key is due at this time, or when it was due before if that is sooner.
    pub fn hasten(&mut self, owner: &O, key: K, due: Moment) {
        self.change(owner, key, |before, is_new| (before.map_or(due, |before| before.min(due)), is_new));
    }

    fn change(&mut self, owner: &O, key: K, due: impl FnOnce(Option<Moment>, bool) -> (Moment, bool)) {
        let of = self.owners.entry(owner.clone()).or_insert_with(|| {
            self.made += 1;
            Owner::new(self.made)
        });
        let known = of.keys.entry(key.clone()).or_default();
        let (before, was_new) = (known.due, known.is_new);
        let (due, is_new) = due(before, was_new);
        (known.due, known.is_new) = (Some(due), is_new);
        if known.under_way.is_none() {
            if let Some(before) = before {
                of.line(was_new).remove(&(before, key.clone()));
            }
            of.line(is_new).insert((due, key));
        }
        self.list(owner);
    }

    /// A key is not due any more. One that is under way keeps its place until its end.
    pub fn remove(&mut self, owner: &O, key: &K) {
        let Some(of) = self.owners.get_mut(owner) else { return };
        let Some(known) = of.keys.get_mut(key) else { return };
        let (due, is_new) = (known.due.take(), std::mem::take(&mut known.is_new));
        if known.under_way.is_none() {
            of.keys.remove(key);
            if let Some(due) = due {
                of.line(is_new).remove(&(due, key.clone()));
            }
        }
        self.list(owner);
    }

    /// An owner has at most this number of keys under way, however many places there are; zero counts as one. Forgotten with the
    /// owner's last key.
    pub fn bound(&mut self, owner: &O, most: usize) {
        if let Some(of) = self.owners.get_mut(owner) {
            of.most = most.max(1);
            // An owner alone has half of the places, whatever its bound is.
            let share = of.most.min(self.limit.div_ceil(2));
            of.most_of_a_kind = share - share / 8;
        }
        self.list(owner);
    }

    /// Gives a place to who comes first, if there is one for it.
    pub fn next(&mut self, now: Moment) -> Next<O, K> {
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            let ((due, number), owner) = first.remove_entry();
            self.ready.insert((self.owners[&owner].under_way, due, number), owner);
        }
        let free = self.limit - self.under_way;
        let first = self.ready.first_key_value().filter(|((under_way, ..), _)| *under_way < free);
        let Some(owner) = first.map(|(_, owner)| owner.clone()) else {
            // Who becomes due later may have fewer under way than those who are due.
            let next = self.later.first_key_value().filter(|_| free > 0);
            return Next::Wait(next.map(|((due, _), _)| *due));
        };
        let of = self.owners.get_mut(&owner).expect("only owners that are known are listed");
        let is_due = |line: &BTreeSet<(Moment, K)>| line.first().is_some_and(|(due, _)| *due <= now);
        let repeats = is_due(&of.waiting) && of.repeated < of.most_of_a_kind;
        let firsts = of.under_way - of.repeated;
        let is_new = is_due(&of.new) && !(repeats && firsts >= of.most_of_a_kind);
        let (due, key) = of.line(is_new).pop_first().expect("only owners with a key that waits are listed");
        let known = of.keys.get_mut(&key).expect("only keys that are known wait");
        let turn = if is_new { Turn::First } else { Turn::Repeated };
        *known = Key { due: None, is_new: false, under_way: Some(turn) };
        of.repeated += usize::from(!is_new);
        of.under_way += 1;
        self.under_way += 1;
        self.list(&owner);
        Next::Begin { owner, key, due }
    }

    /// What has begun has ended. Nothing becomes of a key that is not under way.
    pub fn ended(&mut self, owner: &O, key: &K) {
        let Some(of) = self.owners.get_mut(owner) else { return };
        let Some(known) = of.keys.get_mut(key) else { return };
        let Some(turn) = known.under_way.take() else { return };
        match (known.due, known.is_new) {
            (Some(due), is_new) => drop(of.line(is_new).insert((due, key.clone()))),
            (None, _) => drop(of.keys.remove(key)),
        }
        of.repeated -= usize::from(turn == Turn::Repeated);
        of.under_way -= 1;
        self.under_way -= 1;
        self.list(owner);
    }

    /// Whether a key is under way.
    pub fn is_under_way(&self, owner: &O, key: &K) -> bool {
        self.owners.get(owner).and_then(|of| of.keys.get(key)).is_some_and(|known| known.under_way.is_some())
    }

    /// Whether no key is known.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Lists an owner where it belongs after it has changed, and forgets one without keys.
    fn list(&mut self, owner: &O) {
        let Some(of) = self.owners.get_mut(owner) else { return };
        if let Some((under_way, due)) = of.listed.take() {
            self.later.remove(&(due, of.number));
            self.ready.remove(&(under_way, due, of.number));
        }
        if of.keys.is_empty() {
            self.owners.remove(owner);
        } else if let Some(due) = of.next_due() {
            of.listed = Some((of.under_way, due));
            self.later.insert((due, of.number), owner.clone());
        }
    }
}

impl<K: Hash + Ord> Owner<K> {
    fn new(number: u64) -> Self {
        let (keys, new, waiting) = Default::default();
        let (most, most_of_a_kind) = (usize::MAX, usize::MAX);
        Self { number, keys, new, waiting, under_way: 0, most, repeated: 0, most_of_a_kind, listed: None }
    }

    fn line(&mut self, is_new: bool) -> &mut BTreeSet<(Moment, K)> {
        if is_new { &mut self.new } else { &mut self.waiting }
    }

    /// When the first of the keys that may begin is due.
    fn next_due(&self) -> Option<Moment> {
        if self.under_way >= self.most {
            return None;
        }
        let repeated = self.waiting.first().filter(|_| self.repeated < self.most_of_a_kind);
        self.new.first().into_iter().chain(repeated).map(|(due, _)| *due).min()
    }
}

#[cfg(test)]
mod tests;
