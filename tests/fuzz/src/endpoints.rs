//! Plans of the endpoints of one pool, and of the slices that hold them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use arbitrary::{Result, Unstructured};
use mainstay_endpoints::{
    checker::{State, Target as Checked},
    choose::{self, Failover, Policy, SlowStart, Use},
    health::Verdict,
    observe::{Awaited, Kept, Member},
    pack::Item,
    plan::{Input, Memory, Plan, Standing, plan, slices},
    watched::{
        Conditions, Endpoint, Family, Group, Notes, Pod, Port, Service, Slice, Target, WatchedPod,
        WatchedService, WatchedSlice,
    },
};
use mainstay_runtime::labels::LabelPool;
use serde_json::json;

use crate::{
    input::{duration, maybe, moment, name, one_of, some},
    specs,
};

const SETS: [&str; 2] = ["web", "db"];
const HOSTS: [&str; 3] = ["a.example", "b.example", ""];
const MOST: usize = 10;

fn address(u: &mut Unstructured<'_>) -> Result<IpAddr> {
    let last = u.int_in_range(1..=MOST as u8)?;
    Ok(if u.ratio(1, 4)? {
        Ipv6Addr::from([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]).into()
    } else {
        Ipv4Addr::new(10, 0, 0, last).into()
    })
}

fn ports(u: &mut Unstructured<'_>) -> Result<Arc<[Port]>> {
    let port = |port| Port { name: String::new(), port, protocol: "TCP".into(), app_protocol: None };
    Ok(match u.int_in_range(0..=5)? {
        0 => Arc::default(),
        1 => [port(81)].into(),
        _ => [port(80)].into(),
    })
}

fn conditions(u: &mut Unstructured<'_>) -> Result<Conditions> {
    Ok(Conditions { ready: u.arbitrary()?, serving: u.arbitrary()?, terminating: u.ratio(1, 6)? })
}

fn endpoint(u: &mut Unstructured<'_>, address: IpAddr) -> Result<Endpoint> {
    let zone = |u: &mut Unstructured<'_>| maybe(u, |u| name(u, &["a", "b"]));
    let target = maybe(u, |u| {
        let pod = name(u, &["p1", "p2", "p3"])?;
        Ok(Target { namespace: "ns".into(), uid: Arc::clone(&pod), name: pod })
    })?;
    Ok(Endpoint {
        address,
        conditions: conditions(u)?,
        hostname: if u.ratio(1, 8)? { Some("h".into()) } else { None },
        node: maybe(u, |u| name(u, &["n1", "n2"]))?,
        zone: zone(u)?,
        target,
        hint_zone: zone(u)?,
        hint_node: None,
    })
}

fn pod(u: &mut Unstructured<'_>, of: &str) -> Result<Arc<Pod>> {
    let ready = one_of(u, &["True", "True", "False", "Unknown"])?;
    let mut object = json!({
        "metadata": {"name": of, "namespace": "ns", "uid": of},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    });
    if u.ratio(1, 6)? {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let watched: WatchedPod = serde_json::from_value(object).expect("a pod is decoded");
    Ok(Arc::new(Pod::slim(watched, &mut LabelPool::default())))
}

fn member(u: &mut Unstructured<'_>) -> Result<Member> {
    let (set, address) = (name(u, &SETS)?, address(u)?);
    let mut endpoint = Endpoint { conditions: Conditions::default(), ..endpoint(u, address)? };
    let pod = endpoint.target.as_ref().map(|target| pod(u, &target.name)).transpose()?;
    let host = if pod.is_some() || u.arbitrary()? { None } else { Some(name(u, &HOSTS[..2])?) };
    let of = endpoint.target.as_ref().map(|target| Arc::clone(&target.name));
    (endpoint.hint_zone, endpoint.hint_node) = (None, None);
    Ok(Member {
        target: Checked { set, address, pod: of.clone() },
        tier: if u.ratio(1, 16)? { 15 } else { u.int_in_range(0..=2)? },
        name: of.or(host),
        pod,
        ports: ports(u)?,
        is_reachable: u.ratio(7, 8)?,
        check_port: Some(80),
        endpoint,
    })
}

fn group(u: &mut Unstructured<'_>, address: &IpAddr) -> Result<Group> {
    Ok(Group { family: Family::of(address), ports: ports(u)? })
}

fn kept(u: &mut Unstructured<'_>) -> Result<Kept> {
    let address = address(u)?;
    let origin = (name(u, &SETS)?, name(u, &HOSTS)?);
    Ok(Kept {
        group: group(u, &address)?,
        endpoint: endpoint(u, address)?,
        origin,
        tier: maybe(u, |u| u.int_in_range(0..=2))?,
    })
}

fn slice(u: &mut Unstructured<'_>, number: usize) -> Result<Arc<Slice>> {
    let first = address(u)?;
    let group = group(u, &first)?;
    let endpoints = some(u, 6, |u| {
        let address = address(u)?;
        endpoint(u, address)
    })?;
    let endpoints: Vec<_> =
        endpoints.into_iter().filter(|endpoint| Family::of(&endpoint.address) == group.family).collect();
    let notes = maybe(u, |u| {
        let failing = some(u, 3, address)?.into_iter().collect();
        let mut notes = Notes { failing, ..Notes::default() };
        if u.arbitrary()? {
            notes.tiers.insert(name(u, &SETS)?, u.int_in_range(0..=2)?);
            let addresses = some(u, 3, address)?.into_iter().collect();
            notes.names.entry(name(u, &SETS)?).or_default().insert(name(u, &HOSTS)?, addresses);
        }
        Ok(notes)
    })?;
    Ok(stored(number, group, endpoints, notes, u.ratio(1, 8)?, u.ratio(1, 8)?))
}

/// A slice as the store keeps it.
fn stored(
    number: usize,
    group: Group,
    endpoints: Vec<Endpoint>,
    notes: Option<Notes>,
    terminating: bool,
    tampered: bool,
) -> Arc<Slice> {
    let mut metadata = json!({"name": format!("web-{number}"), "namespace": "ns"});
    if let Some(notes) = &notes {
        metadata["annotations"] = json!({mainstay_endpoints::names::NOTES: notes.text()});
    }
    if terminating {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let object = json!({"metadata": metadata, "addressType": "IPv4", "ports": []});
    let watched: WatchedSlice = serde_json::from_value(object).expect("a slice is decoded");
    Arc::new(Slice { group, endpoints, tampered, ..watched.into() })
}

fn service(u: &mut Unstructured<'_>) -> Result<Service> {
    let families = one_of(u, &[&["IPv4"][..], &["IPv6"], &["IPv4", "IPv6"], &[]])?;
    let spec = json!({
        "clusterIP": one_of(u, &["10.96.0.9", "None", ""])?,
        "ipFamilies": families,
        "publishNotReadyAddresses": u.ratio(1, 6)?,
        "trafficDistribution": one_of(u, &[None, Some("PreferSameZone"), Some("PreferSameNode"), Some("New")])?,
    });
    let object = json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec});
    let watched: WatchedService = serde_json::from_value(object).expect("a Service is decoded");
    Ok(watched.into())
}

