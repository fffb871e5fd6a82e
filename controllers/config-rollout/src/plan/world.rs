//! A namespace with two sources and a few targets, in which plans are carried out at once and time is set by hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use mainstay_crds::{SourceKind, TargetKind};

use super::*;
use crate::watched::{Blocked, Fingerprint, Progress};

mod kept;

/// What a source says. Those from [`BAD`] on keep every target from becoming available.
pub(super) type Value = u8;
pub(super) const BAD: Value = 100;

/// A target of the world.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) stage: usize,
    /// The sources that it uses, by their places, and the object that it names of each.
    pub(super) pins: BTreeMap<usize, Number>,
    pub(super) generation: i64,
    /// What the sources said when its pods were last started.
    pub(super) read: BTreeMap<usize, Value>,
    /// Since when its template is as it is.
    since: Timestamp,
    pub(super) restarts: i32,
    pub(super) replicas: i32,
    /// How many of its pods cannot be available, whatever they read: they cannot be scheduled, or their node is dead.
    pub(super) lost: i32,
    /// Whether those wait for a node.
    pub(super) waits: bool,
    /// Whether those stay of the template before.
    pub(super) keeps_lost: bool,
    /// Whether it has been deleted; the spec names it still.
    pub(super) gone: bool,
    /// Whether it cannot be read.
    pub(super) unreadable: bool,
    /// How often it has been made.
    pub(super) made: u32,
    /// Why its pods are not replaced.
    pub(super) blocked: Option<Blocked>,
    /// What else its template says.
    pub(super) template: Fingerprint,
}

/// The world.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) settings: Settings,
    pub(super) sources: Vec<Option<(Value, u64)>>,
    pub(super) objects: BTreeMap<(usize, Number), (Value, u64)>,
    pub(super) targets: Vec<Target>,
    pub(super) state: State,
    pub(super) findings: Findings,
    pub(super) news: Vec<RolloutEvent>,
    pub(super) last: Plan,
    /// How long pods take to become available.
    pub(super) startup: Duration,
    pub(super) probe: Option<bool>,
    /// How many targets may be updating, given the other rollouts.
    pub(super) slots: usize,
    /// The targets that refused and wait.
    pub(super) held: BTreeSet<TargetKey>,
    changed: Option<Changed>,
    clock: u64,
}

pub(super) fn source(place: usize) -> SourceKey {
    SourceKey { kind: SourceKind::ConfigMap, name: format!("source-{place}").into() }
}

pub(super) fn target(place: usize) -> TargetKey {
    TargetKey { kind: TargetKind::Deployment, name: format!("target-{place}").into() }
}

/// A request by an annotation.
#[allow(clippy::unnecessary_wraps, reason = "as the settings have it")]
pub(super) fn order<T>(of: T, value: &str) -> Option<Order<T>> {
    Some(Order { value: value.into(), of })
}

pub(super) fn stage(name: &str) -> StageSettings {
    StageSettings {
        name: name.into(),
        max_parallel: usize::MAX,
        soak: Duration::ZERO,
        deadline: Duration::from_secs(60),
        more_restarts: 0,
        probed: false,
        allow_empty: false,
        pause: None,
    }
}

impl World {
    /// Two stages; of the targets the first is of the first stage, the others of the second. All use both sources.
    pub(super) fn new(targets: usize) -> Self {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let target = |place: usize| Target {
            stage: place.min(1),
            pins: [(0, 0), (1, 0)].into(),
            generation: 1,
            read: [(0, 1), (1, 1)].into(),
            since: now,
            restarts: 0,
            replicas: 1,
            lost: 0,
            waits: false,
            keeps_lost: false,
            gone: false,
            unreadable: false,
            made: 1,
            blocked: None,
            template: Fingerprint::default(),
        };
        Self {
            now,
            settings: Settings {
                stages: vec![stage("canary"), stage("rest")],
                rolls_back: true,
                restarts_only: false,
                holds_incomplete: false,
                debounce: Duration::ZERO,
                min_interval: Duration::ZERO,
                paused: false,
                history: 2,
                goes_on: None,
                retry: None,
                abort: None,
            },
            sources: vec![Some((1, 1)), Some((1, 2))],
            objects: BTreeMap::new(),
            targets: (0..targets).map(target).collect(),
            state: State::default(),
            findings: Findings::new(),
            news: Vec::new(),
            last: Plan::default(),
            startup: Duration::from_secs(3),
            probe: None,
            slots: 100,
            held: BTreeSet::new(),
            changed: None,
            clock: 10,
        }
    }

