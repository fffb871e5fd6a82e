//! Writes where no slice can be created.

use super::*;

type Changes = pack::Plan<Group, Endpoint>;

fn group(port: u16) -> Group {
    let port = Port { port, ..ports()[0].clone() };
    Group { family: Family::V4, ports: [port].into() }
}

fn address(host: u8) -> Endpoint {
    let conditions = Conditions { ready: true, serving: true, terminating: false };
    Endpoint { conditions, ..outside(0, &format!("10.0.0.{host}")).endpoint }
}

fn standby(host: u8) -> Endpoint {
    Endpoint { conditions: Conditions { ready: false, ..address(host).conditions }, ..address(host) }
}

fn slice_of(port: u16, hosts: &[u8]) -> Arc<Slice> {
    let slice = Arc::into_inner(slice(hosts.iter().copied().map(address).collect())).unwrap();
    Arc::new(Slice { group: group(port), ..slice })
}

/// What is left of the changes that bring these slices to hold what is wanted, with this many endpoints each.
fn left(wanted: &[(u16, &[Endpoint])], slices: &[Arc<Slice>], max: usize) -> Changes {
    let wanted = wanted.iter().map(|(port, items)| (group(*port), items.to_vec())).collect();
    let existing = slices.iter().enumerate().map(|(id, slice)| {
        let items = slice.endpoints.clone();
        (slice.group.clone(), pack::Slice { id, items, recyclable: true, outdated: false })
    });
    let changes = pack::plan(&wanted, &existing.collect::<Vec<_>>(), max, |_, _| true);
    assert!(!changes.create.is_empty(), "{changes:?}");
    without_new(&changes, slices)
}

fn update(id: usize, port: u16, items: Vec<Endpoint>) -> pack::Update<Group, Endpoint> {
    pack::Update { id, group: group(port), items }
}

#[test]
fn what_is_gone_leaves_and_what_was_to_move_stays_with_its_new_conditions() {
    let slices = [slice_of(80, &[1, 2, 9])];
    let wanted = [address(1), standby(2)];
    let changes = left(&[(80, &wanted)], &slices, 1);
    assert_eq!(changes.update, [update(0, 80, vec![address(1), standby(2)])]);
    assert_eq!((changes.create, changes.delete), (vec![], vec![]));
    // What is not to move is not held up, and finds its place.
    let changes = left(&[(80, &[address(1), address(3), address(4)])], &slices, 2);
    assert_eq!(changes.update, [update(0, 80, vec![address(1), address(3)])]);
}

#[test]
fn a_slice_becomes_none_of_another_group_while_what_it_holds_has_no_other_place() {
    let slices = [slice_of(80, &[1]), slice_of(80, &[2, 3])];
    let changes = left(&[(81, &[address(1), address(2), address(3)])], &slices, 1);
    assert_eq!(
        changes.update,
        [update(0, 81, vec![address(1)])],
        "one has, and nothing is to do in the other"
    );
}

#[test]
fn a_slice_that_is_not_needed_goes_unless_it_holds_what_has_no_other_place() {
    let slices = [slice_of(80, &[2, 9]), slice_of(80, &[9])];
    let changes = Changes { update: vec![], create: vec![(group(81), vec![address(2)])], delete: vec![0, 1] };
    let changes = without_new(&changes, &slices);
    assert_eq!((changes.update, changes.delete), (vec![update(0, 80, vec![address(2)])], vec![1]));
}

#[test]
fn a_slice_is_written_only_if_it_holds_what_may_not_stay() {
    let slices = [slice_of(80, &[1, 2]), slice_of(80, &[3])];
    let updates =
        restricted(&slices, |endpoint| Some(endpoint.clone()).filter(|endpoint| *endpoint != address(2)));
    assert_eq!(updates, [update(0, 80, vec![address(1)])]);
    let named = Member { name: Some("db.example".into()), ..outside(0, "10.0.0.1") };
    let plan = Case::of(vec![named, outside(0, "10.0.0.2")])
        .checked(&[Verdict::Passing, Verdict::Failing])
        .plan(NOW);
    let slice = written(&plan);
    let notes =
        Noted::of(std::slice::from_ref(&slice)).text(&slice.group, &slice.endpoints, &BTreeMap::new());
    assert_eq!(notes.as_ref(), slice.annotations.get(NOTES), "what it notes of the others stays");
}
