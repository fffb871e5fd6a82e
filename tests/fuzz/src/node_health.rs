//! Plans of the nodes of some policies.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arbitrary::{Result, Unstructured};
use jiff::{SignedDuration, Timestamp};
use mainstay_node_health::{
    plan::{
        BreakerMemory, Heartbeat, Memory, NodeMemory, NodePlan, NodeView, Now, Plan, PodsPlan, Proof,
        Remediation, Rules, State, Wanted, plan,
    },
    record::{Record, TaintEffect, Taken},
    settings::Settings,
};

use crate::{
    input::{NOW, duration, maybe, moment, name, one_of, some, time},
    specs,
};

const NODES: [&str; 8] = ["n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"];
const ZONES: [&str; 3] = ["a", "b", ""];
const POLICIES: [&str; 3] = ["p", "q", "r"];
const BOOTS: [&str; 3] = ["one", "two", ""];

/// The rules of policies that a schema admits, in their order.
fn rules(u: &mut Unstructured<'_>) -> Result<Vec<Rules>> {
    let mut all = Vec::new();
    for policy in &POLICIES[..u.int_in_range(1..=2)?] {
        let mut object = specs::node_health_policy(u)?;
        object.metadata.name = Some((*policy).into());
        // What rules across fields refuse is never planned, but must not stop anything either.
        all.extend(Settings::read(&object).ok().map(Arc::new));
    }
    mainstay_node_health::settings::order(&mut all);
    Ok(all.iter().map(|settings| settings.rules.clone()).collect())
}

/// What an annotation may say.
fn record(u: &mut Unstructured<'_>) -> Result<Record> {
    let boot = |u: &mut Unstructured<'_>| maybe(u, |u| name(u, &BOOTS));
    let taken = |u: &mut Unstructured<'_>| {
        Ok(Taken {
            policy: name(u, &POLICIES)?,
            since: maybe(u, time)?,
            cordon: u.arbitrary()?,
            taint: maybe(u, |u| one_of(u, &[TaintEffect::NoSchedule, TaintEffect::NoExecute]))?,
            out_of_service: boot(u)?,
            remediated: boot(u)?,
        })
    };
    if u.ratio(1, 2)? {
        return Ok(Record::default());
    }
    Ok(Record {
        taken: maybe(u, taken)?,
        flaps: some(u, 5, time)?,
        quarantined_until: maybe(u, time)?,
        quarantines: if u.ratio(1, 8)? { u.arbitrary()? } else { u.int_in_range(0..=4)? },
    })
}

fn remediation(u: &mut Unstructured<'_>, now: Duration) -> Result<Remediation> {
    Ok(match u.int_in_range(0..=3)? {
        0 => Remediation::Unknown,
        1 => Remediation::Stands {
            template: u.int_in_range(0..=4)?,
            since: moment(u)?.min(now),
            succeeded: u.arbitrary()?,
        },
        _ => Remediation::None,
    })
}

fn node(u: &mut Unstructured<'_>, of: &str, rules: usize, now: Duration) -> Result<NodeView> {
    let past = |u: &mut Unstructured<'_>| moment(u).map(|moment| moment.min(now));
    let listening = past(u)?;
    let record = record(u)?;
    Ok(NodeView {
        name: of.into(),
        zone: name(u, &ZONES)?,
        control_plane: u.ratio(1, 6)?,
        rules: if rules > 0 && u.ratio(7, 8)? { Some(u.int_in_range(0..=rules - 1)?) } else { None },
        leaving: u.ratio(1, 12)?,
        heartbeat: Heartbeat {
            heard: maybe(u, past)?,
            listening,
            interval: maybe(u, duration)?,
            renewed: maybe(u, time)?,
        },
        failing: maybe(u, |u| Ok(("its condition is bad".into(), past(u)?)))?
            .filter(|_| listening.as_secs() % 3 == 0),
        failing_due: maybe(u, |u| Ok(now + duration(u)? + Duration::from_millis(1)))?,
        confirmed: u.arbitrary()?,
        doubt: if u.ratio(1, 5)? { Some("it answers".into()) } else { None },
        out_of_service: record.out_of_service().is_some() && u.arbitrary()?,
        remediated: record.is_taken() && u.arbitrary()?,
        record,
        unread: u.ratio(1, 12)?,
        boot_id: name(u, &BOOTS)?,
        proof: maybe(u, |u| one_of(u, &[Proof::ShutDown, Proof::Person, Proof::Remediated]))?,
        remediation: remediation(u, now)?,
        out_of_reach: some(u, 2, |u| u.int_in_range(0..=4))?,
        pods: u.int_in_range(0..=5)?,
        answered: maybe(u, past)?,
    })
}

