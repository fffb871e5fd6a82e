//! Properties of every record, over any history of results.

use proptest::prelude::*;

use super::*;

fn settings() -> impl Strategy<Value = Settings> {
    (1..20_u64, 1..20_u64, 1..6_u32, 1..6_u32, 0..200_u64).prop_map(
        |(interval, unhealthy_interval, successes, failures, flap_window)| Settings {
            interval: Duration::from_secs(interval),
            timeout: Duration::from_secs(1),
            unhealthy_interval: Duration::from_secs(unhealthy_interval),
            successes,
            failures,
            flap_window: Duration::from_secs(flap_window),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_verdict_follows_enough_results_in_a_row_and_the_next_check_is_never_far(
        settings in settings(),
        results in prop::collection::vec((any::<bool>(), -1.0..1.0_f64), 0..80),
        phase in 0.0..1.0_f64,
    ) {
        let mut record = Record::new(Duration::ZERO, &settings, phase);
        let mut now = record.due();
        let (mut row, mut last) = (0, None);
        for (passed, jitter) in results {
            row = if last == Some(passed) { row + 1 } else { 1 };
            last = Some(passed);
            let (before, needed) = (record.verdict(), record.needed(&settings));
            let changed = record.observe(passed, now, &settings, jitter);
            prop_assert_eq!(changed, record.verdict() != before);
            if changed {
                let expected = if passed { Verdict::Passing } else { Verdict::Failing };
                prop_assert_eq!(record.verdict(), expected);
                let threshold = match (before, passed) {
                    (Verdict::Unknown, true) => 1,
                    (_, true) => needed.min(16 * settings.successes),
                    (_, false) => settings.failures,
                };
                prop_assert!(row >= threshold, "{} results in a row, {} asked for", row, threshold);
                prop_assert_eq!(record.since(), now);
            }
            let needed = record.needed(&settings);
            prop_assert!((settings.successes..=16 * settings.successes).contains(&needed));
            let longest = settings.interval.max(settings.unhealthy_interval).mul_f64(1.1);
            prop_assert!(record.due() > now && record.due() <= now + longest + Duration::from_nanos(1));
            now = record.due();
        }
    }

    #[test]
    fn results_that_do_not_change_settle_it_for_good(
        settings in settings(),
        before in prop::collection::vec(any::<bool>(), 0..40),
        passed in any::<bool>(),
    ) {
        let mut record = Record::new(Duration::ZERO, &settings, 0.0);
        let mut now = Duration::ZERO;
        let mut observe = |record: &mut Record, passed| {
            now += Duration::from_secs(1);
            record.observe(passed, now, &settings, 0.0)
        };
        for passed in before {
            observe(&mut record, passed);
        }
        for _ in 0..16 * 6 {
            observe(&mut record, passed);
        }
        let expected = if passed { Verdict::Passing } else { Verdict::Failing };
        prop_assert_eq!(record.verdict(), expected);
        prop_assert!((0..200).all(|_| !observe(&mut record, passed)));
    }
}
