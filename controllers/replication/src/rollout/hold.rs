//! The proportion of revisions in which a paused group is scaled.

use std::sync::Arc;

use crate::plan::{Share, Tallies};

/// The revisions of the active pods, `target` first.
pub(super) fn standing(tallies: &Tallies<'_>, target: &str) -> Vec<Share> {
    let known = tallies.iter().filter(|(revision, _)| !revision.is_empty());
    let mut shares: Vec<_> =
        known.map(|(&revision, tally)| Share { revision: revision.into(), replicas: tally.active }).collect();
    shares.sort_by_key(|share| &*share.revision != target);
    shares
}

/// `held` scaled to `replicas` pods in all: the largest remainders are rounded up, as far as the sum asks for it.
pub(super) fn proportional(held: &[Share], replicas: usize) -> Vec<Share> {
    let total: usize = held.iter().map(|share| share.replicas).sum();
    if total == 0 {
        return Vec::new();
    }
    let exact = |share: &Share| share.replicas * replicas;
    let mut shares: Vec<_> = held
        .iter()
        .map(|share| Share { revision: Arc::clone(&share.revision), replicas: exact(share) / total })
        .collect();
    let mut order: Vec<_> = (0..held.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(exact(&held[index]) % total));
    let missing = replicas - shares.iter().map(|share| share.replicas).sum::<usize>();
    order.into_iter().take(missing).for_each(|index| shares[index].replicas += 1);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(held: &[usize], replicas: usize) -> Vec<usize> {
        let share = |&replicas: &usize| Share { revision: "r".into(), replicas };
        let held: Vec<_> = held.iter().map(share).collect();
        proportional(&held, replicas).into_iter().map(|share| share.replicas).collect()
    }

    #[test]
    fn the_proportion_is_kept_and_the_sum_is_exact() {
        assert_eq!(scaled(&[3, 7], 10), [3, 7]);
        assert_eq!(scaled(&[3, 7], 20), [6, 14]);
        assert_eq!(scaled(&[3, 7], 5), [2, 3]);
        assert_eq!(scaled(&[5, 8], 10), [4, 6]);
        assert_eq!(scaled(&[1, 1, 1], 2), [1, 1, 0]);
        assert_eq!(scaled(&[3, 7], 0), [0, 0]);
        assert_eq!(scaled(&[], 3), [0; 0]);
    }
}