fn memory(u: &mut Unstructured<'_>, now: Duration) -> Result<Memory> {
    let past = |u: &mut Unstructured<'_>| maybe(u, |u| moment(u).map(|moment| moment.min(now)));
    let mut memory = Memory::default();
    for node in NODES {
        if u.ratio(1, 3)? {
            let of = NodeMemory {
                unhealthy_since: past(u)?,
                doubted_since: past(u)?,
                taken_since: past(u)?,
                well_since: past(u)?,
            };
            memory.nodes.insert(node.into(), of);
        }
    }
    for _ in 0..u.int_in_range(0..=3)? {
        let key = (name(u, &POLICIES)?, maybe(u, |u| name(u, &ZONES))?);
        memory.breakers.insert(key, BreakerMemory { open_since: past(u)?, calm_since: past(u)? });
    }
    for policy in POLICIES {
        if u.arbitrary()? {
            let taken = some(u, 4, |u| {
                Ok(SignedDuration::from_secs(i64::from(u.arbitrary::<i16>()?))
                    .min(SignedDuration::try_from(now).unwrap_or_default()))
            })?;
            memory.taken.insert(policy.into(), taken);
        }
    }
    Ok(memory)
}

/// Plans twice: once as it is observed, and once as it then stands.
pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let rules = rules(u)?;
    let moment = moment(u)?;
    let now = Now { moment, wall: Timestamp::from_second(NOW).unwrap_or_default() };
    let count = u.int_in_range(0..=NODES.len())?;
    let nodes =
        NODES[..count].iter().map(|of| node(u, of, rules.len(), moment)).collect::<Result<Vec<_>>>()?;
    let (memory, blind) = (memory(u, moment)?, u.ratio(1, 8)?);
    let planned = plan(&rules, &nodes, &memory, now, blind);
    holds(&rules, &nodes, &memory, &planned, now, blind);
    let mut stands = nodes.clone();
    for (node, planned) in stands.iter_mut().zip(&planned.nodes) {
        node.record = planned.record.clone();
    }
    let again = plan(&rules, &stands, &planned.memory, now, blind);
    for ((node, first), second) in nodes.iter().zip(&planned.nodes).zip(&again.nodes) {
        assert_eq!(first.record, second.record, "planned again, it is another: {node:?}");
        // Whether one is looked for follows from the record.
        let made =
            |plan: &NodePlan| matches!(plan.remediation, Wanted::Template(_)).then_some(plan.remediation);
        assert_eq!(made(first), made(second), "planned again, it is another: {node:?}");
    }
    Ok(())
}

fn holds(rules: &[Rules], nodes: &[NodeView], memory: &Memory, plan: &Plan, now: Now, blind: bool) {
    assert_eq!(plan.nodes.len(), nodes.len());
    assert!(plan.due.is_none_or(|due| due > now.moment), "due at once: {plan:?}");
    let mut newly: BTreeMap<usize, usize> = BTreeMap::new();
    for (node, planned) in nodes.iter().zip(&plan.nodes) {
        let is_new = planned.record.is_taken() && !node.record.is_taken();
        if is_new {
            let of = node.rules.unwrap_or_else(|| panic!("acted on, and of no policy: {node:?}"));
            let rules = &rules[of];
            *newly.entry(of).or_default() += 1;
            assert!(node.confirmed && !node.leaving && !node.unread && !blind, "{node:?} became {planned:?}");
            assert!(rules.pause_requests.is_empty(), "paused, and acted on: {node:?}");
            let doubted = memory.nodes.get(&node.name).and_then(|memory| memory.doubted_since);
            let is_over = doubted.is_some_and(|since| since + rules.max_doubt <= now.moment);
            assert!(
                node.doubt.is_none() || is_over || rules.max_doubt.is_zero(),
                "{node:?} became {planned:?}"
            );
        }
        if blind || node.unread {
            assert_eq!(planned.record, node.record, "changed without having seen: {node:?}");
            assert_eq!(planned.pods, PodsPlan::default());
            assert!(!matches!(planned.remediation, Wanted::Template(_)), "{node:?} became {planned:?}");
        }
        // That pods are not ready is said of each node that is taken; whether they go is another question.
        let evicts = planned.pods.evict.is_some() && planned.state != State::Acting;
        assert!(!evicts && (!planned.pods.not_ready || planned.record.is_taken()), "{planned:?}");
        let acts = planned.state == State::Acting && planned.record.is_taken();
        assert!(!matches!(planned.remediation, Wanted::Template(_)) || acts, "{planned:?}");
        let proven = node.proof.is_some() || node.record.out_of_service().is_some();
        assert!(planned.record.out_of_service().is_none() || proven, "{node:?} became {planned:?}");
    }
    for (of, count) in newly {
        let rules = &rules[of];
        assert!(count <= rules.breakers.rate.count, "{count} at once: {rules:?}");
    }
}
