//! What a change does at each of its stages.

mod base;
mod failure;
mod repairs;

use super::*;
use crate::plan::{Creation, Plan};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn rev(name: &str) -> Arc<str> {
    name.into()
}

/// What is known of a change before a look: all of it, or by a process that has just begun what the status keeps.
struct Known(State, Evidence);

impl From<&Decision> for Known {
    fn from(before: &Decision) -> Self {
        Self(before.state.clone(), before.evidence.clone())
    }
}

impl From<&State> for Known {
    fn from(state: &State) -> Self {
        Self(state.clone(), Evidence::default())
    }
}

/// What is decided at this second, of pods of which there are so many more on their way out; `plan` follows from it.
fn look(
    settings: &Settings,
    wanted: &Arc<str>,
    known: Known,
    (by_revision, terminating): (&Tallies<'_>, usize),
    now: Timestamp,
    plan: impl FnOnce(&Decision) -> Plan,
) -> Decision {
    let Known(mut state, mut evidence) = known;
    state.stand_on_what_serves(wanted, by_revision, |revision| revision.bytes().next().map(i64::from));
    let moment = Duration::from_secs(now.as_second().unsigned_abs());
    let look = Look { moment, wall: now, watched: moment, sure: true };
    evidence.look(&look, settings.max_restarts, &mut []);
    evidence.living = by_revision.values().map(|counts| counts.active).sum::<usize>() + terminating;
    let mut decision = super::decide(settings, wanted, &state, evidence, by_revision, now);
    let target = by_revision.get(&*decision.target).copied().unwrap_or_default();
    let plan = plan(&decision);
    decision.keep_time(settings, target, &plan);
    decision
}

/// As [`look`], while new pods can be made.
fn decide(
    settings: &Settings,
    wanted: &Arc<str>,
    known: impl Into<Known>,
    by_revision: &Tallies<'_>,
    now: Timestamp,
) -> Decision {
    look(settings, wanted, known.into(), (by_revision, 0), now, |decision| {
        let create = vec![Creation { revision: Arc::clone(&decision.target), count: 1 }];
        Plan { create, ..Plan::default() }
    })
}

fn settings(replicas: usize) -> Settings {
    Settings {
        replicas,
        strategy: Strategy::Rolling { surge: 1, unavailable: 1 },
        reach: replicas,
        steps: Vec::new(),
        repairs: false,
        paused: false,
        roll_back: true,
        max_restarts: 2,
        patience: Duration::from_secs(60),
        deadline: Duration::from_secs(600),
        resume: None,
        abort: None,
    }
}

/// So many active pods of each revision, all of them available.
fn by_revision<'a>(pods: &[(&'a str, usize)]) -> Tallies<'a> {
    let counts = |active| RevisionCounts { active, available: active, ..RevisionCounts::default() };
    pods.iter().map(|&(revision, active)| (revision, counts(active))).collect()
}

fn at_a() -> State {
    State { current: Some(rev("a")), ..State::default() }
}

/// The command `text` for revision b.
fn command(text: &str, step: Option<usize>) -> Option<Command> {
    Some(Command { text: text.into(), revision: rev("b"), step })
}

fn shares(decision: &Decision) -> Vec<(&str, usize)> {
    decision.shares.iter().map(|share| (&*share.revision, share.replicas)).collect()
}

#[test]
fn a_new_group_proves_its_first_revision_without_ado() {
    let first = decide(&settings(3), &rev("a"), &State::default(), &Tallies::new(), at(0));
    assert_eq!(
        (shares(&first), first.phase, first.news.as_slice()),
        (vec![("a", 3)], Phase::Rolling, &[][..])
    );
    let done = decide(&settings(3), &rev("a"), &first, &by_revision(&[("a", 3)]), at(9));
    assert_eq!((done.phase, &done.state, done.news.as_slice()), (Phase::Complete, &at_a(), &[][..]));
}

#[test]
fn a_change_begins_and_completes() {
    let begun = decide(&settings(3), &rev("b"), &at_a(), &by_revision(&[("a", 3)]), at(10));
    assert_eq!((shares(&begun), begun.news.as_slice()), (vec![("b", 3)], &[RolloutEvent::Started][..]));
    let half = decide(&settings(3), &rev("b"), &begun, &by_revision(&[("a", 2), ("b", 2)]), at(20));
    assert_eq!((half.phase, half.news.len()), (Phase::Rolling, 0));
    let done = decide(&settings(3), &rev("b"), &half, &by_revision(&[("b", 3)]), at(40));
    assert_eq!(done.state, State { current: Some(rev("b")), previous: Some(rev("a")), ..State::default() });
    assert_eq!(done.news, [RolloutEvent::Completed { took: Duration::from_secs(30) }]);
}

