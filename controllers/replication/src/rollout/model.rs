//! Whole changes against a model cluster: pods that start slowly, crash or vanish, specs that change in the middle, a
//! controller that is stopped half-way through its writes.

use std::sync::Arc;

use proptest::{prelude::*, sample::select, strategy::Strategy};

use super::*;
use crate::plan::{self, Claim, Node, Phase as PodPhase, Plan, Policy, Strategy as Exchange, Why};

/// One look of the controller and one of the cluster are so far apart.
const TICK: i64 = 5;
/// So long a run is disturbed, and so long after that it may take.
const DISTURBED: usize = 60;
const LIMIT: usize = 900;

/// What becomes of the pods of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quality {
    /// They are ready after so many ticks.
    Good(i64),
    /// They crash again and again.
    Crashes,
    /// They never become ready.
    Hangs,
}

/// What happens to the model from outside.
#[derive(Debug, Clone, Copy)]
enum Event {
    Scale(usize),
    Template(usize),
    Lose(usize),
    Unready(usize),
    Pause(bool),
    Nothing,
}

#[derive(Debug, Clone)]
struct Member {
    name: String,
    revision: Arc<str>,
    created: i64,
    ready: Option<i64>,
    crashes: i32,
}

impl Member {
    fn view(&self) -> plan::Pod<'_> {
        plan::Pod {
            name: &self.name,
            uid: &self.name,
            claim: Claim::Mine,
            node: Some(Node { name: "n", domains: plan::Domains::default(), pods: 0 }),
            phase: PodPhase::Running,
            terminating: false,
            ready_since: self.ready.map(at),
            created: at(self.created),
            failed_at: None,
            deletion_cost: 0,
            restarts: self.crashes,
            sidecar_restarts: 0,
            fully_labeled: true,
            revision: &self.revision,
            crashes: self.crashes,
            trouble: None,
            gate: None,
            changing: false,
        }
    }
}

#[derive(Debug)]
struct World {
    now: i64,
    made: usize,
    pods: Vec<Member>,
    state: State,
    settings: Settings,
    wanted: usize,
    qualities: Vec<Quality>,
    /// How many pods have been created since the last event.
    created: usize,
    broken: Vec<String>,
}

