//! What the slices of a pool are to hold: pure, no client and no clock.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use mainstay_runtime::clock::Moment;

use crate::{
    checker::{State, Target},
    choose::{self, Candidate, Choice, Policy, Use, choose},
    health::Verdict,
    observe::Member,
    pack::{self, Item},
    watched::{Conditions, Distribution, Endpoint, EndpointKey, Family, Group, Service, Slice},
};

/// An endpoint in one of the pool's slices: with other ports it is another one.
pub type Place = (Group, EndpointKey);

/// What is remembered of the last plan. Lost with the process; [`Memory::resumed`] finds most of it in the slices.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// What the last choice left.
    pub choice: choose::Memory,
    /// Who was in use.
    pub admitted: HashSet<Target>,
    /// Until when endpoints that leave are kept.
    pub draining: HashMap<Place, Moment>,
}

/// What a plan is made from.
pub struct Input<'a> {
    /// The pool's Service.
    pub service: &'a Service,
    /// Its members.
    pub members: &'a [Member],
    /// What their checks say; `None` when none are configured.
    pub states: Option<&'a HashMap<Target, State>>,
    /// Its slices as they stand.
    pub slices: &'a [Arc<Slice>],
    /// Which members are used.
    pub policy: &'a Policy,
    /// For how long endpoints that leave are kept.
    pub drain: Duration,
    /// What is remembered of the last plan.
    pub memory: &'a Memory,
    /// Whether an endpoint that is no member any more still has its server.
    pub still_runs: &'a dyn Fn(&Endpoint) -> bool,
}

/// What the slices are to hold, and why.
#[derive(Debug)]
pub struct Plan {
    /// What each group of slices is to hold.
    pub wanted: BTreeMap<Group, Vec<Endpoint>>,
    /// Who is used; one for each member.
    pub choice: Choice,
    /// What the next plan has to be given.
    pub memory: Memory,
    /// When time alone changes the plan.
    pub due: Option<Moment>,
}

/// Plans the endpoints of a pool.
pub fn plan(input: &Input<'_>, now: Moment) -> Plan {
    let candidates: Vec<_> = input.members.iter().map(|member| candidate(member, input)).collect();
    let choice = choose(&candidates, input.policy, &input.memory.choice, now);
    let mut wanted: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    let mut admitted = HashSet::new();
    for ((member, candidate), used) in input.members.iter().zip(&candidates).zip(&choice.uses) {
        if used.is_used() {
            admitted.insert(member.target.clone());
        }
        if let Some(endpoint) = endpoint(member, candidate, *used, input.service) {
            wanted.entry(group_of(member)).or_default().push(endpoint);
        }
    }
    let draining = drain(&mut wanted, input, now);
    for family in &input.service.families {
        if !wanted.keys().any(|group| group.family == *family) {
            // As upstream: one slice without endpoints and ports says that there are none.
            wanted.insert(Group { family: *family, ports: Arc::default() }, Vec::new());
        }
    }
    let due = draining.values().copied().chain(choice.due).min();
    let memory = Memory { choice: choice.memory.clone(), admitted, draining };
    Plan { wanted, choice, memory, due }
}

fn candidate(member: &Member, input: &Input<'_>) -> Candidate {
    let state = input.states.map(|states| states.get(&member.target));
    Candidate {
        tier: member.tier,
        serving: member.is_ready(),
        verdict: state.map(|state| state.map_or(Verdict::Unknown, |state| state.verdict)),
        verdict_since: state.flatten().map(|state| state.since).unwrap_or_default(),
        admitted: input.memory.admitted.contains(&member.target),
        leaving: member.is_terminating(),
    }
}

fn group_of(member: &Member) -> Group {
    Group { family: Family::of(&member.endpoint.address), ports: Arc::clone(&member.ports) }
}

/// The endpoint of a member, if it gets one. Those that nothing is known of yet have none, so that nothing has to be
/// taken back.
fn endpoint(member: &Member, candidate: &Candidate, used: Use, service: &Service) -> Option<Endpoint> {
    if used == Use::Unchecked && !service.publish_not_ready {
        return None;
    }
    let passing = matches!(candidate.verdict, None | Some(Verdict::Passing));
    let conditions = Conditions {
        ready: service.publish_not_ready || used.is_used(),
        serving: candidate.serving && passing,
        terminating: candidate.leaving,
    };
    let mut endpoint = Endpoint { conditions, ..member.endpoint.clone() };
    if conditions.ready {
        let node = service.distribution == Distribution::SameNode;
        let zone = service.distribution != Distribution::Anywhere;
        endpoint.hint_zone = endpoint.zone.clone().filter(|_| zone);
        endpoint.hint_node = endpoint.node.clone().filter(|_| node);
    }
    Some(endpoint)
}

