//! Whether a target that was changed passes its gate.

use std::time::Duration;

use jiff::Timestamp;
use mainstay_runtime::conditions::second;

use super::{Evidence, Failed, StageSettings, TargetState, TargetView, WATCH, next_second, since};

/// How often an updating target is checked: neither restarts nor probes arrive as events.
const LOOK: Duration = Duration::from_secs(1);
/// A target that is interrupted again and again fails after this many times its deadline and soak.
const MOST_SOAKS: u32 = 3;
/// The kubelet treats a container that has run for this long as healthy: then it resets its crash backoff
/// (pkg/kubelet/kubelet.go, `MaxContainerBackOff`, twice). Restarts further apart are no crash loop.
const CRASH_LOOP: Duration = Duration::from_secs(600);

/// The result of a target's gate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has passed.
    Passed,
    /// It is to be looked at again.
    Waiting(Timestamp),
    /// It has failed.
    Failed(Failed),
}

/// Judges a target that has been changed and whose template is as it should be.
pub(super) fn judge(
    target: &TargetView,
    remembered: &mut TargetState,
    stage: &StageSettings,
    evidence: Option<&Evidence>,
    now: Timestamp,
) -> Standing {
    let Some(changed) = remembered.changed.filter(|_| !remembered.passed) else { return Standing::Passed };
    let look_again = now.checked_add(LOOK).unwrap_or(now);
    let failed =
        |reason, message| Standing::Failed(Failed { reason, target: target.key.to_string(), message });
    if let Some(message) = crashed(remembered, stage, evidence) {
        return failed("MoreRestarts", message);
    }
    let probe = evidence.and_then(|evidence| evidence.probe.as_ref());
    let answers = !stage.probed || probe.is_some_and(Result::is_ok);
    let is_new = remembered.has_new(target, evidence);
    // What is not known interrupts nothing, and lets nothing pass.
    let is_unknown = evidence.is_none() && remembered.is_settled(&target.progress);
    if is_unknown || is_new && stage.probed && probe.is_none() && remembered.available.is_some() {
        return Standing::Waiting(look_again);
    }
    if is_new && answers {
        let available = *remembered.available.get_or_insert_with(|| next_second(now));
        if stage.soak.is_zero() || since(available, now) >= stage.soak && now >= available {
            (remembered.passed, remembered.broken) = (true, None);
            remembered.forgive_restarts(evidence);
            return Standing::Passed;
        }
        return Standing::Waiting(look_again);
    }
    if remembered.available.take().is_some() {
        remembered.broken = Some(second(now));
    }
    let begun = remembered.broken.unwrap_or(changed);
    // What lacked pods before is given up by its own controller although it has all the new ones it can have.
    let given_up = target.progress.given_up.as_ref().filter(|(at, _)| !is_new && *at >= begun);
    let longest = stage.deadline.saturating_add(stage.soak).saturating_mul(MOST_SOAKS);
    let is_late = since(begun, now) > stage.deadline || since(changed, now) > longest;
    if (given_up.is_some() || is_late) && lacks_room(target, evidence) {
        remembered.restart(Some(second(now)));
        return Standing::Waiting(look_again);
    }
    if let Some((_, said)) = given_up {
        return failed("ProgressDeadlineExceeded", said.clone());
    }
    if since(begun, now) > stage.deadline {
        let probe = probe.filter(|_| is_new);
        return failed("DeadlineExceeded", missing(target, remembered, probe, stage.deadline));
    }
    if since(changed, now) > longest {
        return failed("DeadlineExceeded", interrupted(stage.soak, longest));
    }
    Standing::Waiting(look_again)
}

/// Judges a target that has passed, for as long as the rollout goes on: it fails when a pod restarts again and again, and
/// when its pods are not available, or its probe does not succeed, for its deadline.
pub(super) fn judge_passed(
    target: &TargetView,
    remembered: &mut TargetState,
    stage: &StageSettings,
    evidence: Option<&Evidence>,
    now: Timestamp,
) -> Standing {
    let failed = |reason, message| {
        let message = format!("after it had passed, {message}");
        Standing::Failed(Failed { reason, target: target.key.to_string(), message })
    };
    if let Some(message) = crashes(remembered, stage, evidence, now) {
        return failed("MoreRestarts", message);
    }
    let look_again = Standing::Waiting(now.checked_add(WATCH).unwrap_or(now));
    let probe = evidence.and_then(|evidence| evidence.probe.as_ref()).filter(|_| stage.probed);
    if target.progress.is_blocked().is_some() {
        remembered.broken = None;
        return look_again;
    }
    let is_settled = remembered.is_settled(&target.progress);
    match probe {
        Some(Err(_)) => {}
        None if is_settled && stage.probed => return look_again,
        _ if is_settled => {
            remembered.broken = None;
            return look_again;
        }
        _ => {}
    }
    let broken = *remembered.broken.get_or_insert_with(|| second(now));
    if since(broken, now) > stage.deadline {
        if lacks_room(target, evidence) {
            remembered.broken = None;
            return look_again;
        }
        let probe = probe.filter(|_| is_settled);
        return failed("DeadlineExceeded", missing(target, remembered, probe, stage.deadline));
    }
    look_again
}

/// Whether a pod waits for a node, or is refused because of a quota. No configuration makes a pod larger: that there is no
/// room for it is not the revision's failure, and its deadline begins again.
fn lacks_room(target: &TargetView, evidence: Option<&Evidence>) -> bool {
    target.progress.over_quota || evidence.is_some_and(|evidence| evidence.unscheduled > 0)
}

