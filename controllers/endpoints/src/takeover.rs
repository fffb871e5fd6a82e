//! Tests of a change of leader: a new leader knows no answer of the DNS and no result of a check, and plans what its
//! predecessor left, whatever that was.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use kube::runtime::watcher::Event;
use mainstay_crds::EndpointPool;
use mainstay_runtime::{clock::Moment, labels::LabelPool, outcome::Failures};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    checker::{State, Target},
    choose::{Failover, Policy},
    health::Verdict::{self, Failing, Passing, Unknown},
    names::NOTES,
    observe::{
        Observed,
        tests::{World, pool},
    },
    plan::{self, Input, Memory, Plan, Standing},
    status::{self, Seen},
    watched::{Pod, Slice, WatchedSlice},
};

/// How one server does, before and after.
type Doing = (Verdict, Verdict);

/// How many addresses a name has, before and after.
type Answers = (usize, usize);

#[derive(Debug, Clone)]
struct Case {
    /// The tier of each pod, whether it is ready before and after, and how it does.
    pods: Vec<(u8, bool, bool, Doing)>,
    /// The tier of each name, its addresses before and after, and their health. `None`: the DNS does not answer for
    /// it.
    names: Vec<(u8, Option<Answers>, Doing)>,
    /// The tier of each address, whether the spec has it to the end, and how it does.
    fixed: Vec<(u8, bool, Doing)>,
    is_checked: bool,
    drain: u64,
    below: u8,
    panic_below: u8,
}

