//! For how many pods there are volume claims.

use super::{
    answer::{Plan, Wait},
    types::{Policy, Volumes},
};

/// Holds creations back that would need more sets of claims than there should be pods, and says how many free sets no
/// pod will need.
///
/// A replacement waits for the claims of the pod that it replaces, which cannot be had before that one is gone. Were
/// more made instead, each replacement would leave a volume behind, and begin with an empty one.
pub(super) fn fit(plan: &mut Plan, policy: &Policy, exchanges: bool) {
    let Some(Volumes { total, free, reuse, discard }) = policy.volumes else { return };
    let surge = if exchanges { policy.strategy.surge() } else { 0 };
    let most = policy.replicas.saturating_add(surge);
    let taken = if reuse { hold_back(plan, free, most.saturating_sub(total)).min(free) } else { 0 };
    let surplus = if reuse { total.saturating_sub(most) } else { free };
    plan.discard = if discard { surplus.min(free - taken) } else { 0 };
}

/// Lets no more pods be created than there are free sets and sets that may be made, and returns how many are.
fn hold_back(plan: &mut Plan, free: usize, to_make: usize) -> usize {
    let mut room = free.saturating_add(to_make);
    let wanted = plan.creations();
    for creation in &mut plan.create {
        creation.count = creation.count.min(room);
        room -= creation.count;
    }
    plan.create.retain(|creation| creation.count > 0);
    let created = plan.creations();
    if created < wanted && plan.wait.is_none() {
        plan.wait = Some(Wait::Volumes(wanted - created));
    }
    created
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{NOW, pod, replicas},
        *,
    };
    use crate::plan::plan;

    fn with(volumes: Volumes, wanted: usize) -> Policy {
        Policy { volumes: Some(volumes), ..replicas(wanted) }
    }

    const REUSED: Volumes = Volumes { total: 0, free: 0, reuse: true, discard: true };

    #[test]
    fn a_replacement_waits_for_the_claims_of_a_pod_that_terminates() {
        let pods = [pod("a"), crate::plan::Pod { terminating: true, ..pod("b") }];
        let waiting = plan(&with(Volumes { total: 2, ..REUSED }, 2), &pods, NOW);
        assert_eq!((waiting.creations(), waiting.wait), (0, Some(Wait::Volumes(1))));
        let freed = plan(&with(Volumes { total: 2, free: 1, ..REUSED }, 2), &pods[..1], NOW);
        assert_eq!((freed.creations(), freed.wait, freed.discard), (1, None, 0));
    }

    #[test]
    fn claims_are_made_for_as_many_pods_as_there_should_be() {
        let made = plan(&with(Volumes { total: 1, ..REUSED }, 4), &[pod("a")], NOW);
        assert_eq!((made.creations(), made.wait), (3, None));
    }

    #[test]
    fn where_none_are_reused_nothing_waits() {
        let pods = [pod("a"), crate::plan::Pod { terminating: true, ..pod("b") }];
        let never = Volumes { total: 3, free: 1, reuse: false, discard: true };
        let made = plan(&with(never, 2), &pods, NOW);
        assert_eq!((made.creations(), made.wait, made.discard), (1, None, 1));
    }

    #[test]
    fn what_no_pod_needs_is_discarded_or_kept() {
        let volumes = Volumes { total: 4, free: 3, ..REUSED };
        assert_eq!(plan(&with(volumes, 1), &[pod("a")], NOW).discard, 3);
        assert_eq!(plan(&with(volumes, 3), &[pod("a")], NOW).discard, 1);
        assert_eq!(plan(&with(Volumes { discard: false, ..volumes }, 1), &[pod("a")], NOW).discard, 0);
    }
}
