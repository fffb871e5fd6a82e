//! Properties that hold in any history.

use std::time::Duration;

use mainstay_runtime::clock::Moment;
use proptest::prelude::*;

use super::{world::*, *};
use crate::record::Record;

/// What happens between two looks.
#[derive(Debug, Clone)]
enum Event {
    Stop(usize),
    Start(usize),
    StopZone(usize),
    StartAll,
    Fail(usize),
    Ail(usize),
    Leave(usize),
    Stay(usize),
    Mend(usize),
    Doubt(usize),
    Believe(usize),
    Deny(usize),
    Restart,
    Blind,
    See,
    Wait(u64),
}

const ZONES: [&str; 3] = ["a", "b", "c"];
const IN_ZONE: usize = 4;
const REMEDIATE_AFTER: Duration = Duration::from_secs(20);
const NODES: usize = ZONES.len() * IN_ZONE;

fn events() -> impl Strategy<Value = Vec<Event>> {
    let node = 0..NODES;
    let event = prop_oneof![
        4 => node.clone().prop_map(Event::Stop),
        3 => node.clone().prop_map(Event::Start),
        1 => (0..ZONES.len()).prop_map(Event::StopZone),
        1 => Just(Event::StartAll),
        2 => node.clone().prop_map(Event::Fail),
        1 => node.clone().prop_map(Event::Ail),
        1 => node.clone().prop_map(Event::Mend),
        1 => node.clone().prop_map(Event::Leave),
        1 => node.clone().prop_map(Event::Stay),
        1 => node.clone().prop_map(Event::Doubt),
        1 => node.clone().prop_map(Event::Believe),
        1 => node.prop_map(Event::Deny),
        1 => Just(Event::Restart),
        1 => Just(Event::Blind),
        2 => Just(Event::See),
        6 => (1_u64..120).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 1..40)
}

fn world() -> World {
    let mut rules = rules("p");
    rules.flapping = Some(Flapping {
        count: 2,
        window: seconds(600),
        quarantine: seconds(60),
        max_quarantine: seconds(120),
    });
    rules.steps.remediation = vec![seconds(60), seconds(120)];
    rules.steps.remediate_after = REMEDIATE_AFTER;
    let mut world = World::new(rules, &ZONES, IN_ZONE);
    world.repairs = Some(vec![None; NODES]);
    (0..ZONES.len()).for_each(|zone| world.nodes[zone * IN_ZONE].control_plane = true);
    world
}

fn name(index: usize) -> String {
    format!("{}-{}", ZONES[index / IN_ZONE], index % IN_ZONE)
}

/// Which nodes no live read confirms.
type Denied = [bool; NODES];

fn happen(world: &mut World, event: &Event, denied: &mut Denied) {
    match event {
        Event::Stop(node) => world.stop(&name(*node)),
        Event::Start(node) => world.start(&name(*node)),
        Event::StopZone(zone) => world.stop(ZONES[*zone]),
        Event::StartAll => world.start(""),
        Event::Fail(node) => {
            let now = world.now;
            world.nodes[*node].failing = Some(("its condition is bad".into(), now));
            world.nodes[*node].confirmed = false;
        }
        Event::Ail(node) => world.nodes[*node].failing_due = Some(world.now + seconds(30)),
        Event::Mend(node) => (world.nodes[*node].failing, world.nodes[*node].failing_due) = (None, None),
        Event::Leave(node) => world.nodes[*node].leaving = true,
        Event::Stay(node) => world.nodes[*node].leaving = false,
        Event::Doubt(node) => world.nodes[*node].doubt = Some("it answers".into()),
        Event::Believe(node) => {
            world.nodes[*node].doubt = None;
            denied[*node] = false;
        }
        Event::Deny(node) => denied[*node] = true,
        Event::Restart => world.restart(),
        Event::Blind => world.blind = true,
        Event::See if world.blind => world.see(),
        Event::See => {}
        Event::Wait(_) => {}
    }
}

