//! Who is made and who goes while pods are exchanged.

use super::{
    super::{
        Node, Share, plan,
        tests::{NOW, node, pod, replicas},
    },
    *,
};

const FULL: Strategy = Strategy::Rolling { surge: 2, unavailable: 1 };

fn policy(strategy: Strategy, shares: &[(&str, usize)]) -> Policy {
    let sum = shares.iter().map(|(_, replicas)| replicas).sum();
    let share = |&(revision, replicas): &(&str, usize)| Share { revision: revision.into(), replicas };
    Policy { strategy, shares: shares.iter().map(share).collect(), ..replicas(sum) }
}

/// Pods named by their revision and a letter: `b1` is of revision `b`; capitals are not ready.
fn pods<'a>(names: &[&'a str]) -> Vec<Pod<'a>> {
    let made = |&name: &&'a str| {
        let revision = if name.starts_with(['a', 'A']) { "a" } else { "b" };
        let ready = name.starts_with(char::is_lowercase);
        Pod { revision, ready_since: pod(name).ready_since.filter(|_| ready), ..pod(name) }
    };
    names.iter().map(made).collect()
}

/// How many of which revision are created, and who goes.
type Exchanged<'a> = (Vec<(String, usize)>, Vec<(&'a str, Why)>);

fn exchanged<'a>(policy: &Policy, pods: &[Pod<'a>]) -> Exchanged<'a> {
    let plan = plan(policy, pods, NOW);
    let created = plan.create.iter().map(|creation| (creation.revision.to_string(), creation.count));
    let deleted = plan.delete.iter().map(|victim| (pods[victim.pod].name, victim.why));
    (created.collect(), deleted.collect())
}

fn created(revision: &str, count: usize) -> Vec<(String, usize)> {
    vec![(revision.to_owned(), count)]
}

#[test]
fn a_change_begins_with_the_surge_and_what_may_be_unavailable() {
    let (made, gone) = exchanged(&policy(FULL, &[("b", 4)]), &pods(&["a1", "a2", "a3", "a4"]));
    assert_eq!((made, gone), (created("b", 2), vec![("a1", Why::Outdated)]));
}

#[test]
fn new_pods_that_are_not_ready_keep_the_old_ones() {
    let (made, gone) = exchanged(&policy(FULL, &[("b", 4)]), &pods(&["a1", "a2", "a3", "B1", "B2", "B3"]));
    assert_eq!((made, gone), (vec![], vec![]));
}

#[test]
fn old_pods_that_are_not_ready_go_first_but_not_for_new_ones_that_are_not_either() {
    let policy = policy(FULL, &[("b", 4)]);
    let (_, gone) = exchanged(&policy, &pods(&["a1", "a2", "a3", "A4", "B1", "B2"]));
    assert_eq!(gone, [("A4", Why::Outdated)]);
    let (_, gone) = exchanged(&policy, &pods(&["a1", "A2", "A3", "A4", "B1", "B2"]));
    assert_eq!(gone, [("A2", Why::Outdated)], "three must be left that may come to serve");
}

#[test]
fn a_budget_is_asked_about_old_pods_that_are_ready_and_about_no_others() {
    let how = |budgets, strategy| {
        let policy = Policy { budgets, ..policy(strategy, &[("b", 4)]) };
        let all = pods(&["a1", "a2", "a3", "A4", "b1", "b2"]);
        let plan = plan(&policy, &all, NOW);
        plan.delete.into_iter().map(|victim| (all[victim.pod].name, victim.how)).collect::<Vec<_>>()
    };
    assert_eq!(how(true, FULL), [("A4", How::Delete), ("a1", How::Evict), ("a2", How::Evict)]);
    assert!(how(false, FULL).iter().all(|(_, how)| *how == How::Delete));
    let recreated = how(true, Strategy::Recreate);
    assert_eq!(recreated.iter().filter(|(_, how)| *how == How::Delete).count(), 1, "{recreated:?}");
    // Too many are too many: no budget is asked.
    let all = pods(&["b1", "b2"]);
    let one = Policy { budgets: true, ..policy(FULL, &[("b", 1)]) };
    assert_eq!(plan(&one, &all, NOW).delete[0].how, How::Delete);
}

#[test]
fn revisions_of_which_none_is_wanted_go_before_the_one_that_stays_for_a_while() {
    let mut all = pods(&["a1", "a2", "b1", "b2", "b3"]);
    all.push(Pod { revision: "x", ..pod("x1") });
    let (made, gone) = exchanged(&policy(FULL, &[("b", 3), ("a", 2)]), &all);
    assert_eq!((made, gone), (vec![], vec![("x1", Why::Outdated)]));
}

