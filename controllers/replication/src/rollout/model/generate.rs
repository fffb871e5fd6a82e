//! Generates the input of a run.

use std::time::Duration;

use proptest::{prelude::*, sample::select, strategy::Strategy};

use super::{AGES, DISTURBED, Event, Leaving, Quality};
use crate::{
    plan::{Replacement, Strategy as Exchange},
    rollout::{Pause, Settings, Step},
};

pub(super) fn settings() -> impl Strategy<Value = Settings> {
    let strategy = prop_oneof![
        6 => (0usize..5, 0usize..5).prop_map(|(surge, unavailable)| Exchange::Rolling {
            surge,
            unavailable: if surge == 0 { unavailable.max(1) } else { unavailable },
        }),
        1 => Just(Exchange::Recreate),
    ];
    let steps = prop_oneof![
        3 => Just(Vec::new()),
        1 => select(vec![
            vec![(20, Pause::None), (50, Pause::For(Duration::from_secs(30)))],
            vec![(1, Pause::None)],
            vec![(10, Pause::Open), (60, Pause::Open)],
            vec![(90, Pause::For(Duration::from_secs(20))), (100, Pause::Open)],
        ]),
    ];
    (0usize..12, strategy, steps).prop_map(|(replicas, strategy, steps)| Settings {
        replicas,
        strategy,
        reach: replicas,
        steps: if strategy == Exchange::Recreate { Vec::new() } else { steps }
            .into_iter()
            .map(|(weight, pause)| Step { weight, pause })
            .collect(),
        repairs: false,
        paused: false,
        roll_back: true,
        max_restarts: 3,
        patience: Duration::from_secs(60),
        deadline: Duration::from_secs(300),
        resume: None,
        abort: None,
    })
}

pub(super) fn events() -> impl Strategy<Value = Vec<(Event, usize)>> {
    let event = prop_oneof![
        20 => Just(Event::Nothing),
        2 => (0usize..14).prop_map(Event::Scale),
        3 => (0usize..4).prop_map(Event::Template),
        3 => (0usize..20).prop_map(Event::Lose),
        2 => (0usize..20).prop_map(Event::Unready),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => (0usize..6).prop_map(Event::Partition),
        1 => Just(Event::Continue),
        1 => select(vec![3, 80, AGES]).prop_map(Event::Away),
        1 => select(vec![3, 80, AGES]).prop_map(Event::Blind),
    ];
    // Most looks are carried out whole.
    let stop = prop_oneof![4 => Just(usize::MAX), 1 => 0usize..4];
    prop::collection::vec((event, stop), DISTURBED)
}

/// What may befall a change that does not get on.
pub(super) fn losses() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0usize..20).prop_map(Event::Lose),
        1 => (1usize..14).prop_map(Event::Scale),
        1 => any::<bool>().prop_map(Event::Pause),
    ]
}

pub(super) fn qualities() -> impl Strategy<Value = Vec<Quality>> {
    let quality = prop_oneof![4 => (0i64..4).prop_map(Quality::Good), 1 => Just(Quality::Crashes), 1 => Just(Quality::Hangs)];
    // The first one is good: a group that never ran has nothing to keep.
    prop::collection::vec(quality, 3).prop_map(|mut all| {
        all.insert(0, Quality::Good(1));
        all
    })
}

pub(super) fn leaving() -> impl Strategy<Value = Leaving> {
    let hook = prop_oneof![2 => Just(None), 2 => (0i64..5).prop_map(Some), 1 => Just(Some(i64::MAX))];
    let volumes = select(vec![None, Some((true, true)), Some((true, false)), Some((false, true))]);
    // Some need longer than any deadline.
    let grace = prop_oneof![4 => 0i64..4, 1 => Just(80)];
    let replacement = select(vec![Replacement::WhenTerminating, Replacement::WhenTerminated]);
    (hook, grace, replacement, volumes).prop_map(|(hook, grace, replacement, volumes)| Leaving {
        hook,
        grace,
        replacement,
        volumes,
    })
}
