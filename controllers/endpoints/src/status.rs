//! Conditions and counters, computed from what a reconcile observed. Pure: the clock is an argument.

mod seen;
mod words;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use mainstay_crds::{EndpointPool, EndpointPoolStatus, MemberOut, TierHealth};
use mainstay_runtime::{
    conditions::{NewCondition, merge, number, same_heads, second},
    failure::RequestError,
    outcome::{Explain, Failure},
};

pub use self::seen::Seen;
use self::words::{accepted, failed_over, panic, readiness};
pub(crate) use self::{seen::counts, words::best_tier};
use crate::{
    apply::ApplyError,
    choose::{self, TierState, Use},
    observe::ServiceError,
    settings::SettingsError,
};

/// The maximum number of listed members that are not used.
const LISTED: usize = 20;

impl Explain for ApplyError {
    fn explain(&self) -> Failure {
        let error = self;
        let advice = match (error, error.request()) {
            (ApplyError::Service { .. }, RequestError::Invalid(_)) => "; correct spec.serviceRef.create",
            (
                ApplyError::Service { .. },
                RequestError::Conflict(_) | RequestError::FieldManagerConflict { .. },
            ) => "; another client created it concurrently; retrying",
            _ => "",
        };
        let reason = match error {
            ApplyError::Service { .. } => "ServiceRefused",
            other => other.request().reason(),
        };
        Failure { reason, stalled: error.request().needs_change(), message: format!("{error}{advice}") }
    }
}

impl From<&SettingsError> for Failure {
    fn from(error: &SettingsError) -> Self {
        Self { reason: "SettingsInvalid", stalled: true, message: error.to_string() }
    }
}

impl From<&ServiceError> for Failure {
    fn from(error: &ServiceError) -> Self {
        // A Service may still come; a wrong one has to be changed.
        let stalled = !matches!(error, ServiceError::NotFound(_));
        Self { reason: error.reason(), stalled, message: error.to_string() }
    }
}

/// The status of a pool that has its Service.
pub fn observed(seen: &Seen<'_>, now: Timestamp) -> EndpointPoolStatus {
    let standing = seen.pool.status.clone().unwrap_or_default();
    let tier = seen.plan.choice.tier.map(i32::from);
    let tier_since = match tier {
        None => None,
        tier if tier == standing.tier && standing.tier_since.is_some() => standing.tier_since.clone(),
        Some(_) => Some(Time(second(now))),
    };
    let mut verdicts = verdicts(readiness(seen), seen.failures.first());
    verdicts.extend([panic(seen), failed_over(seen), accepted(seen)]);
    verdicts.extend(seen.failures.conditions());
    EndpointPoolStatus {
        observed_generation: seen.pool.metadata.generation.unwrap_or_default(),
        tier,
        tier_since,
        members: counts(seen),
        tiers: seen.plan.choice.tiers.iter().map(|state| tier_health(state, tier)).collect(),
        out: out(seen, &standing.out, now),
        slices: number(seen.slices),
        conditions: conditions(seen.pool, verdicts, now),
    }
}

fn tier_health(state: &TierState, in_use: Option<i32>) -> TierHealth {
    let is_used = in_use == Some(i32::from(state.tier));
    TierHealth {
        tier: state.tier.into(),
        members: number(state.members - state.unchecked),
        healthy: number(state.healthy),
        expected: is_used.then(|| number(state.expected)),
    }
}

/// What a former leader left of its choice.
pub fn choice_of(pool: &EndpointPool) -> choose::Memory {
    let Some(status) = &pool.status else { return choose::Memory::default() };
    let tier = status.tier.and_then(|tier| u8::try_from(tier).ok());
    let health = status.tiers.iter().find(|health| Some(health.tier) == status.tier);
    let expected = health.and_then(|health| usize::try_from(health.expected?).ok());
    let is_panic = |condition: &Condition| condition.type_ == "Panic" && condition.status == "True";
    let panic = status.conditions.iter().any(is_panic);
    choose::Memory { tier, expected: tier.zip(expected), panic, ..choose::Memory::default() }
}