#[test]
fn each_share_is_replaced_by_its_own() {
    let policy = policy(FULL, &[("b", 2), ("a", 2)]);
    assert_eq!(exchanged(&policy, &pods(&["a1", "b1", "b2"])).0, created("a", 1));
    assert_eq!(exchanged(&policy, &pods(&["a1", "a2", "b1"])).0, created("b", 1));
    assert_eq!(exchanged(&policy, &pods(&["a1", "a2", "b1", "b2"])), (vec![], vec![]));
}

#[test]
fn old_pods_that_are_kept_up_are_made_anew_before_new_ones() {
    let keep = |replicas| Some(Share { revision: "a".into(), replicas });
    let change = Policy { keep: keep(3), ..policy(FULL, &[("b", 4)]) };
    assert_eq!(exchanged(&change, &pods(&["a1", "B1", "B2", "B3"])), (created("a", 2), vec![]));
    assert_eq!(exchanged(&change, &pods(&["B1", "B2", "B3"])), (created("a", 3), vec![]));
    assert_eq!(exchanged(&change, &pods(&["b1"])).0, [("a".to_owned(), 3), ("b".to_owned(), 2)]);
    // Those that start are not taken for each other's sake.
    assert_eq!(exchanged(&change, &pods(&["a1", "A2", "A3", "B1", "B2", "B3"])), (vec![], vec![]));
    // One pod, and the last old one is lost.
    let strict = Strategy::Rolling { surge: 1, unavailable: 0 };
    let one = Policy { keep: keep(1), ..policy(strict, &[("b", 1)]) };
    assert_eq!(exchanged(&one, &pods(&["B1"])), (created("a", 1), vec![]));
    // One pod, and a canary beside it.
    let canary = policy(Strategy::Rolling { surge: 1, unavailable: 1 }, &[("b", 1)]);
    let canary = Policy { keep: keep(1), ..canary };
    assert_eq!(exchanged(&canary, &pods(&["a1"])), (created("b", 1), vec![]));
    assert_eq!(exchanged(&canary, &pods(&["a1", "b1"])), (vec![], vec![]));
    assert_eq!(exchanged(&canary, &pods(&["b1"])), (created("a", 1), vec![]));
    // A partition asks for fewer of them than are kept up.
    let part = Policy { keep: keep(3), ..policy(FULL, &[("b", 2), ("a", 2)]) };
    assert_eq!(exchanged(&part, &pods(&["a1", "a2", "B1"])).0, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    assert_eq!(exchanged(&part, &pods(&["a1", "a2", "a3", "b1", "b2"])).1, [], "three of them are kept");
}

#[test]
fn what_is_beyond_the_surge_goes_for_a_scale_down_whatever_its_revision() {
    let (_, gone) = exchanged(&policy(FULL, &[("b", 1)]), &pods(&["a1", "a2", "a3", "b1", "b2"]));
    let outdated: Vec<_> = gone.iter().map(|(_, why)| *why == Why::Outdated).collect();
    assert_eq!(outdated, [false, false, true, false], "five, where three may be: {gone:?}");
}

#[test]
fn a_scale_down_in_a_change_takes_what_serves_nobody_first() {
    let strict = Strategy::Rolling { surge: 2, unavailable: 0 };
    let all = pods(&["a1", "a2", "B1", "B2", "B3", "B4"]);
    let (made, gone) = exchanged(&policy(strict, &[("b", 1)]), &all);
    let names: Vec<_> = gone.iter().map(|(name, _)| *name).collect();
    assert_eq!((made, names), (vec![], vec!["B1", "B2", "B3", "a1"]));
}

#[test]
fn a_pod_taken_out_of_service_goes_on_to_the_other_revision_and_comes_back() {
    let in_place = policy(Strategy::Rolling { surge: 0, unavailable: 1 }, &[("b", 3)]);
    let mut all = pods(&["a1", "a2", "a3"]);
    let look = |pods: &[Pod<'_>]| {
        let plan = plan(&in_place, pods, NOW);
        let gone: Vec<_> = plan.delete.iter().map(|victim| victim.pod).collect();
        (gone, plan.creations(), plan.open)
    };
    all.iter_mut().for_each(|pod| pod.gate = Some(Gate::Open));
    assert_eq!(look(&all), (vec![0], 0, vec![]));
    // Taken out of service: it goes on to be the one, also where another stops being ready.
    (all[2].gate, all[2].ready_since) = (Some(Gate::Closed), None);
    assert_eq!(look(&all), (vec![2], 0, vec![]));
    all[0].ready_since = None;
    assert_eq!(look(&all).0, [2]);
    all[0].ready_since = all[1].ready_since;
    (all[2].revision, all[2].changing) = ("b", true);
    assert_eq!(look(&all), (vec![], 0, vec![]), "its containers are being replaced");
    all[2].changing = false;
    assert_eq!(look(&all).2, [2]);
}

#[test]
fn gates_are_opened_for_new_pods_and_when_a_change_is_called_off() {
    let mut all = pods(&["b1", "b2", "b3"]);
    all[0].gate = Some(Gate::Unset);
    all[1].gate = Some(Gate::Closed);
    all[2].gate = Some(Gate::Open);
    assert_eq!(plan(&policy(FULL, &[("b", 3)]), &all, NOW).open, [0, 1]);
}

#[test]
fn recreate_waits_for_the_last_old_pod_to_end() {
    let policy = policy(Strategy::Recreate, &[("b", 2)]);
    let mut all = pods(&["a1", "b1"]);
    assert_eq!(exchanged(&policy, &all), (vec![], vec![("a1", Why::Outdated)]));
    all[0].terminating = true;
    assert_eq!(exchanged(&policy, &all), (vec![], vec![]));
    assert_eq!(plan(&policy, &all, NOW).wait, Some(Wait::OldPods(1)));
    assert_eq!(exchanged(&policy, &all[1..]).0, created("b", 1));
}

#[test]
fn on_delete_exchanges_nothing_and_makes_what_is_new() {
    let policy = policy(Strategy::OnDelete, &[("b", 3)]);
    assert_eq!(exchanged(&policy, &pods(&["a1", "a2", "a3"])), (vec![], vec![]));
    assert_eq!(exchanged(&policy, &pods(&["a1", "a2"])), (created("b", 1), vec![]));
}

#[test]
fn a_strict_group_counts_pods_on_their_way_out() {
    let policy = Policy { replacement: Replacement::WhenTerminated, ..policy(FULL, &[("b", 3)]) };
    let mut all = pods(&["a1", "a2", "a3", "a4", "a5"]);
    all[3].terminating = true;
    all[4].terminating = true;
    assert_eq!(exchanged(&policy, &all).0, []);
    assert_eq!(exchanged(&policy, &all[..4]).0, created("b", 1));
}

#[test]
fn zones_stay_balanced_while_pods_are_exchanged() {
    let zones = |names: &[(&'static str, &'static str)]| -> Vec<Pod<'static>> {
        let names_only: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        let place = |(pod, (name, zone)): (Pod<'static>, &(&'static str, &'static str))| Pod {
            node: Some(Node { domains: [Some(*zone), None, None, None], ..node(name) }),
            ..pod
        };
        pods(&names_only).into_iter().zip(names).map(place).collect()
    };
    // The new pods have made zone x the fullest, so it gives up old ones first, and is counted anew after each.
    let all = zones(&[("a1", "x"), ("a2", "x"), ("a3", "y"), ("a4", "y"), ("b1", "x"), ("b2", "x")]);
    let wide = Strategy::Rolling { surge: 2, unavailable: 1 };
    let (_, gone) = exchanged(&policy(wide, &[("b", 4)]), &all);
    assert_eq!(gone, [("a1", Why::Outdated), ("a2", Why::Outdated), ("a3", Why::Outdated)]);
    let all = zones(&[("a1", "x"), ("a2", "y"), ("a3", "y"), ("a4", "y"), ("b1", "x"), ("b2", "y")]);
    let (_, gone) = exchanged(&policy(wide, &[("b", 4)]), &all);
    assert_eq!(gone, [("a2", Why::Outdated), ("a3", Why::Outdated), ("a1", Why::Outdated)]);
}

