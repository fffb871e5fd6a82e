//! Each rule of a verdict.

use super::*;

fn second(second: u64) -> Moment {
    Duration::from_secs(second)
}

fn settings() -> Settings {
    Settings {
        interval: second(10),
        timeout: second(2),
        unhealthy_interval: second(2),
        successes: 2,
        failures: 3,
        flap_window: second(600),
    }
}

/// Feeds results a second apart from `start` on and returns the verdicts after each.
fn feed(record: &mut Record, start: u64, results: &[bool]) -> Vec<Verdict> {
    let observe = |(index, passed): (u64, &bool)| {
        record.observe(*passed, second(start + index), &settings(), 0.0);
        record.verdict()
    };
    (0..).zip(results).map(observe).collect()
}

#[test]
fn the_first_success_is_enough_and_the_first_failures_are_not() {
    let mut record = Record::new(second(0), &settings(), 0.0);
    assert_eq!(feed(&mut record, 1, &[true]), [Verdict::Passing]);
    let mut record = Record::new(second(0), &settings(), 0.0);
    assert_eq!(
        feed(&mut record, 1, &[false, false, false]),
        [Verdict::Unknown, Verdict::Unknown, Verdict::Failing]
    );
    assert_eq!(record.since(), second(3));
}

#[test]
fn verdicts_change_after_as_many_results_in_a_row_as_asked_for() {
    let mut record = Record::resumed(Verdict::Passing, second(0), &settings(), 0.5);
    let verdicts = feed(&mut record, 1, &[false, false, true, false, false, false, true, false, true, true]);
    let (passing, failing) = (Verdict::Passing, Verdict::Failing);
    let expected = [passing, passing, passing, passing, passing, failing, failing, failing, failing, passing];
    assert_eq!(verdicts, expected);
}

#[test]
fn doubt_is_looked_into_at_the_edge_interval() {
    let mut record = Record::resumed(Verdict::Passing, second(0), &settings(), 0.5);
    assert_eq!(record.due(), second(5), "the first checks of many are spread over the interval");
    let due = |record: &mut Record, passed, now| {
        record.observe(passed, second(now), &settings(), 0.0);
        record.due() - second(now)
    };
    assert_eq!(due(&mut record, true, 10), second(10));
    assert_eq!(due(&mut record, false, 20), second(2));
    assert_eq!(due(&mut record, true, 22), second(10));
    for (passed, now, interval) in
        [(false, 30, 2), (false, 32, 2), (false, 34, 10), (false, 44, 10), (true, 54, 2), (false, 56, 10)]
    {
        assert_eq!(due(&mut record, passed, now), second(interval), "{now}");
    }
    let mut unknown = Record::new(second(0), &settings(), 0.0);
    assert_eq!(due(&mut unknown, false, 1), second(2));
}

#[test]
fn a_new_address_is_checked_within_a_second() {
    assert_eq!(Record::new(second(7), &settings(), 1.0).due(), second(8));
    let quick = Settings { interval: Duration::from_millis(500), ..settings() };
    assert_eq!(Record::new(second(7), &quick, 1.0).due(), second(7) + Duration::from_millis(500));
}

#[test]
fn jitter_moves_a_check_by_a_tenth_of_the_interval_at_most() {
    for (jitter, expected) in [(-1.0, 9), (0.0, 10), (1.0, 11), (7.0, 11)] {
        let mut record = Record::resumed(Verdict::Passing, second(0), &settings(), 0.0);
        record.observe(true, second(100), &settings(), jitter);
        assert_eq!(record.due(), second(100 + expected));
    }
}

#[test]
fn who_flaps_has_to_pass_for_longer_each_time_and_is_forgiven_after_a_quiet_window() {
    let mut record = Record::resumed(Verdict::Passing, second(0), &settings(), 0.0);
    let mut now = 1;
    let mut needed = Vec::new();
    for _ in 0..6 {
        while record.verdict() == Verdict::Passing {
            record.observe(false, second(now), &settings(), 0.0);
            now += 1;
        }
        needed.push(record.needed(&settings()));
        while record.verdict() == Verdict::Failing {
            record.observe(true, second(now), &settings(), 0.0);
            now += 1;
        }
    }
    assert_eq!(needed, [2, 4, 8, 16, 32, 32], "doubled up to 16 times");
    record.observe(true, second(now + 600), &settings(), 0.0);
    assert_eq!(record.needed(&settings()), 2);
}
