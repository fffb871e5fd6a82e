//! What the slices of a pool should contain: pure, no client and no clock.
//!
//! What is not known, the addresses of a name or the health of a member, removes no existing endpoint: a new leader
//! knows neither, and plans what its predecessor left.

mod less;
mod noted;
mod place;
mod standing;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use mainstay_runtime::clock::Moment;

use self::place::group_of;
pub use self::{
    less::{restricted, without_new},
    noted::Noted,
    place::Place,
    standing::Standing,
};
use crate::{
    checker::{State, Target},
    choose::{self, Candidate, Choice, Policy, Use, choose},
    health::Verdict,
    names::NOTES,
    observe::{Awaited, Kept, Member},
    pack::{self, Item},
    settings::MAX_MEMBERS,
    watched::{Conditions, Distribution, Endpoint, EndpointKey, Group, Service, Slice},
};

/// How long at most an address stays that a name no longer has, while its new addresses wait for their first check
/// result. A first check comes within a second, and one that fails is repeated a few times before there is a result.
const SUCCESSION: Duration = Duration::from_secs(10);

/// What is remembered of the last plan. Lost with the process; [`Memory::resumed`] finds most of it in the slices.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// What the last choice left.
    pub choice: choose::Memory,
    /// Who was in use, whatever set named them.
    pub admitted: HashSet<EndpointKey>,
    /// Until when endpoints that leave are kept.
    pub draining: HashMap<Place, Moment>,
    /// Since when names are waited for, by set and name.
    pub awaited: HashMap<(Arc<str>, Arc<str>), Moment>,
    /// The tiers of endpoints that are kept, where no slice notes them.
    pub kept: HashMap<Place, u8>,
}

/// What a plan is made from.
pub struct Input<'a> {
    /// The pool's Service.
    pub service: &'a Service,
    /// Its members.
    pub members: &'a [Member],
    /// Its names that have no members as long as nothing is known of them.
    pub awaited: &'a [Awaited],
    /// Endpoints that are to stay although they are no members.
    pub kept: &'a [Kept],
    /// Those of names that no longer resolve to them.
    pub exchanged: &'a [Kept],
    /// Whether it has DNS names.
    pub has_names: bool,
    /// What their checks say; `None` when none are configured.
    pub states: Option<&'a HashMap<Target, State>>,
    /// Its existing slices.
    pub slices: &'a [Arc<Slice>],
    /// The endpoints in them.
    pub standing: &'a Standing,
    /// Which members are used.
    pub policy: &'a Policy,
    /// For how long endpoints that leave are kept.
    pub drain: Duration,
    /// What is remembered of the last plan.
    pub memory: &'a Memory,
    /// Whether an endpoint that is no member any more may be kept while it drains: its server still runs, and it is not
    /// forbidden.
    pub may_drain: &'a dyn Fn(&Endpoint) -> bool,
}

/// What the slices are to hold, and why.
#[derive(Debug)]
pub struct Plan {
    /// What each group of slices is to hold.
    pub wanted: BTreeMap<Group, Vec<Endpoint>>,
    /// What slices are to note of it.
    pub noted: Noted,
    /// Who is used; one for each member.
    pub choice: Choice,
    /// What the next plan has to be given.
    pub memory: Memory,
    /// How many endpoints stay until what took their place has been checked.
    pub exchanged: usize,
    /// When time alone changes the plan.
    pub due: Option<Moment>,
}

