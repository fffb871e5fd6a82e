//! One incarnation of the controller: its stores, which the test feeds, and what its loop would remember.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
    time::Duration,
};

use http::Method;
use k8s_openapi::api::{core::v1::PersistentVolumeClaim, policy::v1::PodDisruptionBudget};
use kube::{
    Client, ResourceExt,
    runtime::{
        reflector::{self, ObjectRef, Store},
        watcher::Event,
    },
};
use mainstay_crds::ReplicaGroup;
use mainstay_replication::{
    announce::Announcer,
    apply::Writer,
    claim::Claim,
    metrics::Metrics,
    names::FIELD_MANAGER,
    pod::{Pod, WatchedPod},
    reconcile::{ASK_AGAIN, Replication, STATUS_PACE},
    revision::{Revision, WatchedRevision},
    stores::Stores,
};
use mainstay_runtime::{
    backoff::Backoff,
    clock::Clock,
    events::Events,
    index::ObjectKey,
    labels::LabelPool,
    metrics::LoopMetrics,
    outcome::{Outcomes, Turn},
    reconcile::{Reconciler, Work},
    report::StatusWriter,
    slim::MetadataOf,
};
use prometheus::Registry;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    defect::Defect,
    kind::Kind,
    server::{Change, Server, list_of, metadata_of, name},
    wire::{Reply, Request},
};

/// As many writes of a group under way as make a difference in groups this small.
pub const MAX_IN_FLIGHT: u16 = 2;

/// Nobody reads them here, so all processes share them: to register them takes longer than a whole reconcile.
static METRICS: LazyLock<(Metrics, LoopMetrics)> = LazyLock::new(|| {
    let registry = Registry::new();
    (Metrics::new(&registry), LoopMetrics::new(&registry, "replicagroup", 1))
});

/// The controller in a process that can be stopped at any point by dropping it.
pub struct Process {
    /// What makes the reconciles.
    pub replication: Arc<Replication>,
    writer: reflector::store::Writer<ReplicaGroup>,
    work: Arc<Work>,
    /// How many changes of the server's history each watch has passed.
    taken: BTreeMap<Kind, usize>,
    triggered: BTreeSet<String>,
    due: BTreeMap<String, Instant>,
    defect: Defect,
}

impl Process {
    /// A process whose watches have shown nothing yet; its first lists are of an empty namespace.
    pub fn new(client: Client, defect: Defect) -> Self {
        let (stores, (metrics, loop_metrics)) = (Stores::default(), METRICS.clone());
        let (groups, mut writer) = reflector::store();
        let stop = CancellationToken::new();
        let pods = Writer::new(client.clone(), stores.clone(), groups.clone(), MAX_IN_FLIGHT, stop);
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        let replication = Replication {
            stores,
            groups,
            writer: pods,
            announcer: Announcer { events: Events::start(client.clone(), "replication", "test"), metrics },
            status_writer: Arc::new(StatusWriter::new(client, FIELD_MANAGER, STATUS_PACE)),
            metrics: loop_metrics,
            memory: parking_lot::Mutex::default(),
            unsure: Backoff::new(ASK_AGAIN),
            clock: Clock::start(),
        };
        let (replication, work) = (Arc::new(replication), Work::new(METRICS.1.clone()));
        let forgetful = Arc::clone(&replication);
        work.on_forget(move |key| forgetful.forget(key));
        Self {
            replication,
            writer,
            work,
            taken: Kind::ALL.map(|kind| (kind, 0)).into(),
            triggered: BTreeSet::new(),
            due: BTreeMap::new(),
            defect,
        }
    }

    /// The group as this process sees it.
    pub fn group(&self, name: &str) -> Option<Arc<ReplicaGroup>> {
        self.store().get(&ObjectRef::new(name).within("ns"))
    }

    fn store(&self) -> &Store<ReplicaGroup> {
        &self.replication.groups
    }

    /// How many changes of the kind it has not seen.
    pub fn behind(&self, server: &Server, kind: Kind) -> usize {
        server.history[self.taken[&kind]..].iter().filter(|change| change.kind == kind).count()
    }

    /// Takes the next change of the kind, if there is one.
    pub fn take_next(&mut self, server: &Server, kind: Kind) {
        if let Some(at) = self.next_of(server, kind) {
            self.taken.insert(kind, at + 1);
            self.take(&server.history[at]);
        }
    }

    fn next_of(&self, server: &Server, kind: Kind) -> Option<usize> {
        let taken = self.taken[&kind];
        Some(taken + server.history[taken..].iter().position(|change| change.kind == kind)?)
    }