    pub(super) fn write(&mut self, place: usize, value: Value) {
        self.clock += 1;
        self.sources[place] = Some((value, self.clock));
        let first = self.changed.map_or(self.now, |changed| changed.first);
        self.changed = Some(Changed { first, last: self.now });
    }

    /// A user sets a target's template back to the sources.
    pub(super) fn revert(&mut self, place: usize) {
        let target = &mut self.targets[place];
        target.pins.values_mut().for_each(|pin| *pin = 0);
        target.generation += 1;
        self.start_pods(place);
    }

    /// A user requests a retry of a failed revision.
    pub(super) fn try_again(&mut self, number: Number) {
        self.settings.retry = order(number, &number.to_string());
        self.pass(false);
        self.settings.retry = None;
    }

    /// The template of a target has changed: its pods are restarted.
    pub(super) fn start_pods(&mut self, place: usize) {
        let said = |(place, source): (usize, &Option<(Value, u64)>)| Some((place, (*source)?.0));
        self.targets[place].read = self.sources.iter().enumerate().filter_map(said).collect();
    }

    /// Pods read the sources themselves.
    pub(super) fn restart_only(&mut self) {
        (self.settings.restarts_only, self.settings.rolls_back) = (true, false);
    }

    /// A user deletes a target.
    pub(super) fn delete(&mut self, place: usize) {
        self.targets[place].gone = true;
    }

    /// And makes it again, from a manifest that names the sources.
    pub(super) fn make(&mut self, place: usize) {
        self.revert(place);
        let target = &mut self.targets[place];
        (target.gone, target.made, target.since) = (false, target.made + 1, self.now);
    }

    /// The process restarts: what is only in memory is lost.
    pub(super) fn restart(&mut self) {
        self.findings.clear();
        self.state = self.read(&Plan { state: self.state.clone(), ..self.last.clone() });
        self.changed = None;
    }

    /// The status is lost, or the rollout is recreated.
    pub(super) fn lose_status(&mut self) {
        self.state = State::default();
        self.restart();
    }

    pub(super) fn value_of(&self, place: usize, target: &Target) -> Option<Value> {
        if self.settings.restarts_only {
            return target.read.get(&place).copied();
        }
        match target.pins[&place] {
            0 => self.sources[place].map(|(value, _)| value),
            number => self.objects.get(&(place, number)).map(|(value, _)| *value),
        }
    }

    pub(super) fn values(&self, target: usize) -> Vec<Option<Value>> {
        let target = &self.targets[target];
        target.pins.keys().map(|place| self.value_of(*place, target)).collect()
    }

    fn is_available(&self, target: &Target) -> bool {
        let is_good = |place: &usize| self.value_of(*place, target).is_some_and(|value| value < BAD);
        let started = since(target.since, self.now) >= self.startup;
        started && target.pins.keys().all(is_good)
    }

    pub(super) fn observe(&self) -> Observed {
        let mut observed = Observed::default();
        let version = |version: u64| SourceVersion { uid: "u".into(), version: version.to_string().into() };
        for (place, content) in self.sources.iter().enumerate() {
            match content {
                Some((_, at)) => drop(observed.sources.insert(source(place), version(*at))),
                None => observed.missing_sources.push(source(place)),
            }
        }
        for ((place, number), (_, of)) in &self.objects {
            let name = format!("{}-{number}", source(*place).name);
            let snapshot = Snapshot { name: name.as_str().into(), uid: name.into(), of: version(*of) };
            observed.snapshots.entry(source(*place)).or_default().insert(*number, snapshot);
        }
        for (place, target) in self.targets.iter().enumerate() {
            if target.gone {
                observed.missing_targets.push((self::target(place), target.stage));
                continue;
            }
            if target.unreadable {
                observed.unreadable_targets.push((self::target(place), target.stage));
                continue;
            }
            let pins = target.pins.iter().map(|(place, pin)| (source(*place), [*pin].into()));
            for place in target.pins.keys() {
                let uses = Uses { all: true, required: true, ..Uses::default() };
                observed.uses.insert(source(*place), uses);
            }
            let available = if self.is_available(target) { target.replicas - target.lost } else { 0 };
            let kept = if target.keeps_lost { target.lost } else { 0 };
            observed.targets.push(TargetView {
                key: self::target(place),
                uid: format!("uid-{place}-{}", target.made).into(),
                stage: target.stage,
                generation: target.generation,
                pins: Pins(pins.collect()),
                template: Fingerprint {
                    whole: target.pins.values().fold(target.template.whole, |hash, pin| hash * 31 + pin + 1),
                    ..target.template
                },
                progress: Progress {
                    observed: true,
                    wanted: target.replicas,
                    current: target.replicas,
                    updated: if target.blocked.is_some() { 0 } else { target.replicas - kept },
                    available,
                    given_up: None,
                    over_quota: false,
                    blocked: target.blocked,
                    outdated: None,
                },
            });
            let probe = self.probe.map(|works| if works { Ok(()) } else { Err("503".to_owned()) });
            let unscheduled = if target.waits { target.lost } else { 0 };
            let evidence = Evidence { restarts: target.restarts, ready: available, unscheduled, probe };
            observed.evidence.insert(self::target(place), evidence);
        }
        observed
    }

