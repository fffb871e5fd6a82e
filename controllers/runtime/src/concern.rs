//! The concerns of a reconcile, and what keeps them from succeeding, for people.
//!
//! A concern is a part of a reconcile that succeeds or fails by itself, such as a pool's slices, its Service and the readiness
//! gates of its pods. Each has its own result, backoff, metric and condition, so that one that is refused delays no other.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    conditions::NewCondition,
    failure::{ReconcileError, RequestError},
};

/// A concern of a fixed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Concern {
    /// CamelCase, as a label of metrics.
    pub name: &'static str,
    /// The type of the condition that an object has while it fails, if it has one.
    pub condition: Option<&'static str>,
    /// Whether the object does what its spec asks for although this fails: removing what is no longer used.
    pub is_upkeep: bool,
}

impl Concern {
    /// A concern of this name, with a condition of this type.
    pub const fn new(name: &'static str, condition: &'static str) -> Self {
        Self { name, condition: Some(condition), is_upkeep: false }
    }

    /// A concern of this name, with a condition of this type and no influence on `Ready`.
    pub const fn upkeep(name: &'static str, condition: &'static str) -> Self {
        Self { name, condition: Some(condition), is_upkeep: true }
    }

    /// A concern of this name, which no condition tells of.
    pub const fn untold(name: &'static str) -> Self {
        Self { name, condition: None, is_upkeep: false }
    }
}

/// What keeps all of a reconcile from ending: a panic, or its time limit.
pub const WHOLE: Concern = Concern::untold("Reconcile");

/// Writing the status. No condition tells of it: that could not be written either.
pub const STATUS: Concern = Concern::untold("Status");

/// A concern as a whole, or one object of it, by its name: a pod that refuses is no reason to leave the next one alone.
pub type Part = (Concern, Option<Arc<str>>);

/// What keeps a concern from succeeding, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// CamelCase, as a condition names it.
    pub reason: &'static str,
    /// Whether it lasts until a person or another object changes something.
    pub stalled: bool,
    /// What was wrong, where, and what to do.
    pub message: String,
}

/// An error of a reconcile that can be told to people.
pub trait Explain: ReconcileError {
    /// What it keeps from succeeding, in words.
    fn explain(&self) -> Failure {
        let request = self.request();
        Failure { reason: request.reason(), stalled: request.needs_change(), message: self.to_string() }
    }
}

impl Explain for RequestError {}

/// What keeps each concern of an object from succeeding that a condition tells of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures(BTreeMap<Concern, Failure>);

impl Failures {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that an object's own conditions name: one that lasts before one that may pass, and none of its upkeep.
    pub fn first(&self) -> Option<&Failure> {
        let failures = || self.0.iter().filter(|(concern, _)| !concern.is_upkeep).map(|(_, failure)| failure);
        failures().find(|failure| failure.stalled).or_else(|| failures().next())
    }

    /// What keeps `concern` from succeeding.
    pub fn of(&self, concern: Concern) -> Option<&Failure> {
        self.0.get(&concern)
    }

    /// A condition for each concern that fails; it goes when the concern succeeds.
    pub fn conditions(&self) -> impl Iterator<Item = NewCondition> {
        self.0.iter().filter_map(|(concern, failure)| {
            let Failure { reason, message, .. } = failure.clone();
            Some(NewCondition { kind: concern.condition?, status: true, reason, message })
        })
    }
}

/// Of several of one concern the first is told.
impl<'a> FromIterator<(Concern, &'a Failure)> for Failures {
    fn from_iter<I: IntoIterator<Item = (Concern, &'a Failure)>>(failures: I) -> Self {
        let mut first = BTreeMap::new();
        for (concern, failure) in failures.into_iter().filter(|(concern, _)| concern.condition.is_some()) {
            first.entry(concern).or_insert_with(|| failure.clone());
        }
        Self(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failing_concern_has_a_condition_and_what_lasts_is_told_first() {
        let failure =
            |stalled, message: &str| Failure { reason: "Forbidden", stalled, message: message.into() };
        let [gates, service] = ["Gates", "Service"].map(|name| Concern::new(name, name));
        let pruning = Concern::upkeep("Pruning", "Pruning");
        let all = [
            (pruning, failure(true, "old revision")),
            (gates, failure(false, "gate of a")),
            (gates, failure(false, "gate of b")),
            (service, failure(true, "service")),
            (WHOLE, failure(true, "all")),
        ];
        let failures: Failures = all.iter().map(|(concern, failure)| (*concern, failure)).collect();
        let told: Vec<_> = failures.conditions().map(|verdict| (verdict.kind, verdict.message)).collect();
        let of = |kind, message: &str| (kind, message.to_owned());
        assert_eq!(told, [of("Gates", "gate of a"), of("Pruning", "old revision"), of("Service", "service")]);
        assert_eq!(failures.first(), failures.of(service));
        let failures: Failures = [(pruning, &failure(true, "old revision"))].into_iter().collect();
        assert_eq!(failures.first(), None);
        assert!(!failures.is_empty());
    }
}