fn doing() -> impl Strategy<Value = Doing> {
    let verdict = || prop_oneof![Just(Unknown), Just(Failing), Just(Passing), Just(Passing)];
    // Once there is a verdict, there is one as long as the server is asked.
    (verdict(), verdict()).prop_map(|(before, after)| match (before, after) {
        (Passing | Failing, Unknown) => (before, before),
        other => other,
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let pod = (0..2_u8, any::<bool>(), any::<bool>(), doing());
    let name = (0..2_u8, prop::option::weighted(0.7, (1..3_usize, 1..3_usize)), doing());
    let fixed = (0..2_u8, prop::bool::weighted(0.8), doing());
    (
        prop::collection::vec(pod, 0..5),
        prop::collection::vec(name, 0..4),
        prop::collection::vec(fixed, 0..4),
        any::<bool>(),
        prop_oneof![Just(0), Just(10)],
        1..=100_u8,
        0..=100_u8,
    )
        .prop_map(|(pods, names, fixed, is_checked, drain, below, panic_below)| Case {
            pods,
            names,
            fixed,
            is_checked,
            drain,
            below,
            panic_below,
        })
}

impl Case {
    fn pool(&self, is_after: bool) -> EndpointPool {
        let mut sets = Vec::new();
        for tier in 0..2 {
            let selector = json!({"matchLabels": {"tier": tier.to_string()}});
            sets.push(json!({"name": format!("pods-{tier}"), "tier": tier, "podSelector": selector}));
            let names: Vec<_> = self.names_of(tier).collect();
            if !names.is_empty() {
                sets.push(json!({"name": format!("names-{tier}"), "tier": tier, "dnsNames": names}));
            }
            let fixed = self.fixed.iter().enumerate();
            let fixed = fixed.filter(|(_, fixed)| fixed.0 == tier && (fixed.1 || !is_after));
            let fixed: Vec<_> = fixed.map(|(index, _)| json!({"ip": format!("10.2.0.{index}")})).collect();
            if !fixed.is_empty() {
                sets.push(json!({"name": format!("fixed-{tier}"), "tier": tier, "addresses": fixed}));
            }
        }
        pool(json!(sets), Value::Null)
    }

    fn names_of(&self, tier: u8) -> impl Iterator<Item = String> {
        let names = self.names.iter().enumerate().filter(move |(_, name)| name.0 == tier);
        names.map(|(index, _)| format!("n{index}.example"))
    }

    fn want(&self, world: &World) {
        let names: Vec<_> = (0..2).flat_map(|tier| self.names_of(tier)).collect();
        world.looks_up(&names.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// What is so before, or after.
    fn happens(&self, world: &World, is_after: bool) {
        for (index, (tier, before, after, _)) in self.pods.iter().enumerate() {
            let name = format!("p{index}");
            let ready = if *if is_after { after } else { before } { "True" } else { "False" };
            let pod = json!({
                "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"tier": tier.to_string()}},
                "status": {
                    "phase": "Running", "podIPs": [{"ip": format!("10.0.0.{index}")}],
                    "conditions": [{"type": "Ready", "status": ready}],
                },
            });
            let pod = Pod::slim(serde_json::from_value(pod).unwrap(), &mut LabelPool::default());
            world.stores.pods.apply(Event::Apply(pod), |_| {});
        }
        for (index, (_, answers, _)) in self.names.iter().enumerate() {
            let Some((before, after)) = answers else { continue };
            let count = if is_after { *after } else { *before };
            let addresses: Vec<_> = (0..count).map(|address| format!("10.1.{index}.{address}")).collect();
            let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
            world.answers(&format!("n{index}.example"), &addresses);
        }
    }

    /// What the checks of the members that can be checked say.
    fn states(&self, observed: &Observed, is_after: bool) -> Option<HashMap<Target, State>> {
        let members = observed.members.iter().filter(|member| member.is_checkable());
        let states = members.map(|member| {
            let octets: Vec<_> = member.target.address.to_string().split('.').map(str::to_owned).collect();
            let index = |octet: usize| octets[octet].parse::<usize>().unwrap();
            let (before, after) = match index(1) {
                0 => self.pods[index(3)].3,
                1 => self.names[index(2)].2,
                _ => self.fixed[index(3)].2,
            };
            let verdict = if is_after { after } else { before };
            let since = Duration::from_secs(if is_after && before == after { 100 } else { at(is_after) });
            (member.target.clone(), State { verdict, since, failure: None })
        });
        self.is_checked.then(|| states.collect())
    }

    fn plan(
        &self,
        observed: &Observed,
        states: Option<&HashMap<Target, State>>,
        memory: &Memory,
        now: u64,
    ) -> Plan {
        let policy = Policy {
            panic_below: self.panic_below,
            max_ejected: 100,
            failover: Failover { below: self.below, back_above: 100, back_after: Duration::from_secs(30) },
            slow_start: None,
        };
        let input = Input {
            service: observed.service.as_ref().unwrap(),
            members: &observed.members,
            awaited: &observed.awaited,
            kept: &observed.kept,
            exchanged: &observed.exchanged,
            has_names: !self.names.is_empty(),
            states,
            slices: &observed.slices,
            standing: &Standing::of(&observed.slices),
            policy: &policy,
            drain: Duration::from_secs(self.drain),
            memory,
            may_drain: &|_| true,
        };
        plan::plan(&input, Duration::from_secs(now))
    }
}

fn at(is_after: bool) -> u64 {
    if is_after { 200 } else { 100 }
}

/// Has the slices hold what is planned.
fn write(world: &World, plan: &Plan) {
    world.stores.slices.apply(Event::Init, |_| {});
    for (index, (group, endpoints)) in plan.wanted.iter().enumerate() {
        let notes: HashMap<_, _> = plan
            .noted
            .text(group, endpoints, &Default::default())
            .map(|text| (NOTES, text))
            .into_iter()
            .collect();
        let ports: Vec<_> = group.ports.iter().collect();
        let slice = json!({
            "metadata": {
                "name": format!("web-{index}"), "namespace": "ns", "uid": index.to_string(),
                "labels": {"mainstay.dev/pool": "pool"}, "annotations": notes,
            },
            "addressType": group.family, "ports": ports, "endpoints": [],
        });
        let slice: Slice = serde_json::from_value::<WatchedSlice>(slice).unwrap().into();
        let slice = Slice { endpoints: endpoints.clone(), ..slice };
        world.stores.slices.apply(Event::InitApply(slice), |_| {});
    }
    world.stores.slices.apply(Event::InitDone, |_| {});
}

/// What was planned, and the pool with its status.
fn left(case: &Case, world: &World) -> (Plan, EndpointPool) {
    case.want(world);
    let mut memory = Memory::default();
    for is_after in [false, true] {
        case.happens(world, is_after);
        let mut pool = case.pool(is_after);
        // What is written is read again: the second time, nothing is left to write.
        for _ in 0..2 {
            let observed = world.observe_pool(&pool);
            let states = case.states(&observed, is_after);
            let plan = case.plan(&observed, states.as_ref(), &memory, at(is_after));
            write(world, &plan);
            let states = states.as_ref();
            let seen = Seen {
                pool: &pool,
                observed: &observed,
                plan: &plan,
                states,
                failures: &Failures::default(),
                slices: 1,
            };
            pool.status = Some(status::observed(&seen, Timestamp::UNIX_EPOCH));
            memory = plan.memory;
        }
        if is_after {
            let observed = world.observe_pool(&pool);
            let plan = case.plan(&observed, case.states(&observed, true).as_ref(), &memory, at(true));
            return (plan, pool);
        }
    }
    unreachable!("the last turn returns")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_new_leader_plans_what_its_predecessor_left(case in cases()) {
        let before = World::new(json!({"ipFamilies": ["IPv4"], "ports": [{"port": 80, "protocol": "TCP"}]}));
        let (plan, pool) = left(&case, &before);

        let after = World::of(before.stores.clone());
        case.want(&after);
        let observed = after.observe_pool(&pool);
        let standing = Standing::of(&observed.slices);
        let members = observed.members.iter().filter(|member| member.is_checkable());
        let states = members.map(|member| {
            let verdict = standing.verdict(member).unwrap_or(Unknown);
            (member.target.clone(), State { verdict, since: Moment::from_secs(at(true)), failure: None })
        });
        let states: Option<HashMap<_, _>> = case.is_checked.then(|| states.collect());
        let memory = Memory::resumed(&observed.members, &standing, status::choice_of(&pool));
        let again = case.plan(&observed, states.as_ref(), &memory, at(true));
        prop_assert_eq!(&again.wanted, &plan.wanted);
        prop_assert_eq!(&again.noted, &plan.noted);
        prop_assert_eq!(again.choice.tier, plan.choice.tier);
        let written = plan::slices(&again, &observed.slices, 100, |_| true);
        prop_assert!(written.is_empty(), "{:?}", written);
    }
}