/// Why a pool that has its Service does not serve, in one word: the reason of `Ready`, but for members that are all refused, of
/// which that says no more than of none.
pub fn why_not_ready(seen: &Seen<'_>) -> Option<&'static str> {
    match readiness(seen) {
        (true, ..) => None,
        (false, "NoMembers", _) if counts(seen).refused > 0 => Some("MembersRefused"),
        (false, reason, _) => Some(reason),
    }
}

/// The status of a pool that has no endpoints to write.
pub fn unusable(pool: &EndpointPool, failure: &Failure, slices: usize, now: Timestamp) -> EndpointPoolStatus {
    let verdicts = verdicts((false, failure.reason, failure.message.clone()), Some(failure));
    EndpointPoolStatus {
        observed_generation: pool.metadata.generation.unwrap_or_default(),
        slices: number(slices),
        conditions: conditions(pool, verdicts, now),
        ..EndpointPoolStatus::default()
    }
}

/// Whether two statuses differ in more than counters and messages, so that the new one is written at once.
pub fn is_urgent(old: &EndpointPoolStatus, new: &EndpointPoolStatus) -> bool {
    old.observed_generation != new.observed_generation
        || old.tier != new.tier
        || !same_heads(&old.conditions, &new.conditions)
}

fn conditions(pool: &EndpointPool, verdicts: Vec<NewCondition>, now: Timestamp) -> Vec<Condition> {
    let standing = pool.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    merge(verdicts, standing, pool.metadata.generation, now)
}

fn verdicts(
    (ready, reason, message): (bool, &'static str, String),
    failure: Option<&Failure>,
) -> Vec<NewCondition> {
    let stalled = failure.filter(|failure| failure.stalled);
    let none = || NewCondition { kind: "Stalled", status: false, reason: "None", message: String::new() };
    vec![
        NewCondition { kind: "Ready", status: ready, reason, message: message.clone() },
        NewCondition { kind: "Reconciling", status: !ready && stalled.is_none(), reason, message },
        stalled.map_or_else(none, |failure| NewCondition {
            kind: "Stalled",
            status: true,
            reason: failure.reason,
            message: failure.message.clone(),
        }),
    ]
}

/// The members that are not used, or only because too many fail, the most urgent first.
fn out(seen: &Seen<'_>, standing: &[MemberOut], now: Timestamp) -> Vec<MemberOut> {
    let members = seen.observed.members.iter().zip(&seen.plan.choice.uses);
    let members = members.filter(|(member, _)| member.is_reachable).filter_map(|(member, used)| {
        let (rank, reason) = match used {
            Use::Failing => (0, "CheckFailed"),
            Use::KeptDespiteFailing => (1, "KeptDespiteFailing"),
            Use::NotReady => (2, "PodNotReady"),
            Use::Unchecked => (3, "NotChecked"),
            Use::Waiting => (4, "SlowStart"),
            Use::InUse | Use::Standby | Use::Leaving => return None,
        };
        let failure = seen.states.and_then(|states| states.get(&member.target)?.failure.as_ref());
        let message =
            failure.filter(|_| *used != Use::NotReady).map(|failure| format!("last check: {failure}"));
        let out = MemberOut {
            address: member.target.address.to_string(),
            set: member.target.set.to_string(),
            name: member.name.as_deref().map(Into::into),
            reason: reason.into(),
            message,
            since: None,
        };
        Some((rank, out))
    });
    let refused = seen.observed.refused.iter().map(|refused| {
        let out = MemberOut {
            address: refused.address.map(|address| address.to_string()).unwrap_or_default(),
            set: refused.set.to_string(),
            name: refused.name.as_deref().map(Into::into),
            reason: refused.reason.into(),
            message: Some(refused.message.clone()),
            since: None,
        };
        (5, out)
    });
    let mut all: Vec<_> = members.chain(refused).collect();
    all.sort_by_key(|(rank, _)| *rank);
    let since = |out: &MemberOut| {
        let same = |old: &&MemberOut| {
            (&old.address, &old.set, &old.name, &old.reason)
                == (&out.address, &out.set, &out.name, &out.reason)
        };
        standing.iter().find(same).and_then(|old| old.since.clone()).unwrap_or(Time(second(now)))
    };
    all.into_iter().take(LISTED).map(|(_, out)| MemberOut { since: Some(since(&out)), ..out }).collect()
}

#[cfg(test)]
mod tests;
