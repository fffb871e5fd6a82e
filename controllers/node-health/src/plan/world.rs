//! A small cluster for the tests: nodes that renew their Leases or do not, under a clock that the test moves.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use mainstay_runtime::clock::Moment;

use super::*;
use crate::record::Record;

/// How far the clock moves between two plans.
pub(super) const TICK: Duration = Duration::from_millis(500);
/// The time between two renewals.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct World {
    pub rules: Vec<Rules>,
    pub nodes: Vec<NodeView>,
    /// Whether each node renews its Lease, and since when.
    renews: Vec<Option<Moment>>,
    /// The existing remediation of each node, if the test creates and ends them.
    pub repairs: Option<Vec<Option<usize>>>,
    /// Whether nothing can be seen.
    pub blind: bool,
    pub memory: Memory,
    pub now: Moment,
    pub plan: Plan,
    /// The nodes as the last plan saw them.
    pub seen: Vec<NodeView>,
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A policy with the defaults of the kind, but for steps without a pause.
pub(super) fn rules(policy: &str) -> Rules {
    Rules {
        policy: policy.into(),
        dry_run: false,
        pause_requests: Vec::new(),
        unreachable_after: seconds(15),
        startup_grace: seconds(60),
        healthy_for: seconds(10),
        max_doubt: seconds(30),
        steps: Steps {
            cordon: Some(Duration::ZERO),
            taint: Some((crate::record::TaintEffect::NoSchedule, Duration::ZERO)),
            pods_not_ready: Some(Duration::ZERO),
            drain: Some(Drain { after: seconds(10), deadline: seconds(60), delete_after: true }),
            ..Steps::default()
        },
        breakers: Limits {
            zone: Limit::Percent(40),
            cluster: Limit::Percent(40),
            rate: Rate { count: 2, window: seconds(60) },
            settle: seconds(2),
            close_after: seconds(60),
        },
        flapping: None,
    }
}

impl World {
    /// `zones` with `nodes` each, named `zone-number`, all of the first policy, all heard of.
    pub(super) fn new(rules: Rules, zones: &[&str], nodes: usize) -> Self {
        let names =
            zones.iter().flat_map(|zone| (0..nodes).map(move |index| (*zone, format!("{zone}-{index}"))));
        let nodes: Vec<_> = names.map(|(zone, name)| node(&name, zone)).collect();
        let plan = Plan { nodes: Vec::new(), breakers: Vec::new(), memory: Memory::default(), due: None };
        let renews = vec![Some(Duration::ZERO); nodes.len()];
        let mut world = Self {
            rules: vec![rules],
            nodes,
            renews,
            repairs: None,
            blind: false,
            memory: Memory::default(),
            now: seconds(1000),
            plan,
            seen: Vec::new(),
        };
        world.run(seconds(1));
        world
    }

    fn index(&self, name: &str) -> usize {
        self.nodes.iter().position(|node| &*node.name == name).expect("a node of that name")
    }

    pub(super) fn node(&mut self, name: &str) -> &mut NodeView {
        let index = self.index(name);
        &mut self.nodes[index]
    }

    /// The nodes whose names begin so renew their Leases no longer.
    pub(super) fn stop(&mut self, prefix: &str) {
        for (node, renews) in self.nodes.iter().zip(&mut self.renews) {
            if node.name.starts_with(prefix) {
                *renews = None;
            }
        }
    }

    /// They do again, from now on.
    pub(super) fn start(&mut self, prefix: &str) {
        for (node, renews) in self.nodes.iter_mut().zip(&mut self.renews) {
            if node.name.starts_with(prefix) && renews.is_none() {
                *renews = Some(self.now);
            }
        }
    }

    /// The process restarts: its memory is lost.
    pub(super) fn restart(&mut self) {
        self.memory = Memory::default();
        for node in &mut self.nodes {
            node.heartbeat = Heartbeat { heard: None, listening: self.now, ..node.heartbeat };
            node.confirmed = false;
            if !self.rules[0].steps.remediation.is_empty() {
                node.remediation = Remediation::Unknown;
            }
        }
    }

    /// The API server answers again after it was away.
    pub(super) fn see(&mut self) {
        self.blind = false;
        for node in &mut self.nodes {
            (node.heartbeat.listening, node.confirmed) = (self.now, false);
        }
    }

