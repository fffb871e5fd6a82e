use std::time::Duration;

use super::*;

fn key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(namespace, name)
}

fn names(queue: &mut Queue) -> Vec<String> {
    std::iter::from_fn(|| queue.take()).map(|key| key.name.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn changes_go_before_sweeps_and_sweeps_before_time() {
    let mut queue = Queue::default();
    for (name, lane) in [("time", Lane::Time), ("sweep", Lane::Sweep), ("change", Lane::Change)] {
        queue.put(&key("ns", name), lane, None);
    }
    assert_eq!(names(&mut queue), ["change", "sweep", "time"]);
}

#[tokio::test(start_paused = true)]
async fn no_lane_waits_for_ever() {
    let mut queue = Queue::default();
    queue.put(&key("ns", "time"), Lane::Time, None);
    let served = (0..TURNS).find(|turn| {
        queue.put(&key("ns", &format!("change-{turn}")), Lane::Change, None);
        queue.take().is_some_and(|key| &*key.name == "time")
    });
    assert!(served.is_some(), "{TURNS} turns, and none for what time has made due");
}

#[tokio::test(start_paused = true)]
async fn no_namespace_waits_for_all_objects_of_another() {
    let mut queue = Queue::default();
    for index in 0..1000 {
        queue.put(&key("many", &format!("many-{index}")), Lane::Change, None);
    }
    queue.put(&key("few", "one"), Lane::Change, None);
    let turn = names(&mut queue).iter().position(|name| name == "one").unwrap();
    assert!(turn < 4, "served after {turn} others");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_whose_reconciles_do_not_end_leaves_workers_to_others() {
    let mut queue = Queue::default();
    queue.divide(8);
    for index in 0..8 {
        queue.put(&key("hangs", &format!("hangs-{index}")), Lane::Change, None);
    }
    queue.put(&key("other", "other"), Lane::Time, None);
    assert_eq!(names(&mut queue), ["hangs-0", "hangs-1", "hangs-2", "hangs-3", "other"]);
    queue.served(&key("hangs", "hangs-0"));
    assert_eq!(names(&mut queue), ["hangs-4"]);
    for index in 0..8 {
        queue.served(&key("hangs", &format!("hangs-{index}")));
    }
    assert_eq!(names(&mut queue), ["hangs-5", "hangs-6", "hangs-7"]);
}

#[tokio::test(start_paused = true)]
async fn objects_of_the_cluster_have_all_workers() {
    let mut queue = Queue::default();
    queue.divide(2);
    for name in ["a", "b", "c"] {
        queue.put(&key("", name), Lane::Change, None);
    }
    assert_eq!(names(&mut queue), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_in_it_once_and_goes_out_of_it_for_good() {
    let mut queue = Queue::default();
    for round in 0..1000_u64 {
        let key = key("ns", "a");
        queue.put(&key, Lane::Sweep, None);
        queue.put(&key, Lane::Change, None);
        queue.put(&key, Lane::Time, Some(Instant::now() + Duration::from_secs(round)));
        queue.remove(&key);
    }
    assert_eq!(names(&mut queue), [""; 0]);
    assert!(queue.places.is_empty() && queue.later.is_empty());
    assert!(queue.lines.iter().all(|line| line.turns.is_empty() && line.namespaces.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn what_is_due_later_is_served_then_and_in_its_lane() {
    let mut queue = Queue::default();
    let soon = Instant::now() + Duration::from_secs(1);
    queue.put(&key("ns", "time"), Lane::Time, None);
    queue.put(&key("ns", "later"), Lane::Change, Some(soon));
    assert_eq!((names(&mut queue), queue.next_due()), (vec!["time".to_owned()], Some(soon)));
    tokio::time::advance(Duration::from_secs(1)).await;
    queue.put(&key("ns", "time"), Lane::Time, None);
    assert_eq!(names(&mut queue), ["later", "time"]);
    assert_eq!(queue.next_due(), None);
}