    pub(super) fn plan(&self) -> Plan {
        let observed = self.observe();
        plan(&Input {
            observed: &observed,
            settings: &self.settings,
            findings: &self.findings,
            state: &self.state,
            changed: self.changed,
            slots: self.slots,
            held: &self.held,
            unknown: &BTreeSet::new(),
            now: self.now,
        })
    }

    /// The place of a target.
    pub(super) fn place(&self, key: &TargetKey) -> usize {
        (0..self.targets.len()).find(|place| target(*place) == *key).unwrap()
    }

    /// One reconcile: what is decided is remembered and, unless the process dies at once, carried out.
    pub(super) fn pass(&mut self, dies: bool) {
        let mut plan = self.plan();
        self.note_restarts(&mut plan);
        self.assert_kept(&plan);
        self.state = plan.state.clone();
        self.news.extend(plan.news.iter().cloned());
        self.last = plan.clone();
        if dies {
            self.restart();
            return;
        }
        for (key, number) in &plan.moves {
            let observed = self.observe();
            let place = self.place(key);
            let moved = &mut self.targets[place];
            for (place, pin) in &mut moved.pins {
                *pin = observed.object(&source(*place), *number);
            }
            moved.generation += 1;
            moved.since = self.now;
            self.start_pods(place);
        }
        if plan.examine {
            self.examine();
        }
    }

    /// As `apply` reads sources and makes revisions.
    fn examine(&mut self) {
        let observed = self.observe();
        let newest = self.state.newest;
        self.changed = None;
        let mut equal = Vec::new();
        for place in 0..self.sources.len() {
            let (Some((value, _)), Some(uses)) = (self.sources[place], observed.uses.get(&source(place)))
            else {
                continue;
            };
            let numbers = [Some(newest), self.state.stable].into_iter().flatten();
            let objects = numbers.map(|number| observed.object(&source(place), number));
            let equals =
                objects.filter(|number| self.objects.get(&(place, *number)).is_some_and(|o| o.0 == value));
            let version = observed.sources[&source(place)].clone();
            let finding = Finding { version, uses: uses.clone(), equals: equals.collect(), problem: None };
            equal.push((place, finding));
        }
        let all = |number: Number| {
            number > 0
                && equal.iter().all(|(place, finding)| {
                    finding.equals.contains(&observed.object(&source(*place), number))
                })
        };
        if !all(newest) && !self.state.stable.is_some_and(all) {
            let number = newest.max(observed.highest()) + 1;
            for (place, finding) in &mut equal {
                if !finding.equals.contains(&observed.object(&source(*place), newest)) {
                    let of = self.sources[*place].unwrap();
                    assert!(self.objects.insert((*place, number), of).is_none(), "a name was used twice");
                    finding.equals.insert(number);
                }
            }
        }
        self.findings.extend(equal.into_iter().map(|(place, finding)| (source(place), finding)));
    }

    pub(super) fn advance(&mut self, seconds: u64) {
        self.now = self.now.checked_add(Duration::from_secs(seconds)).unwrap();
    }

    /// Passes, a second apart.
    pub(super) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass(false);
            self.advance(1);
        }
    }
}
