//! Turns the stores into what a plan needs: one value for one group, at one moment.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    ResourceExt,
    core::{Selector, SelectorExt},
};
use mainstay_crds::ReplicaGroup;
use mainstay_runtime::{index::ObjectKey, labels::Labels, node::ZONE};
use thiserror::Error;

use crate::{
    claim,
    names::REVISION,
    node::Node,
    plan::{self, Claim, Domains, MAX_SPREAD_KEYS, Plan, Policy, RevisionCounts, Strategy, Trouble},
    pod::{Bucket, Pod},
    revision::Revision,
    rollout::{self, Decision, Evidence, Look, Settings, State},
    slots::Slots,
    stores::Stores,
    upkeep::Upkeep,
};

mod in_place;
mod policy;
mod revisions;

pub(crate) use self::revisions::PREVIOUS;
pub use self::revisions::Revisions;

/// A group that cannot be planned.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// Admission refuses this; an object from before the rule may still carry it.
    #[error("spec.selector cannot be used: {0}")]
    Selector(#[source] kube::core::ParseExpressionError),
    /// Without a namespace and a UID an object has not come from the API server.
    #[error("the object has no {0}")]
    NotStored(&'static str),
}

/// Everything that decides what a group needs.
#[derive(Debug)]
pub struct Observed {
    /// Namespace and name of the group.
    pub key: ObjectKey,
    /// UID of the group.
    pub uid: Arc<str>,
    /// The group's selector.
    pub selector: Selector,
    /// What is wanted, apart from the revisions.
    pub policy: Policy,
    /// What is wanted of changes.
    pub settings: Settings,
    /// The revisions of the group.
    pub revisions: Revisions,
    /// What the group and its claims need besides the pods.
    pub upkeep: Upkeep,
    pub(crate) slots: Slots,
    pods: Vec<Member>,
    nodes: HashMap<Arc<str>, Place>,
    spread: Vec<String>,
}

/// What a group's change and its pods need now.
#[derive(Debug)]
pub struct Assessment {
    /// Which revisions are wanted.
    pub decision: Decision,
    /// What that means for the pods.
    pub plan: Plan,
    /// Active pods of the revision that the spec asks for.
    pub updated: usize,
    /// The pods of the target revision.
    pub target: RevisionCounts,
    /// Revisions that are kept no longer.
    pub prune: Vec<Arc<Revision>>,
    /// Whether pods are replaced that would be changed in place, were one of them allowed to be unavailable.
    pub none_may_be_unavailable: bool,
    /// How long new pods may still wait for room before that is told as what keeps the change from getting on.
    pub may_wait: Option<Duration>,
}

/// A pod that the group controls or may adopt.
#[derive(Debug)]
struct Member {
    pod: Arc<Pod>,
    claim: Claim,
    fully_labeled: bool,
}

/// What a group makes of a set of labels.
#[derive(Debug, Clone, Copy)]
struct Judged {
    selected: bool,
    fully_labeled: bool,
}

#[derive(Debug)]
struct Place {
    node: Option<Arc<Node>>,
    pods: usize,
}

impl Observed {
    /// Gathers the group's own pods and the orphans of its namespace. Costs what these cost, however many pods
    /// others have.
    ///
    /// # Errors
    /// [`ObserveError`], when the group itself cannot be used.
    pub fn gather(group: &ReplicaGroup, stores: &Stores) -> Result<Self, ObserveError> {
        group.namespace().ok_or(ObserveError::NotStored("namespace"))?;
        let uid: Arc<str> = group.uid().ok_or(ObserveError::NotStored("uid"))?.into();
        let selector = Selector::try_from(group.spec.selector.clone()).map_err(ObserveError::Selector)?;
        let key = ObjectKey::of(group);
        let own = stores.pods.bucket(&Bucket::ControlledBy(Arc::clone(&uid)));
        let orphans = stores.pods.bucket(&Bucket::Orphans(Arc::clone(&key.namespace)));
        let template = group.spec.template.metadata.as_ref().map(|metadata| &metadata.labels);
        let judge = |labels: &BTreeMap<String, String>| Judged {
            selected: selector.matches(labels),
            fully_labeled: template.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value)),
        };
        let mut policy = policy::of(group);
        let pods = members(own.into_iter().chain(orphans), policy.ending.is_some(), judge);
        policy.budgets = stores.budgets.count(&key.namespace) > 0;
        let slots = slots(group, &key, &pods, stores);
        policy.volumes = claim::are_wanted(group).then(|| policy::volumes(group, &slots));
        let mut nodes = HashMap::new();
        // Where pods run matters only when some of them are too many.
        let active =
            pods.iter().filter(|member| !member.pod.header.terminating && !member.pod.phase.is_terminal());
        if active.count() > policy.replicas {
            for node in pods.iter().filter_map(|member| member.pod.node.as_ref()) {
                if !nodes.contains_key(node) {
                    nodes.insert(Arc::clone(node), Place::of(node, stores));
                }
            }
        }
        Ok(Self {
            upkeep: upkeep(group, &uid, &pods, &slots, stores),
            slots,
            key,
            revisions: Revisions::of(group, &uid, stores),
            settings: Settings::of(group),
            uid,
            selector,
            policy,
            pods,
            nodes,
            spread: group.spec.scale_down.spread.iter().take(MAX_SPREAD_KEYS).cloned().collect(),
        })
    }

    /// Gives the orphans the claim that `refused` has for their names, if any: the group has its pods also where it may not
    /// adopt one. A group that is deleted adopts none, and takes its hook off each.
    pub fn leave(&mut self, mut refused: impl FnMut(&Arc<str>) -> Option<Claim>) {
        let stays = self.policy.ending.is_none();
        for member in self.pods.iter_mut().filter(|member| stays && member.claim == Claim::OrphanMatching) {
            member.claim = refused(&member.pod.header.key.name).unwrap_or(member.claim);
        }
    }

    /// What `group`, which this is about, needs at this look, given what is remembered of it and what has been seen of its
    /// change.
    pub fn assess(&self, group: &ReplicaGroup, state: &State, evidence: Evidence, look: &Look) -> Assessment {
        self.assess_if(false, group, state, evidence, look)
    }

    /// What can be done of that while nothing new can be decided: lost pods come back as what they were, and none has to go.
    pub fn repairs(&self, group: &ReplicaGroup, state: &State, evidence: Evidence, look: &Look) -> Plan {
        let Plan { adopt, adopt_again, release, create, open, counts, .. } =
            self.assess_if(true, group, state, evidence, look).plan;
        Plan { adopt, adopt_again, release, create, open, counts, ..Plan::default() }
    }

    fn assess_if(
        &self,
        repairs: bool,
        group: &ReplicaGroup,
        state: &State,
        mut evidence: Evidence,
        look: &Look,
    ) -> Assessment {
        let mut pods: Vec<_> = self.pods.iter().map(|member| self.view(member)).collect();
        evidence.look(look, self.settings.max_restarts, &mut pods);
        let now = look.wall;
        let excused = state.rollout.as_ref().map_or(0, |rollout| rollout.unschedulable);
        let by_revision = plan::counts(&pods, self.policy.min_ready, now, excused);
        let mut state = state.clone();
        state.pinned = self.revisions.pinned.clone();
        // To a revision whose template is lost nothing leads back.
        state.current.take_if(|current| !self.revisions.is_known(current));
        let number = |hash: &str| self.revisions.number(hash);
        state.stand_on_what_serves(&self.revisions.wanted, &by_revision, number);
        let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let wanted = self.wanted(&state);
        let unstored = self.holds_unstored(&wanted, &state);
        // A restart brings nothing new that would have to be tried out.
        let restarts = |current: &Arc<str>| self.revisions.only_restarts(current, &wanted, group);
        let is_restart = !self.settings.steps.is_empty() && state.current.as_ref().is_some_and(restarts);
        let settings = Settings {
            steps: if is_restart { Vec::new() } else { self.settings.steps.clone() },
            strategy: self.strategy(group, &wanted, &by_revision),
            paused: repairs || self.settings.paused || unstored && !state.has_failed(&wanted),
            repairs,
            ..self.settings.clone()
        };
        let mut decision = rollout::decide(&settings, &wanted, &state, evidence, &by_revision, second);
        if self.policy.ending.is_some() {
            // Pods that go with their group are no change that fails or succeeds.
            (decision.state, decision.news) = (state, Vec::new());
        }
        let policy = Policy {
            strategy: self.strategy(group, &decision.target, &by_revision),
            shares: decision.shares.clone(),
            keep: decision.keep.clone(),
            ..self.policy.clone()
        };
        self.find_changeable(group, &decision.target, &mut pods);
        let mut plan = plan::plan(&policy, &pods, now);
        plan.create.retain(|creation| !unstored || creation.revision != self.revisions.own);
        let updated = by_revision.get(&*decision.wanted).map_or(0, |counts| counts.active);
        let target = by_revision.get(&*decision.target).copied().unwrap_or_default();
        decision.keep_time(&self.settings, target, &plan);
        let none_may_be_unavailable =
            matches!(self.settings.strategy, Strategy::Rolling { unavailable: 0, .. })
                && self.change_in_place(group, &decision.target, &by_revision);
        let waits = decision.state.rollout.as_ref().filter(|_| decision.waiting > 0);
        let waited = |start: Timestamp| Duration::try_from(now.duration_since(start)).unwrap_or_default();
        let may_wait = waits.map(|rollout| self.settings.deadline.saturating_sub(waited(rollout.progressed)));
        let prune = self.superseded(group, &decision.state);
        Assessment { decision, plan, updated, target, prune, none_may_be_unavailable, may_wait }
    }

    /// A group whose spec names a revision that does not exist stays as it is, and does not forget what has failed.
    fn wanted(&self, state: &State) -> Arc<str> {
        let stays = self.revisions.unknown.is_some() && state.failed.is_none();
        let current = state.current.as_ref().filter(|_| stays);
        Arc::clone(current.unwrap_or(&self.revisions.wanted))
    }

    /// Whether nothing is brought to the `wanted` revision, because its template could not be kept. What the group is at
    /// already is repaired and scaled all the same.
    fn holds_unstored(&self, wanted: &Arc<str>, state: &State) -> bool {
        let Revisions { own, stored, .. } = &self.revisions;
        !stored && wanted == own && state.current.as_ref() != Some(own)
    }

    /// The pod that a plan names by its index.
    pub fn pod(&self, index: usize) -> &Arc<Pod> {
        &self.pods[index].pod
    }

    /// The revisions of `group`, which this is about, that nothing needs any more.
    pub(crate) fn superseded(&self, group: &ReplicaGroup, state: &State) -> Vec<Arc<Revision>> {
        let labelled = self.pods.iter().filter_map(|member| member.pod.labels.get(REVISION));
        self.revisions.superseded(group, state, labelled.map(String::as_str))
    }

    /// The pods of the group and the orphans that concern it.
    pub fn pods(&self) -> impl Iterator<Item = (&Arc<Pod>, Claim)> {
        self.pods.iter().map(|member| (&member.pod, member.claim))
    }

    fn view<'a>(&'a self, member: &'a Member) -> plan::Pod<'a> {
        let Member { pod, claim, fully_labeled } = member;
        let revision = pod.labels.get(REVISION).map(String::as_str);
        // An orphan without a revision is given this one when it is adopted.
        let adopted = (*claim == Claim::OrphanMatching).then_some(&*self.revisions.wanted);
        plan::Pod {
            name: &pod.header.key.name,
            uid: &pod.header.uid,
            claim: *claim,
            node: pod.node.as_deref().map(|name| self.place(name)),
            phase: pod.phase,
            terminating: pod.header.terminating,
            ready_since: pod.ready_since,
            created: pod.created,
            ended_at: pod.ended_at,
            deletion_cost: pod.deletion_cost,
            restarts: pod.restarts,
            sidecar_restarts: pod.sidecar_restarts,
            fully_labeled: *fully_labeled,
            revision: revision.or(adopted).unwrap_or_default(),
            // What befell a pod before it is adopted is no matter of its revision.
            crashes: if *claim == Claim::OrphanMatching { 0 } else { pod.crashes },
            blocker: pod.blocker.map(|cause| Trouble { cause, lasts: Duration::ZERO }),
            gate: pod.in_place.as_ref().map(|in_place| in_place.gate),
            hook: pod.hook.as_ref().map(|hook| plan::Hook { held: hook.held, since: hook.since }),
            changing: pod.in_place.as_ref().is_some_and(|in_place| in_place.changing),
            // The target revision is yet to be decided.
            in_place: None,
        }
    }

    fn place<'a>(&'a self, name: &'a str) -> plan::Node<'a> {
        let place = self.nodes.get(name);
        let node = place.and_then(|place| place.node.as_ref());
        let labels = node.map(|node| &node.labels);
        let mut domains: Domains<'a> = [None; MAX_SPREAD_KEYS];
        for (domain, key) in domains.iter_mut().zip(&self.spread) {
            *domain = labels.and_then(|labels| labels.get(key)).map(String::as_str);
        }
        let leaving = node.is_some_and(|node| node.leaving);
        plan::Node { name, domains, pods: place.map_or(0, |place| place.pods), leaving }
    }
}

