//! The loop of a process that leads: look at everything, plan, carry out.
//!
//! One pass looks at all nodes and all policies, since a storm is seen in all of them only. It writes nothing by
//! itself: what differs from what is wanted becomes a job, and what a job has found is seen by the next pass.

mod carry_out;
mod jobs;
mod outcome;
mod sweep;
mod tell;

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{Client, ResourceExt, runtime::reflector::Store};
use mainstay_crds::{NodeHealthPolicy, NodeHealthPolicyStatus};
use mainstay_runtime::{
    clock::{Clock, Moment},
    index::{Index, ObjectKey},
    metrics::LoopMetrics,
    report::Reports,
    undecoded::Undecoded,
};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    jobs::{Jobs, Key},
    outcome::Outcome,
    tell::Told,
};
use crate::{
    announce::Announcer,
    apply::leftovers::Standing,
    live,
    metrics::Metrics,
    observe::{self, Known, KnownNodes},
    plan::{Memory, Now, Plan, plan},
    record::Record,
    settings::{self, Settings, SettingsError, TemplateRef},
    sight::Sight,
    status::{self, Judged},
    watched::Node,
};

/// How often the status of a policy follows its counters while its conditions stand.
pub const STATUS_PACE: Duration = Duration::from_secs(5);
/// Passes are at least this far apart.
const PACE: Duration = Duration::from_millis(100);
/// A loop that has not passed for so long, although something was due, is stuck.
const STUCK: Duration = Duration::from_secs(60);
/// How often it is asked again which breakers are open, before the first pass.
const RECALL_AGAIN: Duration = Duration::from_secs(1);
/// A pass comes at least this often, so that a stuck loop is told from one that has nothing to do.
const AT_LEAST: Duration = Duration::from_secs(10);

/// The parts of the process that the loop works with.
pub struct Keeper {
    /// The connection to the API server.
    pub client: Client,
    /// The process's time.
    pub clock: Clock,
    /// What the watches have seen.
    pub sight: Arc<Sight>,
    /// The nodes.
    pub nodes: Index<Node>,
    /// The policies.
    pub policies: Store<NodeHealthPolicy>,
    /// The policies that cannot be decoded.
    pub undecoded: Undecoded<NodeHealthPolicy>,
    /// Writes the status of policies.
    pub reports: Arc<Reports<NodeHealthPolicyStatus>>,
    /// Tells people.
    pub announcer: Announcer,
    /// The controller's series.
    pub metrics: Arc<Metrics>,
    /// The loop's series.
    pub loop_metrics: LoopMetrics,
    /// How many requests may be under way.
    pub max_in_flight: usize,
    /// When the last pass ended.
    pub passed: Arc<LastPass>,
}

/// When the loop last passed. `None`: it does not run.
#[derive(Debug, Default)]
pub struct LastPass(Mutex<Option<Instant>>);

impl LastPass {
    /// Whether the loop runs and has not passed for too long.
    pub fn is_overdue(&self) -> bool {
        self.0.lock().is_some_and(|at| at.elapsed() > STUCK)
    }
}

/// What a leading process has in mind. All of it may be lost: a restart reads what stands from the nodes, and which breakers
/// are open from the policies.
struct Mind {
    known: KnownNodes,
    memory: Memory,
    jobs: Jobs<Outcome>,
    settings: HashMap<Arc<str>, ReadSettings>,
    /// The remediations of policies, as they were just listed.
    standing: HashMap<Arc<str>, Vec<Standing>>,
    told: Told,
    /// What the policies said when they were listed before the first pass, by UID. Each is used once, at first sight.
    written: HashMap<String, NodeHealthPolicyStatus>,
}

impl Mind {
    /// Nothing yet.
    fn new(max_in_flight: usize) -> Self {
        Self {
            known: KnownNodes::new(),
            memory: Memory::default(),
            jobs: Jobs::new(max_in_flight),
            settings: HashMap::new(),
            standing: HashMap::new(),
            told: Told::default(),
            written: HashMap::new(),
        }
    }
}

/// The settings of a policy at one generation.
struct ReadSettings {
    uid: Option<String>,
    generation: Option<i64>,
    settings: Result<Arc<Settings>, SettingsError>,
    /// All templates that the policy has named since this process leads.
    templates: Vec<TemplateRef>,
}

