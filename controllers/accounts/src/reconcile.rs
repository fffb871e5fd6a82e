//! One reconcile over one namespace: observe, plan, apply.
//!
//! A namespace is what a reconcile is about, so that one that fails is tried again alone and holds up no other. What comes of
//! it is told by the policies' own reconcile ([`crate::policies`]).

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use mainstay_runtime::{
    backoff::Growth,
    failure::RequestError,
    index::ObjectKey,
    outcome::{self, Concern, Outcomes as Ended, Turn},
    reconcile::{ReconcileError, Reconciler, Work},
    slim::MetadataOf,
};
use parking_lot::Mutex;

use crate::{
    announce::Announcer,
    apply::{ApplyError, Done, Writer},
    failing::{NOT_REVOKED, Outcomes, Trouble},
    plan::{Action, Observed, Part, Plan, Problem, Unseen, Why, plan},
    server_clock::ServerClock,
    stores::Stores,
};

/// When a reconcile that waits for the store looks again, should no event come first.
const RECHECK: Duration = Duration::from_secs(1);
/// When one looks again that had something to do: later and later, as long as it is the same.
const AGAIN: Growth = Growth { first: RECHECK, cap: Duration::from_secs(60) };

/// Reads without which nothing can be decided.
const READS: Concern = Concern::untold("Reads");
/// Looking for Secrets that no watch shows. What may stand in the place of one is left alone meanwhile, and nothing else.
const LOOKS: Concern = Concern::untold("Lookups");
/// Making and changing accounts.
const ACCOUNTS: Concern = Concern::untold("Accounts");
/// Making and changing bindings.
const BINDINGS: Concern = Concern::untold("Bindings");
/// Copying pull secrets.
const COPIES: Concern = Concern::untold("Copies");
/// Issuing tokens.
const TOKENS: Concern = Concern::untold("Tokens");
/// Taking back what a policy gives no more, revoked tokens among it.
const REMOVAL: Concern = Concern::untold("Removal");
/// What a plan may have to do.
const CONCERNS: [Concern; 5] = [ACCOUNTS, BINDINGS, COPIES, TOKENS, REMOVAL];

/// The reconcile over namespaces, with all that it reads and writes.
pub struct Namespaces {
    /// What reconciles read.
    pub stores: Stores,
    /// What reconciles write with.
    pub writer: Writer,
    /// Tells people and Prometheus.
    pub announcer: Announcer,
    /// The API server's clock.
    pub server_clock: ServerClock,
    /// What came of the last reconcile over each namespace.
    pub outcomes: Arc<Outcomes>,
    /// How many requests for one namespace may be under way.
    pub max_in_flight: usize,
    /// The policies' loop, which is told.
    pub policies: Arc<Work>,
    /// What reconciles had to do again and again.
    pub repeated: Repeated,
}

/// What the last reconcile over each namespace had to do, and for how many reconciles it has been the same. What stands in the way
/// of it is not always watched, such as a Secret of no policy, so reconciles look again by themselves.
#[derive(Debug, Default)]
pub struct Repeated(Mutex<HashMap<Arc<str>, ToDo>>);

/// What a reconcile had to do, and what it found that no watch shows.
type Found = (Vec<Action>, BTreeMap<Arc<str>, Unseen>);
/// The same, and for how many reconciles it has been so.
type ToDo = (Found, u32);

impl Repeated {
    /// When a reconcile that had this to do is followed by another; `None` when there was nothing.
    fn again(&self, namespace: &Arc<str>, found: Found) -> Option<Duration> {
        let mut repeated = self.0.lock();
        if found == Found::default() {
            repeated.remove(namespace);
            return None;
        }
        let (before, times) = repeated.entry(Arc::clone(namespace)).or_default();
        *times = if *before == found { *times + 1 } else { 1 };
        *before = found;
        Some(AGAIN.delay(*times))
    }

    /// Forgets a namespace that is gone.
    pub fn forget(&self, namespace: &str) {
        self.0.lock().remove(namespace);
    }
}

impl Reconciler for Namespaces {
    type Object = MetadataOf<v1::Namespace>;