/// The pods among `candidates` that the group controls or may adopt, and, of a group that is `going`, those that it may
/// have controlled and has left with a hook.
fn members(
    candidates: impl Iterator<Item = Arc<Pod>>,
    going: bool,
    judge: impl Fn(&BTreeMap<String, String>) -> Judged,
) -> Vec<Member> {
    // Pods of one template share their labels, so that nearly all are judged by the first one's.
    let mut last: Option<(Labels, Judged)> = None;
    let mut judged = |labels: &Labels| match &last {
        Some((known, judged)) if Arc::ptr_eq(known, labels) => *judged,
        _ => last.insert((Arc::clone(labels), judge(labels))).1,
    };
    let member = |pod: Arc<Pod>| {
        let Judged { selected, fully_labeled } = judged(&pod.labels);
        let claim = match (pod.controller.is_some(), selected) {
            (true, true) => Claim::Mine,
            (true, false) => Claim::MineUnmatched,
            (false, true) => Claim::OrphanMatching,
            (false, false) if going && pod.hook.is_some() => Claim::OrphanHooked,
            (false, false) => return None,
        };
        Some(Member { pod, claim, fully_labeled })
    };
    candidates.filter_map(member).collect()
}

impl Place {
    fn of(name: &Arc<str>, stores: &Stores) -> Self {
        Self {
            node: stores.nodes.get(&ObjectKey::new("", name)),
            pods: stores.pods.count(&Bucket::On(Arc::clone(name))),
        }
    }
}

