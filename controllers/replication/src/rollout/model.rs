//! Whole rollouts against a model cluster: pods that start slowly, crash, disappear or take long to terminate, specs
//! that change during a rollout, a controller that is stopped half-way through its writes, or is away for long.

use std::{collections::BTreeSet, sync::Arc};

use super::*;
use crate::plan::{
    self, Claim, Hook, Node, Phase as PodPhase, Plan, Policy, Replacement, Strategy as Exchange, Volumes,
};

mod generate;
mod oracle;
mod runs;

/// One look of the controller and one of the cluster are so far apart.
const TICK: i64 = 5;
/// How many ticks a run is disturbed, and how many more it may take after that.
const DISTURBED: usize = 60;
const LIMIT: usize = 3000;
/// How many ticks a hook may take.
const TIMEOUT: i64 = 60;
/// A controller that is away for this many ticks may find that pods have restarted now and then.
const AGES: usize = 600;

/// What happens to the pods of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quality {
    /// How many ticks they take to become ready.
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
    Partition(usize),
    Continue,
    /// No controller watches for this many ticks, and the next one knows only what the status says.
    Away(usize),
    /// The watch of pods is broken for this many ticks.
    Blind(usize),
    Nothing,
}

/// How pods leave.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    /// They have a hook, which completes this many ticks after its owner was notified.
    hook: Option<i64>,
    /// How many ticks they terminate.
    grace: i64,
    /// Others wait for that.
    replacement: Replacement,
    /// They have volume claims: whether these are reused, and whether they are discarded.
    volumes: Option<(bool, bool)>,
}

#[derive(Debug, Clone)]
struct Member {
    name: String,
    revision: Arc<str>,
    created: i64,
    /// When its containers began, from which on it becomes ready.
    begun: i64,
    ready: Option<i64>,
    crashes: i32,
    /// Its hook is not done.
    held: bool,
    /// Since when its hook's owner knows that it is to go.
    notified: Option<i64>,
    /// When it has ended, once it is deleted.
    ends: Option<i64>,
}

impl Member {
    fn serves(&self) -> bool {
        self.ends.is_none() && self.ready.is_some() && (self.held || self.notified.is_none())
    }

    fn view(&self) -> plan::Pod<'_> {
        plan::Pod {
            name: &self.name,
            uid: &self.name,
            claim: Claim::Mine,
            node: Some(Node { name: "n", domains: plan::Domains::default(), pods: 0, leaving: false }),
            phase: PodPhase::Running,
            terminating: self.ends.is_some(),
            ready_since: self.ready.map(at),
            created: at(self.created),
            ended_at: None,
            deletion_cost: 0,
            restarts: self.crashes,
            sidecar_restarts: 0,
            fully_labeled: true,
            revision: &self.revision,
            crashes: self.crashes,
            blocker: None,
            gate: None,
            changing: false,
            in_place: None,
            hook: Some(Hook { held: self.held, since: self.notified.map(at) }),
        }
    }
}