/// Plans the endpoints of a pool.
pub fn plan(input: &Input<'_>, now: Moment) -> Plan {
    let since = |name: &Awaited| {
        let name = (Arc::clone(&name.set), Arc::clone(&name.name));
        let since = input.memory.awaited.get(&name).copied().unwrap_or(now);
        (name, since)
    };
    let awaited: HashMap<_, _> = input.awaited.iter().map(since).collect();
    let mut candidates: Vec<_> = input.members.iter().map(|member| candidate(member, input)).collect();
    candidates.extend(input.awaited.iter().map(|name| unknown(name.tier, since(name).1)));
    let mut choice = choose(&candidates, input.policy, &input.memory.choice, now);
    choice.uses.truncate(input.members.len());

    let mut wanted: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    let mut noted = Noted { has_names: input.has_names, ..Noted::default() };
    let mut admitted = HashSet::new();
    for ((member, candidate), used) in input.members.iter().zip(&candidates).zip(&choice.uses) {
        if used.is_used() {
            admitted.insert(member.endpoint.key());
        }
        if let Some(endpoint) = endpoint(member, candidate, *used, input) {
            note(&mut noted, member, candidate);
            wanted.entry(group_of(member)).or_default().push(endpoint);
        }
    }
    let exchanged = exchanged(input, &candidates, now);
    let staying = input.kept.iter().chain(exchanged.iter().map(|(kept, _)| *kept));
    let kept = keep(&mut wanted, &mut noted, input, staying, choice.tier);
    let draining = drain(&mut wanted, input, now);
    for family in &input.service.families {
        if !wanted.keys().any(|group| group.family == *family) {
            // As upstream: one slice without endpoints and ports says that there are none.
            wanted.insert(Group { family: *family, ports: Arc::default() }, Vec::new());
        }
    }
    let checked = exchanged.iter().map(|(_, until)| *until);
    let due = draining.values().copied().chain(choice.due).chain(checked).min();
    let memory = Memory { choice: choice.memory.clone(), admitted, draining, awaited, kept };
    Plan { wanted, noted, choice, memory, exchanged: exchanged.len(), due }
}

/// The endpoints that stay although their name no longer resolves to them, each until when: as long as a current
/// address of the name, which has no endpoint yet, waits for its first check result.
fn exchanged<'a>(input: &Input<'a>, candidates: &[Candidate], now: Moment) -> Vec<(&'a Kept, Moment)> {
    let mut until: HashMap<(&str, &str), Moment> = HashMap::new();
    for (member, candidate) in input.members.iter().zip(candidates) {
        if let (None, Some(name)) = (&member.pod, &member.name)
            && candidate.verdict == Some(Verdict::Unknown)
            && !input.standing.has(member)
        {
            let over = candidate.verdict_since.saturating_add(SUCCESSION);
            let until = until.entry((&*member.target.set, &**name)).or_default();
            *until = over.max(*until);
        }
    }
    let stays = |kept: &'a Kept| {
        let until = *until.get(&(&*kept.origin.0, &*kept.origin.1))?;
        (until > now).then_some((kept, until))
    };
    input.exchanged.iter().filter_map(stays).collect()
}

/// A name of which nothing is known counts as a member that has no verdict yet.
fn unknown(tier: u8, since: Moment) -> Candidate {
    Candidate {
        tier,
        serving: true,
        verdict: Some(Verdict::Unknown),
        verdict_since: since,
        admitted: false,
        leaving: false,
    }
}

fn candidate(member: &Member, input: &Input<'_>) -> Candidate {
    let state = input.states.map(|states| states.get(&member.target));
    Candidate {
        tier: member.tier,
        serving: member.is_ready(),
        verdict: state.map(|state| state.map_or(Verdict::Unknown, |state| state.verdict)),
        verdict_since: state.flatten().map(|state| state.since).unwrap_or_default(),
        admitted: input.memory.admitted.contains(&member.endpoint.key()),
        leaving: member.is_terminating(),
    }
}

