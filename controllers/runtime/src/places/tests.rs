//! Who gets the next place.

use std::{collections::HashMap, time::Duration};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

type Line = Places<&'static str, u32>;

/// Begins all that may begin: whose it is, and which one.
fn begin(places: &mut Line, now: Moment) -> Vec<(&'static str, u32)> {
    let mut begun = Vec::new();
    while let Next::Begin { owner, key, due } = places.next(now) {
        assert!(due <= now, "{owner} {key} is not due");
        begun.push((owner, key));
    }
    begun
}

fn wait(places: &mut Line, now: Moment) -> Option<Moment> {
    match places.next(now) {
        Next::Wait(until) => until,
        Next::Begin { owner, key, .. } => panic!("{owner} {key} begins"),
    }
}

#[test]
fn what_is_due_since_longest_comes_first_whatever_its_name() {
    let mut places = Line::new(100);
    for (owner, key, due) in [("a", 1, 4), ("b", 2, 3), ("a", 3, 2), ("c", 4, 1), ("c", 5, 9)] {
        places.put(&owner, key, SECOND * due);
    }
    assert_eq!(wait(&mut places, Duration::ZERO), Some(SECOND));
    assert_eq!(begin(&mut places, SECOND * 5), [("c", 4), ("a", 3), ("b", 2), ("a", 1)]);
    assert_eq!(wait(&mut places, SECOND * 5), Some(SECOND * 9));
}

#[test]
fn a_key_comes_when_it_is_due_by_what_was_said_last_and_not_at_all_when_it_was_taken_back() {
    let mut places = Line::new(100);
    places.put(&"a", 1, SECOND * 5);
    places.put(&"a", 2, SECOND * 6);
    places.put(&"a", 1, SECOND * 8);
    places.put(&"a", 3, SECOND * 2);
    places.remove(&"a", &3);
    places.hasten(&"a", 1, SECOND * 9);
    assert_eq!(begin(&mut places, SECOND * 7), [("a", 2)]);
    assert_eq!(wait(&mut places, SECOND * 7), Some(SECOND * 8));
    places.hasten(&"a", 1, SECOND * 7);
    assert_eq!(begin(&mut places, SECOND * 7), [("a", 1)]);
}

#[test]
fn a_key_is_under_way_once_and_is_due_again_after_its_end_if_it_was_put_again() {
    let mut places = Line::new(100);
    places.put(&"a", 1, SECOND);
    assert_eq!(begin(&mut places, SECOND), [("a", 1)]);
    assert!(places.is_under_way(&"a", &1));
    places.put(&"a", 1, SECOND * 2);
    assert_eq!(begin(&mut places, SECOND * 3), [], "it is under way");
    places.ended(&"a", &1);
    assert!(!places.is_under_way(&"a", &1));
    assert_eq!(begin(&mut places, SECOND * 3), [("a", 1)]);
    // What is taken back while it is under way ends, and is not due again.
    places.put(&"a", 1, SECOND * 3);
    places.remove(&"a", &1);
    assert!(!places.is_empty());
    places.ended(&"a", &1);
    places.ended(&"a", &1);
    assert!(places.is_empty() && places.later.is_empty() && places.ready.is_empty());
    assert_eq!((begin(&mut places, SECOND * 9), places.under_way), (vec![], 0));
}

#[test]
fn an_owner_has_no_more_under_way_than_its_bound_and_holds_up_no_other_there() {
    let mut places = Line::new(100);
    (1..10).for_each(|key| places.put(&"a", key, SECOND));
    places.put(&"b", 1, SECOND * 2);
    places.bound(&"a", 2);
    assert_eq!(begin(&mut places, SECOND * 2), [("a", 1), ("b", 1), ("a", 2)]);
    places.bound(&"a", 3);
    assert_eq!(begin(&mut places, SECOND * 2), [("a", 3)]);
    places.bound(&"a", 2);
    places.ended(&"a", &1);
    assert_eq!(begin(&mut places, SECOND * 2), []);
    places.bound(&"a", 0);
    [2, 3].iter().for_each(|key| places.ended(&"a", key));
    assert_eq!(begin(&mut places, SECOND * 2).len(), 1, "zero counts as one");
}

#[test]
fn one_owner_alone_gets_half_and_several_share_what_leaves_one_place_for_another() {
    for (owners, share) in [(1, 8), (2, 5), (3, 4), (7, 2)] {
        let mut places = Places::<usize, u32>::new(16);
        for owner in 0..owners {
            (0..100).for_each(|key| places.put(&owner, key, SECOND));
        }
        let mut has = vec![0; owners];
        while let Next::Begin { owner, .. } = places.next(SECOND) {
            has[owner] += 1;
        }
        assert!(has.iter().all(|has| (share..=share + 1).contains(has)), "{owners} owners have {has:?}");
        places.put(&99, 1, SECOND * 60);
        assert_eq!(places.next(SECOND * 59), Next::Wait(Some(SECOND * 60)), "only who has fewer may come");
        assert_eq!(places.next(SECOND * 60), Next::Begin { owner: 99, key: 1, due: SECOND * 60 });
    }
}

