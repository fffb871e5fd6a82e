//! What is done next with each pod that goes: at once, after its hook, or to another revision in place.

use super::{
    answer::{How, Plan, Step},
    types::{Gate, Hook, Pod},
    why::Why,
};

/// Has up to `room` of the pods that make way for another revision be brought to it in place instead, in the order in
/// which they would go.
pub(super) fn in_place(plan: &mut Plan, pods: &[Pod<'_>], room: usize) {
    let can = |pod: usize| pods[pod].in_place.is_some();
    let changed = plan.delete.iter_mut().filter(|victim| victim.why == Why::Outdated && can(victim.pod));
    changed.take(room).for_each(|victim| victim.how = How::InPlace);
}

/// Fills in the next step of each pod that goes.
pub(super) fn fill(plan: &mut Plan, pods: &[Pod<'_>]) {
    for victim in &mut plan.delete {
        let pod = &pods[victim.pod];
        victim.step = match (victim.how, pod.hook) {
            (How::InPlace, _) if pod.gate != Some(Gate::Closed) => Step::CloseGate,
            (How::InPlace, _) if pod.in_place.is_some_and(|in_place| in_place.still_ready) => Step::AwaitNode,
            (How::InPlace, _) => Step::Go,
            (_, Some(Hook { held: true, since: Some(_) })) => Step::AwaitHook,
            (_, Some(Hook { held: true, since: None })) => Step::TellHook,
            _ => Step::Go,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{NOW, ago, pod, replicas},
        *,
    };
    use crate::plan::{InPlace, Policy, Share, Strategy, plan};

    /// A pod of the old revision that can be brought to the new one in place.
    fn old(name: &str, gate: Gate, still_ready: bool) -> Pod<'_> {
        Pod { revision: "a", gate: Some(gate), in_place: Some(InPlace { still_ready }), ..pod(name) }
    }

    fn steps(policy: &Policy, pods: &[Pod<'_>]) -> Vec<(usize, How, Step)> {
        plan(policy, pods, NOW).delete.iter().map(|victim| (victim.pod, victim.how, victim.step)).collect()
    }

    /// Three pods of revision `b`, of which so many may be missing; there are budgets.
    fn changes(surge: usize, unavailable: usize) -> Policy {
        Policy {
            strategy: Strategy::Rolling { surge, unavailable },
            shares: vec![Share { revision: "b".into(), replicas: 3 }],
            budgets: true,
            ..replicas(3)
        }
    }

    #[test]
    fn a_pod_is_changed_in_place_once_its_node_shows_it_out_of_service() {
        let others = [old("b", Gate::Open, true), old("c", Gate::Open, true)];
        let step = |first| steps(&changes(0, 1), &[first, others[0], others[1]]);
        assert_eq!(step(old("a", Gate::Open, true)), [(0, How::InPlace, Step::CloseGate)]);
        assert_eq!(step(old("a", Gate::Closed, true)), [(0, How::InPlace, Step::AwaitNode)]);
        assert_eq!(step(old("a", Gate::Closed, false)), [(0, How::InPlace, Step::Go)]);
    }

    #[test]
    fn a_pod_that_cannot_be_changed_in_place_is_evicted_beside_those_that_can() {
        let fixed = Pod { revision: "a", ..pod("b") };
        let pods = [old("a", Gate::Open, true), fixed, old("c", Gate::Open, true)];
        let mut found = steps(&changes(0, 3), &pods);
        found.sort_by_key(|(pod, ..)| *pod);
        let in_place = |pod| (pod, How::InPlace, Step::CloseGate);
        assert_eq!(found, [in_place(0), (1, How::Evict, Step::Go), in_place(2)]);
    }

    #[test]
    fn no_more_pods_are_changed_in_place_than_are_missing_of_the_new_revision() {
        let new = |name| Pod { revision: "b", ..pod(name) };
        let pods = [old("a", Gate::Open, true), old("b", Gate::Open, true), new("c"), new("d")];
        let changed = steps(&changes(1, 3), &pods);
        assert_eq!(changed.iter().filter(|(_, how, _)| *how == How::InPlace).count(), 1, "{changed:?}");
    }

    #[test]
    fn the_owner_of_a_hook_is_told_once_and_then_waited_for() {
        let hooked = |held, since: Option<i64>| Hook { held, since: since.map(ago) };
        let step = |hook| steps(&replicas(0), &[Pod { hook: Some(hook), ..pod("a") }])[0].2;
        assert_eq!(step(hooked(true, None)), Step::TellHook);
        assert_eq!(step(hooked(true, Some(10))), Step::AwaitHook);
        assert_eq!(step(hooked(false, Some(10))), Step::Go);
    }
}
