//! What keeps policies from giving a namespace everything, from reconcile to reconcile.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use mainstay_runtime::outcome::Part;
use parking_lot::Mutex;

use crate::plan::Problem;

/// Why a policy could not give a namespace everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// As a condition names it.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// The reason of a problem that comes first: a token that was revoked is still valid.
pub(crate) const NOT_REVOKED: &str = "NotRevoked";

/// How many problems of a policy in a namespace are told one by one.
const TOLD: usize = 3;

impl Failing {
    /// What is wrong with each policy. The reason is that of the first problem.
    fn all(problems: &[&Problem]) -> BTreeMap<Arc<str>, Self> {
        let mut of = BTreeMap::<_, Vec<&Problem>>::new();
        problems.iter().for_each(|problem| of.entry(Arc::clone(&problem.policy)).or_default().push(problem));
        let told = |(policy, problems): (_, Vec<&Problem>)| {
            let told: Vec<_> = problems.iter().take(TOLD).map(|problem| &*problem.message).collect();
            let left = problems.len() - told.len();
            let and = if left > 0 { format!("; and {left} more problems") } else { String::new() };
            (policy, Self { reason: problems[0].reason, message: told.join("; ") + &and })
        };
        of.into_iter().map(told).collect()
    }
}

/// What a reconcile could not do, beside what its plan says.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// What failed, now or when it was last tried.
    pub(crate) failed: BTreeMap<Part, Problem>,
    /// The policies of which it is not known yet whether they have everything.
    pub(crate) unknown: BTreeSet<Arc<str>>,
}

impl Trouble {
    /// What came of each policy, with all that keeps it from having everything: an account comes before what needs it, and what
    /// the plan says before what failed.
    pub(crate) fn outcomes<'a>(
        &self,
        policies: impl Iterator<Item = &'a Arc<str>>,
        problems: &[Problem],
    ) -> OfPolicies {
        let known = policies.filter(|policy| !self.unknown.contains(*policy));
        let mut outcomes: OfPolicies = known.map(|policy| (Arc::clone(policy), None)).collect();
        let mut problems: Vec<_> = problems.iter().chain(self.failed.values()).collect();
        problems.sort_by_key(|problem| problem.reason != NOT_REVOKED);
        let failing = Failing::all(&problems);
        outcomes.extend(failing.into_iter().map(|(policy, failing)| (policy, Some(failing))));
        outcomes
    }
}

/// What came of each policy.
type OfPolicies = BTreeMap<Arc<str>, Option<Failing>>;

/// What came of the last reconcile over each namespace: for each policy that gives it something, whether it has everything, and
/// what failed.
#[derive(Debug, Default)]
pub struct Outcomes(Mutex<HashMap<Arc<str>, Last>>);

/// What came of the last reconcile over a namespace, and what failed in it.
type Last = (OfPolicies, BTreeMap<Part, Problem>);

impl Outcomes {
    /// What came of `policy` in `namespace`; `None` when there was no reconcile yet.
    pub fn of(&self, namespace: &str, policy: &str) -> Option<Option<Failing>> {
        self.0.lock().get(namespace)?.0.get(policy).cloned()
    }

    /// What failed in `namespace`.
    pub(crate) fn failed(&self, namespace: &str) -> BTreeMap<Part, Problem> {
        self.0.lock().get(namespace).map(|(_, failed)| failed.clone()).unwrap_or_default()
    }

    /// Notes what came of a reconcile. Returns whether it is another than before, by policy.
    pub(crate) fn note(
        &self,
        namespace: &Arc<str>,
        now: OfPolicies,
        failed: BTreeMap<Part, Problem>,
    ) -> Vec<Arc<str>> {
        let (before, _) =
            self.0.lock().insert(Arc::clone(namespace), (now.clone(), failed)).unwrap_or_default();
        let policies = before.keys().chain(now.keys()).collect::<BTreeSet<_>>();
        policies.into_iter().filter(|policy| before.get(*policy) != now.get(*policy)).cloned().collect()
    }

    /// Forgets a namespace that is gone.
    pub fn forget(&self, namespace: &str) {
        self.0.lock().remove(namespace);
    }
}

#[cfg(test)]
mod tests {
    use mainstay_runtime::outcome::Concern;

    use super::*;

    fn problem(policy: &str, message: &str) -> Problem {
        let reason = if message == "one" { "Conflict" } else { "Forbidden" };
        Problem { policy: policy.into(), reason, message: message.into() }
    }

    #[test]
    fn each_problem_of_a_policy_is_told_and_many_are_counted() {
        let all = ["one", "two", "three", "four", "five"].map(|message| problem("p", message));
        let [few, many] =
            [2, 5].map(|count| Failing::all(&all[..count].iter().collect::<Vec<_>>())["p"].clone());
        assert_eq!((few.reason, &*few.message), ("Conflict", "one; two"));
        assert_eq!(&*many.message, "one; two; three; and 2 more problems");
        assert_eq!(Failing::all(&[&problem("q", "two"), &problem("p", "one")])["q"].message, "two");
    }

    #[test]
    fn a_token_that_is_still_valid_comes_first_and_what_is_not_known_is_not_told() {
        let [of_plan, refused] = ["one", "two"].map(|message| problem("p", message));
        let mut valid = problem("p", "three");
        valid.reason = NOT_REVOKED;
        let parts = ["a", "b"].map(|name| (Concern::untold("Tokens"), Some(name.into())));
        let trouble = Trouble {
            failed: parts.into_iter().zip([refused, valid]).collect(),
            unknown: ["q", "p"].map(Into::into).into(),
        };
        let outcomes = trouble.outcomes(["p", "q", "r"].map(Arc::from).iter(), &[of_plan]);
        let failing = Failing { reason: NOT_REVOKED, message: "three; one; two".into() };
        assert_eq!(outcomes, [("p".into(), Some(failing)), ("r".into(), None)].into());
    }
}
