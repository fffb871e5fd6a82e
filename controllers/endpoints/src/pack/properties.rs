//! Properties that hold after every step of any history.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    tests::{Endpoint, Ports},
    *,
};

type Wanted = BTreeMap<Ports, Vec<Endpoint>>;
type Slices = Vec<(Ports, Slice<Endpoint>)>;

/// What happens before a plan is made.
#[derive(Clone, Debug)]
enum Event {
    /// An endpoint appears, or changes.
    Set(Ports, Endpoint),
    /// This many endpoints appear.
    Grow(Ports, u32),
    /// An endpoint goes.
    Unset(Ports, u32),
    /// Of each group of this many endpoints all but one disappear.
    Shrink(Ports, u32),
    /// The group is no longer wanted.
    Drop(Ports),
    /// The most items of a slice change.
    Max(usize),
    /// One of the slices is found outdated.
    Outdate(usize),
    /// Someone else makes a slice with these endpoints.
    Meddle(Ports, Vec<u32>),
}

fn group() -> impl Strategy<Value = Ports> {
    select(vec![(4, 80), (4, 80), (4, 90), (4, 0), (6, 80)])
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (group(), 0u32..40, 0u32..3).prop_map(|(group, name, detail)| Event::Set(group, Endpoint(name, detail))),
        3 => (group(), 0u32..30).prop_map(|(group, count)| Event::Grow(group, count)),
        4 => (group(), 0u32..40).prop_map(|(group, name)| Event::Unset(group, name)),
        2 => (group(), 1u32..9).prop_map(|(group, each)| Event::Shrink(group, each)),
        1 => group().prop_map(Event::Drop),
        1 => (0usize..12).prop_map(Event::Max),
        1 => any::<usize>().prop_map(Event::Outdate),
        1 => (group(), vec(0u32..40, 0..9)).prop_map(|(group, names)| Event::Meddle(group, names)),
    ]
}

/// Several events for each plan, and several plans.
fn history() -> impl Strategy<Value = Vec<Vec<Event>>> {
    vec(vec(event(), 1..5), 1..12)
}

/// What is wanted and what exists.
#[derive(Clone, Debug)]
struct World {
    wanted: Wanted,
    slices: Slices,
    max: usize,
    next_id: usize,
}

impl World {
    fn new() -> Self {
        Self { wanted: Wanted::new(), slices: Slices::new(), max: 4, next_id: 0 }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Set(group, endpoint) => self.set(*group, *endpoint),
            Event::Grow(group, count) => (0..*count).for_each(|name| self.set(*group, Endpoint(name, 0))),
            Event::Unset(group, name) => {
                self.wanted.entry(*group).or_default().retain(|item| item.0 != *name)
            }
            Event::Shrink(group, each) => {
                self.wanted.entry(*group).or_default().retain(|item| item.0.is_multiple_of(*each))
            }
            Event::Drop(group) => drop(self.wanted.remove(group)),
            Event::Max(max) => self.max = *max,
            Event::Outdate(which) => {
                let count = self.slices.len().max(1);
                self.slices
                    .iter_mut()
                    .skip(which % count)
                    .take(1)
                    .for_each(|(_, slice)| slice.outdated = true);
            }
            Event::Meddle(group, names) => {
                self.create(*group, names.iter().map(|&name| Endpoint(name, 0)).collect())
            }
        }
    }

    fn set(&mut self, group: Ports, endpoint: Endpoint) {
        let items = self.wanted.entry(group).or_default();
        items.retain(|item| item.0 != endpoint.0);
        items.push(endpoint);
    }

    fn create(&mut self, group: Ports, items: Vec<Endpoint>) {
        let id = self.next_id;
        self.next_id += 1;
        self.slices.push((group, Slice { id, items, recyclable: !id.is_multiple_of(3), outdated: false }));
    }

    fn plan(&self) -> Plan<Ports, Endpoint> {
        plan(&self.wanted, &self.slices, self.max, |one, other| one.0 == other.0)
    }

    fn carry_out(&mut self, plan: &Plan<Ports, Endpoint>) {
        for Update { id, group, items } in &plan.update {
            let place = self.slices.iter_mut().find(|(_, slice)| slice.id == *id).unwrap();
            place.0 = *group;
            place.1 = Slice { items: items.clone(), outdated: false, ..place.1 };
        }
        plan.create.iter().for_each(|(group, items)| self.create(*group, items.clone()));
        self.slices.retain(|(_, slice)| !plan.delete.contains(&slice.id));
    }

    /// The slices that no plan could leave as they are.
    fn wrong(&self) -> BTreeSet<usize> {
        let max = self.max.max(1);
        let mut seen = BTreeSet::new();
        let is_wrong = |(group, slice): &&(Ports, Slice<Endpoint>)| {
            let wanted = self.wanted.get(group).map_or(&[][..], |items| items);
            let mut good = |item: &Endpoint| wanted.contains(item) && seen.insert((*group, item.0));
            let good = slice.items.iter().filter(|item| good(item)).count();
            slice.items.is_empty() || slice.outdated || good < slice.items.len() || good > max
        };
        self.slices.iter().filter(is_wrong).map(|(_, slice)| slice.id).collect()
    }
}

