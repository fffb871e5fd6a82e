//! Which old revisions are kept no longer.

use std::{cmp::Reverse, collections::BTreeSet};

/// The places of those of the `kept` revisions, given by hash and number, that are deleted: neither `needed` nor among the
/// newest `limit` of the others. The oldest comes last.
pub fn superseded(kept: &[(&str, i64)], needed: &BTreeSet<&str>, limit: usize) -> Vec<usize> {
    let mut old: Vec<_> = (0..kept.len()).filter(|place| !needed.contains(kept[*place].0)).collect();
    old.sort_by_key(|place| Reverse(kept[*place].1));
    old.split_off(limit.min(old.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: [(&str, i64); 5] = [("c", 3), ("a", 1), ("e", 5), ("b", 2), ("d", 4)];

    #[test]
    fn the_newest_revisions_are_kept_beside_those_that_are_needed() {
        assert_eq!(superseded(&KEPT, &["e", "b"].into(), 1), [0, 1], "d is the newest of the others");
        assert_eq!(superseded(&KEPT, &["e", "b"].into(), 0), [4, 0, 1]);
    }

    #[test]
    fn a_history_within_its_limit_loses_nothing() {
        assert!(superseded(&KEPT, &["e"].into(), 4).is_empty());
        assert!(superseded(&KEPT, &BTreeSet::new(), 9).is_empty());
        assert!(superseded(&[], &["e"].into(), 0).is_empty());
    }
}
