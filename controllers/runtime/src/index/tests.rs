//! What an index shows, and how far it has followed the server.

use watcher::Event;

use super::*;

#[derive(Debug, PartialEq)]
struct Thing {
    header: Header,
    owner: &'static str,
}

impl Indexed for Thing {
    type Bucket = &'static str;
    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<&'static str> {
        vec![self.owner]
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

fn thing(name: &str, version: u64, owner: &'static str) -> Thing {
    let key = ObjectKey::new("ns", name);
    Thing { header: Header { key, uid: name.into(), version: Some(version), terminating: false }, owner }
}

fn names(index: &Index<Thing>, bucket: &'static str) -> Vec<String> {
    let mut names: Vec<_> =
        index.bucket(&bucket).iter().map(|thing| thing.header.key.name.to_string()).collect();
    names.sort();
    names
}

fn feed(index: &Index<Thing>, events: Vec<Event<Thing>>) -> usize {
    let mut changes = 0;
    for event in events {
        index.apply(event, |_| changes += 1);
    }
    changes
}

#[test]
fn objects_move_between_buckets() {
    let index = Index::default();
    feed(&index, vec![Event::Apply(thing("a", 1, "x")), Event::Apply(thing("b", 2, "x"))]);
    assert_eq!(names(&index, "x"), ["a", "b"]);
    feed(&index, vec![Event::Apply(thing("a", 3, "y")), Event::Delete(thing("b", 4, "x"))]);
    assert_eq!((names(&index, "x"), names(&index, "y")), (vec![], vec!["a".to_owned()]));
    assert_eq!(index.count(&"y"), 1);
}

#[test]
fn what_no_reconcile_can_see_is_not_reported_and_its_version_is_reached() {
    let index = Index::default();
    assert_eq!(feed(&index, vec![Event::Apply(thing("a", 1, "x"))]), 1);
    assert_eq!(feed(&index, vec![Event::Apply(thing("a", 5, "x"))]), 0);
    assert!(index.reached(5, Instant::now()));
    let again = vec![Event::Init, Event::InitApply(thing("a", 7, "x")), Event::InitDone];
    assert_eq!(feed(&index, again), 0, "nor after a list");
    assert_eq!(feed(&index, vec![Event::Apply(thing("a", 8, "y"))]), 1);
}

fn fail(index: &Index<Thing>, error: watcher::Error) {
    index.take_in(Err::<Event<k8s_openapi::api::core::v1::ConfigMap>, _>(error), |_| None, |_| {});
}

/// The connection broke under a watch that ran.
fn cut() -> watcher::Error {
    watcher::Error::WatchFailed(kube::Error::LinesCodecMaxLineLengthExceeded)
}

/// The watch could not be begun.
fn refused() -> watcher::Error {
    watcher::Error::WatchStartFailed(kube::Error::LinesCodecMaxLineLengthExceeded)
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_cut_again_and_again_has_run_in_between() {
    let index = Index::<Thing>::default();
    feed(&index, vec![Event::Init, Event::InitDone]);
    for _ in 0..10 {
        pass(50).await;
        fail(&index, cut());
    }
    pass(5).await;
    assert_eq!(index.watched().as_secs(), 505);
}

#[tokio::test(start_paused = true)]
async fn what_a_watch_was_broken_for_is_left_out_and_no_more() {
    let index = Index::<Thing>::default();
    feed(&index, vec![Event::Init, Event::InitDone]);
    pass(300).await;
    fail(&index, cut());
    for _ in 0..40 {
        pass(30).await;
        fail(&index, refused());
        assert_eq!(index.watched().as_secs(), 300);
    }
    pass(30).await;
    assert_eq!(index.watched().as_secs(), 330, "it may have been begun by now");
    pass(600).await;
    assert_eq!(index.watched().as_secs(), 930, "it was not refused: it has been begun");
    // The server ended it for its age, and does not let it be begun anew at once.
    fail(&index, refused());
    assert_eq!(index.watched().as_secs(), 870);
}

#[tokio::test(start_paused = true)]
async fn a_list_shows_what_was_when_it_was_asked_for() {
    let index = Index::<Thing>::default();
    feed(&index, vec![Event::Init, Event::InitDone]);
    pass(100).await;
    fail(&index, watcher::Error::NoResourceVersion);
    pass(20).await;
    feed(&index, vec![Event::Init]);
    pass(400).await;
    assert_eq!(index.watched().as_secs(), 100);
    fail(&index, watcher::Error::InitialListFailed(kube::Error::LinesCodecMaxLineLengthExceeded));
    pass(20).await;
    feed(&index, vec![Event::Init]);
    pass(7).await;
    feed(&index, vec![Event::InitDone]);
    assert_eq!(index.watched().as_secs(), 107);
}

#[test]
fn a_list_replaces_the_contents_when_complete_and_reports_what_vanished() {
    let index = Index::default();
    feed(&index, vec![Event::Apply(thing("old", 1, "x"))]);
    feed(&index, vec![Event::Init, Event::InitApply(thing("new", 5, "x"))]);
    assert_eq!(names(&index, "x"), ["old"], "an unfinished list is not shown");
    let mut changes = Vec::new();
    index.apply(Event::InitDone, |change| {
        changes.push((
            change.old.map(|o| o.header.key.name.to_string()),
            change.new.map(|n| n.header.key.name.to_string()),
        ));
    });
    assert_eq!(names(&index, "x"), ["new"]);
    assert!(changes.contains(&(Some("old".into()), None)) && changes.contains(&(None, Some("new".into()))));
}

#[tokio::test(start_paused = true)]
async fn progress_follows_versions_and_completed_lists() {
    let index = Index::default();
    let start = Instant::now();
    feed(&index, vec![Event::Apply(thing("a", 7, "x"))]);
    assert!(index.reached(7, start) && !index.reached(8, start));
    feed(&index, vec![Event::Delete(thing("a", 9, "x"))]);
    assert!(index.reached(9, start), "a delete event counts too");
    tokio::time::advance(Duration::from_secs(1)).await;
    feed(&index, vec![Event::Init]);
    assert!(!index.reached(50, start));
    feed(&index, vec![Event::InitDone]);
    assert!(index.reached(50, start), "a list asked for after the write contains the write");
}

#[test]
fn a_list_keeps_what_stands_where_nothing_of_it_has_changed() {
    let index = Index::default();
    feed(&index, vec![Event::Apply(thing("a", 1, "x")), Event::Apply(thing("b", 2, "x"))]);
    let get = |name| index.get(&ObjectKey::new("ns", name)).unwrap();
    let before = ["a", "b"].map(get);
    // A server whose data were restored may give a version a second time.
    let list = [thing("a", 1, "x"), thing("b", 2, "y")].map(Event::InitApply);
    let events = [Event::Init].into_iter().chain(list).chain([Event::InitDone]).collect();
    assert_eq!(feed(&index, events), 1);
    let same: Vec<_> =
        before.iter().zip(["a", "b"].map(get)).map(|(old, new)| Arc::ptr_eq(old, &new)).collect();
    assert_eq!((same, get("b").owner), (vec![true, false], "y"));
}