/// Keeps endpoints that are no members any more for as long as they drain. Returns until when.
fn drain(
    wanted: &mut BTreeMap<Group, Vec<Endpoint>>,
    input: &Input<'_>,
    now: Moment,
) -> HashMap<Place, Moment> {
    let mut draining = HashMap::new();
    if input.drain.is_zero() {
        return draining;
    }
    let held: HashSet<Place> = wanted
        .iter()
        .flat_map(|(group, endpoints)| endpoints.iter().map(|endpoint| (group.clone(), endpoint.key())))
        .collect();
    for slice in input.slices {
        for endpoint in &slice.endpoints {
            let place = (slice.group.clone(), endpoint.key());
            if held.contains(&place) || !endpoint.conditions.serving || !(input.still_runs)(endpoint) {
                continue;
            }
            let until = input.memory.draining.get(&place).copied().unwrap_or(now.saturating_add(input.drain));
            if until > now && input.service.families.contains(&slice.group.family) {
                wanted.entry(slice.group.clone()).or_default().push(leaving(endpoint));
                draining.insert(place, until);
            }
        }
    }
    draining
}

fn leaving(endpoint: &Endpoint) -> Endpoint {
    let conditions = Conditions { ready: false, serving: true, terminating: true };
    Endpoint { conditions, hint_zone: None, hint_node: None, ..endpoint.clone() }
}

impl Memory {
    /// What a former leader left in the slices and in the status.
    pub fn resumed(members: &[Member], slices: &[Arc<Slice>], tier: Option<u8>) -> Self {
        let found = Standing::of(slices);
        let used = members
            .iter()
            .filter(|member| found.conditions(member).is_some_and(|conditions| conditions.ready));
        Self {
            choice: choose::Memory { tier, ..choose::Memory::default() },
            admitted: used.map(|member| member.target.clone()).collect(),
            draining: HashMap::new(),
        }
    }
}

/// The conditions of endpoints as they stand in slices.
pub struct Standing(HashMap<Place, Conditions>);

impl Standing {
    /// Those of `slices`.
    pub fn of(slices: &[Arc<Slice>]) -> Self {
        let endpoints =
            slices.iter().flat_map(|slice| slice.endpoints.iter().map(move |endpoint| (slice, endpoint)));
        Self(
            endpoints
                .map(|(slice, endpoint)| ((slice.group.clone(), endpoint.key()), endpoint.conditions))
                .collect(),
        )
    }

    fn conditions(&self, member: &Member) -> Option<Conditions> {
        self.0.get(&(group_of(member), member.endpoint.key())).copied()
    }

    /// What was decided of a member, as far as its endpoint tells: one that serves has passed. One that does not has
    /// failed, unless its pod was not ready when it was written, which only a `new_leader` has to ask itself.
    pub fn verdict(&self, member: &Member, new_leader: bool) -> Option<Verdict> {
        let conditions = self.conditions(member)?;
        match conditions {
            _ if conditions.serving => Some(Verdict::Passing),
            _ if new_leader && member.is_ready() => Some(Verdict::Failing),
            _ => None,
        }
    }
}

/// What to write so that the slices hold what is wanted: see [`pack`]. `standing` says whether a slice may be kept as
/// it is apart from its endpoints.
pub fn slices(
    wanted: &BTreeMap<Group, Vec<Endpoint>>,
    existing: &[Arc<Slice>],
    max: usize,
    is_current: impl Fn(&Slice) -> bool,
) -> pack::Plan<Group, Endpoint> {
    let existing = existing.iter().enumerate().map(|(id, slice)| {
        let outdated = slice.tampered || !is_current(slice);
        let items = slice.endpoints.clone();
        (slice.group.clone(), pack::Slice { id, items, recyclable: true, outdated })
    });
    let existing: Vec<_> = existing.collect();
    pack::plan(wanted, &existing, max, |one, other| one.family == other.family)
}
