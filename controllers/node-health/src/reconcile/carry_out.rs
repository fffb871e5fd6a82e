//! What differs from what is wanted becomes a job.

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;
use kube::ResourceExt;
use mainstay_runtime::clock::Moment;

use super::{
    jobs::Task,
    outcome::Outcome,
    state::{LeaderState, NodeHealth, Pass},
};
use crate::{
    apply::{
        node::{self, Change},
        pods,
        remediation::{self, Case},
        still::Precondition,
    },
    live::Question,
    observe::{self, DEFAULT_INTERVAL},
    plan::{NodePlan, NodeView, PodsPlan, Remediation, State, Wanted, late, unreachable_at},
    record::Record,
    settings::Settings,
    status::Judged,
    watched::Node,
};

impl NodeHealth {
    pub(super) fn carry_out(&self, state: &mut LeaderState, pass: &Pass, judged: Judged<'_>) {
        let Judged { index, view, planned } = judged;
        if view.unread {
            return;
        }
        let node = &pass.nodes[index];
        let settings = pass.assigned.policies[index].map(|policy| &pass.settings[policy]);
        let known = state.known.get_mut(node.name()).expect("every node of the plan is known");
        known.record.clone_from(&planned.record);
        self.tell_unanswered(node.name(), known, &node.facts.record);
        let is_untouched = node.facts.is_untouched() && known.recorded == Record::default();
        if planned.state == State::Healthy && planned.record == Record::default() && is_untouched {
            return;
        }
        let dry_run = known.dry_run;
        let wanted = if dry_run {
            node.facts.record.clone().at_boot(&node.facts.boot_id).handed_back()
        } else {
            planned.record.clone()
        };
        let recorded = known.recorded.clone();
        let stands = Change::of(&node.facts, &recorded, &wanted).is_empty();
        if !stands {
            self.write(state, pass, node, (wanted, recorded), view.heartbeat.renewed);
        }
        let Some(settings) = settings else { return };
        if planned.ask {
            self.confirm(state, pass, node, settings, view);
        }
        if dry_run {
            return;
        }
        // Pods that are evicted before the cordon stands could be placed on the node again.
        let evict = planned.pods.evict.filter(|_| stands);
        let still = self.precondition(pass, node, settings, view);
        self.visit_pods(state, pass, &still, PodsPlan { evict, ..planned.pods });
        self.remedy(state, pass, still, settings, view, planned);
    }

    /// What is to hold of the node still when something is done that cannot be undone.
    fn precondition(&self, pass: &Pass, node: &Node, settings: &Settings, view: &NodeView) -> Precondition {
        let heartbeat = view.heartbeat;
        let now = pass.now.moment;
        let is_silent = unreachable_at(heartbeat, &settings.rules).is_some_and(|at| at <= now);
        let failing = observe::failing(node, settings, &self.observations, heartbeat.listening)
            .filter(|(_, due)| *due <= now)
            .map(|(held, _)| (Arc::clone(held.kind), Arc::clone(held.status)));
        Precondition {
            node: Arc::clone(node.name()),
            uid: node.uid().into(),
            boot_id: Arc::clone(&node.facts.boot_id),
            silent: is_silent.then_some(heartbeat.renewed),
            failing,
        }
    }

    fn write(
        &self,
        state: &mut LeaderState,
        pass: &Pass,
        node: &Arc<Node>,
        (wanted, lost): (Record, Record),
        renewed: Option<Timestamp>,
    ) {
        let (client, of, seen) = (self.client.clone(), (node.name(), node.uid()), Arc::clone(node));
        state.jobs.start_for(Task::Write, of, pass.now.moment, async move {
            let before = seen.facts.record.clone();
            let result = node::bring(&client, (seen.name(), seen.uid()), &wanted, &lost, renewed).await;
            Outcome::Written { before, wanted, result: Box::new(result) }
        });
    }

