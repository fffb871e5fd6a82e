//! How many targets of all rollouts together are updating.

use std::collections::{HashMap, HashSet};

use mainstay_runtime::index::ObjectKey;
use parking_lot::Mutex;

/// The places that rollouts share.
#[derive(Debug)]
pub struct Slots {
    most: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    taken: HashMap<ObjectKey, usize>,
    waiting: HashSet<ObjectKey>,
}

impl Slots {
    /// The maximum number of updating targets.
    pub fn new(most: usize) -> Self {
        Self { most, table: Mutex::default() }
    }

    /// Lets `rollout` decide with the number of places that the others leave. `decide` returns how many it has then, and
    /// whether it waits for more. Returned are the rollouts to which places have become free.
    pub fn decide<T>(
        &self,
        rollout: &ObjectKey,
        decide: impl FnOnce(usize) -> (T, usize, bool),
    ) -> (T, Vec<ObjectKey>) {
        let mut table = self.table.lock();
        let others = table.taken.iter().filter(|(other, _)| *other != rollout);
        let others: usize = others.map(|(_, taken)| taken).sum();
        let (decided, taken, waits) = decide(self.most.saturating_sub(others));
        let before = table.take(rollout, taken);
        if waits {
            table.waiting.insert(rollout.clone());
        } else {
            table.waiting.remove(rollout);
        }
        let freed = if taken < before { table.waiting.iter().cloned().collect() } else { Vec::new() };
        (decided, freed)
    }

    /// Records the updating targets of a rollout that another process has changed.
    pub fn seed(&self, rollout: &ObjectKey, taken: usize) {
        self.table.lock().take(rollout, taken);
    }

    /// Forgets a rollout that is gone. Returned are the rollouts to which places have become free.
    pub fn forget(&self, rollout: &ObjectKey) -> Vec<ObjectKey> {
        self.decide(rollout, |_| ((), 0, false)).1
    }
}

impl Table {
    fn take(&mut self, rollout: &ObjectKey, taken: usize) -> usize {
        let before = match taken {
            0 => self.taken.remove(rollout),
            _ => self.taken.insert(rollout.clone(), taken),
        };
        before.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_shared_and_those_who_wait_are_told() {
        let slots = Slots::new(3);
        let (a, b) = (ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
        slots.seed(&a, 2);
        let (free, freed) = slots.decide(&b, |free| (free, free, true));
        assert_eq!((free, freed), (1, vec![]));
        let (free, freed) = slots.decide(&a, |free| (free, 1, false));
        assert_eq!((free, freed), (2, vec![b.clone()]), "its own are not counted against it");
        assert_eq!(slots.decide(&b, |free| (free, 2, false)).0, 2);
        assert!(slots.forget(&a).is_empty(), "nobody waits");
    }
}