impl ReadSettings {
    /// Reads a policy that was read `before` at another generation.
    fn read(policy: &NodeHealthPolicy, before: Option<Self>) -> Self {
        let settings = Settings::read(policy).map(Arc::new);
        let mut templates = before.map(|before| before.templates).unwrap_or_default();
        for template in settings.iter().flat_map(|settings| &settings.templates) {
            if !templates.contains(template) {
                templates.push(template.clone());
            }
        }
        Self { uid: policy.uid(), generation: policy.metadata.generation, settings, templates }
    }
}

/// What one pass looks at.
struct Pass {
    now: Now,
    /// Policies that can be carried out, the strictest first.
    settings: Vec<Arc<Settings>>,
    policies: HashMap<Arc<str>, Arc<NodeHealthPolicy>>,
    /// Nodes by name, and the policy of each.
    nodes: Vec<Arc<Node>>,
    assigned: observe::Assigned,
}

impl Keeper {
    /// Passes until `shutdown`, then lets the requests under way end. Dropping the future ends them at once.
    pub async fn run(self, shutdown: CancellationToken) {
        // Nothing that was not heard while another process led says anything.
        self.sight.restart();
        let metrics = Arc::clone(&self.metrics);
        let pulse = live::pulse(&self.client, &self.clock, &self.sight, || metrics.was_blind());
        let listen = live::listen(&self.client, &self.clock, &self.sight);
        let passes = self.passes(&shutdown);
        tokio::select! {
            () = passes => {}
            () = pulse => {}
            () = listen => {}
        }
    }

    fn passes(&self, shutdown: &CancellationToken) -> impl Future<Output = ()> {
        let mut mind = Mind::new(self.max_in_flight);
        async move {
            self.recall(&mut mind, shutdown).await;
            while !shutdown.is_cancelled() {
                let began = Instant::now();
                let due = self.pass(&mut mind);
                self.loop_metrics.passed(began.elapsed());
                *self.passed.0.lock() = Some(Instant::now());
                self.wait(&mut mind, due, shutdown).await;
            }
            mind.jobs.finish().await;
        }
    }