#[test]
fn what_a_rollback_by_hand_has_left_is_none_to_go_back_to() {
    let at_b = State {
        current: Some(rev("b")),
        previous: Some(rev("a")),
        pinned: Some(rev("a")),
        ..State::default()
    };
    let back = decide(&settings(3), &rev("a"), &at_b, &by_revision(&[("a", 3)]), at(10));
    assert_eq!(back.state, State { current: Some(rev("a")), ..at_b });
    let unpinned = State { pinned: None, ..back.state.clone() };
    let begun = decide(&settings(3), &rev("c"), &unpinned, &by_revision(&[("a", 3)]), at(20));
    let done = decide(&settings(3), &rev("c"), &begun, &by_revision(&[("c", 3)]), at(40));
    assert_eq!((done.state.current, done.state.previous), (Some(rev("c")), Some(rev("a"))));
}

#[test]
fn steps_are_taken_in_turn_and_wait_for_time_or_for_somebody() {
    let step = |weight, pause| Step { weight, pause };
    let steps =
        vec![step(10, Pause::For(Duration::from_secs(30))), step(50, Pause::Open), step(80, Pause::None)];
    let mut settings = Settings { steps, ..settings(10) };
    let begun = decide(&settings, &rev("b"), &at_a(), &by_revision(&[("a", 10)]), at(0));
    assert_eq!(shares(&begun), [("b", 1), ("a", 9)]);
    let one = by_revision(&[("a", 9), ("b", 1)]);
    let reached = decide(&settings, &rev("b"), &begun, &one, at(10));
    assert_eq!(reached.phase, Phase::StepPaused { step: 1, of: 3, weight: 10, until: Some(at(40)) });
    assert_eq!(reached.due, Some(Duration::from_secs(30)));
    let second = decide(&settings, &rev("b"), &reached, &one, at(40));
    assert_eq!((shares(&second), second.phase), (vec![("b", 5), ("a", 5)], Phase::Rolling));
    let five = by_revision(&[("a", 5), ("b", 5)]);
    let open = decide(&settings, &rev("b"), &second, &five, at(50));
    let later = decide(&settings, &rev("b"), &open, &five, at(50_000));
    assert_eq!(
        later.phase,
        Phase::StepPaused { step: 2, of: 3, weight: 50, until: None },
        "no deadline in a pause"
    );
    settings.resume = command("b/1", Some(1));
    assert_eq!(decide(&settings, &rev("b"), &later, &five, at(50_000)).phase, later.phase, "step 1 is past");
    settings.resume = command("c", None).map(|command| Command { revision: rev("c"), ..command });
    assert_eq!(decide(&settings, &rev("b"), &later, &five, at(50_000)).phase, later.phase, "not of this one");
    settings.resume = command("b/2", Some(2));
    let third = decide(&settings, &rev("b"), &later, &five, at(50_000));
    assert_eq!(shares(&third), [("b", 8), ("a", 2)]);
    let all = decide(&settings, &rev("b"), &third, &by_revision(&[("a", 2), ("b", 8)]), at(50_010));
    assert_eq!(shares(&all), [("b", 10)], "a step without pause goes on");
}

#[test]
fn a_canary_that_crashes_in_its_pause_has_failed() {
    let settings = Settings { steps: vec![Step { weight: 10, pause: Pause::Open }], ..settings(10) };
    let begun = decide(&settings, &rev("b"), &at_a(), &by_revision(&[("a", 10)]), at(0));
    let reached = decide(&settings, &rev("b"), &begun, &by_revision(&[("a", 9), ("b", 1)]), at(10));
    let mut pods = by_revision(&[("a", 9)]);
    pods.insert("b", RevisionCounts { active: 1, available: 1, restarts: 3, ..RevisionCounts::default() });
    let failed = decide(&settings, &rev("b"), &reached, &pods, at(20));
    assert_eq!(shares(&failed), [("a", 10)]);
}

