//! The input and the output of a plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    keys::{FOREIGN, Number, SourceKey, TargetKey},
    state::{Failed, State},
};
use crate::watched::{Blocked, Fingerprint, Progress};

/// How often a target that has passed is checked until the rollout is complete.
pub const WATCH: Duration = Duration::from_secs(10);

/// What of a source the targets use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    /// Whether one of them takes all keys that there are.
    pub all: bool,
    /// The keys that are used by name; of each, whether pods do not start without it.
    pub keys: BTreeMap<String, bool>,
    /// Whether pods do not start without the source.
    pub required: bool,
}

/// A version of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceVersion {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub version: Box<str>,
}

/// An object of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Box<str>,
    /// Of which version of its source it is a copy.
    pub of: SourceVersion,
}

/// The objects of all revisions, by source and number.
pub type Snapshots = BTreeMap<SourceKey, BTreeMap<Number, Snapshot>>;

/// What a target's template names now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins(pub BTreeMap<SourceKey, BTreeSet<Number>>);

/// A target as it is.
#[derive(Debug, Clone)]
pub struct TargetView {
    /// Its kind and name.
    pub key: TargetKey,
    /// Its UID.
    pub uid: Box<str>,
    /// The place of its stage.
    pub stage: usize,
    /// `metadata.generation`.
    pub generation: i64,
    /// What its template names.
    pub pins: Pins,
    /// What else its template says.
    pub template: Fingerprint,
    /// How far its pods are.
    pub progress: Progress,
}

/// What was read about an updating target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The most restarts of a pod that was made since the change.
    pub restarts: i32,
    /// How many pods that were made since the change are ready.
    pub ready: i32,
    /// How many of them have yet to be given a node.
    pub unscheduled: i32,
    /// What its stage's probe said; `None` where there is none, or nothing is known yet.
    pub probe: Option<Result<(), String>>,
}

/// All that a reconcile sees of a rollout.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The sources that exist, in use or not.
    pub sources: BTreeMap<SourceKey, SourceVersion>,
    /// The sources that are named, or that targets use the last copy of, and that do not exist.
    pub missing_sources: Vec<SourceKey>,
    /// Those of which targets use the last copy, and that exist, but are no sources any more.
    pub deselected_sources: Vec<SourceKey>,
    /// What of each source the targets use; sources that none uses are left out.
    pub uses: BTreeMap<SourceKey, Uses>,
    /// The objects of all revisions, by source and number.
    pub snapshots: Snapshots,
    /// The targets, in the order of their stages.
    pub targets: Vec<TargetView>,
    /// The targets that are named and do not exist.
    pub missing_targets: Vec<(TargetKey, usize)>,
    /// The targets that are there and cannot be read: nothing is known of them but their names.
    pub unreadable_targets: Vec<(TargetKey, usize)>,
    /// What was read about updating targets.
    pub evidence: BTreeMap<TargetKey, Evidence>,
}

impl Observed {
    /// The number of the object that revision `number` has for `source`: its own, or that of the last revision before
    /// in which the source had changed. 0 where there is none.
    pub fn object(&self, source: &SourceKey, number: Number) -> Number {
        let objects = self.snapshots.get(source);
        let object = objects.and_then(|objects| objects.range(1..=number.max(1)).next_back());
        object.filter(|(object, _)| **object <= number).map_or(0, |(object, _)| *object)
    }

    /// Whether the target's template names what it has in revision `number`. Where the objects of a source are all
    /// gone, a revision has nothing better than what the template names.
    pub fn is_at(&self, target: &TargetView, number: Number) -> bool {
        self.names(&target.pins, number)
    }

    /// Whether these are the objects of revision `number`.
    pub fn names(&self, pins: &Pins, number: Number) -> bool {
        pins.0.iter().all(|(source, pins)| {
            let has_none = number > 0 && !self.snapshots.contains_key(source);
            has_none || pins.iter().all(|pin| *pin == self.object(source, number))
        })
    }

    /// Whether the target's template names a source of which revision `number` has an object.
    pub(super) fn reads_again(&self, target: &TargetView, number: Number) -> bool {
        target.pins.0.iter().any(|(source, pins)| pins.contains(&0) && self.object(source, number) > 0)
    }

    /// The highest number of any object, and of any that a template names although it is gone.
    pub fn highest(&self) -> Number {
        let last = |objects: &BTreeMap<Number, Snapshot>| objects.keys().next_back().copied();
        let pins = self.targets.iter().flat_map(|target| target.pins.0.values().flatten().copied());
        let named = pins.filter(|pin| *pin != FOREIGN);
        self.snapshots.values().filter_map(last).chain(named).max().unwrap_or_default()
    }
}