    /// Reads what another process has written down of the policies, before anything is planned. A watch may be deaf, or be
    /// behind it.
    async fn recall(&self, mind: &mut Mind, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            match live::policies(&self.client).await {
                Ok(written) => {
                    mind.written = written;
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "which breakers are open is not known, so that nothing is planned");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(RECALL_AGAIN) => {}
            }
        }
    }

    /// Waits until a pass is due, and takes in what jobs have found meanwhile.
    async fn wait(&self, mind: &mut Mind, due: Option<Moment>, shutdown: &CancellationToken) {
        let now = self.clock.now();
        let (earliest, latest) = (now + PACE, now + AT_LEAST);
        let mut due = due.unwrap_or(latest).clamp(earliest, latest);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.clock.until(Some(due)) => return,
                () = self.sight.changed() => due = earliest,
                (key, outcome) = mind.jobs.next() => {
                    self.take_in(mind, key, outcome);
                    due = earliest;
                }
            }
        }
    }

    fn take_in(&self, mind: &mut Mind, key: Key, outcome: Option<Outcome>) {
        let now = self.clock.now();
        match outcome {
            Some(outcome) => outcome::take_in(self, mind, key, outcome, now),
            None => mind.jobs.failed(key, now, None),
        }
    }

    fn pass(&self, mind: &mut Mind) -> Option<Moment> {
        let pass = self.look(mind);
        pass.recall(mind);
        let mut seen = Vec::with_capacity(pass.nodes.len());
        let mut views = Vec::with_capacity(pass.nodes.len());
        for (index, node) in pass.nodes.iter().enumerate() {
            let policy = pass.policy_of(index);
            let known = mind.known.get(node.name()).expect("every node of the pass is known");
            let unread = self.unread(mind, node, known);
            if let Some(view) = observe::view(node, policy, known, unread, &self.sight, pass.now.moment) {
                seen.push(index);
                views.push(view);
            }
        }
        let rules: Vec<_> = pass.settings.iter().map(|settings| settings.rules.clone()).collect();
        let blind = self.sight.is_blind(pass.now.moment);
        let plan = plan(&rules, &views, &mind.memory, pass.now, blind);
        let judged = seen.iter().zip(&views).zip(&plan.nodes);
        let judged: Vec<_> =
            judged.map(|((index, view), planned)| Judged { index: *index, view, planned }).collect();
        self.tell(mind, &pass, &judged, &plan.breakers);
        for judged in &judged {
            self.carry_out(mind, &pass, *judged);
        }
        self.sweep(mind, &pass, &judged);
        self.await_life(&judged);
        self.report(mind, &pass, &judged, &plan.breakers);
        let Plan { memory, due, .. } = plan;
        mind.memory = memory;
        [due, mind.jobs.due(pass.now.moment)].into_iter().flatten().min()
    }

    /// The record of a node that was taken by a policy which is there and cannot be read. What only a dry run has decided
    /// stands on no node.
    fn unread<'a>(&self, mind: &Mind, node: &'a Node, known: &'a Known) -> Option<&'a Record> {
        let decided = Some(&known.record).filter(|_| !known.dry_run);
        [Some(&node.facts.record), decided].into_iter().flatten().find(|record| {
            record.taken.as_ref().is_some_and(|taken| {
                let read = mind.settings.get(&taken.policy);
                read.is_some_and(|read| read.settings.is_err())
                    || self.undecoded.contains(&ObjectKey::new("", &taken.policy))
            })
        })
    }

    /// Gathers what the pass looks at, and brings what is known up to it.
    fn look(&self, mind: &mut Mind) -> Pass {
        let now = Now { moment: self.clock.now(), wall: Timestamp::now() };
        let policies: HashMap<Arc<str>, Arc<NodeHealthPolicy>> = self
            .policies
            .state()
            .into_iter()
            .filter(|policy| policy.metadata.deletion_timestamp.is_none())
            .map(|policy| (policy.name_any().into(), policy))
            .collect();
        mind.settings.retain(|name, _| policies.contains_key(name));
        for (name, policy) in &policies {
            let known = mind.settings.remove(name).filter(|known| known.uid == policy.uid());
            let read = match known {
                Some(known) if known.generation == policy.metadata.generation => known,
                before => ReadSettings::read(policy, before),
            };
            mind.settings.insert(Arc::clone(name), read);
        }
        let mut settings: Vec<_> =
            mind.settings.values().filter_map(|read| read.settings.as_ref().ok().cloned()).collect();
        settings::order(&mut settings);
        let mut nodes = self.nodes.bucket(&());
        nodes.sort_by(|one, other| one.name().cmp(other.name()));
        let assigned = observe::assign(&settings, &nodes);
        let pass = Pass { now, settings, policies, nodes, assigned };
        pass.keep_up(&mut mind.known);
        pass
    }
}

impl Pass {
    fn policy_of(&self, node: usize) -> Option<(usize, &Settings)> {
        self.assigned.policies[node].map(|index| (index, &*self.settings[index]))
    }

    /// At first sight of a policy: which breakers another process has left open, or this one before the policy could not be
    /// read. What was taken lately is in the records of the nodes.
    fn recall(&self, mind: &mut Mind) {
        for settings in &self.settings {
            let name = &settings.name;
            let Some(policy) = self.policies.get(name).filter(|_| !mind.memory.knows(name)) else { continue };
            let written = policy.uid().and_then(|uid| mind.written.remove(&uid));
            let status = written.as_ref().or(policy.status.as_ref());
            let open = status.into_iter().flat_map(|status| status::open_breakers(status, self.now));
            mind.memory.breakers.extend(open.map(|(zone, breaker)| ((Arc::clone(name), zone), breaker)));
        }
    }

    /// Forgets nodes that are gone, and knows those that are new.
    fn keep_up(&self, known: &mut KnownNodes) {
        for (index, node) in self.nodes.iter().enumerate() {
            let dry_run = self.policy_of(index).is_some_and(|(_, settings)| settings.rules.dry_run);
            let first = || Known::first(node, dry_run);
            let standing = known.entry(Arc::clone(node.name())).or_insert_with(first);
            // What was only decided before is no base for what is carried out, and the other way round.
            if *standing.uid != *node.uid() || standing.dry_run != dry_run {
                *standing = first();
            }
        }
        if known.len() > self.nodes.len() {
            let names: std::collections::HashSet<_> = self.nodes.iter().map(|node| node.name()).collect();
            known.retain(|name, _| names.contains(name));
        }
    }
}

#[cfg(test)]
mod tests;