    fn confirm(
        &self,
        state: &mut LeaderState,
        pass: &Pass,
        node: &Arc<Node>,
        settings: &Arc<Settings>,
        view: &NodeView,
    ) {
        let failing = observe::failing(node, settings, &self.observations, view.heartbeat.listening)
            .filter(|(_, due)| *due <= pass.now.moment)
            .map(|(held, _)| (Arc::clone(held.kind), Arc::clone(held.status), held.since));
        let question = Question {
            node: Arc::clone(node),
            settings: Arc::clone(settings),
            silent_since: view.heartbeat.silent_since(),
            failing,
            interval: view.heartbeat.interval.unwrap_or(DEFAULT_INTERVAL),
        };
        let (client, observations) = (self.client.clone(), Arc::clone(&self.observations));
        state.jobs.start_for(Task::Confirm, (node.name(), node.uid()), pass.now.moment, async move {
            Outcome::Confirmed(question.ask(&client, &observations).await)
        });
    }

    pub(super) fn visit_pods(
        &self,
        state: &mut LeaderState,
        pass: &Pass,
        node: &Precondition,
        plan: PodsPlan,
    ) {
        let known = state.known.get_mut(&node.node).expect("every node of the plan is known");
        // What is to be done now does not wait until it is time to look at what was to be done before.
        if std::mem::replace(&mut known.pods_plan, plan) != plan {
            state.jobs.forget(&[Task::Pods], &node.node);
        }
        if plan == PodsPlan::default() {
            return;
        }
        let (client, of, still) = (self.client.clone(), (&node.node, &*node.uid), node.clone());
        state.jobs.start_for(Task::Pods, of, pass.now.moment, async move {
            Outcome::Visited(plan, pods::visit(&client, &still, plan).await)
        });
    }

    fn remedy(
        &self,
        state: &mut LeaderState,
        pass: &Pass,
        node: Precondition,
        settings: &Arc<Settings>,
        view: &NodeView,
        planned: &NodePlan,
    ) {
        let stands = matches!(view.remediation, Remediation::Stands { .. });
        let idle = planned.remediation == Wanted::None && !stands;
        if settings.templates.is_empty() || idle {
            return;
        }
        let Some(policy_uid) = pass.policies.get(&settings.name).and_then(|policy| policy.uid()) else {
            return;
        };
        let case = Case {
            policy: Arc::clone(&settings.name),
            policy_uid: policy_uid.into(),
            node,
            templates: settings.templates.clone(),
            wanted: planned.remediation,
        };
        let client = self.client.clone();
        let (name, uid) = (Arc::clone(&case.node.node), case.node.uid.clone());
        state.jobs.start_for(Task::Remedy, (&name, &uid), pass.now.moment, async move {
            Outcome::Remedied(remediation::visit(&client, &case).await)
        });
    }

    /// The nodes of which a sign of life changes what is to be done.
    pub(super) fn await_life(&self, pass: &Pass, judged: &[Judged<'_>]) {
        let awaited = judged.iter().filter(|judged| is_awaited(judged.view, judged.planned, pass.now.moment));
        self.observations
            .wait_for(awaited.map(|judged| Arc::clone(&judged.view.name)).collect::<HashSet<_>>());
    }
}

/// Whether a sign of life of the node changes what is to be done. While a node of the control plane gives none, nothing goes on
/// with the others, whether anything is done with it or not.
fn is_awaited(view: &NodeView, planned: &NodePlan, now: Moment) -> bool {
    let heartbeat = view.heartbeat;
    let overdue =
        heartbeat.silent_since().saturating_add(late(heartbeat.interval.unwrap_or(DEFAULT_INTERVAL)));
    let is_silent = !heartbeat.is_heard() || overdue < now;
    planned.state != State::Healthy || view.record != Record::default() || view.control_plane && is_silent
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{plan::Heartbeat, status::tests::node};

    #[test]
    fn a_silent_node_of_the_control_plane_is_awaited_though_nothing_is_done_with_it() {
        let (node, planned) = node("n", State::Healthy);
        let seconds = Duration::from_secs;
        let heartbeat =
            |heard| Heartbeat { heard, listening: seconds(100), interval: Some(seconds(10)), renewed: None };
        for (control_plane, heard, now, is_expected) in [
            (true, Some(seconds(105)), 110, false),
            (true, Some(seconds(105)), 118, true),
            // As after the API server was away.
            (true, Some(seconds(95)), 101, true),
            (true, None, 101, true),
            (false, None, 118, false),
        ] {
            let view = NodeView { control_plane, heartbeat: heartbeat(heard), ..node.clone() };
            let awaited = is_awaited(&view, &planned, seconds(now));
            assert_eq!(awaited, is_expected, "{control_plane} {heard:?} {now}");
        }
    }
}