    /// Takes the next change of any kind, and returns which of the history it is.
    pub fn take_any(&mut self, server: &Server) -> Option<usize> {
        let kinds = Kind::ALL.into_iter();
        let (at, kind) = kinds.filter_map(|kind| Some((self.next_of(server, kind)?, kind))).min()?;
        self.take_next(server, kind);
        Some(at)
    }

    /// The objects of the kind as its watch has shown them.
    fn shown<'a>(&self, server: &'a Server, kind: Kind) -> BTreeMap<&'a str, &'a Value> {
        let mut shown = BTreeMap::new();
        for change in server.history[..self.taken[&kind]].iter().filter(|change| change.kind == kind) {
            if change.gone {
                shown.remove(name(&change.object));
            } else {
                shown.insert(name(&change.object), &change.object);
            }
        }
        shown
    }

    /// Shows it a change, be it a new one or one that it knows.
    pub fn take(&mut self, change: &Change) {
        match change.kind {
            Kind::Pod => {
                let pod = decode_pod(&change.object);
                let event = if change.gone { Event::Delete(pod) } else { Event::Apply(pod) };
                self.replication.stores.pods.apply(event, |_| {});
            }
            Kind::Group => self.take_group(decode(&change.object), change.gone),
            Kind::Revision => {
                let revision = decode_revision(&change.object);
                let event = if change.gone { Event::Delete(revision) } else { Event::Apply(revision) };
                self.replication.stores.revisions.apply(event, |_| {});
            }
            Kind::Claim => {
                let claim = decode_claim(&change.object);
                let event = if change.gone { Event::Delete(claim) } else { Event::Apply(claim) };
                self.replication.stores.claims.apply(event, |_| {});
            }
        }
        // Which groups a change concerns is the wiring's matter. To wake too many hides no lost wake-up: a reconcile
        // that is only waiting for an event which never comes is still found.
        self.trigger_all();
    }

    fn take_group(&mut self, mut group: ReplicaGroup, gone: bool) {
        if self.defect == Defect::FutureGeneration {
            group.metadata.generation = group.metadata.generation.map(|generation| generation + 1);
        }
        let old = self.store().get(&ObjectRef::from_obj(&group));
        let event = if gone { Event::Delete(group.clone()) } else { Event::Apply(group.clone()) };
        self.writer.apply_watcher_event(&event);
        self.note_group(old.as_deref(), (!gone).then_some(&group));
    }

    /// What the wiring does when a group changes.
    fn note_group(&mut self, old: Option<&ReplicaGroup>, new: Option<&ReplicaGroup>) {
        let Some(group) = new.or(old) else { return };
        if new.is_none_or(|new| old.is_some_and(|old| old.uid() != new.uid())) {
            self.due.remove(&group.name_any());
        }
        self.work.root_changed(old, new, |_| false);
    }

    /// The watch of the kind begins anew with a list, which shows the server as it is now.
    pub fn begin_list(&mut self, server: &Server, kind: Kind) {
        self.taken.insert(kind, server.history.len());
        match kind {
            Kind::Pod => {
                let pods = &self.replication.stores.pods;
                pods.apply(Event::Init, |_| {});
                server.all(kind).for_each(|pod| pods.apply(Event::InitApply(decode_pod(pod)), |_| {}));
            }
            Kind::Revision => {
                let revisions = &self.replication.stores.revisions;
                revisions.apply(Event::Init, |_| {});
                let all = server.all(kind).map(decode_revision);
                all.for_each(|revision| revisions.apply(Event::InitApply(revision), |_| {}));
            }
            Kind::Claim => {
                let claims = &self.replication.stores.claims;
                claims.apply(Event::Init, |_| {});
                let all = server.all(kind).map(decode_claim);
                all.for_each(|claim| claims.apply(Event::InitApply(claim), |_| {}));
            }
            Kind::Group => {
                self.writer.apply_watcher_event(&Event::Init);
                for group in server.all(kind) {
                    self.writer.apply_watcher_event(&Event::InitApply(decode(group)));
                }
            }
        }
    }

    /// The list that was begun is complete.
    pub fn end_list(&mut self, kind: Kind) {
        match kind {
            Kind::Pod => self.replication.stores.pods.apply(Event::InitDone, |_| {}),
            Kind::Revision => self.replication.stores.revisions.apply(Event::InitDone, |_| {}),
            Kind::Claim => self.replication.stores.claims.apply(Event::InitDone, |_| {}),
            Kind::Group => {
                let by_name = |store: &Store<ReplicaGroup>| -> BTreeMap<String, Arc<ReplicaGroup>> {
                    store.state().into_iter().map(|group| (group.name_any(), group)).collect()
                };
                let mut before = by_name(self.store());
                self.writer.apply_watcher_event(&Event::InitDone);
                for (name, new) in by_name(self.store()) {
                    self.note_group(before.remove(&name).as_deref(), Some(&new));
                }
                before.values().for_each(|gone| self.note_group(Some(gone), None));
            }
        }
        self.trigger_all();
    }

    fn trigger_all(&mut self) {
        self.triggered.extend(self.store().state().iter().map(|group| group.name_any()));
    }

    /// Shows it that the namespace has a PodDisruptionBudget.
    pub fn show_budget(&self) {
        let budget = json!({"metadata": {"name": "budget", "namespace": "ns", "uid": "budget"}});
        let budget = MetadataOf::<PodDisruptionBudget>::deserialize(budget).expect("a budget");
        self.replication.stores.budgets.apply(Event::Apply(budget.into()), |_| {});
    }

    /// A quota of the namespace has changed: what waits after a refusal may try again.
    pub fn release(&mut self) {
        for group in self.store().state() {
            if self.work.retry_failed_for("QuotaExceeded", &key(&group.name_any()), |_| true) {
                self.triggered.insert(group.name_any());
            }
        }
    }

    /// The next group that needs a reconcile now.
    pub fn next_group(&mut self) -> Option<String> {
        let now = Instant::now();
        let is_due = |(name, due): (&String, &Instant)| (*due <= now).then(|| name.clone());
        let name = self.triggered.first().cloned().or_else(|| self.due.iter().find_map(is_due))?;
        self.triggered.remove(&name);
        self.due.remove(&name);
        Some(name)
    }

    /// When the clock alone brings the next reconcile.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }

    /// What the group's next reconcile is granted.
    pub fn turn(&self, name: &str) -> Turn {
        self.work.turn(&key(name))
    }

    /// One reconcile of the group, and what it has told of it. With it comes when the rest of that is due.
    pub fn reconcile(
        &self,
        group: Arc<ReplicaGroup>,
        turn: Turn,
    ) -> impl Future<Output = (Outcomes, Option<Duration>)> + use<> {
        let (replication, work) = (Arc::clone(&self.replication), Arc::clone(&self.work));
        async move {
            let outcomes = Arc::clone(&replication).reconcile(group, turn).await;
            let told = replication.status_writer.flush(&work).await;
            (outcomes, told)
        }
    }

    /// What the loop does when a reconcile has ended; `None` stands for one that was cut off.
    pub fn conclude(&mut self, name: &str, ended: Option<(Outcomes, Option<Duration>)>) {
        let (mut outcomes, told) = ended.unwrap_or_else(|| (Outcomes::whole_failed("TimedOut"), None));
        outcomes.again(told);
        if let Some(due) = self.work.conclude(&key(name), Duration::ZERO, outcomes) {
            self.due.insert(name.to_owned(), due);
        }
    }

    /// What is answered in the server's place, for the defect of this process.
    pub fn answer(&self, request: &Request, server: &Server) -> Option<Reply> {
        let is_read = request.method == Method::GET;
        match (self.defect, request.kind, request.name.as_deref()) {
            (Defect::NoGate, Kind::Pod, None) if is_read => {
                Some(list_of(self.shown(server, Kind::Pod).into_values(), 0))
            }
            (Defect::StaleReads, Kind::Group, Some(name)) if is_read => {
                Some(Reply::ok(200, metadata_of(self.shown(server, Kind::Group).get(name)?)))
            }
            (Defect::DeafStatus, Kind::Group, Some(name)) if request.status => {
                Some(Reply::ok(200, server.get(Kind::Group, name)?.clone()))
            }
            _ => None,
        }
    }

    /// Forgets the group's own writes, as a controller without a write gate would.
    pub fn forget_writes(&self, name: &str) {
        self.replication.writer.forget(&key(name));
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("ns", name)
}

fn decode_pod(object: &Value) -> Pod {
    let pod = WatchedPod::deserialize(object).expect("the server keeps valid pods");
    Pod::slim(pod, &mut LabelPool::default())
}

fn decode_revision(object: &Value) -> Revision {
    WatchedRevision::deserialize(object).expect("the controller makes valid revisions").into()
}

fn decode_claim(object: &Value) -> Claim {
    MetadataOf::<PersistentVolumeClaim>::deserialize(object)
        .expect("the controller makes valid claims")
        .into()
}

fn decode(object: &Value) -> ReplicaGroup {
    ReplicaGroup::deserialize(object).expect("a scenario makes valid groups")
}
