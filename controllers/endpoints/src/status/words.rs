//! The messages of the conditions.

use std::collections::BTreeSet;

use mainstay_crds::EndpointPool;
use mainstay_runtime::conditions::NewCondition;

use super::seen::{Seen, counts};
use crate::{
    choose::TierState,
    observe::{CHECK_PORT_NOT_FOUND, LOOKUP_FAILED, Refused},
};

/// The maximum number of refused members that a message names.
const NAMED: usize = 3;

/// Status, reason and message of `Ready`.
pub(super) fn readiness(seen: &Seen<'_>) -> (bool, &'static str, String) {
    if let Some(failure) = seen.failures.first() {
        return (false, failure.reason, failure.message.clone());
    }
    let members = counts(seen);
    let total = members.total;
    if total == 0 && !seen.observed.awaited.is_empty() {
        return (false, "AwaitingLookups", awaiting_lookups(seen));
    }
    if total == 0 {
        let why = match members.refused {
            0 => "spec.members selects no pod, and no address is known".to_owned(),
            refused => format!("all {refused} members are refused: see MembersAccepted"),
        };
        return (false, "NoMembers", format!("there is no endpoint: {why}"));
    }
    let mut states = Vec::new();
    for (count, what) in [
        (members.failing, "failing"),
        (members.not_ready, "pods not ready"),
        (members.unchecked, "not checked yet"),
        (members.waiting, "waiting for slow start"),
        (members.standby, "on standby"),
        (members.leaving, "leaving"),
    ] {
        if count > 0 {
            states.push(format!("{what}: {count}"));
        }
    }
    let rest = if states.is_empty() { String::new() } else { format!("; {}", states.join(", ")) };
    let message = format!("{} of {total} members are in use{rest}", members.in_use);
    match (members.in_use, members.unchecked, uncheckable(seen)) {
        (0, 0, _) => (false, "NoneHealthy", message),
        (0, _, Some(refused)) => (false, CHECK_PORT_NOT_FOUND, format!("{message}; {}", sentence(refused))),
        (0, _, None) => (false, "AwaitingChecks", format!("{message}{}", exchanged(seen))),
        _ => (true, "Serving", message),
    }
}

/// What gets traffic meanwhile.
fn exchanged(seen: &Seen<'_>) -> String {
    match seen.plan.exchanged {
        0 => String::new(),
        count => format!(
            "; {count} members that the DNS no longer returns stay in use until then, for \
                          some seconds"
        ),
    }
}

/// Why members cannot be checked.
fn uncheckable<'a>(seen: &Seen<'a>) -> Option<&'a Refused> {
    seen.observed.refused.iter().find(|refused| refused.reason == CHECK_PORT_NOT_FOUND)
}

fn awaiting_lookups(seen: &Seen<'_>) -> String {
    let awaited: Vec<_> = seen.observed.awaited.iter().map(|awaited| &*awaited.name).collect();
    let more = match awaited.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let names = awaited.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    let failed = seen.observed.refused.iter().find(|refused| refused.reason == LOOKUP_FAILED);
    let why = failed.map(|refused| format!("; {}", sentence(refused))).unwrap_or_default();
    match seen.observed.kept.len() {
        0 => format!("there is no endpoint yet: the DNS has not answered for {names}{more}{why}"),
        kept => {
            format!("{kept} endpoints stay as they are until the DNS has answered for {names}{more}{why}")
        }
    }
}

fn in_use<'a>(seen: &Seen<'a>) -> Option<&'a TierState> {
    let choice = &seen.plan.choice;
    choice.tiers.iter().find(|tier| Some(tier.tier) == choice.tier)
}