    async fn reconcile(self: Arc<Self>, namespace: Arc<MetadataOf<v1::Namespace>>, turn: Turn) -> Ended {
        let (mut ended, key) = (Ended::default(), ObjectKey::of(&*namespace));
        if turn.held(READS).is_some() {
            return ended;
        }
        match ended.note(READS, self.writer.may_write(&key).await) {
            Some(true) => {}
            Some(false) => {
                ended.again(Some(RECHECK));
                return ended;
            }
            None => return ended,
        }
        let now = self.server_clock.now();
        let giving = self.stores.giving();
        let Some(mut observed) = self.stores.observe(&giving.policies, &key, now) else { return ended };
        if turn.held(LOOKS).is_none() {
            ended.note(LOOKS, self.writer.look(&key, &mut observed).await);
        } else {
            self.writer.leave_unknown(&key, &mut observed);
        }
        self.writer.note_unbound(&key, &mut observed);
        let plan = plan(&observed, now);
        let mut trouble = Trouble::default();
        let all = self.carry_out(&key, (&observed, &plan), &turn, &mut trouble, &mut ended).await;
        drop(giving);
        if all && !ended.failed() {
            self.announcer.repaired(plan.repairs);
        }
        let desired = observed.desired.iter().map(|desired| &desired.policy);
        let outcomes = trouble.outcomes(desired, &plan.problems);
        for policy in self.outcomes.note(&key.name, outcomes, trouble.failed) {
            self.policies.trigger(&ObjectKey::new("", &policy));
        }
        let left = |due: Timestamp| {
            Duration::try_from(due.duration_since(self.server_clock.now())).unwrap_or_default()
        };
        ended.again(plan.due.map(left));
        // What failed is tried again by its own backoff, and nothing before.
        let failed = ended.failed() || plan.actions.iter().any(|action| action.is_held(&turn));
        ended.again(self.repeated.again(&key.name, (plan.actions, observed.unseen)).filter(|_| !failed));
        ended
    }

    fn forget(&self, key: &ObjectKey) {
        self.writer.forget(key);
        self.outcomes.forget(&key.name);
        self.repeated.forget(&key.name);
        self.stores.leaving.lock().retain(|(_, namespace), _| *namespace != key.name);
    }
}

impl Namespaces {
    /// Carries out actions that do not need one another.
    fn apply<'a, 'b>(
        &'b self,
        key: &'b ObjectKey,
        actions: Vec<&'a Action>,
    ) -> impl Stream<Item = (&'a Action, Result<Done, ApplyError>)> + use<'a, 'b>
    where
        'a: 'b,
    {
        let under_way = actions.into_iter().map(move |action: &'a Action| {
            async move { (action, self.writer.apply(key, action).await) }.boxed()
        });
        stream::iter(under_way).buffered(self.max_in_flight)
    }

    /// Carries out what can be: what fails for one thing is no reason not to do another. Returns whether all was tried.
    async fn carry_out(
        &self,
        key: &ObjectKey,
        (observed, plan): (&Observed, &Plan),
        turn: &Turn,
        trouble: &mut Trouble,
        ended: &mut Ended,
    ) -> bool {
        CONCERNS.iter().for_each(|concern| ended.well(*concern));
        let (held, due): (Vec<_>, Vec<_>) = plan.actions.iter().partition(|action| action.is_held(turn));
        held.iter().for_each(|action| ended.waits(action.part()));
        trouble.failed = self.outcomes.failed(&key.name);
        trouble.failed.retain(|part, _| held.iter().any(|action| action.part() == *part));
        // An account is there before a token of it is asked for, and what is revoked ends before it is said to have ended;
        // nothing else waits for another. Of an account that is not there no token is given: its handle would be made for
        // nothing.
        let (tokens, others): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|action| matches!(action, Action::Issue { .. }));
        let Some(undone) = self.apply_all(key, observed, others, trouble, ended).await else { return false };
        let undone: Vec<_> = held.iter().copied().chain(undone).collect();
        let revokes =
            |issue: &Action, end: &&Action| end.ends_handle().is_some_and(|handle| issue.revokes(handle));
        let is_first = |issue: &Action, other: &&Action| revokes(issue, other) || issue.needs(other);
        let (wait, tokens): (Vec<_>, Vec<_>) =
            tokens.into_iter().partition(|issue| undone.iter().any(|other| is_first(issue, other)));
        for issue in &wait {
            ended.waits(issue.part());
            // Where the store was found behind the server, it is about to show what stands.
            let is_refused = |end: &&Action| held.contains(end) || ended.fails(&end.part());
            let refused = undone.iter().any(|end| revokes(issue, end) && is_refused(end));
            if let (true, Some(policy), Action::Issue { output, .. }) = (refused, issue.policy(), issue) {
                let message = format!(
                    "the tokens of Secret {output} are to be revoked, and are still valid: their bound Secret could not \
                     be deleted"
                );
                let problem = Problem { policy: Arc::clone(policy), reason: NOT_REVOKED, message };
                trouble.failed.insert(issue.part(), problem);
            }
        }
        let all = held.is_empty() && wait.is_empty();
        self.apply_all(key, observed, tokens, trouble, ended).await.is_some() && all
    }

    /// Carries out these actions. Returns those that were not done; `None` in a namespace that goes, which takes all with it.
    async fn apply_all<'a>(
        &self,
        key: &ObjectKey,
        observed: &Observed,
        actions: Vec<&'a Action>,
        trouble: &mut Trouble,
        ended: &mut Ended,
    ) -> Option<Vec<&'a Action>> {
        let mut undone = Vec::new();
        let mut done = pin!(self.apply(key, actions));
        while let Some((action, result)) = done.next().await {
            let (reason, message) = match result {
                Ok(Done::Written) => {
                    self.announcer.done(key, action);
                    continue;
                }
                // The stores are about to show what stands; until then it is not known.
                Ok(Done::Stale) => {
                    trouble.unknown.extend(action.policy().cloned());
                    undone.push(action);
                    continue;
                }
                Ok(Done::NotPullSecret) => {
                    let Action::Copy(_, name, of, _) = action else { continue };
                    ("SourceType", of.not_pull_secret(name))
                }
                Err(error) => {
                    self.announcer.failed(action, &error);
                    ended.fail(action.part(), &error);
                    if matches!(error.request(), RequestError::NamespaceTerminating(_)) {
                        return None;
                    }
                    undone.push(action);
                    (error.request().reason(), error.to_string())
                }
            };
            if let Some(policy) = action.owner(observed).cloned() {
                trouble.failed.insert(action.part(), Problem { policy, reason, message });
            }
        }
        Some(undone)
    }
}