#[test]
fn the_last_place_is_for_an_owner_that_has_none() {
    let mut places = Line::new(2);
    (1..3).for_each(|key| places.put(&"a", key, SECOND));
    assert_eq!(begin(&mut places, SECOND), [("a", 1)]);
    assert_eq!(wait(&mut places, SECOND), None);
    places.put(&"b", 3, SECOND * 2);
    assert_eq!(begin(&mut places, SECOND * 3), [("b", 3)]);
    places.ended(&"a", &1);
    assert_eq!(begin(&mut places, SECOND * 3), [("a", 2)]);
    let mut single = Line::new(0);
    single.put(&"a", 1, SECOND);
    assert_eq!(begin(&mut single, SECOND), [("a", 1)], "no places count as one");
}

#[test]
fn of_a_freed_place_the_owner_with_the_fewest_under_way_comes_first() {
    let mut places = Line::new(6);
    (0..9).for_each(|key| places.put(&"greedy", key, SECOND));
    assert_eq!(begin(&mut places, SECOND).len(), 3);
    for (owner, key) in [("b", 1), ("c", 2), ("d", 3), ("e", 4)] {
        places.put(&owner, key, SECOND * 2);
    }
    assert_eq!(begin(&mut places, SECOND * 3), [("b", 1), ("c", 2), ("d", 3)], "all places are taken");
    places.ended(&"greedy", &0);
    assert_eq!(begin(&mut places, SECOND * 3), [("e", 4)]);
}

#[test]
fn what_is_due_for_the_first_time_stands_behind_nothing_that_is_known() {
    let mut places = Line::new(400);
    (0..5000).for_each(|key| places.put(&"a", key, SECOND));
    places.bound(&"a", 50);
    let begun = begin(&mut places, SECOND * 2);
    assert_eq!(begun.len(), 44, "the rest is for new ones");
    places.begin(&"a", 7000, SECOND * 3);
    assert_eq!(begin(&mut places, SECOND * 2), [], "it is not due yet");
    assert_eq!(begin(&mut places, SECOND * 3), [("a", 7000)]);
    (8000..8010).for_each(|key| places.begin(&"a", key, SECOND * 3));
    assert_eq!(begin(&mut places, SECOND * 3).len(), 5, "all that it may have");
    places.ended(&"a", &begun[0].1);
    assert_eq!(begin(&mut places, SECOND * 3), [("a", 8005)], "a new one has the next place");
    // What has begun once is no longer new.
    places.put(&"a", 7000, SECOND * 4);
    places.ended(&"a", &7000);
    assert_eq!(begin(&mut places, SECOND * 4), [("a", 8006)]);
    assert_eq!(wait(&mut places, SECOND * 4), None);
    places.begin(&"b", 1, SECOND * 5);
    places.remove(&"b", &1);
    assert_eq!(wait(&mut places, SECOND * 5), None, "what is taken back is not due");
}

#[test]
fn many_that_are_due_for_the_first_time_leave_places_for_those_that_are_known() {
    let mut places = Line::new(400);
    (0..100).for_each(|key| places.put(&"a", key, SECOND));
    (1000..6000).for_each(|key| places.begin(&"a", key, SECOND));
    places.bound(&"a", 50);
    let begun = begin(&mut places, SECOND);
    let known = begun.iter().filter(|(_, key)| *key < 1000).count();
    assert_eq!((begun.len(), known), (50, 6));
}

/// A pool of 5,000 addresses goes dark, and a tenant has 20 more whose addresses hang: each check of theirs holds its place
/// for long, and is due again at once. Those of the others, which are answered, begin as if nothing were.
#[test]
fn whose_jobs_hang_starves_nobody() {
    const TICK: Duration = Duration::from_millis(10);
    let mut places = Places::<u32, u32>::new(256);
    (0..5000).for_each(|key| places.put(&0, key, Duration::ZERO));
    for owner in 1..=20 {
        (0..300).for_each(|key| places.put(&owner, key, Duration::ZERO));
    }
    let is_well = |owner: u32| owner > 20;
    let mut ends: HashMap<(u32, u32), Moment> = HashMap::new();
    let (mut begun, mut latest) = (0, Duration::ZERO);
    for tick in 0..6000 {
        let now = TICK * tick;
        if tick == 100 {
            (21..200).for_each(|owner| places.put(&owner, 0, now + TICK * owner));
        }
        let ended: Vec<_> = ends.extract_if(|_, end| *end <= now).map(|(key, _)| key).collect();
        for (owner, key) in ended {
            places.put(&owner, key, if is_well(owner) { now + SECOND * 10 } else { now });
            places.ended(&owner, &key);
        }
        while let Next::Begin { owner, key, due } = places.next(now) {
            let takes = if is_well(owner) { TICK } else { SECOND * 300 };
            ends.insert((owner, key), now + takes);
            if is_well(owner) {
                begun += 1;
                latest = latest.max(now - due);
            }
        }
    }
    assert!(begun > 179 * 4, "each is checked every ten seconds: {begun}");
    assert!(latest <= TICK, "a check began {latest:?} late");
}
