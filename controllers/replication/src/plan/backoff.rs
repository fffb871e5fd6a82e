//! How long creation pauses when pods end again and again.
//!
//! A pod that the kubelet fails (evicted, rejected at admission, out of disk), or whose containers end for good as they may
//! not be restarted, is replaced, and its replacement may end at once as well; upstream then creates pods as fast as it
//! can (kubernetes/kubernetes#130411). The pause is computed from the ended pods only, so a restart of the controller
//! neither forgets nor lengthens it, and deleting the ended pods ends it.
//!
//! Pods that another writer deletes again and again, soon after they were created, are made as fast otherwise
//! (a `NoExecute` taint that they do not tolerate, or another controller). This leaves nothing behind that could be
//! counted, so the caller tells what it has seen: [`Policy::lost`].
//!
//! An end, good or bad, is called a failure here: the pods should run. A *round* is a failure of a pod that was created
//! after the previous failure. Ten pods evicted together are one
//! round and are replaced at once; one pod that fails ten times is ten rounds. While the pause lasts it stops every
//! creation of the group, also those of a scale-up: they would use the template that fails.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    time::elapsed,
    types::{Claim, Pod, Policy},
};

/// The pause after the second round; each further round doubles it, as the kubelet does for containers.
const FIRST: Duration = Duration::from_secs(10);

/// No pause is longer, as the kubelet's.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// Failures longer before the newest one are forgotten. Counting back from the newest failure and not from now
/// keeps the end of a pause where it is while time passes.
const MEMORY: Duration = Duration::from_secs(60 * 60);

/// How many more rounds of deletions by others are taken without a pause than of failures: people delete pods too.
const FORGIVEN: u32 = 2;

