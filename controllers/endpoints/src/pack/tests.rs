//! What tests of this module share, and the rules one by one.

use super::*;

/// An endpoint: what it is, and a detail of it that may change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Endpoint(pub(super) u32, pub(super) u32);

impl Item for Endpoint {
    type Key = u32;

    fn key(&self) -> u32 {
        self.0
    }
}

/// A family of addresses and a set of ports.
pub(super) type Ports = (u8, u8);

const WEB: Ports = (4, 80);
const METRICS: Ports = (4, 90);
const WEB_6: Ports = (6, 80);
const MAX: usize = 4;

fn endpoints(names: impl IntoIterator<Item = u32>) -> Vec<Endpoint> {
    names.into_iter().map(|name| Endpoint(name, 0)).collect()
}

fn slice(id: usize, names: impl IntoIterator<Item = u32>) -> Slice<Endpoint> {
    Slice { id, items: endpoints(names), recyclable: true, outdated: false }
}

/// The same slice, which nobody else may use.
fn kept_for_its_group(slice: Slice<Endpoint>) -> Slice<Endpoint> {
    Slice { recyclable: false, ..slice }
}

fn outdated(slice: Slice<Endpoint>) -> Slice<Endpoint> {
    Slice { outdated: true, ..slice }
}

fn plan_groups(
    wanted: impl IntoIterator<Item = (Ports, Vec<Endpoint>)>,
    existing: Vec<(Ports, Slice<Endpoint>)>,
) -> Plan<Ports, Endpoint> {
    plan(&wanted.into_iter().collect(), &existing, MAX, |one, other| one.0 == other.0)
}

/// Plans one group.
fn plan_web(wanted: Vec<Endpoint>, existing: Vec<Slice<Endpoint>>) -> Plan<Ports, Endpoint> {
    plan_groups([(WEB, wanted)], existing.into_iter().map(|slice| (WEB, slice)).collect())
}

fn nothing() -> Plan<Ports, Endpoint> {
    Plan { update: vec![], create: vec![], delete: vec![] }
}

fn update(id: usize, names: impl IntoIterator<Item = u32>) -> Vec<Update<Ports, Endpoint>> {
    vec![Update { id, group: WEB, items: endpoints(names) }]
}

#[test]
fn new_slices_are_filled_in_the_order_of_keys() {
    let plan = plan_web(endpoints([5, 3, 9, 1, 7, 2]), vec![]);
    let create = vec![(WEB, endpoints([1, 2, 3, 5])), (WEB, endpoints([7, 9]))];
    assert_eq!(plan, Plan { create, ..nothing() });
}

#[test]
fn what_is_settled_is_not_written_whatever_the_order() {
    let plan = plan_web(endpoints([1, 2, 3, 4, 5]), vec![slice(0, [5, 2]), slice(1, [4, 3, 1])]);
    assert!(plan.is_empty(), "{plan:?}");
}

#[test]
fn a_changed_endpoint_is_updated_where_it_is() {
    let mut wanted = endpoints([1, 2, 3, 4, 5]);
    wanted[3].1 = 7;
    let plan = plan_web(wanted, vec![slice(0, [1, 2]), slice(1, [5, 4, 3])]);
    let items = vec![Endpoint(5, 0), Endpoint(4, 7), Endpoint(3, 0)];
    assert_eq!(plan, Plan { update: vec![Update { id: 1, group: WEB, items }], ..nothing() });
}

#[test]
fn of_several_items_of_one_key_the_last_counts() {
    let plan = plan_web(vec![Endpoint(1, 0), Endpoint(1, 1)], vec![]);
    assert_eq!(plan.create, vec![(WEB, vec![Endpoint(1, 1)])]);
}

#[test]
fn new_endpoints_go_where_something_is_written_anyway() {
    let plan = plan_web(endpoints([1, 2, 4, 5, 6]), vec![slice(0, [1, 2]), slice(1, [3, 4, 5])]);
    assert_eq!(plan, Plan { update: update(1, [4, 5, 6]), ..nothing() });
}

#[test]
fn of_the_slices_that_are_written_the_fullest_is_filled_first() {
    let existing = vec![outdated(slice(0, [1])), outdated(slice(1, [2, 3])), outdated(slice(2, [4]))];
    let plan = plan_web(endpoints(1..=7), existing);
    let update = [update(0, [1, 7]), update(1, [2, 3, 5, 6]), update(2, [4])].concat();
    assert_eq!(plan, Plan { update, ..nothing() });
}

#[test]
fn the_rest_goes_into_the_fullest_slice_that_has_room_for_all_of_it() {
    let existing = || vec![slice(0, [1]), slice(1, [2, 3]), slice(2, [4, 5]), slice(3, [6, 7, 8])];
    let plan = plan_web(endpoints(1..=10), existing());
    assert_eq!(plan, Plan { update: update(1, [2, 3, 9, 10]), ..nothing() });
}

#[test]
fn a_rest_that_fits_into_no_slice_gets_its_own() {
    let plan = plan_web(endpoints(1..=9), vec![slice(0, [1, 2, 3]), slice(1, [4, 5, 6])]);
    assert_eq!(plan, Plan { create: vec![(WEB, endpoints(7..=9))], ..nothing() });
}

