//! When targets are checked, and what becomes of what checks say.

mod bench;

use std::future::ready;

use futures::FutureExt;

use mainstay_probe::Failure;
use prometheus::Registry;
use tokio::time::sleep;

use self::bench::*;
use super::*;
use crate::health::{Settings, Verdict};

#[tokio::test(start_paused = true)]
async fn a_new_target_is_checked_within_a_second_and_its_verdict_told_once() {
    let (bench, a) = (Bench::new(10), pool("a"));
    bench.checker.want(&a, Arc::new(definition()), wanted([1], 80));
    assert_eq!(bench.verdict(&a, 1), Some(Verdict::Unknown));
    sleep(SECOND + TOOK * 2).await;
    assert_eq!(bench.verdict(&a, 1), Some(Verdict::Passing));
    sleep(SECOND * 60).await;
    assert!(
        (6..=8).contains(&bench.asked(80).len()),
        "every 10 s, give or take a tenth: {:?}",
        bench.asked(80)
    );
    let world = bench.world.lock();
    assert_eq!(world.changed.iter().map(|(_, pool)| pool).collect::<Vec<_>>(), [&a]);
}

#[tokio::test(start_paused = true)]
async fn a_verdict_changes_after_as_many_results_in_a_row_as_the_thresholds_say() {
    let (bench, a) = (Bench::new(10), pool("a"));
    bench.checker.want(&a, Arc::new(definition()), wanted([1], 80));
    sleep(SECOND * 2).await;
    bench.fail(1, 80);
    let before = bench.asked(80).len();
    sleep(SECOND * 50).await;
    let state = bench.state(&a, 1).unwrap();
    assert_eq!((state.verdict, state.failure), (Verdict::Failing, Some(Failure::Refused)));
    let asked = bench.asked(80);
    let third = asked[before + 2];
    assert!(state.since >= third && state.since <= third + TOOK * 2, "three failures: {asked:?}");
    assert!(third - asked[before] < SECOND * 5, "2 s from one to the next while in doubt: {asked:?}");
    let known: Vec<_> = asked[before + 2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(!known.is_empty(), "{asked:?}");
    assert!(
        known.iter().all(|wait| *wait > SECOND * 8),
        "and once it is sure to fail, each interval: {asked:?}"
    );

    bench.pass(1, 80);
    let before = asked.len();
    sleep(SECOND * 15).await;
    let state = bench.state(&a, 1).unwrap();
    assert_eq!((state.verdict, state.failure), (Verdict::Passing, None));
    let second = bench.asked(80)[before + 1];
    assert!(state.since >= second && state.since <= second + TOOK * 2, "two successes");
    assert_eq!(bench.changes(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_the_last_check_is_shown_while_the_verdict_stands() {
    let (bench, a) = (Bench::new(10), pool("a"));
    bench.checker.want(&a, Arc::new(Definition { max_concurrent: 1, ..definition() }), wanted([1], 80));
    sleep(SECOND * 2).await;
    bench.fail(1, 80);
    while bench.asked(80).len() < 2 {
        sleep(SECOND / 10).await;
    }
    sleep(TOOK * 2).await;
    let state = bench.state(&a, 1).unwrap();
    assert_eq!((state.verdict, state.failure), (Verdict::Passing, Some(Failure::Refused)));
    assert_eq!(bench.changes(), 1, "the first verdict");
}

#[tokio::test(start_paused = true)]
async fn results_that_agree_with_a_resumed_verdict_are_no_news_but_why_one_fails() {
    let (bench, a, b) = (Bench::new(10), pool("a"), pool("b"));
    (10..15).for_each(|host| bench.fail(host, 81));
    bench.checker.want(&a, Arc::new(definition()), resumed(0..5, 80, Verdict::Passing));
    bench.checker.want(&b, Arc::new(definition()), resumed(10..15, 81, Verdict::Failing));
    assert_eq!(bench.verdict(&a, 0), Some(Verdict::Passing));
    assert_eq!(bench.verdict(&b, 10), Some(Verdict::Failing));
    sleep(SECOND * 60).await;
    assert!(bench.asked(80).len() >= 25 && bench.asked(81).len() >= 25);
    assert_eq!(bench.changes(), 5, "of each that fails, why it does");
    assert_eq!(bench.verdict(&a, 0), Some(Verdict::Passing));
    assert_eq!(bench.verdict(&b, 10), Some(Verdict::Failing));

    bench.checker.want(&a, Arc::new(definition()), resumed(0..5, 80, Verdict::Failing));
    assert_eq!(bench.verdict(&a, 0), Some(Verdict::Passing), "a known target is not resumed");
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_all_pools_is_kept_and_shared() {
    let bench = Bench::new(7);
    for (name, port) in [("a", 80), ("b", 81), ("c", 82)] {
        (0..20).for_each(|host| bench.hang(host, port));
        bench.checker.want(&pool(name), Arc::new(definition()), wanted(0..20, port));
    }
    sleep(SECOND * 40).await;
    assert_eq!(bench.world.lock().most, 6, "two for each, and one that no pool may take which has two");
    for port in [80, 81, 82] {
        assert!(bench.asked(port).len() >= 20, "the limit is shared");
    }
    assert_eq!(bench.value("mainstay_endpoints_checks_in_flight", &[]), Some(6.0));
    (0..5).for_each(|number| {
        bench.hang(number, 90);
        bench.checker.want(&pool(&format!("{number}")), Arc::new(definition()), wanted([number], 90));
    });
    sleep(SECOND * 10).await;
    assert_eq!(bench.world.lock().most, 7);
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_checks_hang_for_long_holds_up_no_other() {
    let bench = Bench::new(10);
    let settings = Settings { interval: SECOND * 300, timeout: SECOND * 300, ..definition().settings };
    (0..500).for_each(|host| bench.hang(host, 80));
    let dead = Arc::new(Definition { settings, max_concurrent: 1000, ..definition() });
    bench.checker.want(&pool("dead"), dead, wanted(0..500, 80));
    sleep(SECOND * 2).await;
    let well = pool("well");
    bench.checker.want(&well, Arc::new(definition()), wanted(0..50, 81));
    sleep(SECOND + TOOK * 20).await;
    assert!((0..50).all(|host| bench.verdict(&well, host) == Some(Verdict::Passing)));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_says_nothing_and_is_made_again() {
    let (clock, metrics) = (Clock::start(), CheckMetrics::new(&Registry::new()));
    let asked = Arc::<Mutex<usize>>::default();
    let count = Arc::clone(&asked);
    let ask = move |_: Arc<Check>, _: SocketAddr| {
        *count.lock() += 1;
        assert!(*count.lock() > 1, "a bug that one answer meets");
        ready(Outcome { took: TOOK, result: Ok(()) }).boxed()
    };
    let checker = Arc::new(Checker::new(ask, 10, metrics.clone(), clock, |_| {}));
    let running = Arc::clone(&checker);
    tokio::spawn(async move { running.run(&Beat::new("checks"), CancellationToken::new()).await });
    checker.want(&pool("a"), Arc::new(definition()), wanted([1], 80));
    sleep(SECOND).await;
    assert_eq!((*asked.lock(), checker.states(&pool("a"))[&target(1)].verdict), (1, Verdict::Unknown));
    assert_eq!(metrics.in_flight(), 0);
    sleep(SECOND * 3).await;
    assert_eq!(checker.states(&pool("a"))[&target(1)].verdict, Verdict::Passing);
}

#[tokio::test(start_paused = true)]
async fn a_pool_at_its_own_limit_holds_up_no_other() {
    let (bench, slow, quick) = (Bench::new(20), pool("slow"), pool("quick"));
    (0..50).for_each(|host| bench.hang(host, 80));
    let narrow = Definition { max_concurrent: 4, ..definition() };
    bench.checker.want(&slow, Arc::new(narrow.clone()), wanted(0..50, 80));
    sleep(SECOND).await;
    assert_eq!(bench.world.lock().under_way.len(), 4, "the pool's limit");
    bench.checker.want(&quick, Arc::new(definition()), wanted(0..5, 81));
    sleep(SECOND + TOOK * 2).await;
    assert!((0..5).all(|host| bench.verdict(&quick, host) == Some(Verdict::Passing)));

    bench.checker.want(&slow, Arc::new(Definition { max_concurrent: 6, ..narrow }), wanted(0..50, 80));
    sleep(SECOND).await;
    let slow = |world: &World| world.under_way.iter().filter(|address| address.port() == 80).count();
    assert_eq!(slow(&bench.world.lock()), 6, "a changed limit is followed");
}

#[tokio::test(start_paused = true)]
async fn a_target_removed_during_its_check_is_forgotten_and_the_result_dropped() {
    let (bench, a) = (Bench::new(10), pool("a"));
    bench.hang(1, 80);
    let same =
        Arc::new(Definition { settings: Settings { failures: 1, ..definition().settings }, ..definition() });
    bench.checker.want(&a, Arc::clone(&same), wanted([1, 2], 80));
    sleep(SECOND * 2).await;
    assert_eq!(bench.world.lock().under_way, [SocketAddr::new(address(1), 80)]);
    bench.checker.want(&a, Arc::clone(&same), wanted([2], 80));
    assert_eq!(bench.state(&a, 1), None);
    sleep(SECOND * 5).await;
    assert_eq!((bench.state(&a, 1), bench.changes()), (None, 1), "only the other has a verdict");

    bench.checker.want(&a, Arc::clone(&same), wanted([1, 2], 80));
    sleep(SECOND * 2).await;
    bench.checker.forget(&a);
    assert!(bench.checker.states(&a).is_empty());
    // It comes back as another one while the old check is still under way.
    bench.checker.want(&a, same, resumed([1], 80, Verdict::Passing));
    bench.pass(1, 80);
    sleep(SECOND * 30).await;
    assert_eq!(bench.verdict(&a, 1), Some(Verdict::Passing));
    assert_eq!(bench.changes(), 1, "the timeout that was asked for before the end does not count");
    assert!(bench.world.lock().under_way.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_pool_is_not_checked_and_leaves_nothing_behind() {
    let (bench, a) = (Bench::new(10), pool("a"));
    bench.hang(1, 80);
    bench.checker.want(&a, Arc::new(definition()), wanted(0..5, 80));
    sleep(SECOND * 2).await;
    bench.checker.forget(&a);
    let before = bench.asked(80).len();
    sleep(SECOND * 60).await;
    assert_eq!(bench.asked(80).len(), before);
    assert!(bench.checker.table.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_port_keeps_the_verdict_and_is_checked_soon() {
    let (bench, a) = (Bench::new(10), pool("a"));
    let same = Arc::new(definition());
    bench.checker.want(&a, Arc::clone(&same), wanted([1], 80));
    sleep(SECOND * 2).await;
    let before = bench.state(&a, 1).unwrap();
    bench.fail(1, 81);
    bench.checker.want(&a, Arc::clone(&same), wanted([1], 81));
    assert_eq!(bench.state(&a, 1), Some(before.clone()));
    sleep(SECOND + TOOK * 2).await;
    assert_eq!(bench.asked(81).len(), 1);
    let after = bench.state(&a, 1).unwrap();
    assert_eq!((after.verdict, after.since), (before.verdict, before.since));
    assert_eq!(after.failure, Some(Failure::Refused));
    let old = bench.asked(80).len();
    sleep(SECOND * 30).await;
    assert_eq!((bench.verdict(&a, 1), bench.asked(80).len()), (Some(Verdict::Failing), old));
}

#[tokio::test(start_paused = true)]
async fn the_result_of_a_port_of_before_is_dropped() {
    let (bench, a) = (Bench::new(10), pool("a"));
    let same =
        Arc::new(Definition { settings: Settings { failures: 1, ..definition().settings }, ..definition() });
    bench.hang(1, 80);
    bench.checker.want(&a, Arc::clone(&same), wanted([1], 80));
    sleep(SECOND).await;
    assert_eq!(bench.world.lock().under_way.len(), 1);
    bench.checker.want(&a, same, wanted([1], 81));
    sleep(SECOND * 4).await;
    assert_eq!(bench.verdict(&a, 1), Some(Verdict::Passing), "the new port's first result");
    assert_eq!((bench.changes(), bench.asked(81).len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn another_definition_keeps_the_verdict_and_is_followed_soon() {
    let (bench, a) = (Bench::new(10), pool("a"));
    let seldom = |seconds| {
        let settings = Settings { interval: SECOND * seconds, ..definition().settings };
        Arc::new(Definition { settings, ..definition() })
    };
    let hour = seldom(3600);
    bench.checker.want(&a, Arc::clone(&hour), wanted([1], 80));
    sleep(SECOND * 100).await;
    bench.checker.want(&a, hour, wanted([1], 80));
    sleep(SECOND * 100).await;
    assert_eq!(bench.asked(80).len(), 1, "the same definition again changes nothing");
    let before = bench.state(&a, 1).unwrap();
    bench.checker.want(&a, seldom(5), wanted([1], 80));
    assert_eq!(bench.state(&a, 1), Some(before));
    sleep(SECOND * 51).await;
    assert!((9..=12).contains(&(bench.asked(80).len() - 1)), "every 5 s: {:?}", bench.asked(80));
    assert_eq!(bench.changes(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_targets_are_spread_over_the_interval() {
    let (bench, a) = (Bench::new(2000), pool("a"));
    let wide = Arc::new(Definition { max_concurrent: 1000, ..definition() });
    bench.checker.want(&a, wide, resumed(0..2000, 80, Verdict::Passing));
    sleep(SECOND * 10 + TOOK).await;
    let asked = bench.asked(80);
    let (first, again) = asked.split_at(2000.min(asked.len()));
    assert_eq!(first.len(), 2000, "each within an interval");
    assert!(again.len() < 200, "hardly one twice");
    for second in 0..10 {
        let begun = first.iter().filter(|began| began.as_secs() == second).count();
        assert!((120..=280).contains(&begun), "{begun} of 2000 in second {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn checks_are_counted_by_type_and_result() {
    let (bench, a) = (Bench::new(10), pool("a"));
    let total = "mainstay_endpoints_checks_total";
    for kind in ["http", "tcp", "grpc"] {
        assert_eq!(bench.value(total, &["success", kind]), Some(0.0));
    }
    bench.fail(1, 80);
    bench.checker.want(&a, Arc::new(definition()), wanted([1, 2], 80));
    sleep(SECOND + TOOK * 2).await;
    assert_eq!(bench.value(total, &["success", "tcp"]), Some(1.0));
    assert_eq!(bench.value(total, &["Refused", "tcp"]), Some(1.0));
    assert_eq!(bench.value("mainstay_endpoints_checks_in_flight", &[]), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_the_run_and_the_checks_under_way() {
    let bench = Bench::new(10);
    let metrics = CheckMetrics::new(&Registry::new());
    let never = |_: Arc<Check>, _| std::future::pending().boxed();
    let checker = Checker::new(never, 10, metrics.clone(), bench.clock, |_| {});
    checker.want(&pool("a"), Arc::new(definition()), wanted([1], 80));
    let shutdown = CancellationToken::new();
    let stop = async {
        sleep(SECOND * 2).await;
        assert_eq!(metrics.in_flight(), 1);
        shutdown.cancel();
    };
    let beat = Beat::new("checks");
    tokio::join!(checker.run(&beat, shutdown.clone()), stop);
    assert_eq!(metrics.in_flight(), 0);
}
