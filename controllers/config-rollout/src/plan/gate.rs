//! Whether a target that was changed has shown what its stage asks for.

use std::time::Duration;

use jiff::Timestamp;
use mainstay_runtime::report::second;

use super::{Evidence, Failed, StageSettings, TargetState, TargetView, next_second, since};

/// How often a target on its way is looked at: neither restarts nor a probe come as an event.
const LOOK: Duration = Duration::from_secs(1);
/// A target that breaks off again and again is given up after so many times its deadline and soak.
const MOST_SOAKS: u32 = 3;

/// How a target stands before its gate.
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
    let restarts = evidence.map_or(0, |evidence| evidence.restarts);
    if restarts > remembered.restarts_before.saturating_add(stage.more_restarts) {
        let before = remembered.restarts_before;
        let message =
            format!("a new pod has restarted {restarts} times, no pod before it more than {before}");
        return failed("MoreRestarts", message);
    }
    let probe = evidence.and_then(|evidence| evidence.probe.as_ref());
    let answers = !stage.probed || probe.is_some_and(Result::is_ok);
    if target.progress.is_settled() && answers {
        let available = *remembered.available.get_or_insert_with(|| next_second(now));
        if stage.soak.is_zero() || since(available, now) >= stage.soak && now >= available {
            remembered.passed = true;
            return Standing::Passed;
        }
        return Standing::Waiting(look_again);
    }
    if remembered.available.take().is_some() {
        remembered.broken = Some(second(now));
    }
    let begun = remembered.broken.unwrap_or(changed);
    if let Some((_, said)) = target.progress.given_up.as_ref().filter(|(at, _)| *at >= begun) {
        return failed("ProgressDeadlineExceeded", said.clone());
    }
    if since(begun, now) > stage.deadline {
        return failed("DeadlineExceeded", missing(target, probe, stage.deadline));
    }
    let longest = stage.deadline.saturating_add(stage.soak).saturating_mul(MOST_SOAKS);
    if since(changed, now) > longest {
        return failed("DeadlineExceeded", interrupted(stage.soak, longest));
    }
    Standing::Waiting(look_again)
}

/// That a target has never been available for long enough.
fn interrupted(soak: Duration, longest: Duration) -> String {
    let (soak, longest) = (soak.as_secs(), longest.as_secs());
    format!("it was not available for {soak} s without a break in {longest} s")
}

/// What a target has not shown in time.
fn missing(target: &TargetView, probe: Option<&Result<(), String>>, deadline: Duration) -> String {
    let progress = &target.progress;
    let seconds = deadline.as_secs();
    match probe {
        Some(Err(said)) if progress.is_settled() => {
            format!("its probe did not succeed within {seconds} s: {said}")
        }
        _ => format!(
            "after {seconds} s {} of {} pods are of the new template; {} exist, and {} are available",
            progress.updated, progress.wanted, progress.current, progress.available
        ),
    }
}
