//! Whether a target that was changed has shown what its stage asks for.

use std::time::Duration;

use jiff::Timestamp;

use super::{Evidence, Failed, StageSettings, TargetState, TargetView, next_second, since};

/// How often a target on its way is looked at: neither restarts nor a probe come as an event.
const LOOK: Duration = Duration::from_secs(1);

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
    let failed =
        |reason, message| Standing::Failed(Failed { reason, target: target.key.to_string(), message });
    if let Some((_, said)) = target.progress.given_up.as_ref().filter(|(at, _)| *at >= changed) {
        return failed("ProgressDeadlineExceeded", said.clone());
    }
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
    } else {
        remembered.available = None;
    }
    let allowed = match remembered.available {
        Some(_) => stage.deadline + stage.soak,
        None => stage.deadline,
    };
    if since(changed, now) > allowed {
        return failed("DeadlineExceeded", missing(target, probe, stage.deadline));
    }
    Standing::Waiting(now.checked_add(LOOK).unwrap_or(now))
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