pub(super) fn panic(seen: &Seen<'_>) -> NewCondition {
    let kind = "Panic";
    match in_use(seen).filter(|_| seen.plan.choice.panic) {
        Some(tier) => {
            let (checked, percent) = (tier.serving - tier.unchecked, seen.pool.spec.panic_threshold);
            // It takes one more to end than to begin.
            let is_less = tier.healthy * 100 < usize::try_from(percent).unwrap_or_default() * checked;
            let share = if is_less { "less than" } else { "and it takes one more than" };
            let message = format!(
                "panic mode: {} of {checked} checked members of tier {} are healthy, {share} \
                 spec.panicThreshold ({percent} %), so health checks are ignored and all ready members receive \
                 traffic; inspect status.out and spec.check",
                tier.healthy, tier.tier
            );
            NewCondition { kind, status: true, reason: "TooFewHealthy", message }
        }
        None => NewCondition { kind, status: false, reason: "AsExpected", message: String::new() },
    }
}

/// The best tier that the pool has sets for.
pub(crate) fn best_tier(pool: &EndpointPool) -> u8 {
    let tiers = pool.spec.members.iter().filter_map(|set| u8::try_from(set.tier).ok());
    tiers.min().unwrap_or_default()
}

pub(super) fn failed_over(seen: &Seen<'_>) -> NewCondition {
    let kind = "FailedOver";
    let best = best_tier(seen.pool);
    let best = seen
        .plan
        .choice
        .tiers
        .iter()
        .find(|tier| tier.tier == best)
        .cloned()
        .unwrap_or(TierState { tier: best, ..TierState::default() });
    match in_use(seen) {
        Some(tier) if best.tier < tier.tier => {
            let failover = &seen.pool.spec.failover;
            let message = format!(
                "tier {} is active because tier {} has {} of {} healthy members; the latter becomes active \
                 again after at least {} % have been healthy for {} s",
                tier.tier,
                best.tier,
                best.healthy,
                best.members - best.unchecked,
                failover.return_percent,
                failover.return_seconds
            );
            NewCondition { kind, status: true, reason: "TierBelowShare", message }
        }
        _ => NewCondition { kind, status: false, reason: "BestTierInUse", message: String::new() },
    }
}

/// What stays although the spec does not name it any more.
fn outlived(seen: &Seen<'_>) -> Vec<String> {
    let kept = &seen.observed.kept;
    let origins = kept.iter().map(|kept| &kept.origin).filter(|(_, name)| !name.is_empty());
    let names: BTreeSet<_> = origins.chain(&seen.observed.replaced).collect();
    let mut sentences: Vec<_> = names
        .iter()
        .take(NAMED)
        .map(|(set, name)| {
            format!(
                "{set}: the addresses of {name} are kept until the DNS has answered for the name that \
                     replaced it"
            )
        })
        .collect();
    if let Some(more) = names.len().checked_sub(NAMED).filter(|more| *more > 0) {
        sentences.push(format!("and those of {more} more names"));
    }
    match kept.iter().filter(|kept| kept.origin.1.is_empty()).count() {
        0 => {}
        unknown => sentences.push(format!(
            "{unknown} endpoints are kept until the DNS has answered for all names: no slice records their \
             name"
        )),
    }
    sentences
}

/// Whether all that the pool names can be used, and what stays that it does not name. Where several things are wrong, the first gives the reason.
pub(super) fn accepted(seen: &Seen<'_>) -> NewCondition {
    let kind = "MembersAccepted";
    let refused = &seen.observed.refused;
    let outlived = outlived(seen);
    let Some(first) = refused.first() else {
        return NewCondition { kind, status: true, reason: "AllAccepted", message: outlived.join("; ") };
    };
    let sentences: BTreeSet<_> = refused.iter().map(sentence).collect();
    let mut message = sentences.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    if let Some(more) = sentences.len().checked_sub(NAMED).filter(|more| *more > 0) {
        message.push_str(&format!("; and {more} more"));
    }
    for sentence in outlived {
        message.push_str(&format!("; {sentence}"));
    }
    NewCondition { kind, status: false, reason: first.reason, message }
}

fn sentence(refused: &Refused) -> String {
    let Refused { set, name, reason, message, .. } = refused;
    match (*reason, name) {
        ("NotGranted" | "GrantUnreadable" | "PortNotFound", Some(pod)) => format!("{set}: {pod}: {message}"),
        _ => format!("{set}: {message}"),
    }
}