#[derive(Debug)]
struct World {
    now: i64,
    made: usize,
    pods: Vec<Member>,
    state: State,
    evidence: Evidence,
    /// For how long in all the watch was broken.
    unwatched: Duration,
    settings: Settings,
    wanted: usize,
    qualities: Vec<Quality>,
    leaving: Leaving,
    /// A quota admits no more pods.
    quota: usize,
    /// How many sets of volume claims there are.
    slots: usize,
    /// The revisions of which a pod has served.
    served: BTreeSet<Arc<str>>,
    /// Whether the rollout in progress began without old pods that were to stay.
    from_nothing: bool,
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
    fn new(settings: Settings, qualities: Vec<Quality>, leaving: Leaving) -> Self {
        Self {
            now: 1000,
            made: 0,
            pods: Vec::new(),
            state: State::default(),
            evidence: Evidence::default(),
            unwatched: Duration::ZERO,
            settings,
            wanted: 0,
            qualities,
            leaving,
            quota: usize::MAX,
            slots: 0,
            served: BTreeSet::new(),
            from_nothing: false,
            created: 0,
            broken: Vec::new(),
        }
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
                (self.pods[pod].ready, self.pods[pod].begun) = (None, self.now);
            }
            Event::Pause(paused) => self.settings.paused = paused,
            Event::Partition(kept) if self.settings.steps.is_empty() => {
                self.settings.reach = self.settings.replicas.saturating_sub(kept);
            }
            Event::Continue => {
                let (text, revision) = (self.now.to_string().into(), revision(self.wanted));
                self.settings.resume = Some(Command { text, revision, step: None });
            }
            Event::Away(ticks) => {
                self.pass_unseen(ticks);
                self.evidence = Evidence::default();
            }
            Event::Blind(ticks) => {
                let begun = self.now;
                self.pass_unseen(ticks);
                self.unwatched += Duration::from_secs((self.now - begun).unsigned_abs());
            }
            Event::Lose(_) | Event::Unready(_) | Event::Partition(_) | Event::Nothing => return,
        }
        self.created = 0;
    }

    fn pass_unseen(&mut self, ticks: usize) {
        (0..ticks).for_each(|_| self.pass());
        let restarts = if ticks >= AGES { 10 } else { 0 };
        self.pods.iter_mut().for_each(|pod| pod.crashes += restarts);
    }

    /// Time passes, and the pods do what those of their revision do.
    fn pass(&mut self) {
        self.now += TICK;
        self.pods.retain(|pod| pod.ends.is_none_or(|ends| ends > self.now));
        for pod in self.pods.iter_mut().filter(|pod| pod.ends.is_none()) {
            let done = pod
                .notified
                .zip(self.leaving.hook)
                .is_some_and(|(notified, ticks)| self.now - notified >= ticks.saturating_mul(TICK));
            pod.held &= !done;
            let index: usize = pod.revision[1..].parse().unwrap();
            match self.qualities[index] {
                Quality::Good(ticks) if pod.ready.is_none() && self.now - pod.begun >= ticks * TICK => {
                    pod.ready = Some(self.now);
                }
                Quality::Crashes => pod.crashes += 1,
                Quality::Good(_) | Quality::Hangs => {}
            }
        }
        self.served.extend(self.pods.iter().filter(|pod| pod.serves()).map(|pod| Arc::clone(&pod.revision)));
    }

    fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.control(usize::MAX);
            self.pass();
        }
    }

    fn view(&self) -> Vec<plan::Pod<'_>> {
        self.pods.iter().map(Member::view).collect()
    }

    /// The controller observes, remembers and writes; with `stop` it is stopped after this many writes.
    fn control(&mut self, stop: usize) -> (Decision, bool) {
        let wanted = revision(self.wanted);
        let (decision, plan) = {
            let mut pods = self.view();
            let mut evidence = self.evidence.clone();
            let moment = Duration::from_secs(self.now.unsigned_abs());
            let look = Look { moment, wall: at(self.now), watched: moment - self.unwatched, sure: true };
            evidence.look(&look, self.settings.max_restarts, &mut pods);
            let by_revision = plan::counts(&pods, Duration::ZERO, at(self.now), 0);
            let mut state = self.state.clone();
            state.stand_on_what_serves(&wanted, &by_revision, |revision| revision[1..].parse().ok());
            let mut decision = decide(&self.settings, &wanted, &state, evidence, &by_revision, at(self.now));
            let policy = Policy {
                replicas: self.settings.replicas,
                strategy: self.settings.strategy,
                shares: decision.shares.clone(),
                keep: decision.keep.clone(),
                replacement: self.leaving.replacement,
                volumes: self.leaving.volumes.map(|(reuse, discard)| Volumes {
                    total: self.slots,
                    free: self.slots - self.pods.len(),
                    reuse,
                    discard,
                }),
                hook_timeout: Duration::from_secs(TIMEOUT as u64),
                ..Policy::default()
            };
            let plan = plan::plan(&policy, &pods, at(self.now));
            let target = by_revision.get(&*decision.target).copied().unwrap_or_default();
            decision.keep_time(&self.settings, target, &plan);
            (decision, plan)
        };
        self.check_shares(&decision);
        self.check_stages(&decision);
        self.check_failure(&decision);
        let began =
            |state: &State| state.rollout.as_ref().map(|rollout| (rollout.revision.clone(), rollout.started));
        let old = self.pods.iter().any(|pod| pod.ends.is_none() && pod.revision != decision.target);
        if old && self.settings.replicas > 0 {
            self.from_nothing = false;
        } else if self.settings.replicas == 0 || began(&decision.state) != began(&self.state) {
            self.from_nothing = true;
        }
        (self.state, self.evidence) = (decision.state.clone(), decision.evidence.clone());
        self.carry_out(&plan, stop);
        (decision, plan.is_empty())
    }

    fn carry_out(&mut self, plan: &Plan, stop: usize) {
        let before = (self.available(), self.active());
        let mut left = stop;
        for &index in plan.cancel.iter().take(left) {
            (self.pods[index].notified, self.pods[index].held) = (None, self.leaving.hook.is_some());
        }
        for &index in plan.time_out.iter().take(left) {
            self.pods[index].held = false;
        }
        let victims: Vec<_> = plan.delete.iter().take(left).map(|victim| (victim.pod, victim.why)).collect();
        left -= victims.len();
        for &(index, _) in &victims {
            let pod = &mut self.pods[index];
            match (pod.held, pod.notified) {
                (true, None) => pod.notified = Some(self.now),
                (true, Some(_)) => {}
                (false, _) => pod.ends = Some(self.now + self.leaving.grace * TICK),
            }
        }
        self.pods.retain(|pod| pod.ends.is_none_or(|ends| ends > self.now));
        self.check_deletions(before, &victims);
        // From here on the plan's indices say nothing any more.
        let mut refused = Vec::new();
        for creation in &plan.create {
            if creation.count.min(left) > self.quota.saturating_sub(self.pods.len()) {
                let (revision, text) = (Arc::clone(&creation.revision), "exceeded quota".to_owned());
                refused.push(Refusal { revision, blamed: false, text });
            }
            for _ in 0..creation.count.min(left).min(self.quota.saturating_sub(self.pods.len())) {
                self.make(Arc::clone(&creation.revision));
            }
            left = left.saturating_sub(creation.count);
        }
        self.evidence.refuse(refused);
        self.slots -= if left > 0 { plan.discard } else { 0 };
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
        self.check_fed(&revision);
        (self.made, self.created) = (self.made + 1, self.created + 1);
        let name = format!("{:08x}", (self.made as u32).wrapping_mul(2_654_435_761));
        let reuse = self.leaving.volumes.is_some_and(|(reuse, _)| reuse);
        if !reuse || self.slots == self.pods.len() {
            self.slots += 1;
            self.check_slots(reuse);
        }
        let held = self.leaving.hook.is_some();
        let (created, begun, ready, notified, ends) = (self.now, self.now, None, None, None);
        self.pods.push(Member { name, revision, created, begun, ready, crashes: 0, held, notified, ends });
    }

    fn active(&self) -> usize {
        self.pods.iter().filter(|pod| pod.ends.is_none()).count()
    }

    fn available(&self) -> usize {
        self.pods.iter().filter(|pod| pod.serves()).count()
    }

    fn surge(&self) -> usize {
        self.settings.strategy.surge()
    }

    /// Where it should end: `None` when no good revision is left to be at.
    fn destination(&self) -> Option<Arc<str>> {
        let wanted = revision(self.wanted);
        let good = matches!(self.qualities[self.wanted], Quality::Good(_));
        if good { Some(wanted) } else { self.state.current.clone() }
    }
}