#[test]
fn a_partition_stays_and_lowering_it_is_no_lateness() {
    let part = Settings { reach: 3, ..settings(10) };
    let begun = decide(&part, &rev("b"), &at_a(), &by_revision(&[("a", 10)]), at(0));
    assert_eq!(shares(&begun), [("b", 3), ("a", 7)]);
    let pods = by_revision(&[("a", 7), ("b", 3)]);
    let reached = decide(&part, &rev("b"), &begun, &pods, at(10));
    assert_eq!((reached.phase, reached.due), (Phase::PartitionReached, None));
    let raised = Settings { reach: 1, ..settings(10) };
    let raised = decide(&raised, &rev("b"), &reached, &pods, at(90_000));
    assert_eq!((shares(&raised), raised.phase), (vec![("b", 1), ("a", 9)], Phase::Rolling), "not there yet");
    let lowered = decide(&settings(10), &rev("b"), &reached, &pods, at(90_000));
    assert_eq!((shares(&lowered), lowered.state.failed.is_none()), (vec![("b", 10)], true));
    assert_eq!(lowered.due, Some(Duration::from_secs(600)));
}

#[test]
fn a_pause_keeps_the_proportion_and_its_time_does_not_count() {
    let paused = Settings { paused: true, ..settings(10) };
    let begun = decide(&settings(10), &rev("b"), &at_a(), &by_revision(&[("a", 10)]), at(0));
    let pods = by_revision(&[("a", 7), ("b", 3)]);
    let held = decide(&paused, &rev("b"), &begun, &pods, at(10));
    assert_eq!((shares(&held), held.phase), (vec![("b", 3), ("a", 7)], Phase::Paused));
    let lost = decide(&paused, &rev("b"), &held, &by_revision(&[("a", 7), ("b", 2)]), at(20));
    assert_eq!(shares(&lost), [("b", 3), ("a", 7)], "a lost pod is replaced by one of its revision");
    let on = decide(&settings(10), &rev("b"), &lost, &pods, at(90_000));
    assert_eq!((shares(&on), on.due), (vec![("b", 10)], Some(Duration::from_secs(600))));
}

#[test]
fn a_way_back_that_is_paused_makes_no_more_pods_of_what_has_failed() {
    let failed = Failed { revision: rev("b"), reason: Reason::CrashLoop, message: String::new() };
    let state = State { failed: Some(failed), ..at_a() };
    let paused = Settings { paused: true, ..settings(10) };
    let held = decide(&paused, &rev("b"), &state, &by_revision(&[("a", 6), ("b", 4)]), at(0));
    assert_eq!(shares(&held), [("a", 6), ("b", 4)]);
    let lost = decide(&paused, &rev("b"), &held, &by_revision(&[("a", 6), ("b", 3)]), at(5));
    assert_eq!(shares(&lost), [("a", 7), ("b", 3)]);
}

#[test]
fn a_change_while_paused_touches_nothing() {
    let paused = Settings { paused: true, ..settings(3) };
    let held = decide(&paused, &rev("b"), &at_a(), &by_revision(&[("a", 3)]), at(0));
    assert_eq!(shares(&held), [("b", 0), ("a", 3)]);
}

#[test]
fn a_template_that_comes_back_leads_back() {
    let begun = decide(&settings(3), &rev("b"), &at_a(), &by_revision(&[("a", 3)]), at(0));
    let restored = decide(&settings(3), &rev("a"), &begun, &by_revision(&[("a", 2), ("b", 2)]), at(10));
    assert_eq!((shares(&restored), restored.phase), (vec![("a", 3)], Phase::Rolling));
    let done = decide(&settings(3), &rev("a"), &restored, &by_revision(&[("a", 3)]), at(20));
    assert_eq!(done.news, [RolloutEvent::Completed { took: Duration::from_secs(10) }]);
}

#[test]
fn without_pods_nothing_is_proved() {
    let empty = decide(&settings(0), &rev("b"), &at_a(), &Tallies::new(), at(0));
    assert_eq!((empty.phase, empty.state), (Phase::Complete, at_a()));
}

/// What is kept up of old pods.
fn keep(decision: &Decision) -> Option<(&str, usize)> {
    decision.keep.as_ref().map(|share| (&*share.revision, share.replicas))
}

/// So many available pods of `a`; so many of `b`, of which so many are available.
fn mixed(old: usize, new: usize, available: usize) -> Tallies<'static> {
    let mut pods = by_revision(&[("a", old)]);
    pods.insert("b", RevisionCounts { active: new, available, ..RevisionCounts::default() });
    pods
}