/// As a spec that the schema admits says it, or else at the ends of all numbers.
fn policy(u: &mut Unstructured<'_>) -> Result<Policy> {
    if u.arbitrary()?
        && let Ok(settings) = mainstay_endpoints::settings::Settings::read(&specs::endpoint_pool(u)?)
    {
        return Ok(settings.policy);
    }
    let percent = |u: &mut Unstructured<'_>| u.int_in_range(0..=100_u8);
    Ok(Policy {
        panic_below: percent(u)?,
        max_ejected: percent(u)?,
        failover: Failover { below: percent(u)?, back_above: percent(u)?, back_after: duration(u)? },
        slow_start: maybe(u, |u| Ok(SlowStart { percent: percent(u)?, period: duration(u)? }))?,
    })
}

/// What is remembered, of times until `now`.
fn memory(u: &mut Unstructured<'_>, members: &[Member], now: Duration) -> Result<Memory> {
    let past = |u: &mut Unstructured<'_>| moment(u).map(|moment| moment.min(now));
    let tier = |u: &mut Unstructured<'_>| u.int_in_range(0..=3_u8);
    let choice = choose::Memory {
        tier: maybe(u, tier)?,
        expected: maybe(u, |u| Ok((tier(u)?, u.int_in_range(0..=20)?)))?,
        fewer: maybe(u, |u| Ok((past(u)?, u.int_in_range(0..=20)?)))?,
        better_since: some(u, 3, |u| Ok((tier(u)?, past(u)?)))?.into_iter().collect(),
        last_admission: maybe(u, past)?,
        filled: maybe(u, past)?,
        panic: u.arbitrary()?,
    };
    let mut admitted = HashSet::new();
    for member in members {
        if u.arbitrary()? {
            admitted.insert(member.endpoint.key());
        }
    }
    Ok(Memory { choice, admitted, ..Memory::default() })
}

struct Pool {
    service: Service,
    members: Vec<Member>,
    awaited: Vec<Awaited>,
    kept: Vec<Kept>,
    exchanged: Vec<Kept>,
    has_names: bool,
    states: Option<HashMap<Checked, State>>,
    slices: Vec<Arc<Slice>>,
    policy: Policy,
    drain: Duration,
    memory: Memory,
    runs: bool,
}

impl Pool {
    fn plan(&self, now: Duration) -> Plan {
        let input = Input {
            service: &self.service,
            members: &self.members,
            awaited: &self.awaited,
            kept: &self.kept,
            exchanged: &self.exchanged,
            has_names: self.has_names,
            states: self.states.as_ref(),
            slices: &self.slices,
            standing: &Standing::of(&self.slices),
            policy: &self.policy,
            drain: self.drain,
            memory: &self.memory,
            may_drain: &|_| self.runs,
        };
        plan(&input, now)
    }
}

