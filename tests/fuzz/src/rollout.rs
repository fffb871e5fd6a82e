//! What is decided of a group's rollout, and the plan that follows from it.

use std::{sync::Arc, time::Duration};

use arbitrary::{Result, Unstructured};
use mainstay_replication::{
    plan::{self, Policy, Share},
    rollout::{
        Command, Decision, Evidence, Failed, Ignored, Kept, Look, Reason, Rollout, RolloutEvent, Settings,
        State, decide,
    },
};

use crate::{
    input::{duration, maybe, moment, one_of, some, time},
    replication::{REVISIONS, holds, now, pods},
    specs,
};

fn revision(u: &mut Unstructured<'_>) -> Result<Arc<str>> {
    Ok(one_of(u, &REVISIONS)?.into())
}

fn command(u: &mut Unstructured<'_>) -> Result<Command> {
    let step = maybe(u, |u| one_of(u, &[0, 1, 2, usize::MAX]))?;
    Ok(Command { text: one_of(u, &["x", "y"])?.into(), revision: revision(u)?, step })
}

/// A number that a status may have, which is no more than a spec may want.
fn count(u: &mut Unstructured<'_>) -> Result<usize> {
    if u.ratio(1, 8)? { one_of(u, &[0, i32::MAX as usize]) } else { u.int_in_range(0..=12) }
}

/// A revision has one share.
fn held(u: &mut Unstructured<'_>) -> Result<Vec<Share>> {
    let mut held = some(u, 3, |u| Ok(Share { revision: revision(u)?, replicas: count(u)? }))?;
    held.sort_by(|one, other| one.revision.cmp(&other.revision));
    held.dedup_by(|one, other| one.revision == other.revision);
    Ok(held)
}

/// As a status may say it: written by another version, or for another spec.
fn state(u: &mut Unstructured<'_>) -> Result<State> {
    let ignored = |u: &mut Unstructured<'_>| maybe(u, |u| Ok(Arc::from(one_of(u, &["x", "y"])?)));
    Ok(State {
        current: maybe(u, revision)?,
        previous: maybe(u, revision)?,
        pinned: maybe(u, revision)?,
        failed: maybe(u, |u| {
            let (revision, reason) = (revision(u)?, one_of(u, &Reason::ALL)?);
            Ok(Failed { revision, reason, message: "it failed".into() })
        })?,
        rollout: maybe(u, |u| {
            Ok(Rollout {
                revision: revision(u)?,
                started: time(u)?,
                progressed: time(u)?,
                available: count(u)?,
                step: maybe(u, |u| one_of(u, &[0, 1, 2, 19, i32::MAX as usize]))?,
                reached: maybe(u, time)?,
                held: held(u)?,
                kept: maybe(u, |u| Ok(Kept { replicas: count(u)?, of: count(u)? }))?,
                unschedulable: count(u)?,
                ignored: Ignored { resume: ignored(u)?, abort: ignored(u)? },
            })
        })?,
    })
}

/// Decides, and plans what was decided.
pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let mut settings = Settings::of(&specs::replica_group(u)?);
    (settings.resume, settings.abort) = (maybe(u, command)?, maybe(u, command)?);
    if u.ratio(7, 8)? {
        // Most groups are small.
        let replicas = u.int_in_range(0..=12)?;
        settings.reach = settings.reach.min(replicas);
        settings.replicas = replicas;
    }
    let (wanted, state, now) = (revision(u)?, state(u)?, now());
    let mut pods = pods(u)?;
    let mut evidence = Evidence::default();
    let (mut at, mut watched) = (moment(u)?, Duration::ZERO);
    for _ in 0..u.int_in_range(1..=3)? {
        let passed = duration(u)?;
        at += passed;
        watched += if u.arbitrary()? { passed } else { Duration::ZERO };
        evidence.doubt(u.ratio(1, 8)?);
        let look = Look { moment: at, wall: now, watched, sure: u.arbitrary()? };
        evidence.look(&look, settings.max_restarts, &mut pods);
    }
    let min_ready = duration(u)?;
    let tallies = plan::counts(&pods, min_ready, now, count(u)?);
    let decision = decide(&settings, &wanted, &state, evidence, &tallies, now);
    is_sound(&settings, &wanted, &decision);
    let again = decide(&settings, &wanted, &decision.state, decision.evidence.clone(), &tallies, now);
    assert_eq!(again.state, decision.state, "decided again, it is another: {decision:?}");
    assert_eq!(again.shares, decision.shares, "decided again, it is another: {decision:?}");
    let is_new = |news: &RolloutEvent| matches!(news, RolloutEvent::Started | RolloutEvent::Failed { .. });
    assert!(!again.news.iter().any(is_new), "told twice: {again:?}");
    let policy = Policy {
        replicas: settings.replicas,
        min_ready,
        strategy: settings.strategy,
        shares: decision.shares.clone(),
        keep: decision.keep.clone(),
        ..Policy::default()
    };
    holds(&policy, &pods, &plan::plan(&policy, &pods, now), now);
    Ok(())
}

fn is_sound(settings: &Settings, wanted: &Arc<str>, decision: &Decision) {
    let sum = decision.shares.iter().map(|share| share.replicas).fold(0, usize::saturating_add);
    assert_eq!(sum, settings.replicas, "{decision:?}");
    let mut revisions: Vec<_> = decision.shares.iter().map(|share| &share.revision).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), decision.shares.len(), "a revision has two shares: {decision:?}");
    let (target, state) = (&decision.target, &decision.state);
    assert!(target == wanted || state.current.as_ref() == Some(target), "{decision:?}");
    assert!(state.failed.as_ref().is_none_or(|failed| failed.revision == *wanted), "{decision:?}");
    assert!(settings.replicas > 0 || decision.keep.is_none(), "no pods, and some are kept: {decision:?}");
}