    /// Carries out the planned remediations, and updates what the nodes observe of them.
    fn repair(&mut self, plan: &Plan) {
        let Some(repairs) = &mut self.repairs else { return };
        for ((node, planned), stands) in self.nodes.iter_mut().zip(&plan.nodes).zip(repairs) {
            match (planned.remediation, node.remediation) {
                (Wanted::None, Remediation::Stands { .. }) => *stands = None,
                (Wanted::None, _) => {
                    // What no visit ends a sweep does.
                    if planned.state == State::Healthy {
                        *stands = None;
                    }
                    continue;
                }
                (Wanted::Look, _) => {}
                (Wanted::Template(template), _) => *stands = Some(template),
            }
            let since = |template| match node.remediation {
                Remediation::Stands { template: same, since, .. } if same == template => since,
                _ => self.now,
            };
            node.remediation = stands.map_or(Remediation::None, |template| Remediation::Stands {
                template,
                since: since(template),
                succeeded: None,
            });
        }
    }

    /// Plans once, and carries it out.
    pub(super) fn pass(&mut self) {
        for (node, renews) in self.nodes.iter_mut().zip(&self.renews) {
            let last = renews.map(|since| {
                let rounds = (self.now - since).as_nanos() / INTERVAL.as_nanos();
                since + INTERVAL * u32::try_from(rounds).expect("tests are short")
            });
            let last = last.filter(|last| *last >= node.heartbeat.listening && !self.blind);
            if let Some(last) = last.filter(|last| node.heartbeat.heard < Some(*last)) {
                node.heartbeat.heard = Some(last);
                node.confirmed = false;
            }
            if let Some(since) = node.failing_due.take_if(|due| *due <= self.now) {
                node.failing = Some(("its condition is bad".into(), since));
                node.confirmed = false;
            }
        }
        let plan = plan(&self.rules, &self.nodes, &self.memory, self.now(), self.blind);
        self.seen.clone_from(&self.nodes);
        for (node, planned) in self.nodes.iter_mut().zip(&plan.nodes) {
            node.record = planned.record.clone();
            node.out_of_service = node.record.out_of_service().is_some();
            // A live read takes its time, and confirms what the watch shows.
            node.confirmed |= planned.state == State::Unconfirmed;
            node.answered = if planned.ask { Some(self.now) } else { node.answered };
        }
        self.repair(&plan);
        self.memory = plan.memory.clone();
        self.plan = plan;
    }

    pub(super) fn now(&self) -> Now {
        let wall = Timestamp::UNIX_EPOCH.checked_add(self.now).expect("a time near the epoch");
        Now { moment: self.now, wall }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.pass();
            if self.now >= end {
                return;
            }
            self.now += TICK;
        }
    }

    /// Runs until `holds`, for no longer than `limit`. Returns how long it took.
    pub(super) fn until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Duration {
        let began = self.now;
        while !holds(self) {
            assert!(self.now - began <= limit, "{:?}", self.plan.nodes);
            self.now += TICK;
            self.pass();
        }
        self.now - began
    }

    pub(super) fn of(&self, name: &str) -> &NodePlan {
        &self.plan.nodes[self.index(name)]
    }

    pub(super) fn state(&self, name: &str) -> State {
        self.of(name).state
    }

    pub(super) fn taken(&self) -> Vec<&str> {
        let taken = self.nodes.iter().filter(|node| node.record.is_taken());
        taken.map(|node| &*node.name).collect()
    }

    pub(super) fn node_is_taken(&self, name: &str) -> bool {
        self.of(name).record.is_taken()
    }

    /// Which breakers are open.
    pub(super) fn open(&self) -> BTreeMap<String, bool> {
        let open = self.plan.breakers.iter().filter(|breaker| breaker.open_since.is_some());
        open.map(|breaker| (breaker.zone.as_deref().unwrap_or("all").to_owned(), breaker.everything))
            .collect()
    }
}

fn node(name: &str, zone: &str) -> NodeView {
    NodeView {
        name: name.into(),
        zone: zone.into(),
        control_plane: false,
        rules: Some(0),
        leaving: false,
        heartbeat: Heartbeat {
            heard: None,
            listening: Duration::ZERO,
            interval: Some(INTERVAL),
            renewed: None,
        },
        failing: None,
        failing_due: None,
        confirmed: false,
        answered: None,
        doubt: None,
        record: Record::default(),
        unread: false,
        boot_id: Arc::from("boot-1"),
        out_of_service: false,
        proof: None,
        remediation: Remediation::None,
        remediated: false,
        out_of_reach: Vec::new(),
        pods: 0,
    }
}
