//! The loop of a process that leads: look at everything, plan, carry out.
//!
//! One reconcile looks at all nodes and all policies, since too many failures at once are seen only in all of them only. It writes nothing by
//! itself: what differs from what is wanted becomes a job, and what a job has found is seen by the next reconcile.

mod carry_out;
mod jobs;
mod outcome;
mod state;
mod sweep;
mod take_in;
mod tell;

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;
use mainstay_crds::NodeHealthPolicy;
use mainstay_runtime::{
    clock::Moment,
    index::ObjectKey,
    solo::{self, Solo},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::state::NodeHealth;
use self::{
    jobs::Task,
    state::{LeaderState, Pass, ReadSettings},
};
use crate::{
    live,
    observe::{self, Known},
    plan::{Now, Plan, plan},
    record::Record,
    settings,
    status::Judged,
    watched::Node,
};

/// How often the status of a policy follows its counters while its conditions stand.
pub const STATUS_PACE: Duration = Duration::from_secs(5);
/// Passes are at least this far apart.
const PACE: Duration = Duration::from_millis(100);
/// How often it is asked again which breakers are open, before the first reconcile.
const RECALL_AGAIN: Duration = Duration::from_secs(1);

impl NodeHealth {
    /// Passes until `shutdown`, then lets the requests under way end. Dropping the future ends them at once.
    pub async fn run(self, shutdown: CancellationToken) {
        // Nothing that was not heard while another process led says anything.
        self.observations.restart();
        let metrics = Arc::clone(&self.metrics);
        let pulse = live::pulse(&self.client, &self.clock, &self.observations, || metrics.was_blind());
        let listen = live::listen(&self.client, &self.clock, &self.observations);
        let passes = self.passes(&shutdown);
        tokio::select! {
            () = passes => {}
            () = pulse => {}
            () = listen => {}
        }
    }

    async fn passes(&self, shutdown: &CancellationToken) {
        let mut leading = Leading { node_health: self, state: LeaderState::new(self.max_in_flight) };
        self.restore_breakers(&mut leading.state, shutdown).await;
        solo::run(&mut leading, PACE, self.observations.wake(), &self.beat, &self.clock, shutdown).await;
        leading.state.jobs.finish().await;
    }

    /// Reads what another process has written down of the policies, before anything is planned. A watch may be deaf, or be
    /// behind it.
    async fn restore_breakers(&self, state: &mut LeaderState, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            match live::policies(&self.client).await {
                Ok(written) => {
                    state.written = written;
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the open breakers are not known yet, so nothing is planned");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(RECALL_AGAIN) => {}
            }
        }
    }

    fn pass(&self, state: &mut LeaderState) -> Option<Moment> {
        let pass = self.look(state);
        pass.restore_breakers(state);
        let mut seen = Vec::with_capacity(pass.nodes.len());
        let mut views = Vec::with_capacity(pass.nodes.len());
        for (index, node) in pass.nodes.iter().enumerate() {
            let policy = pass.policy_of(index);
            let known = state.known.get(node.name()).expect("every node of the plan is known");
            let unread = self.unread(state, node, known);
            if let Some(view) =
                observe::view(node, policy, known, unread, &self.observations, pass.now.moment)
            {
                seen.push(index);
                views.push(view);
            }
        }
        let rules: Vec<_> = pass.settings.iter().map(|settings| settings.rules.clone()).collect();
        let blind = self.observations.is_blind(pass.now.moment);
        let plan = plan(&rules, &views, &state.memory, pass.now, blind);
        let judged = seen.iter().zip(&views).zip(&plan.nodes);
        let judged: Vec<_> =
            judged.map(|((index, view), planned)| Judged { index: *index, view, planned }).collect();
        self.tell(state, &pass, &judged, &plan.breakers);
        for judged in &judged {
            self.carry_out(state, &pass, *judged);
        }
        self.sweep(state, &pass, &judged);
        self.await_life(&pass, &judged);
        self.report(state, &pass, &judged, &plan.breakers);
        state.jobs.withdraw();
        let Plan { memory, due, .. } = plan;
        state.memory = memory;
        [due, state.jobs.due(pass.now.moment)].into_iter().flatten().min()
    }

    /// The record of a node that was taken by a policy which is there and cannot be read. What only a dry run has decided
    /// stands on no node.
    fn unread<'a>(&self, state: &LeaderState, node: &'a Node, known: &'a Known) -> Option<&'a Record> {
        let decided = Some(&known.record).filter(|_| !known.dry_run);
        [Some(&node.facts.record), decided].into_iter().flatten().find(|record| {
            record.taken.as_ref().is_some_and(|taken| {
                let read = state.settings.get(&taken.policy);
                read.is_some_and(|read| read.settings.is_err())
                    || self.undecoded.contains(&ObjectKey::new("", &taken.policy))
            })
        })
    }

    /// Gathers what the reconcile looks at, and brings what is known up to it.
    fn look(&self, state: &mut LeaderState) -> Pass {
        let now = Now { moment: self.clock.now(), wall: Timestamp::now() };
        let policies: HashMap<Arc<str>, Arc<NodeHealthPolicy>> = self
            .policies
            .state()
            .into_iter()
            .filter(|policy| policy.metadata.deletion_timestamp.is_none())
            .map(|policy| (policy.name_any().into(), policy))
            .collect();
        let LeaderState { settings, standing, jobs, .. } = state;
        settings.retain(|name, _| {
            let is_there = policies.contains_key(name);
            if !is_there {
                standing.remove(name);
                jobs.forget(&Task::OF_POLICY, name);
            }
            is_there
        });
        for (name, policy) in &policies {
            let known = state.settings.remove(name).filter(|known| known.uid == policy.uid());
            let read = match known {
                Some(known) if known.generation == policy.metadata.generation => known,
                before => ReadSettings::read(policy, before),
            };
            state.settings.insert(Arc::clone(name), read);
        }
        let mut settings: Vec<_> =
            state.settings.values().filter_map(|read| read.settings.as_ref().ok().cloned()).collect();
        settings::order(&mut settings);
        let mut nodes = self.nodes.bucket(&());
        nodes.sort_by(|one, other| one.name().cmp(other.name()));
        let assigned = observe::assign(&settings, &nodes);
        let pass = Pass { now, settings, policies, nodes, assigned };
        for gone in pass.keep_up(&mut state.known) {
            state.jobs.forget(&Task::OF_NODE, &gone);
        }
        pass
    }
}

/// A process that leads, and what it has in mind.
struct Leading<'a> {
    node_health: &'a NodeHealth,
    state: LeaderState,
}

impl Solo for Leading<'_> {
    fn pass(&mut self) -> Option<Moment> {
        let began = Instant::now();
        let due = self.node_health.pass(&mut self.state);
        self.node_health.loop_metrics.passed(began.elapsed());
        due
    }

    async fn take_in(&mut self) {
        let (key, outcome) = self.state.jobs.next().await;
        let now = self.node_health.clock.now();
        match outcome {
            Some(found) => take_in::take_in(self.node_health, &mut self.state, key, found, now),
            None => self.state.jobs.failed(key, now, None),
        }
    }
}

#[cfg(test)]
mod tests;