#[test]
fn what_full_new_slices_leave_over_goes_into_one_that_exists() {
    let plan = plan_web(endpoints(1..=7), vec![slice(0, [1, 2])]);
    let create = vec![(WEB, endpoints(3..=6))];
    assert_eq!(plan, Plan { create, update: update(0, [1, 2, 7]), ..nothing() });
}

#[test]
fn an_emptied_slice_is_deleted_when_others_have_room() {
    let plan = plan_web(endpoints([1, 4]), vec![slice(0, [1]), slice(1, [2, 3])]);
    assert_eq!(plan, Plan { update: update(0, [1, 4]), delete: vec![1], ..nothing() });
}

#[test]
fn an_emptied_slice_is_filled_anew_rather_than_another_one_created() {
    let existing = vec![slice(0, [1, 2, 3, 4]), kept_for_its_group(slice(1, [5, 6]))];
    let plan = plan_web(endpoints([1, 2, 3, 4, 7]), existing);
    assert_eq!(plan, Plan { update: update(1, [7]), ..nothing() });
}

#[test]
fn an_endpoint_in_two_slices_stays_in_the_first() {
    let plan = plan_web(endpoints([1, 2, 3]), vec![slice(0, [1, 2]), slice(1, [2, 3])]);
    assert_eq!(plan, Plan { update: update(1, [3]), ..nothing() });
}

#[test]
fn of_a_slice_with_more_than_the_maximum_only_the_excess_is_moved() {
    let plan = plan_web(endpoints(1..=7), vec![slice(0, 1..=6), slice(1, [7])]);
    let update = [update(0, 1..=4), update(1, [7, 5, 6])].concat();
    assert_eq!(plan, Plan { update, ..nothing() });
}

#[test]
fn a_maximum_of_zero_counts_as_one() {
    let wanted = BTreeMap::from([(WEB, endpoints([1, 2]))]);
    let plan = plan(&wanted, &[], 0, |one, other| one == other);
    assert_eq!(plan.create, vec![(WEB, endpoints([1])), (WEB, endpoints([2]))]);
}

#[test]
fn a_group_without_endpoints_has_one_empty_slice() {
    assert_eq!(plan_web(vec![], vec![]), Plan { create: vec![(WEB, vec![])], ..nothing() });
    assert_eq!(plan_web(vec![], vec![slice(0, [])]), nothing());
    let emptied = plan_web(vec![], vec![slice(0, [1]), slice(1, [2])]);
    assert_eq!(emptied, Plan { update: update(0, []), delete: vec![1], ..nothing() });
    let too_many = plan_web(vec![], vec![outdated(slice(0, [])), slice(1, [])]);
    assert_eq!(too_many, Plan { delete: vec![0], ..nothing() });
    let wrong = plan_web(vec![], vec![outdated(slice(0, []))]);
    assert_eq!(wrong, Plan { update: update(0, []), ..nothing() });
}

#[test]
fn the_empty_slice_is_filled_when_endpoints_come() {
    let plan = plan_web(endpoints(1..=4), vec![slice(0, [])]);
    assert_eq!(plan, Plan { update: update(0, 1..=4), ..nothing() });
}

#[test]
fn an_empty_slice_beside_others_is_deleted() {
    let plan = plan_web(endpoints([1]), vec![slice(0, []), slice(1, [1])]);
    assert_eq!(plan, Plan { delete: vec![0], ..nothing() });
}

#[test]
fn slices_of_a_group_that_is_gone_are_deleted() {
    let plan = plan_groups([], vec![(WEB, slice(0, [1])), (WEB_6, slice(1, []))]);
    assert_eq!(plan, Plan { delete: vec![0, 1], ..nothing() });
}

#[test]
fn a_slice_that_is_not_needed_becomes_one_of_another_group_of_its_family() {
    let wanted = || [(WEB, endpoints([1, 2]))];
    let taken = plan_groups(wanted(), vec![(METRICS, slice(3, [8, 9]))]);
    assert_eq!(taken, Plan { update: update(3, [1, 2]), ..nothing() });
    let create = vec![(WEB, endpoints([1, 2]))];
    let other_family = plan_groups(wanted(), vec![(WEB_6, slice(3, [8, 9]))]);
    assert_eq!(other_family, Plan { create: create.clone(), delete: vec![3], ..nothing() });
    let not_ours = plan_groups(wanted(), vec![(METRICS, kept_for_its_group(slice(3, [8, 9])))]);
    assert_eq!(not_ours, Plan { create, delete: vec![3], ..nothing() });
}

#[test]
fn a_group_fills_first_what_no_other_could_use() {
    let wanted = [(WEB, endpoints([1])), (METRICS, endpoints([2]))];
    let existing = vec![(WEB, slice(0, [8])), (WEB, kept_for_its_group(slice(1, [9])))];
    let plan = plan_groups(wanted, existing);
    let metrics = Update { id: 0, group: METRICS, items: endpoints([2]) };
    assert_eq!(plan, Plan { update: [update(1, [1]), vec![metrics]].concat(), ..nothing() });
}

#[test]
fn one_change_among_many_costs_one_write() {
    let existing: Vec<_> = (0..250).map(|id| slice(id as usize, id * 4..id * 4 + 4)).collect();
    let mut wanted = endpoints(0..1000);
    wanted[501] = Endpoint(2000, 0);
    let plan = plan_web(wanted, existing);
    assert_eq!(plan, Plan { update: update(125, [500, 502, 503, 2000]), ..nothing() });
}
