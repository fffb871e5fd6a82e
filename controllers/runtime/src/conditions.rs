//! `metav1.Condition` lists that change only when a condition did.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// A condition as computed by a `status` module, before it is compared with the existing one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCondition {
    /// `type`.
    pub kind: &'static str,
    /// `True` or `False`.
    pub status: bool,
    /// CamelCase, of a fixed set.
    pub reason: &'static str,
    /// A message that says what is wrong and what to do.
    pub message: String,
}

/// Upstream's limit for the message of a condition (`metav1.Condition`, maxLength), in characters.
pub const MESSAGE_LIMIT: usize = 32_768;

/// The conditions of `verdicts`, in their order. `lastTransitionTime` is kept while the status is the same, so that an
/// unchanged verdict yields an equal condition and nothing is written.
pub fn merge(
    verdicts: Vec<NewCondition>,
    standing: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    // Conditions keep whole seconds: what is written must equal what is read.
    let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let merge_one = |verdict: NewCondition| {
        let status = if verdict.status { "True" } else { "False" };
        let since = standing
            .iter()
            .find(|condition| condition.type_ == verdict.kind && condition.status == status)
            .map_or_else(|| Time(second), |condition| condition.last_transition_time.clone());
        Condition {
            type_: verdict.kind.into(),
            status: status.into(),
            reason: verdict.reason.into(),
            message: verdict.message.chars().take(MESSAGE_LIMIT).collect(),
            observed_generation: generation,
            last_transition_time: since,
        }
    };
    verdicts.into_iter().map(merge_one).collect()
}

/// Whether conditions differ in their sentences and times at most.
pub fn same_heads(some: &[Condition], others: &[Condition]) -> bool {
    fn head(condition: &Condition) -> [&str; 3] {
        [&condition.type_, &condition.status, &condition.reason]
    }
    some.iter().map(head).eq(others.iter().map(head))
}

/// A count as a status keeps it.
pub fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The full second in which `time` is: a status keeps no more of it.
pub fn second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: bool, reason: &'static str) -> Vec<NewCondition> {
        vec![NewCondition { kind: "Ready", status, reason, message: "m".into() }]
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = merge(ready(false, "ScalingUp"), &[], Some(1), at(100));
        let same_status = merge(ready(false, "PodsNotReady"), &first, Some(1), at(200));
        assert_eq!(same_status[0].last_transition_time, Time(at(100)));
        assert_eq!(same_status[0].reason, "PodsNotReady");
        let flipped = merge(ready(true, "AllAvailable"), &same_status, Some(1), at(300));
        assert_eq!(flipped[0].last_transition_time, Time(at(300)));
        assert_eq!(merge(ready(true, "AllAvailable"), &flipped, Some(1), at(400)), flipped);
        assert!(!same_heads(&first, &same_status) && !same_heads(&same_status, &flipped));
        assert!(same_heads(&first, &merge(ready(false, "ScalingUp"), &[], Some(2), at(500))));
    }
}