fn own(pods: &[Member]) -> impl Iterator<Item = &Arc<Pod>> + Clone {
    let own = pods.iter().filter(|member| matches!(member.claim, Claim::Mine | Claim::MineUnmatched));
    own.map(|member| &member.pod)
}

fn slots(group: &ReplicaGroup, key: &ObjectKey, pods: &[Member], stores: &Stores) -> Slots {
    if !claim::are_wanted(group) {
        return Slots::default();
    }
    let holds = |slot: &Arc<str>| Bucket::Holding(Arc::clone(&key.namespace), Arc::clone(slot));
    let is_held = |slot: &Arc<str>| stores.pods.count(&holds(slot)) > 0;
    let is_complete = |claims: &[_]| claim::are_complete(claims, group);
    let holders = own(pods).filter(|pod| !pod.phase.is_terminal());
    let holders = holders.filter_map(|pod| Some((pod.slot.as_ref()?, !pod.header.terminating)));
    let is_own = |claim: &Arc<claim::Claim>| claim::is_own(group, &claim.header.key.name, &claim.slot);
    let (claims, copies) = stores.claims.bucket(key).into_iter().partition(is_own);
    Slots::of(claims, copies, holders, is_held, is_complete)
}

fn upkeep(group: &ReplicaGroup, uid: &str, pods: &[Member], slots: &Slots, stores: &Stores) -> Upkeep {
    let zone_of = |pod: &Pod| {
        let node = stores.nodes.get(&ObjectKey::new("", pod.node.as_ref()?))?;
        Some(node.labels.get(ZONE).map(String::as_str).unwrap_or_default().into())
    };
    // Pods that a group has just orphaned are nobody else's either.
    let going = group.metadata.deletion_timestamp.is_some();
    let concerned = pods
        .iter()
        .filter(|member| going || !matches!(member.claim, Claim::OrphanMatching | Claim::OrphanRefused));
    let held = concerned.filter_map(|member| member.pod.hook.as_ref()).any(|hook| hook.held);
    Upkeep::of(group, uid, own(pods), held, zone_of, slots)
}

#[cfg(test)]
mod tests;
