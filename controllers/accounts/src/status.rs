//! The status of a policy. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mainstay_crds::{
    AccountPolicy, AccountPolicyStatus, FailingNamespace, LeavingNamespace, NamespaceCounts, TokenExpiry,
};
use mainstay_runtime::{
    conditions::{NewCondition, merge, number, second},
    outcome::Failures,
};

use crate::{failing::Failing, settings::SettingsError};

/// The most namespaces that a status lists as failing.
const MOST_FAILING: usize = 20;
/// The most tokens that a status lists.
const MOST_TOKENS: usize = 10;
/// The most namespaces that a status lists as leaving.
const MOST_LEAVING: usize = 1000;

/// What is seen of a policy in all namespaces.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// How many namespaces it picks.
    pub(crate) total: usize,
    /// How many of them have everything.
    pub(crate) ready: usize,
    /// Those that cannot be given everything, in the order of their names.
    pub(crate) failing: Vec<(Arc<str>, Failing)>,
    /// Those that it picks no more, and that could not be rid of all that they were given.
    pub(crate) stuck: Vec<(Arc<str>, Failing)>,
    /// What keeps its finalizer from being set or removed.
    pub(crate) refused: Failures,
    /// Those that it picks no more.
    pub(crate) leaving: Vec<(Arc<str>, Timestamp)>,
    /// Its tokens: when each ends, namespace and name.
    pub(crate) tokens: Vec<(Timestamp, Arc<str>, Arc<str>)>,
    /// Secrets with tokens that never end.
    pub(crate) non_expiring: usize,
    /// How many objects it has, when it goes.
    pub(crate) left: Option<usize>,
}

/// The status of a policy.
pub(crate) fn told(policy: &AccountPolicy, told: &Told, now: Timestamp) -> AccountPolicyStatus {
    let Told { total, ready, failing, stuck, refused, leaving, tokens, non_expiring, left } = told;
    let verdict = |kind, status, reason, message: &str| NewCondition {
        kind,
        status,
        reason,
        message: message.to_owned(),
    };
    let (is_ready, reason, message) = match (left, failing.first()) {
        (Some(left), _) => (false, "Deleting", deleting(*left, stuck, refused)),
        (None, Some((namespace, first))) => {
            let message = format!(
                "{} of {total} namespaces lack an object of the policy; {namespace}: {}",
                failing.len(),
                first.message
            );
            (false, first.reason, message)
        }
        (None, None) if !stuck.is_empty() => {
            let (namespace, first) = &stuck[0];
            let message = format!(
                "{} namespaces that are no longer selected still have an object of the policy; {namespace}: {}",
                stuck.len(),
                first.message
            );
            (false, first.reason, message)
        }
        (None, None) if ready < total => {
            (false, "Giving", format!("{ready} of {total} namespaces have all objects of the policy"))
        }
        (None, None) => (true, "AllReady", format!("{total} namespaces have all objects of the policy")),
    };
    let has_eternal = *non_expiring > 0;
    let eternal_message = if has_eternal {
        format!(
            "{non_expiring} Secrets of type kubernetes.io/service-account-token have tokens that never expire: \
             replace them"
        )
    } else {
        String::new()
    };
    let mut verdicts = vec![
        verdict("Ready", is_ready, reason, &message),
        verdict("Reconciling", !is_ready, reason, &message),
        verdict("Stalled", false, "None", ""),
        verdict("EternalTokens", has_eternal, if has_eternal { "Found" } else { "None" }, &eternal_message),
    ];
    verdicts.extend(refused.conditions());
    AccountPolicyStatus {
        observed_generation: policy.metadata.generation.unwrap_or_default(),
        namespaces: NamespaceCounts {
            total: number(*total),
            ready: number(*ready),
            failing: number(failing.len() + stuck.len()),
        },
        failing: failing
            .iter()
            .chain(stuck)
            .take(MOST_FAILING)
            .map(|(namespace, failing)| FailingNamespace {
                name: namespace.to_string(),
                reason: failing.reason.to_owned(),
                message: failing.message.clone(),
            })
            .collect(),
        leaving: leaving
            .iter()
            .take(MOST_LEAVING)
            .map(|(namespace, at)| LeavingNamespace { name: namespace.to_string(), at: Time(second(*at)) })
            .collect(),
        tokens: number(tokens.len()),
        soonest_expiry: tokens
            .iter()
            .take(MOST_TOKENS)
            .map(|(expires, namespace, name)| TokenExpiry {
                namespace: namespace.to_string(),
                name: name.to_string(),
                expires: Time(second(*expires)),
            })
            .collect(),
        eternal_tokens: number(*non_expiring),
        conditions: conditions(policy, verdicts, now),
    }
}