/// When creation of pods of a revision may go on; `None` when it need not wait. What happened to other revisions
/// says nothing of this one.
pub(super) fn until(policy: &Policy, pods: &[Pod<'_>], revision: &str, now: Timestamp) -> Option<Timestamp> {
    let lost = policy.lost.iter().filter(|lost| *lost.revision == *revision);
    let lost = lost.map(|lost| Life { start: lost.created.min(now), end: lost.gone.min(now) }).collect();
    [after(failed(pods, revision, now), 0), after(lost, FORGIVEN)]
        .into_iter()
        .flatten()
        .max()
        .filter(|until| *until > now)
}

/// The pods of a revision that have failed.
fn failed(pods: &[Pod<'_>], revision: &str, now: Timestamp) -> Vec<Life> {
    // A pod that somebody deletes ends as well, which says nothing of its template.
    let failed = pods.iter().filter(|pod| {
        pod.claim == Claim::Mine
            && pod.phase.is_terminal()
            && !pod.terminating
            && (revision.is_empty() || pod.revision == revision)
    });
    failed.map(|pod| Life::of(pod, now)).collect()
}

/// When the pause after the newest of these lives is over.
fn after(mut lives: Vec<Life>, forgiven: u32) -> Option<Timestamp> {
    let newest = lives.iter().map(|life| life.end).max()?;
    lives.retain(|life| elapsed(life.end, newest) <= MEMORY);
    let delay = delay(rounds(lives).saturating_sub(forgiven));
    Some(newest.checked_add(delay).unwrap_or(Timestamp::MAX))
}

/// From the making of a pod to its failure.
struct Life {
    start: Timestamp,
    end: Timestamp,
}

impl Life {
    /// A node whose clock is wrong must not stop creation for as long as its failed pods exist: if the failure has no
    /// time, or one out of bounds, the API server's creation time is used.
    fn of(pod: &Pod<'_>, now: Timestamp) -> Self {
        let start = pod.created.min(now);
        let end = pod.ended_at.filter(|&at| at <= now).unwrap_or(start).max(start);
        Self { start, end }
    }
}

/// The most lives that can be picked without two of them touching. Times are whole seconds, so lives that touch
/// may well have been lived side by side.
fn rounds(mut lives: Vec<Life>) -> u32 {
    lives.sort_unstable_by_key(|life| life.end);
    let mut rounds = 0;
    let mut last_end = None;
    for life in lives {
        if last_end.is_none_or(|end| life.start > end) {
            last_end = Some(life.end);
            rounds += 1;
        }
    }
    rounds
}

/// The pause after the newest failure.
fn delay(rounds: u32) -> Duration {
    match rounds.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => FIRST.saturating_mul(2u32.saturating_pow(doublings)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{NOW, ago, failed, pod},
        *,
    };
    use crate::plan::{Lost, Phase};

    /// How many seconds creation waits.
    fn wait(pods: &[Pod<'_>]) -> Option<u64> {
        wait_for(&Policy::default(), pods)
    }

    fn wait_for(policy: &Policy, pods: &[Pod<'_>]) -> Option<u64> {
        until(policy, pods, "", NOW).map(|until| elapsed(NOW, until).as_secs())
    }

    #[test]
    fn pods_that_others_delete_in_turn_are_made_more_slowly_after_some_rounds() {
        let wait = |rounds: i64, revision: &str| {
            let lost = |round: i64| {
                let one =
                    Lost { revision: revision.into(), created: ago(3 * round + 2), gone: ago(3 * round) };
                vec![one; 5]
            };
            wait_for(&Policy { lost: (0..rounds).flat_map(lost).collect(), ..Policy::default() }, &[])
        };
        assert_eq!(
            [0, 1, 3, 4, 5, 20].map(|rounds| wait(rounds, "")),
            [None, None, None, Some(10), Some(20), Some(300)]
        );
        assert_eq!(wait(20, "another"), None);
    }

    /// This many pods, each created a second after the previous one had failed, the last failing now.
    fn in_turn(rounds: i64) -> Vec<Pod<'static>> {
        (0..rounds).map(|round| failed("", 10 * round + 9, 10 * round)).collect()
    }

    #[test]
    fn each_round_doubles_the_pause_up_to_five_minutes() {
        let waits: Vec<_> = (0..10).map(|rounds| wait(&in_turn(rounds))).collect();
        let seconds = [10, 20, 40, 80, 160, 300, 300, 300].map(Some);
        assert_eq!(waits[..2], [None, None]);
        assert_eq!(waits[2..], seconds);
    }

    #[test]
    fn pods_that_fail_together_are_one_round() {
        let evicted: Vec<_> = (0..10).map(|pod| failed("", 100 + pod, pod % 3)).collect();
        assert_eq!(wait(&evicted), None);
    }

    #[test]
    fn pods_that_fail_in_the_second_of_their_creation_are_one_round() {
        assert_eq!(wait(&[failed("a", 1, 1); 10]), None);
    }

    #[test]
    fn one_failing_pod_among_long_lived_ones_is_seen() {
        let mut pods = in_turn(3);
        pods.push(failed("evicted", 3000, 5));
        assert_eq!(wait(&pods), Some(20));
    }

    #[test]
    fn the_pause_counts_from_the_newest_failure() {
        assert_eq!(wait(&[failed("a", 40, 30), failed("b", 20, 7)]), Some(3));
        assert_eq!(wait(&[failed("a", 40, 30), failed("b", 20, 10)]), None);
    }

    #[test]
    fn failures_are_forgotten_after_an_hour() {
        let with = |old| wait(&[failed("old", 9000, old), failed("b", 20, 15), failed("c", 10, 0)]);
        assert_eq!(with(3600), Some(20));
        assert_eq!(with(3601), Some(10));
    }

    #[test]
    fn only_failed_pods_of_the_group_count() {
        let both = |change: fn(&mut Pod<'_>)| {
            let mut pods = in_turn(2);
            pods.iter_mut().for_each(change);
            wait(&pods)
        };
        assert_eq!(both(|_| {}), Some(10));
        assert_eq!(both(|pod| pod.claim = Claim::MineUnmatched), None);
        assert_eq!(both(|pod| pod.claim = Claim::Foreign), None);
        assert_eq!(both(|pod| pod.phase = Phase::Running), None);
        assert_eq!(both(|pod| pod.phase = Phase::Succeeded), Some(10), "who ends well at once ends again");
        assert_eq!(both(|pod| pod.terminating = true), None);
    }

    #[test]
    fn creation_stands_in_for_a_failure_without_a_time_or_with_a_wrong_one() {
        let known = failed("known", 20, 15);
        let second = |created, ended_at| Pod { ended_at, ..failed("", created, 0) };
        assert_eq!(wait(&[known, second(6, None)]), Some(4), "no time");
        assert_eq!(wait(&[known, second(6, Some(ago(-86_400)))]), Some(4), "a day ahead");
        assert_eq!(wait(&[known, second(6, Some(ago(86_400)))]), Some(4), "before its creation");
        assert_eq!(wait(&[known, second(-86_400, None)]), Some(10), "created a day ahead");
    }

    #[test]
    fn no_failure_no_pause() {
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&[pod("a")]), None);
    }
}