#[test]
fn old_pods_are_kept_up_until_new_ones_are_available_in_their_place() {
    let begun = decide(&settings(4), &rev("b"), &at_a(), &by_revision(&[("a", 4)]), at(0));
    assert_eq!((shares(&begun), keep(&begun)), (vec![("b", 4)], Some(("a", 3))));
    let lost = decide(&settings(4), &rev("b"), &begun, &mixed(1, 2, 0), at(5));
    assert_eq!(keep(&lost), Some(("a", 3)), "two are lost, and no new one has been available");
    let all_lost = decide(&settings(4), &rev("b"), &lost, &mixed(0, 2, 0), at(5));
    assert_eq!(keep(&all_lost), Some(("a", 3)));
    let one = decide(&settings(4), &rev("b"), &lost, &mixed(3, 2, 1), at(10));
    assert_eq!(keep(&one), Some(("a", 2)));
    let unready = decide(&settings(4), &rev("b"), &one, &mixed(2, 3, 0), at(15));
    assert_eq!(keep(&unready), Some(("a", 2)), "new pods that come and go bring no old ones back");
    let most = decide(&settings(4), &rev("b"), &unready, &mixed(1, 4, 3), at(20));
    assert_eq!(keep(&most), None);
}

#[test]
fn a_group_that_grows_in_a_change_grows_in_the_proportion_that_it_has_reached() {
    let begun = decide(&settings(10), &rev("b"), &at_a(), &by_revision(&[("a", 10)]), at(0));
    let unproven = decide(&settings(20), &rev("b"), &begun, &mixed(9, 2, 0), at(5));
    assert_eq!(keep(&unproven), Some(("a", 19)), "nothing goes to what has not been available");
    let half = decide(&settings(10), &rev("b"), &begun, &mixed(4, 7, 5), at(5));
    assert_eq!(keep(&half), Some(("a", 4)));
    let grown = decide(&settings(20), &rev("b"), &half, &mixed(4, 7, 5), at(10));
    assert_eq!(keep(&grown), Some(("a", 8)));
    let shrunk = decide(&settings(5), &rev("b"), &grown, &mixed(4, 7, 5), at(15));
    assert_eq!(keep(&shrunk), None, "five new ones are available");
}

#[test]
fn a_change_of_a_group_without_pods_brings_no_old_ones_back() {
    let empty = decide(&settings(0), &rev("b"), &at_a(), &Tallies::new(), at(0));
    let grown = decide(&settings(4), &rev("b"), &empty, &Tallies::new(), at(5));
    assert_eq!((shares(&grown), keep(&grown)), (vec![("b", 4)], None));
    let later = decide(&settings(8), &rev("b"), &grown, &mixed(0, 4, 0), at(10));
    assert_eq!(keep(&later), None);
}

#[test]
fn what_an_unfinished_revision_has_available_counts_among_the_old() {
    let begun = decide(&settings(4), &rev("b"), &at_a(), &by_revision(&[("a", 4)]), at(0));
    let pods = by_revision(&[("a", 1), ("b", 3)]);
    let over = decide(&settings(4), &rev("c"), &begun, &pods, at(5));
    assert_eq!(keep(&over), None);
    let lost = decide(&settings(4), &rev("c"), &over, &by_revision(&[("b", 2)]), at(10));
    assert_eq!(keep(&lost), Some(("a", 1)));
}

/// Where a change of a group to `b` stands whose pods are these.
fn staged(settings: &Settings, known: impl Into<Known>, old: usize, new: usize, second: i64) -> Decision {
    decide(settings, &rev("b"), known, &by_revision(&[("a", old), ("b", new)]), at(second))
}

fn with_steps(replicas: usize, surge: usize, weights: &[usize]) -> Settings {
    let steps = weights.iter().map(|&weight| Step { weight, pause: Pause::Open }).collect();
    Settings { steps, strategy: Strategy::Rolling { surge, unavailable: 1 }, ..settings(replicas) }
}