/// What keeps a policy that was deleted: what is left of it, and the first refusal.
fn deleting(left: usize, stuck: &[(Arc<str>, Failing)], refused: &Failures) -> String {
    let mut message = format!("{left} objects are still to be deleted");
    if let Some((namespace, first)) = stuck.first() {
        message.push_str(&format!("; namespace {namespace}: {}", first.message));
    }
    if let Some(refused) = refused.first() {
        message.push_str(&format!("; {}", refused.message));
    }
    message
}

/// The status of a policy that cannot be carried out.
pub(crate) fn unusable(policy: &AccountPolicy, error: &SettingsError, now: Timestamp) -> AccountPolicyStatus {
    let verdict =
        |kind, status| NewCondition { kind, status, reason: error.reason(), message: error.to_string() };
    AccountPolicyStatus {
        observed_generation: policy.metadata.generation.unwrap_or_default(),
        conditions: conditions(policy, vec![verdict("Ready", false), verdict("Stalled", true)], now),
        ..policy.status.clone().unwrap_or_default()
    }
}

fn conditions(
    policy: &AccountPolicy,
    verdicts: Vec<NewCondition>,
    now: Timestamp,
) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let standing = policy.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    merge(verdicts, standing, policy.metadata.generation, now)
}

#[cfg(test)]
mod tests {
    use mainstay_runtime::outcome::{Concern, Failure};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_that_cannot_be_deleted_says_what_keeps_it() {
        let policy = json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "AccountPolicy", "metadata": {"name": "p"},
            "spec": {"namespaceSelector": {}},
        });
        let policy: AccountPolicy = serde_json::from_value(policy).unwrap();
        let failing = |message: &str| Failing { reason: "Forbidden", message: message.into() };
        let status_of = |seen: &Told| told(&policy, seen, Timestamp::UNIX_EPOCH);
        let ready = |status: &AccountPolicyStatus| {
            let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
            (ready.reason.clone(), ready.message.clone())
        };
        let stuck = vec![("ns".into(), failing("could not delete ServiceAccount bot: no"))];
        let going = status_of(&Told { left: Some(1), stuck: stuck.clone(), ..Told::default() });
        assert_eq!(ready(&going).0, "Deleting");
        assert!(ready(&going).1.contains("namespace ns: could not delete ServiceAccount bot"), "{going:?}");
        assert_eq!((going.failing.len(), going.namespaces.failing), (1, 1));
        // One that stays, and a namespace that it no longer selects.
        assert_eq!(ready(&status_of(&Told { stuck, ..Told::default() })).0, "Forbidden");

        let refused = Failure { reason: "Forbidden", stalled: true, message: "the finalizer: no".into() };
        let concern = Concern::new("Finalizer", "FinalizerFailed");
        let refused: Failures = [(concern, &refused)].into_iter().collect();
        let last = status_of(&Told { left: Some(0), refused, ..Told::default() });
        assert!(ready(&last).1.contains("the finalizer: no"), "{last:?}");
        assert!(last.conditions.iter().any(|condition| condition.type_ == "FinalizerFailed"));
    }
}
