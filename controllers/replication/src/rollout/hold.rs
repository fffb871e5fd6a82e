//! The proportion of revisions in which a paused group is scaled.

use std::sync::Arc;

use crate::plan::{Share, Tallies};

/// The revisions of the active pods, `target` first.
pub(super) fn standing(by_revision: &Tallies<'_>, target: &str) -> Vec<Share> {
    let known = by_revision.iter().filter(|(revision, _)| !revision.is_empty());
    let mut shares: Vec<_> = known
        .map(|(&revision, counts)| Share { revision: revision.into(), replicas: counts.active })
        .collect();
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

/// Creates pods only of `base` and `proven`: pods of other revisions, of which none has been available, or which were
/// aborted or have failed, may stay as long as they live. Pods that they lack are created from `base`.
pub(super) fn feed_only(
    shares: &mut Vec<Share>,
    by_revision: &Tallies<'_>,
    base: &Arc<str>,
    proven: Option<&str>,
) {
    let mut more = 0;
    for share in shares.iter_mut().filter(|share| share.revision != *base && Some(&*share.revision) != proven)
    {
        let left = by_revision.get(&*share.revision).map_or(0, |counts| counts.active);
        more += share.replicas.saturating_sub(left);
        share.replicas = share.replicas.min(left);
    }
    match shares.iter_mut().find(|share| share.revision == *base) {
        Some(share) => share.replicas += more,
        None if more > 0 => shares.push(Share { revision: Arc::clone(base), replicas: more }),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::RevisionCounts;

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

    #[test]
    fn revisions_that_have_not_proved_themselves_are_given_no_pods() {
        let fed = |held: &[(&str, usize)], left: &[(&'static str, usize)], replicas, proven| {
            let share = |&(revision, replicas): &(&str, usize)| Share { revision: revision.into(), replicas };
            let mut shares = proportional(&held.iter().map(share).collect::<Vec<_>>(), replicas);
            let counts = |active| RevisionCounts { active, ..RevisionCounts::default() };
            let by_revision = left.iter().map(|&(revision, active)| (revision, counts(active))).collect();
            feed_only(&mut shares, &by_revision, &"base".into(), proven);
            shares.into_iter().map(|share| (share.revision.to_string(), share.replicas)).collect::<Vec<_>>()
        };
        let owned = |shares: &[(&str, usize)]| {
            shares.iter().map(|&(revision, replicas)| (revision.to_owned(), replicas)).collect::<Vec<_>>()
        };
        let all = [("new", 1), ("base", 1), ("given up", 1)];
        assert_eq!(fed(&all, &all, 9, None), owned(&[("new", 1), ("base", 7), ("given up", 1)]));
        assert_eq!(fed(&all, &all, 9, Some("new")), owned(&[("new", 3), ("base", 5), ("given up", 1)]));
        assert_eq!(fed(&all, &all, 3, None), owned(&all));
        assert_eq!(fed(&all, &all[..1], 3, None), owned(&[("new", 1), ("base", 2), ("given up", 0)]));
        assert_eq!(fed(&all[..1], &all[..1], 5, None), owned(&[("new", 1), ("base", 4)]));
    }
}