/// Why a target has failed of which a new pod restarts more often than any before.
fn crashed(remembered: &TargetState, stage: &StageSettings, evidence: Option<&Evidence>) -> Option<String> {
    let restarts = evidence.map_or(0, |evidence| evidence.restarts);
    let before = remembered.restarts_before;
    (restarts > before.saturating_add(stage.more_restarts)).then(|| {
        format!(
            "a new pod has restarted {restarts} times, but no pod before the change more than {before} times"
        )
    })
}

/// Why a target has failed that has passed and of which a container restarts again and again. That a rollout takes its
/// time must cost no revision that works: a node that reboots restarts each container once, and restarts that are further
/// apart on average than those of a crash loop do not add up.
fn crashes(
    remembered: &mut TargetState,
    stage: &StageSettings,
    evidence: Option<&Evidence>,
    now: Timestamp,
) -> Option<String> {
    let restarts = evidence?.restarts.saturating_sub(remembered.restarts_before);
    if restarts <= 0 {
        remembered.restarted = None;
        return None;
    }
    let most = stage.more_restarts.max(1);
    let window = CRASH_LOOP.saturating_mul(most.unsigned_abs().saturating_add(1));
    if since(*remembered.restarted.get_or_insert_with(|| second(now)), now) >= window {
        remembered.forgive_restarts(evidence);
        return None;
    }
    let seconds = window.as_secs();
    (restarts > most)
        .then(|| format!("a container of a new pod has restarted {restarts} times within {seconds} s"))
}

impl TargetState {
    /// The restarts that there are do not count any more.
    fn forgive_restarts(&mut self, evidence: Option<&Evidence>) {
        let restarts = evidence.map_or(0, |evidence| evidence.restarts);
        self.restarts_before = self.restarts_before.max(restarts);
        self.restarted = None;
    }

    /// Whether the pods of the new template are available, but for as many as were not before. Where some pods are of
    /// another template still, the workload's counters do not say which of them are available.
    fn has_new(&self, target: &TargetView, evidence: Option<&Evidence>) -> bool {
        let progress = &target.progress;
        let ready = evidence.map_or(0, |evidence| evidence.ready);
        self.is_settled(progress)
            && (progress.updated == progress.wanted || ready >= progress.needed(self.unavailable_before))
    }
}

/// That a target has never been available for long enough.
fn interrupted(soak: Duration, longest: Duration) -> String {
    let (soak, longest) = (soak.as_secs(), longest.as_secs());
    format!("it was not available for {soak} s without interruption within {longest} s")
}

/// What a target has not shown in time.
fn missing(
    target: &TargetView,
    remembered: &TargetState,
    probe: Option<&Result<(), String>>,
    deadline: Duration,
) -> String {
    let progress = &target.progress;
    let seconds = deadline.as_secs();
    if let Some(Err(said)) = probe {
        return format!("its probe did not succeed within {seconds} s: {said}");
    }
    let before = match remembered.unavailable_before {
        None | Some(0) => String::new(),
        Some(before) => format!("; before the change {before} were not available"),
    };
    format!(
        "after {seconds} s {} of {} pods run the new template; {} exist, and {} are available{before}",
        progress.updated, progress.wanted, progress.current, progress.available
    )
}

#[cfg(test)]
mod tests {
    use super::{super::world, *};
    use crate::watched::Progress;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// A target of two pods.
    fn target(progress: Progress) -> TargetView {
        TargetView {
            key: world::target(0),
            uid: "u".into(),
            stage: 0,
            generation: 1,
            pins: super::super::Pins::default(),
            template: crate::watched::Fingerprint::default(),
            progress: Progress { observed: true, wanted: 2, current: 2, ..progress },
        }
    }

    /// The result of a target's gate with two pods, of which one was not available before, 20 s after its change.
    fn stands(progress: Progress, ready: i32) -> Standing {
        let target = target(Progress { available: 1, ..progress });
        let mut remembered =
            TargetState { changed: Some(at(10)), unavailable_before: Some(1), ..TargetState::default() };
        let evidence = Evidence { ready, ..Evidence::default() };
        judge(&target, &mut remembered, &world::stage("all"), Some(&evidence), at(30))
    }

    #[test]
    fn an_old_pod_that_is_available_still_stands_for_no_new_one() {
        let mixed = Progress { updated: 1, ..Progress::default() };
        assert_eq!(stands(mixed.clone(), 0), Standing::Waiting(at(31)));
        assert_eq!(stands(mixed, 1), Standing::Passed);
    }

    #[test]
    fn a_target_of_whose_pods_nothing_is_known_neither_passes_nor_fails() {
        let settled = Progress { updated: 2, available: 2, ..Progress::default() };
        let (target, stage) = (target(settled), world::stage("all"));
        let mut remembered = TargetState { changed: Some(at(10)), ..TargetState::default() };
        for second in [20, 1000] {
            let standing = judge(&target, &mut remembered, &stage, None, at(second));
            assert_eq!(standing, Standing::Waiting(at(second + 1)));
        }
        let evidence = Evidence { ready: 2, ..Evidence::default() };
        assert_eq!(judge(&target, &mut remembered, &stage, Some(&evidence), at(1001)), Standing::Passed);
    }

    #[test]
    fn a_workload_that_its_controller_gives_up_for_what_was_missing_before_has_not_failed() {
        let given_up = Some((at(20), "late".to_owned()));
        let all_new = Progress { updated: 2, given_up: given_up.clone(), ..Progress::default() };
        assert_eq!(stands(all_new, 1), Standing::Passed);
        let none_new = Progress { updated: 0, given_up, ..Progress::default() };
        assert!(matches!(stands(none_new, 0), Standing::Failed(_)));
    }
}