fn revision(index: usize) -> Arc<str> {
    format!("r{index}").into()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

impl World {
    fn new(settings: Settings, qualities: Vec<Quality>) -> Self {
        let (pods, state, broken) = (Vec::new(), State::default(), Vec::new());
        Self { now: 1000, made: 0, pods, state, settings, wanted: 0, qualities, created: 0, broken }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Scale(replicas) => {
                self.settings = Settings { replicas, reach: replicas, ..self.settings.clone() }
            }
            Event::Template(index) => self.wanted = index % self.qualities.len(),
            Event::Lose(pod) if !self.pods.is_empty() => drop(self.pods.swap_remove(pod % self.pods.len())),
            Event::Unready(pod) if !self.pods.is_empty() => {
                let pod = pod % self.pods.len();
                (self.pods[pod].ready, self.pods[pod].created) = (None, self.now);
            }
            Event::Pause(paused) => self.settings.paused = paused,
            Event::Lose(_) | Event::Unready(_) | Event::Nothing => return,
        }
        self.created = 0;
    }

    /// Time passes, and the pods do what those of their revision do.
    fn pass(&mut self) {
        self.now += TICK;
        for pod in &mut self.pods {
            let index: usize = pod.revision[1..].parse().unwrap();
            match self.qualities[index] {
                Quality::Good(ticks) if pod.ready.is_none() && self.now - pod.created >= ticks * TICK => {
                    pod.ready = Some(self.now);
                }
                Quality::Crashes => pod.crashes += 1,
                Quality::Good(_) | Quality::Hangs => {}
            }
        }
    }

    fn view(&self) -> Vec<plan::Pod<'_>> {
        self.pods.iter().map(Member::view).collect()
    }

    /// The controller looks, remembers and writes; with `stop` it is stopped after so many writes.
    fn control(&mut self, stop: usize) -> (Decision, bool) {
        let wanted = revision(self.wanted);
        let (decision, plan) = {
            let pods = self.view();
            let tallies = plan::tally(&pods, Duration::ZERO, at(self.now));
            let decision = decide(&self.settings, &wanted, &self.state, &tallies, at(self.now));
            let policy = Policy {
                replicas: self.settings.replicas,
                strategy: self.settings.strategy,
                shares: decision.shares.clone(),
                ..Policy::default()
            };
            (decision, plan::plan(&policy, &pods, at(self.now)))
        };
        self.check_shares(&decision);
        self.state = decision.state.clone();
        self.carry_out(&plan, stop);
        (decision, plan.is_empty())
    }

    fn check_shares(&mut self, decision: &Decision) {
        let sum: usize = decision.shares.iter().map(|share| share.replicas).sum();
        if sum != self.settings.replicas {
            self.broken.push(format!("the shares {:?} are not {}", decision.shares, self.settings.replicas));
        }
    }

    fn carry_out(&mut self, plan: &Plan, stop: usize) {
        let before = (self.available(), self.pods.len());
        let mut left = stop;
        let victims: Vec<_> = plan.delete.iter().take(left).map(|victim| (victim.pod, victim.why)).collect();
        left -= victims.len();
        let gone: Vec<_> = victims.iter().map(|(pod, _)| self.pods[*pod].name.clone()).collect();
        self.pods.retain(|pod| !gone.contains(&pod.name));
        self.check_deletions(before, &victims);
        for creation in &plan.create {
            for _ in 0..creation.count.min(left) {
                self.make(Arc::clone(&creation.revision));
            }
            left = left.saturating_sub(creation.count);
        }
        self.check_size(before.1);
    }

    fn make(&mut self, revision: Arc<str>) {
        let failed = self.state.failed.as_ref().filter(|failed| failed.revision == revision);
        if failed.is_some() && self.state.current.is_some() && self.settings.roll_back {
            self.broken.push(format!("{revision} has failed and is tried again"));
        }
        if self.settings.strategy == Exchange::Recreate
            && self.pods.iter().any(|pod| pod.revision != revision)
        {
            self.broken.push(format!("{revision} was made beside another revision"));
        }
        (self.made, self.created) = (self.made + 1, self.created + 1);
        let name = format!("{:08x}", (self.made as u32).wrapping_mul(2_654_435_761));
        self.pods.push(Member { name, revision, created: self.now, ready: None, crashes: 0 });
    }

    fn available(&self) -> usize {
        self.pods.iter().filter(|pod| pod.ready.is_some()).count()
    }

    /// Nothing is taken below the bound, and where it is below already nothing available is taken.
    fn check_deletions(&mut self, (available, _): (usize, usize), victims: &[(usize, Why)]) {
        let Exchange::Rolling { unavailable, .. } = self.settings.strategy else { return };
        let floor = self.settings.replicas.saturating_sub(unavailable);
        if self.available() < available.min(floor) {
            let after = self.available();
            self.broken.push(format!("{available} to {after} available, floor {floor}: {victims:?}"));
        }
    }

    fn check_size(&mut self, before: usize) {
        let surge = match self.settings.strategy {
            Exchange::Rolling { surge, .. } => surge,
            Exchange::Recreate | Exchange::OnDelete => 0,
        };
        let most = self.settings.replicas + surge;
        if self.pods.len() > most.max(before) {
            self.broken.push(format!("{} pods, at most {most}", self.pods.len()));
        }
    }

    /// Where it should end: `None` when no good revision is left to be at.
    fn destination(&self) -> Option<Arc<str>> {
        let wanted = revision(self.wanted);
        let good = matches!(self.qualities[self.wanted], Quality::Good(_));
        if good { Some(wanted) } else { self.state.current.clone() }
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    let strategy = prop_oneof![
        6 => (0usize..5, 0usize..5).prop_map(|(surge, unavailable)| Exchange::Rolling {
            surge,
            unavailable: if surge == 0 { unavailable.max(1) } else { unavailable },
        }),
        1 => Just(Exchange::Recreate),
    ];
    let steps = prop_oneof![
        3 => Just(Vec::new()),
        1 => select(vec![vec![(20, Pause::None), (50, Pause::For(Duration::from_secs(30)))], vec![(1, Pause::None)]]),
    ];
    (0usize..12, strategy, steps).prop_map(|(replicas, strategy, steps)| Settings {
        replicas,
        strategy,
        reach: replicas,
        steps: if strategy == Exchange::Recreate { Vec::new() } else { steps }
            .into_iter()
            .map(|(weight, pause)| Step { weight, pause })
            .collect(),
        paused: false,
        roll_back: true,
        max_restarts: 3,
        patience: Duration::from_secs(60),
        deadline: Duration::from_secs(300),
        resume: None,
        abort: None,
    })
}

fn events() -> impl Strategy<Value = Vec<(Event, usize)>> {
    let event = prop_oneof![
        20 => Just(Event::Nothing),
        2 => (0usize..14).prop_map(Event::Scale),
        3 => (0usize..4).prop_map(Event::Template),
        3 => (0usize..20).prop_map(Event::Lose),
        2 => (0usize..20).prop_map(Event::Unready),
        1 => any::<bool>().prop_map(Event::Pause),
    ];
    // Most looks are carried out whole.
    let stop = prop_oneof![4 => Just(usize::MAX), 1 => 0usize..4];
    prop::collection::vec((event, stop), DISTURBED)
}

fn qualities() -> impl Strategy<Value = Vec<Quality>> {
    let quality = prop_oneof![4 => (0i64..4).prop_map(Quality::Good), 1 => Just(Quality::Crashes), 1 => Just(Quality::Hangs)];
    // The first one is good: a group that never ran has nothing to keep.
    prop::collection::vec(quality, 3).prop_map(|mut all| {
        all.insert(0, Quality::Good(1));
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn changes_keep_their_bounds_and_end(settings in settings(), qualities in qualities(), events in events()) {
        let mut world = World::new(settings, qualities);
        for (event, stop) in events {
            world.happen(event);
            world.control(stop);
            world.pass();
        }
        world.happen(Event::Pause(false));
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
            prop_assert!(world.pods.iter().all(|pod| pod.revision == destination), "{destination}: {world:#?}");
            // Each pod is made at most for its revision, once more for the way back, and once for a step that was
            // taken back.
            prop_assert!(world.created <= 4 * (world.settings.replicas + 5), "{} pods made: {world:#?}", world.created);
        }
    }
}