#[test]
fn a_stage_with_a_pause_pauses_whatever_its_numbers_round_to() {
    // Pods and weight; the new and the old pods that stand side by side in the pause.
    for (replicas, weight, new, old) in
        [(1, 10, 1, 1), (2, 60, 1, 1), (5, 90, 4, 1), (1, 100, 1, 0), (5, 100, 5, 0)]
    {
        let settings = with_steps(replicas, 1, &[weight]);
        let begun = staged(&settings, &at_a(), replicas, 0, 0);
        let reached = staged(&settings, &begun, old, new, 10);
        let paused = Phase::StepPaused { step: 1, of: 1, weight, until: None };
        assert_eq!(reached.phase, paused, "{weight} % of {replicas}");
        let (share, kept) = (reached.shares[0].replicas, keep(&reached).map_or(0, |(_, kept)| kept));
        assert_eq!((share, (replicas - share).max(kept)), (new, old), "{weight} % of {replicas}");
        assert_eq!(reached.news, [RolloutEvent::StepReached { step: 1, weight }]);
        let stays = staged(&settings, &reached, old, new, 90_000);
        assert_eq!((stays.phase, &stays.state), (paused, &reached.state));

        let notified = Settings { resume: command("b/1", Some(1)), ..settings };
        let passed = staged(&notified, &stays, old, new, 90_000);
        assert_eq!((shares(&passed), keep(&passed)), (vec![("b", replicas)], None));
        let done = staged(&notified, &passed, 0, replicas, 90_010);
        assert_eq!((done.phase, done.state.current), (Phase::Complete, Some(rev("b"))));
    }
}

#[test]
fn a_command_is_for_one_rollout_and_not_for_the_next_of_the_same_revision() {
    let settings = with_steps(4, 1, &[25]);
    let continued = Settings { resume: command("b", None), abort: None, ..settings.clone() };
    let begun = staged(&settings, &at_a(), 4, 0, 0);
    let first = staged(&settings, &begun, 3, 1, 10);
    assert_eq!(shares(&staged(&continued, &first, 3, 1, 20)), [("b", 4)]);

    // The spec asks for another revision meanwhile, and then for b again.
    let other = decide(&continued, &rev("c"), &first, &by_revision(&[("a", 4)]), at(30));
    let again = staged(&continued, &other, 4, 0, 40);
    let paused = Phase::StepPaused { step: 1, of: 1, weight: 25, until: None };
    let reached = staged(&continued, &again, 3, 1, 50);
    assert_eq!((reached.phase, shares(&reached)), (paused, vec![("b", 1), ("a", 3)]));
    let twice = Settings { resume: command("b/1/again", Some(1)), ..settings.clone() };
    assert_eq!(shares(&staged(&twice, &reached, 3, 1, 60)), [("b", 4)]);

    // Removed and set again it is a new command.
    let removed = staged(&settings, &reached, 3, 1, 60);
    assert_eq!(removed.phase, paused);
    assert_eq!(shares(&staged(&continued, &removed, 3, 1, 70)), [("b", 4)]);
}

#[test]
fn a_stage_pauses_without_a_surge_too() {
    let settings = with_steps(1, 0, &[10, 50]);
    let begun = staged(&settings, &at_a(), 1, 0, 0);
    assert_eq!((shares(&begun), keep(&begun)), (vec![("b", 1)], None), "the only pod is replaced");
    let first = staged(&settings, &begun, 0, 1, 10);
    assert_eq!(first.phase, Phase::StepPaused { step: 1, of: 2, weight: 10, until: None });
    let notified = Settings { resume: command("b/1", Some(1)), ..settings };
    let second = staged(&notified, &first, 0, 1, 20);
    assert_eq!(second.phase, Phase::StepPaused { step: 2, of: 2, weight: 50, until: None });
}

#[test]
fn a_group_that_is_scaled_to_nothing_in_a_canary_keeps_nothing() {
    let settings = with_steps(2, 1, &[10]);
    let begun = staged(&settings, &at_a(), 2, 0, 0);
    let none = staged(&with_steps(0, 1, &[10]), &begun, 1, 1, 10);
    assert_eq!(keep(&none), None);
    assert!(none.shares.iter().all(|share| share.replicas == 0), "{:?}", none.shares);
}

#[test]
fn a_group_that_is_scaled_in_a_pause_stays_in_it() {
    let begun = staged(&with_steps(10, 1, &[10]), &at_a(), 10, 0, 0);
    let reached = staged(&with_steps(10, 1, &[10]), &begun, 9, 1, 10);
    let one = staged(&with_steps(1, 1, &[10]), &reached, 9, 1, 20);
    assert_eq!((shares(&one), keep(&one)), (vec![("b", 1)], Some(("a", 1))));
    let alone = staged(&with_steps(1, 0, &[10]), &reached, 0, 1, 30);
    let more = staged(&with_steps(3, 1, &[10]), &one, 1, 1, 40);
    assert_eq!(shares(&more), [("b", 1), ("a", 2)]);
    for paused in [one, alone, more] {
        assert_eq!(paused.phase, Phase::StepPaused { step: 1, of: 1, weight: 10, until: None });
    }
}