/// The endpoint of a member, if it gets one. Members of unknown health get none, so that none has to be removed again;
/// a member that already has an endpoint keeps it, because it is not known either that it should have none. One that cannot
/// be reached gets none.
fn endpoint(member: &Member, candidate: &Candidate, used: Use, input: &Input<'_>) -> Option<Endpoint> {
    let service = input.service;
    if !member.is_reachable {
        return None;
    }
    if used == Use::Unchecked && !service.publish_not_ready && !input.standing.has(member) {
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

/// Notes what the endpoint of a member does not tell.
fn note(noted: &mut Noted, member: &Member, candidate: &Candidate) {
    let place = || (group_of(member), member.endpoint.key());
    if candidate.is_failing() {
        noted.failing.insert(place());
    }
    if let (None, Some(name)) = (&member.pod, &member.name) {
        noted.origins.insert(place(), (Arc::clone(&member.target.set), Arc::clone(name)));
        noted.tiers.insert(Arc::clone(&member.target.set), member.tier);
    }
}

/// Keeps existing endpoints until the names that may have them are known. They get traffic only while the tier that
/// they came from is active: two are never active at once, whatever the result of earlier writes was. Returns the
/// tiers that no slice records.
fn keep<'a>(
    wanted: &mut BTreeMap<Group, Vec<Endpoint>>,
    noted: &mut Noted,
    input: &Input<'_>,
    staying: impl Iterator<Item = &'a Kept>,
    in_use: Option<u8>,
) -> HashMap<Place, u8> {
    let mut tiers = HashMap::new();
    let before = &input.memory.choice;
    let before = before.tier.or(before.expected.map(|(tier, _)| tier));
    for Kept { group, endpoint, origin, tier } in staying {
        if !input.service.families.contains(&group.family) {
            continue;
        }
        let place = (group.clone(), endpoint.key());
        let Conditions { ready, serving, terminating } = endpoint.conditions;
        match tier {
            Some(tier) => _ = noted.tiers.entry(Arc::clone(&origin.0)).or_insert(*tier),
            None => {
                // What got traffic when it was first seen was of the tier in use.
                let first = input.memory.kept.get(&place).copied().or(before.filter(|_| ready));
                tiers.extend(first.map(|tier| (place.clone(), tier)));
            }
        }
        let ready = match (tier.as_ref().or(tiers.get(&place)), in_use) {
            (Some(tier), Some(in_use)) => *tier == in_use && (ready || serving),
            _ => ready,
        };
        if input.standing.fails(&place) {
            noted.failing.insert(place.clone());
        }
        noted.origins.insert(place, origin.clone());
        let conditions = Conditions { ready, serving, terminating };
        wanted.entry(group.clone()).or_default().push(Endpoint { conditions, ..endpoint.clone() });
    }
    tiers
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
    // By the address and not by the key, which tells more: what took an endpoint's place there is reached by the same clients.
    let held: HashSet<(Group, IpAddr)> = wanted
        .iter()
        .flat_map(|(group, endpoints)| endpoints.iter().map(|endpoint| (group.clone(), endpoint.address)))
        .collect();
    for slice in input.slices {
        for endpoint in &slice.endpoints {
            let place = (slice.group.clone(), endpoint.key());
            let is_held = held.contains(&(slice.group.clone(), endpoint.address));
            if is_held || !endpoint.conditions.serving || draining.len() == MAX_MEMBERS {
                continue;
            }
            if !(input.may_drain)(endpoint) {
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
    /// What a former leader left in the slices, and of its choice in the status.
    pub fn resumed(members: &[Member], standing: &Standing, choice: choose::Memory) -> Self {
        let used = members.iter().filter(|member| standing.is_used(member));
        let admitted = used.map(|member| member.endpoint.key()).collect();
        Self { choice, admitted, ..Self::default() }
    }
}

/// What to write so that the slices hold what is planned, and note it: see [`pack`]. `is_current` says whether the rest of
/// a slice is as it should be. As upstream, a slice that is being deleted counts as gone.
pub fn slices(
    plan: &Plan,
    existing: &[Arc<Slice>],
    max: usize,
    is_current: impl Fn(&Slice) -> bool,
) -> pack::Plan<Group, Endpoint> {
    let existing = existing.iter().enumerate().filter(|(_, slice)| !slice.header.terminating);
    let existing = existing.map(|(id, slice)| {
        let notes = plan.noted.text(&slice.group, &slice.endpoints, &slice.annotations);
        let is_noted = notes.as_ref() == slice.annotations.get(NOTES);
        let outdated = slice.tampered || !is_noted || !is_current(slice);
        let items = slice.endpoints.clone();
        (slice.group.clone(), pack::Slice { id, items, recyclable: true, outdated })
    });
    let existing: Vec<_> = existing.collect();
    pack::plan(&plan.wanted, &existing, max, |one, other| one.family == other.family)
}
