//! Runs of the model, and what holds at the end of each.

use proptest::prelude::*;

use super::{generate, *};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn changes_keep_their_bounds_and_end(
        settings in generate::settings(),
        qualities in generate::qualities(),
        leaving in generate::leaving(),
        events in generate::events(),
    ) {
        let mut world = World::new(settings, qualities, leaving);
        for (event, stop) in events {
            world.happen(event);
            world.control(stop);
            world.pass();
        }
        world.happen(Event::Pause(false));
        world.happen(Event::Partition(0));
        world.happen(Event::Continue);
        let mut quiet = 0;
        let mut ticks = 0;
        let mut last = None;
        // Ended is what stays as it is for longer than any deadline.
        while quiet < 70 && ticks < LIMIT {
            let (decision, empty) = world.control(usize::MAX);
            let ended = empty && decision.phase == Phase::Complete && world.available() == world.settings.replicas;
            quiet = if ended { quiet + 1 } else { 0 };
            last = Some(decision);
            world.pass();
            ticks += 1;
        }
        prop_assert!(world.broken.is_empty(), "{:#?}\n{world:#?}", world.broken);
        if let Some(destination) = world.destination() {
            prop_assert!(quiet == 70, "did not end: {last:#?}\n{world:#?}");
            prop_assert!(world.pods.iter().all(|pod| pod.ends.is_some() || pod.revision == destination), "{destination}: {world:#?}");
            // Each pod is made at most for its revision, once more for the way back, and once for a step that was
            // taken back.
            prop_assert!(world.created <= 4 * (world.settings.replicas + 5), "{} pods made: {world:#?}", world.created);
        }
    }

    /// While a change cannot get on, the group is kept as large and as available as the change has to leave it, whatever
    /// is lost and however it is scaled.
    #[test]
    fn what_is_lost_in_a_change_that_is_stuck_comes_back(
        settings in generate::settings(),
        grace in 0i64..4,
        events in prop::collection::vec(generate::losses(), 1..8),
    ) {
        let Exchange::Rolling { unavailable, .. } = settings.strategy else { return Ok(()) };
        let never = Duration::from_secs(1 << 30);
        let settings = Settings { replicas: settings.replicas.max(1), deadline: never, ..settings };
        let (hook, volumes, replacement) = (None, None, Replacement::WhenTerminating);
        let leaving = Leaving { hook, grace, replacement, volumes };
        let mut world = World::new(settings, vec![Quality::Good(1), Quality::Hangs], leaving);
        world.run(20);
        world.happen(Event::Template(1));
        world.run(20);
        for event in events {
            world.happen(event);
            world.run(20);
            let least = world.settings.replicas.saturating_sub(unavailable);
            prop_assert!(world.available() >= least, "{least} should serve after {event:?}: {world:#?}");
        }
        prop_assert!(world.broken.is_empty(), "{:#?}\n{world:#?}", world.broken);
    }

    /// The same, where a quota has kept the group from ever having all of its pods.
    #[test]
    fn what_serves_is_kept_where_no_revision_was_ever_complete(
        settings in generate::settings(),
        grace in 0i64..4,
        losses in prop::collection::vec(prop::collection::vec(0usize..20, 1..5), 1..6),
    ) {
        let Exchange::Rolling { unavailable, .. } = settings.strategy else { return Ok(()) };
        let never = Duration::from_secs(1 << 30);
        let settings = Settings { replicas: settings.replicas.max(2), deadline: never, ..settings };
        let (hook, volumes, replacement) = (None, None, Replacement::WhenTerminating);
        let leaving = Leaving { hook, grace, replacement, volumes };
        let mut world = World::new(settings, vec![Quality::Good(1), Quality::Hangs], leaving);
        world.quota = world.settings.replicas - 1;
        world.run(20);
        prop_assert!(world.state.current.is_none() && world.available() == world.quota, "{world:#?}");
        world.happen(Event::Template(1));
        world.run(20);
        for lost in losses {
            lost.iter().for_each(|&pod| world.happen(Event::Lose(pod)));
            world.run(20);
            let least = world.settings.replicas.saturating_sub(unavailable).min(world.quota);
            prop_assert!(world.available() >= least, "{least} should serve after {lost:?}: {world:#?}");
        }
        prop_assert!(world.broken.is_empty(), "{:#?}\n{world:#?}", world.broken);
    }

    /// A quota that is full for longer than any deadline is no failure of a good revision.
    #[test]
    fn a_good_revision_waits_for_a_full_quota(
        settings in generate::settings(),
        grace in 0i64..4,
        room in 0usize..3,
    ) {
        let replicas = settings.replicas.max(2);
        let settings = Settings { replicas, reach: replicas, steps: Vec::new(), ..settings };
        let (hook, volumes, replacement) = (None, None, Replacement::WhenTerminating);
        let leaving = Leaving { hook, grace, replacement, volumes };
        let mut world = World::new(settings, vec![Quality::Good(1), Quality::Good(1)], leaving);
        world.run(20);
        world.happen(Event::Template(1));
        world.quota = room;
        world.run(300);
        world.quota = usize::MAX;
        world.run(100);
        prop_assert!(world.broken.is_empty(), "{:#?}\n{world:#?}", world.broken);
        prop_assert!(world.pods.iter().all(|pod| pod.revision == revision(1)), "{world:#?}");
    }
}