fn pool(u: &mut Unstructured<'_>, now: Duration) -> Result<Pool> {
    let mut seen = HashSet::new();
    let mut members = some(u, MOST, member)?;
    // What two sets name is one endpoint, which is in use for both.
    members.retain(|member| seen.insert(member.endpoint.key()));
    let states = maybe(u, |u| {
        let mut states = HashMap::new();
        for member in &members {
            let verdict = one_of(u, &[Verdict::Passing, Verdict::Failing, Verdict::Unknown])?;
            let since = moment(u)?.min(now);
            if u.ratio(7, 8)? {
                states.insert(member.target.clone(), State { verdict, since, failure: None });
            }
        }
        Ok(states)
    })?;
    let awaited = |u: &mut Unstructured<'_>| {
        Ok(Awaited { set: name(u, &SETS)?, tier: u.int_in_range(0..=2)?, name: name(u, &HOSTS[..2])? })
    };
    let slices = (0..u.int_in_range(0..=3)?).map(|number| slice(u, number)).collect::<Result<_>>()?;
    Ok(Pool {
        service: service(u)?,
        awaited: some(u, 2, awaited)?,
        kept: some(u, 3, kept)?,
        exchanged: some(u, 3, kept)?,
        has_names: u.arbitrary()?,
        states,
        slices,
        policy: policy(u)?,
        drain: duration(u)?,
        memory: memory(u, &members, now)?,
        members,
        runs: u.arbitrary()?,
    })
}

/// Plans, packs, writes, and plans again.
pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let now = moment(u)? + Duration::from_secs(1);
    let mut pool = pool(u, now)?;
    let max = one_of(u, &[0, 1, 3, 100])?;
    let planned = pool.plan(now);
    holds(&pool, &planned, now);
    let packed = slices(&planned, &pool.slices, max, |_| true);
    let touched: Vec<_> =
        packed.update.iter().map(|update| update.id).chain(packed.delete.iter().copied()).collect();
    assert_eq!(touched.iter().collect::<BTreeSet<_>>().len(), touched.len(), "written twice: {packed:?}");
    // What is written stands, with its notes, and nothing more is to be written.
    let mut written = Vec::new();
    for (id, slice) in pool.slices.iter().enumerate().filter(|(_, slice)| !slice.header.terminating) {
        if packed.delete.contains(&id) {
            continue;
        }
        match packed.update.iter().find(|update| update.id == id) {
            Some(update) => written.push((update.group.clone(), update.items.clone())),
            None => written.push((slice.group.clone(), slice.endpoints.clone())),
        }
    }
    written.extend(packed.create.iter().cloned());
    for (_, items) in &written {
        assert!(items.len() <= max.max(1), "a slice of {} endpoints, at most {max}", items.len());
    }
    pool.slices = written
        .into_iter()
        .enumerate()
        .map(|(number, (group, items))| {
            let text = planned.noted.text(&group, &items, &BTreeMap::new());
            let notes =
                text.map(|text| serde_json::from_str(&text).expect("notes are read as they are written"));
            stored(number, group, items, notes, false, false)
        })
        .collect();
    let again = slices(&planned, &pool.slices, max, |_| true);
    assert!(again.is_empty(), "{packed:?} was followed by {again:?}");
    // The same observation, with what was written, changes who is used no more.
    pool.memory = planned.memory.clone();
    let replanned = pool.plan(now);
    assert_eq!(replanned.choice.uses, planned.choice.uses, "planned again, it is another");
    // A tier of which nothing is used may give way to none until a better one has its first verdicts.
    let is_used = planned.choice.uses.iter().any(|used| used.is_used());
    assert!(
        !is_used || replanned.choice.tier == planned.choice.tier,
        "planned again, it is another: {planned:?}"
    );
    Ok(())
}

fn holds(pool: &Pool, plan: &Plan, now: Duration) {
    assert_eq!(plan.choice.uses.len(), pool.members.len());
    assert!(plan.due.is_none_or(|due| due > now), "due at once: {:?}", plan.due);
    for (member, used) in pool.members.iter().zip(&plan.choice.uses) {
        if used.is_used() {
            assert!(member.is_ready() && !member.is_terminating(), "{member:?} is {used:?}");
            assert_eq!(Some(member.tier), plan.choice.tier, "two tiers at once");
        }
        let verdict =
            pool.states.as_ref().map(|states| states.get(&member.target).map(|state| state.verdict));
        let is_failing = verdict == Some(Some(Verdict::Failing));
        assert!(!is_failing || *used != Use::InUse || plan.choice.panic, "{member:?} is {used:?}");
    }
    for (group, endpoints) in &plan.wanted {
        let is_of = |endpoint: &Endpoint| Family::of(&endpoint.address) == group.family;
        assert!(endpoints.iter().all(is_of), "an address of another family: {endpoints:?}");
        let both = |endpoint: &Endpoint| endpoint.conditions.ready && endpoint.conditions.terminating;
        let members: HashSet<_> = pool.members.iter().map(|member| member.endpoint.key()).collect();
        let odd = endpoints.iter().find(|endpoint| both(endpoint) && members.contains(&endpoint.key()));
        assert!(
            odd.is_none()
                || pool.service.publish_not_ready
                || !pool.kept.is_empty()
                || !pool.exchanged.is_empty(),
            "gets traffic while it leaves: {odd:?}"
        );
    }
}