#[test]
fn pods_that_are_named_are_replaced_by_choice_within_the_same_bounds() {
    let named = |names: &[&str], replace_named, strategy, shares: &[(&str, usize)]| Policy {
        pods_to_delete: names.iter().map(|&name| name.to_owned()).collect(),
        replace_named,
        budgets: true,
        ..policy(strategy, shares)
    };
    let all = pods(&["b1", "b2", "b3", "b4"]);
    let of = |policy: &Policy| exchanged(policy, &all);
    let two = named(&["b2", "b3", "b9"], true, FULL, &[("b", 4)]);
    assert_eq!(of(&two), (created("b", 2), vec![("b2", Why::Named)]));
    assert_eq!(plan(&two, &all, NOW).delete[0].how, How::Evict);
    let tight = Strategy::Rolling { surge: 1, unavailable: 0 };
    assert_eq!(of(&named(&["b2", "b3"], true, tight, &[("b", 4)])), (created("b", 1), vec![]));
    let surged = pods(&["b1", "b2", "b3", "b4", "b5"]);
    assert_eq!(
        exchanged(&named(&["b2"], true, tight, &[("b", 4)]), &surged),
        (vec![], vec![("b2", Why::Named)])
    );
    // By default a name alone deletes nothing, and a scale-down asks no budget.
    assert_eq!(of(&named(&["b2"], false, FULL, &[("b", 4)])), (vec![], vec![]));
    let fewer = named(&["b2"], true, Strategy::Rolling { surge: 0, unavailable: 1 }, &[("b", 3)]);
    let scaled = plan(&fewer, &all, NOW);
    assert_eq!((scaled.delete.len(), scaled.delete[0].how, scaled.creations()), (1, How::Delete, 0));
}