impl Action {
    /// What of a reconcile it is, and the object that it is about.
    fn part(&self) -> outcome::Part {
        let (concern, part, name) = match self {
            Self::MakeAccount(_, name, _) | Self::UpdateAccount { name, .. } => {
                (ACCOUNTS, Part::Account, name)
            }
            Self::MakeBinding(_, name, _) | Self::UpdateBinding { name, .. } => {
                (BINDINGS, Part::Binding, name)
            }
            Self::Copy(_, name, ..) => (COPIES, Part::Copy, name),
            Self::Issue { output, .. } => (TOKENS, Part::Token, output),
            Self::Mark(_, part, name, _) | Self::Delete(part, name, _) | Self::Release(part, name, _) => {
                (REMOVAL, *part, name)
            }
            Self::RestoreBinding(name, _) => (REMOVAL, Part::Binding, name),
            Self::Restore { name, .. } => (REMOVAL, Part::Account, name),
        };
        (concern, Some(format!("{part:?}/{name}").into()))
    }

    /// Whether it has failed, and is not to be tried again yet.
    fn is_held(&self, turn: &Turn) -> bool {
        let (concern, name) = self.part();
        turn.held_for(concern, name.as_deref().unwrap_or_default()).is_some()
    }

    /// The handle that it deletes.
    fn ends_handle(&self) -> Option<&Arc<str>> {
        let Self::Delete(Part::Handle, name, _) = self else { return None };
        Some(name)
    }

    /// Whether it issues a token because that of this handle is revoked.
    fn revokes(&self, handle: &str) -> bool {
        let Self::Issue { why: Why::Revoked, standing: Some(standing), .. } = self else { return false };
        standing.names(handle)
    }

    /// Whether it issues a token of the account that the other one makes.
    fn needs(&self, other: &Self) -> bool {
        let (Self::Issue { token, .. }, Self::MakeAccount(_, name, _)) = (self, other) else { return false };
        token.account == *name
    }

    /// The policy that cannot have, or be rid of, what this is about.
    fn owner<'a>(&'a self, observed: &'a Observed) -> Option<&'a Arc<str>> {
        match self {
            Self::Delete(part, name, _) | Self::Release(part, name, _) => observed.owner(*part, name),
            Self::RestoreBinding(name, _) => observed.owner(Part::Binding, name),
            Self::Restore { name, .. } => observed.owner(Part::Account, name),
            other => other.policy(),
        }
    }

    /// The policy for which it is done; `None` for what is removed.
    fn policy(&self) -> Option<&Arc<str>> {
        match self {
            Self::MakeAccount(policy, ..)
            | Self::MakeBinding(policy, ..)
            | Self::Copy(policy, ..)
            | Self::Mark(policy, ..) => Some(policy),
            Self::UpdateAccount { policy, .. }
            | Self::UpdateBinding { policy, .. }
            | Self::Issue { policy, .. } => Some(policy),
            Self::Delete(..) | Self::Release(..) | Self::RestoreBinding(..) | Self::Restore { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