/// Calls `check` with the world before each plan and with the plan, and carries that out.
fn live(
    history: &[Vec<Event>],
    check: impl Fn(&World, &Plan<Ports, Endpoint>, &World) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut world = World::new();
    for events in history {
        events.iter().for_each(|event| world.happen(event));
        let before = world.clone();
        let plan = before.plan();
        world.carry_out(&plan);
        check(&before, &plan, &world)?;
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_slices_of_a_group_hold_each_wanted_item_once(history in history()) {
        live(&history, |_, _, after| {
            let mut held: BTreeMap<Ports, Vec<Endpoint>> = BTreeMap::new();
            for (group, slice) in &after.slices {
                held.entry(*group).or_default().extend(&slice.items);
            }
            let sorted = |groups: &Wanted| -> Wanted {
                let sort = |items: &Vec<Endpoint>| {
                    let mut items = items.clone();
                    items.sort_by_key(Item::key);
                    items
                };
                groups.iter().map(|(group, items)| (*group, sort(items))).collect()
            };
            prop_assert_eq!(sorted(&held), sorted(&after.wanted));
            Ok(())
        })?;
    }

    #[test]
    fn no_slice_is_over_the_maximum_and_only_a_lone_one_is_empty(history in history()) {
        live(&history, |_, _, after| {
            for (group, slice) in &after.slices {
                prop_assert!(slice.items.len() <= after.max.max(1), "{slice:?}");
                let alone = after.slices.iter().filter(|(other, _)| other == group).count() == 1;
                prop_assert!(alone || !slice.items.is_empty(), "{:?}", after.slices);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_plan_carried_out_leaves_nothing_to_do(history in history()) {
        live(&history, |_, plan, after| {
            let second = after.plan();
            prop_assert!(second.is_empty(), "{plan:?} was followed by {second:?}");
            Ok(())
        })?;
    }

    #[test]
    fn the_writes_are_those_of_what_is_wrong_and_of_what_is_left_over(history in history()) {
        live(&history, |before, plan, _| {
            let max = before.max.max(1);
            // A group without items needs a slice too.
            let repacked: usize = before.wanted.values().map(|items| items.len().div_ceil(max).max(1)).sum();
            let writes = plan.update.len() + plan.create.len() + plan.delete.len();
            prop_assert!(writes <= repacked + before.wrong().len(), "{plan:?} of {before:?}");
            Ok(())
        })?;
    }

    #[test]
    fn of_the_slices_that_were_right_each_group_writes_one_at_most(history in history()) {
        live(&history, |before, plan, _| {
            let wrong = before.wrong();
            let mut touched = BTreeSet::new();
            for update in plan.update.iter().filter(|update| !wrong.contains(&update.id)) {
                prop_assert!(touched.insert(update.group), "{plan:?} of {before:?}");
            }
            prop_assert!(plan.delete.iter().all(|id| wrong.contains(id)), "{plan:?} of {before:?}");
            Ok(())
        })?;
    }

    #[test]
    fn a_slice_keeps_the_order_of_what_it_keeps(history in history()) {
        live(&history, |before, plan, _| {
            for update in &plan.update {
                let (group, old) = before.slices.iter().find(|(_, slice)| slice.id == update.id).unwrap();
                let old: Vec<u32> = old.items.iter().map(Item::key).collect();
                // One of another group keeps nothing.
                let kept = if *group == update.group { update.items.len() } else { 0 };
                let place = |item: &Endpoint| old.iter().position(|key| *key == item.0).ok_or(item.0);
                let order: Vec<_> = update.items[..kept].iter().map(|item| (place(item).is_err(), place(item))).collect();
                prop_assert!(order.is_sorted(), "{old:?} became {:?}", update.items);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_plan_is_repeatable_and_names_a_slice_once_at_most(history in history()) {
        live(&history, |before, plan, _| {
            prop_assert_eq!(&before.plan(), plan);
            let updated = plan.update.iter().map(|update| update.id);
            let mut ids: Vec<_> = updated.chain(plan.delete.iter().copied()).collect();
            let named = ids.len();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), named, "{:?}", plan);
            Ok(())
        })?;
    }

    #[test]
    fn a_slice_changes_its_group_only_if_it_may(history in history()) {
        live(&history, |before, plan, _| {
            for update in &plan.update {
                let (group, slice) = before.slices.iter().find(|(_, slice)| slice.id == update.id).unwrap();
                let may = slice.recyclable && group.0 == update.group.0;
                prop_assert!(*group == update.group || may, "{slice:?} of {group:?} became {update:?}");
            }
            Ok(())
        })?;
    }

    #[test]
    fn nothing_is_created_that_a_slice_to_delete_could_become(history in history()) {
        live(&history, |before, plan, _| {
            for (group, _) in &plan.create {
                let deleted = before.slices.iter().filter(|(_, slice)| plan.delete.contains(&slice.id));
                let could = |(other, slice): &(Ports, Slice<Endpoint>)| {
                    other == group || slice.recyclable && other.0 == group.0
                };
                prop_assert!(deleted.clone().all(|slice| !could(slice)), "{plan:?} of {before:?}");
            }
            Ok(())
        })?;
    }
}