/// How a rollout goes, as the spec says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The stages, at least one.
    pub stages: Vec<StageSettings>,
    /// Whether a failed revision is rolled back.
    pub rolls_back: bool,
    /// Whether pods read the sources themselves: what they are given is what the sources say then.
    pub restarts_only: bool,
    /// Whether no revision is made while a source is incomplete.
    pub holds_incomplete: bool,
    /// For how long sources must be quiet.
    pub debounce: Duration,
    /// How far apart rollouts begin.
    pub min_interval: Duration,
    /// Whether nothing new is begun.
    pub paused: bool,
    /// How many unused revisions are kept.
    pub history: usize,
    /// The stage of the revision whose pause is ended by hand.
    pub goes_on: Option<Order<(Number, Arc<str>)>>,
    /// The failed revision for which a retry is requested.
    pub retry: Option<Order<Number>>,
    /// The revision that is to be rolled back although its gates have not failed.
    pub abort: Option<Order<Number>>,
}

/// What a user requests by an annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order<T> {
    /// The annotation's value, by which it is known whether it was carried out.
    pub value: Arc<str>,
    /// What it is about.
    pub of: T,
}

/// A stage, as the spec says.
#[derive(Debug, Clone)]
pub struct StageSettings {
    /// Its name.
    pub name: Arc<str>,
    /// How many of its targets may be updating together.
    pub max_parallel: usize,
    /// For how long a target must be available.
    pub soak: Duration,
    /// When a target has failed that is not.
    pub deadline: Duration,
    /// How many more restarts are no failure.
    pub more_restarts: i32,
    /// Whether there is a probe.
    pub probed: bool,
    /// Whether the next stage may begin although no target has shown anything.
    pub allow_empty: bool,
    /// What is waited for before the next stage.
    pub pause: Option<PauseSettings>,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseSettings {
    /// A time.
    For(Duration),
    /// Until it is ended by hand.
    Continue,
}

/// What a reconcile is to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// What is to be remembered, before anything else is done.
    pub state: State,
    /// Whether the sources say something that has yet to be looked at.
    pub unsettled: bool,
    /// Read the sources and make a revision of what has changed.
    pub examine: bool,
    /// Give these targets the revision.
    pub moves: Vec<(TargetKey, Number)>,
    /// These are to be given one, and [wait](super::Input::held).
    pub held: Vec<TargetKey>,
    /// What keeps the rollout from going on.
    pub wait: Wait,
    /// Whether targets wait for places that other rollouts have.
    pub needs_slots: bool,
    /// What has come about.
    pub news: Vec<RolloutEvent>,
    /// When time alone changes the plan.
    pub recheck_in: Option<Duration>,
}

/// What keeps a rollout from going on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Wait {
    /// Nothing: all targets have the revision.
    #[default]
    Nothing,
    /// No target uses a source.
    NoUse,
    /// `spec.paused`.
    Paused,
    /// Sources that change still, until then.
    Debounce(Timestamp),
    /// The sources are to be read.
    Examine,
    /// `spec.minInterval`, until then.
    Interval(Timestamp),
    /// A person who says that a stage may go on, or a time.
    Stage(Option<Timestamp>),
    /// Targets of the stage that have not passed.
    Targets,
    /// The stage itself, of which nothing has shown that the revision works.
    Unproven(Unproven),
    /// This target, which cannot be read: whether it has the revision, and works with it, is not known.
    Unreadable(TargetKey),
    /// Other rollouts, which have all places.
    Slots,
    /// Another manager.
    Conflict,
    /// A source that changes: the failed revision is not tried again.
    Source,
}

/// Why a stage is not complete although no target of it is updating.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unproven {
    /// The stage names this target, which does not exist.
    Missing(TargetKey),
    /// The stage has no target that uses a source.
    Empty,
    /// This target has no pods, and none of the others has shown anything.
    NoPods(TargetKey),
    /// This target was rolled back by hand after it had the revision, or no other target has tested it.
    Held(TargetKey),
    /// The pods of this target are not replaced by themselves.
    Blocked(TargetKey, Blocked),
}

/// What has come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutEvent {
    /// A rollout has begun.
    Started(Number),
    /// All targets of a stage have passed.
    StagePassed(Arc<str>),
    /// All targets have the revision.
    Completed(Number, Duration),
    /// A revision has failed.
    Failed(Number, Failed),
    /// All targets have the revision before back.
    RolledBack(Number, Duration),
    /// A target was rolled back by hand.
    Held(TargetKey),
    /// Another has taken a change back.
    Reverted(TargetKey),
}