/// Looks once, and at what must hold in every look.
fn look(world: &mut World, denied: &Denied, takings: &mut Vec<Moment>) -> Result<(), TestCaseError> {
    for (node, denied) in world.nodes.iter_mut().zip(denied) {
        node.confirmed &= !denied;
    }
    let memory = world.memory.clone();
    world.pass();
    for (node, planned) in world.seen.iter().zip(&world.plan.nodes) {
        let newly = planned.record.is_taken() && !node.record.is_taken();
        if newly {
            let since = memory.nodes.get(&node.name).and_then(|memory| memory.doubted_since);
            let doubted = node.doubt.is_some() && since.is_none_or(|since| since + seconds(30) > world.now);
            prop_assert!(node.confirmed && !doubted, "{node:?}");
            let open = world.open();
            prop_assert!(!open.contains_key("all") && !open.contains_key(&*node.zone), "{open:?}");
            takings.push(world.now);
            let is_removed = |other: &NodeView| other.control_plane && other.leaving;
            prop_assert!(!node.control_plane || !world.seen.iter().any(is_removed));
        }
        let is_back = !planned.record.is_taken() && node.record.is_taken();
        if is_back && world.open().get("all") != Some(&true) {
            let is_well = node.heartbeat.is_heard() && node.failing.is_none() && node.failing_due.is_none();
            prop_assert!(is_well, "{node:?}");
        }
        if world.blind {
            prop_assert_eq!((&planned.record, planned.pods), (&node.record, PodsPlan::default()));
            prop_assert!(!matches!((planned.remediation, node.remediation), (Wanted::Template(_), _)));
            let is_ended = planned.remediation == Wanted::None;
            prop_assert!(
                !(is_ended && matches!(node.remediation, Remediation::Stands { .. })),
                "{planned:?}"
            );
        }
        prop_assert!(!node.leaving || planned.record == node.record.clone().at_boot(&node.boot_id));
        prop_assert_eq!(planned.record.is_taken(), planned.record.taken.is_some());
        prop_assert!(planned.pods == PodsPlan::default() || planned.state.is_unhealthy());
        let is_down = |other: &NodeView| other.leaving || other.failing.is_some();
        let other_down = |other: &NodeView| other.name != node.name && other.control_plane && is_down(other);
        if node.control_plane && world.seen.iter().any(other_down) {
            let begins = planned.pods.evict.is_some() || matches!(planned.remediation, Wanted::Template(_));
            prop_assert!(!begins, "{planned:?}");
        }
        if matches!(planned.remediation, Wanted::Template(_)) {
            let since = memory.nodes.get(&node.name).and_then(|memory| memory.taken_since);
            let is_due = since.is_some_and(|since| since + REMEDIATE_AFTER <= world.now);
            prop_assert!(planned.state == State::Acting && is_due, "{planned:?}");
            prop_assert_ne!(node.remediation, Remediation::Unknown);
        }
    }
    if world.blind {
        prop_assert_eq!(&world.memory.breakers, &memory.breakers);
    }
    let control_plane = world.nodes.iter().filter(|node| node.control_plane && node.record.is_taken());
    prop_assert!(control_plane.count() <= 1);
    let lately = takings.iter().filter(|at| **at + seconds(60) > world.now).count();
    prop_assert!(lately <= 2, "{lately} nodes in a minute");
    if world.open().get("all") == Some(&true) {
        prop_assert!(world.nodes.iter().all(|node| node.leaving || !node.record.is_taken()));
    }
    // A second plan at the same moment changes nothing.
    let mut nodes = world.seen.clone();
    for (node, planned) in nodes.iter_mut().zip(&world.plan.nodes) {
        node.record = planned.record.clone();
    }
    let again = plan(&world.rules, &nodes, &world.memory, world.now(), world.blind);
    let states = |plan: &Plan| {
        plan.nodes.iter().map(|node| (node.record.clone(), node.remediation)).collect::<Vec<_>>()
    };
    prop_assert_eq!(states(&again), states(&world.plan));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn storms_are_never_believed_and_everything_is_handed_back(events in events()) {
        let (mut world, mut denied, mut takings) = (world(), [false; NODES], Vec::new());
        for event in &events {
            happen(&mut world, event, &mut denied);
            let ticks = if let Event::Wait(seconds) = event { seconds * 2 } else { 1 };
            for _ in 0..ticks {
                world.now += TICK;
                look(&mut world, &denied, &mut takings)?;
            }
        }
        world.see();
        world.start("");
        for node in &mut world.nodes {
            (node.failing, node.failing_due, node.doubt, node.leaving) = (None, None, None, false);
        }
        world.run(seconds(1000));
        prop_assert_eq!(world.taken(), Vec::<&str>::new());
        prop_assert_eq!(&world.memory.nodes.len(), &0);
        prop_assert!(world.open().is_empty());
        prop_assert!(world.nodes.iter().all(|node| node.record == Record::default()));
        prop_assert!(world.repairs.iter().flatten().all(Option::is_none));
    }

    #[test]
    fn a_plan_that_is_due_only_later_stays_as_it_is(events in events()) {
        let (mut world, mut denied) = (world(), [false; NODES]);
        for event in &events {
            happen(&mut world, event, &mut denied);
            world.pass();
            let Event::Wait(wait) = event else { continue };
            let end = world.now + Duration::from_secs(*wait);
            while world.now < end {
                // What was confirmed after the last plan is part of this one.
                let settled = plan(&world.rules, &world.nodes, &world.memory, world.now(), world.blind);
                let mut nodes = world.nodes.clone();
                for (node, planned) in nodes.iter_mut().zip(&settled.nodes) {
                    node.record = planned.record.clone();
                }
                let last = settled.due.unwrap_or(end) - Duration::from_nanos(1);
                prop_assert!(last >= world.now);
                let later = last.min(world.now + TICK);
                let wall = world.now().wall.checked_add(later - world.now).unwrap();
                let later = plan(&world.rules, &nodes, &settled.memory, Now { moment: later, wall }, world.blind);
                prop_assert_eq!(&later.nodes, &settled.nodes);
                world.now += TICK;
                world.pass();
            }
        }
    }
}
