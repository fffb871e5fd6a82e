//! What is told of a plan: events and metrics of what has changed, and the status of each policy.

use std::sync::Arc;

use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{
    jobs::Task,
    outcome::{self, Outcome},
    state::{AnnouncedNode, LeaderState, NodeHealth, Pass},
};
use crate::{
    announce::Turn,
    apply::node::Written,
    metrics,
    observe::Known,
    plan::{Breaker, State},
    record::Record,
    status::{self, Judged, Policy},
    watched::Node,
};

impl NodeHealth {
    /// Tells what this plan changes.
    pub(super) fn tell(
        &self,
        state: &mut LeaderState,
        pass: &Pass,
        judged: &[Judged<'_>],
        breakers: &[Breaker],
    ) {
        // A storm is told before the nodes of which it is made.
        self.tell_breakers(state, pass, breakers);
        let before = std::mem::take(&mut state.told.nodes);
        for node in judged {
            let (name, of_node) = (&node.view.name, node.planned.state);
            let unhealthy = self.tell_node(pass, *node, before.get(name));
            if of_node != State::Healthy {
                state.told.nodes.insert(Arc::clone(name), AnnouncedNode { state: of_node, unhealthy });
            }
        }
        self.count(pass, judged, breakers);
    }

    /// Returns whether a verdict stands that has been told.
    fn tell_node(&self, pass: &Pass, judged: Judged<'_>, told: Option<&AnnouncedNode>) -> bool {
        let Judged { index, view, planned } = judged;
        let node = &pass.nodes[index];
        let settings = pass.assigned.policies[index].map(|policy| &pass.settings[policy]);
        let policy = settings.and_then(|settings| pass.policies.get(&settings.name));
        let dry_run = settings.is_some_and(|settings| settings.rules.dry_run);
        let say = |turn, note: &str| {
            self.announcer.turned(node, policy.map(|policy| &**policy), turn, note, dry_run)
        };
        let known = told.is_some_and(|told| told.unhealthy);
        let unhealthy = planned.state.is_unhealthy();
        if unhealthy && !known {
            self.metrics.detected(pass.now.moment.saturating_sub(view.unwell_since()).as_secs_f64());
            say(Turn::Unhealthy, &planned.why);
        }
        // What is written is told when it is.
        for (turn, note) in turns(&view.record, &planned.record) {
            if dry_run || turn == Turn::Taken {
                say(turn, &note);
            }
        }
        if planned.state == State::Quarantined && told.is_none_or(|told| told.state != State::Quarantined) {
            say(Turn::Quarantined, &planned.waits_for);
        }
        if dry_run {
            for action in outcome::actions(&view.record, &planned.record) {
                self.metrics.acted(action, metrics::Outcome::DryRun, 1);
            }
        }
        // Between two looks a verdict that stands may be in doubt for a moment.
        unhealthy
            || known && !matches!(planned.state, State::Healthy | State::Recovering | State::Quarantined)
    }

    /// Tells what was written on a node.
    pub(super) fn tell_written(&self, name: &Arc<str>, written: &Written) {
        let Written { before, after, is_lost } = written;
        let taken = [before, after].into_iter().find_map(|record| record.taken.as_ref());
        let policy = taken.and_then(|taken| self.policies.get(&ObjectRef::new(&taken.policy)));
        self.with_node(name, |node| {
            for (turn, note) in turns(before, after) {
                if turn != Turn::Taken {
                    self.announcer.turned(node, policy.as_deref(), turn, &note, false);
                }
            }
            if *is_lost {
                self.announcer.record_lost(node);
            }
        });
    }

    /// Tells what a write has come to whose answer was lost: the node's record now says this.
    pub(super) fn tell_unanswered(&self, name: &Arc<str>, known: &mut Known, after: &Record) {
        if let Some(before) = known.unanswered.take_if(|before| before != after) {
            known.wrote(&before, after);
            self.tell_written(name, &Written { before, after: after.clone(), is_lost: false });
        }
    }

    fn tell_breakers(&self, state: &mut LeaderState, pass: &Pass, breakers: &[Breaker]) {
        let before = std::mem::take(&mut state.told.breakers);
        for breaker in breakers {
            let key = (Arc::clone(&breaker.policy), breaker.zone.clone());
            let open = breaker.open_since.is_some();
            let was_open = before.get(&key).copied().unwrap_or_default();
            if open != was_open
                && let Some(policy) = pass.policies.get(&breaker.policy)
            {
                self.announcer.breaker(policy, breaker);
            }
            state.told.breakers.insert(key, open);
        }
    }

    fn count(&self, pass: &Pass, judged: &[Judged<'_>], breakers: &[Breaker]) {
        let mut counts = vec![[0; State::COUNT]; pass.settings.len()];
        for Judged { index, planned, .. } in judged {
            if let Some(policy) = pass.assigned.policies[*index] {
                counts[policy][planned.state as usize] += 1;
            }
        }
        let names = pass.settings.iter().map(|settings| &*settings.name);
        self.metrics.show(names.zip(&counts), breakers);
    }

    /// Brings the status of each policy to what the plan says.
    pub(super) fn report(
        &self,
        state: &mut LeaderState,
        pass: &Pass,
        judged: &[Judged<'_>],
        breakers: &[Breaker],
    ) {
        for (name, policy) in &pass.policies {
            let Some(read) = state.settings.get(name) else { continue };
            let status = match &read.settings {
                Err(error) => status::unusable(&self.status_writer.current(&**policy), error, pass.now.wall),
                Ok(_) => {
                    let Some(index) = pass.settings.iter().position(|settings| settings.name == *name) else {
                        continue;
                    };
                    let nodes =
                        judged.iter().filter(|judged| pass.assigned.policies[judged.index] == Some(index));
                    let breakers = breakers.iter().filter(|breaker| breaker.policy == *name);
                    let overlaps = pass.assigned.overlaps[index].iter();
                    Policy {
                        policy,
                        nodes: nodes.copied().collect(),
                        breakers: breakers.collect(),
                        overlaps: overlaps.map(|other| &*pass.settings[*other].name).collect(),
                        stricter: pass.assigned.overlaps[index]
                            .iter()
                            .filter(|other| **other < index)
                            .count(),
                        unusable: read.unusable.iter().map(|flaw| &*flaw.words).collect(),
                        unlisted: read.unlisted.iter().map(|flaw| &*flaw.words).collect(),
                        kinds: read.kinds(),
                    }
                    .status(&self.clock, pass.now.wall)
                }
            };
            if policy.status.as_ref() == Some(&status) {
                continue;
            }
            let uid = policy.uid().unwrap_or_default();
            let (status_writer, policy) = (Arc::clone(&self.status_writer), Arc::clone(policy));
            state.jobs.start_for(Task::Report, (name, &uid), pass.now.moment, async move {
                let standing = policy.status.as_ref();
                let reported = status_writer.record(&*policy, standing, status, status::is_urgent).await;
                Outcome::Reported(reported)
            });
        }
    }

    /// Does something with a node that the store still shows.
    pub(super) fn with_node(&self, name: &Arc<str>, act: impl FnOnce(&Node)) {
        let key = mainstay_runtime::index::ObjectKey { namespace: "".into(), name: Arc::clone(name) };
        if let Some(node) = self.nodes.get(&key) {
            act(&node);
        }
    }
}

/// What leads from one record to another, in words.
fn turns(before: &Record, after: &Record) -> Vec<(Turn, String)> {
    let out = |record: &Record| record.taken.as_ref().and_then(|taken| taken.out_of_service.clone());
    let mut turns = Vec::new();
    if let (false, true, Some(taken)) = (before.is_taken(), after.is_taken(), &after.taken) {
        turns.push((Turn::Taken, format!("policy {} begins to act on the node", taken.policy)));
    }
    if let (None, Some(boot)) = (out(before), out(after)) {
        turns.push((
            Turn::OutOfServiceSet,
            format!(
                "boot {boot} is proven dead: volumes may detach and \
                                                    pods move"
            ),
        ));
    }
    if let (Some(boot), None) = (out(before), out(after)) {
        turns.push((
            Turn::OutOfServiceRemoved,
            format!("boot {boot} has ended, or the node renewed its Lease before the taint was set"),
        ));
    }
    if before.is_taken() && !after.is_taken() {
        turns.push((
            Turn::HandedBack,
            "the node is restored: the cordon and the taint are removed".to_owned(),
        ));
    }
    turns
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::record::Taken;

    fn taken(since: bool, out_of_service: Option<&str>) -> Record {
        let since = since.then_some(Timestamp::UNIX_EPOCH);
        let out_of_service = out_of_service.map(Into::into);
        Record {
            taken: Some(Taken { policy: "p".into(), since, out_of_service, ..Taken::default() }),
            ..Record::default()
        }
    }

    #[test]
    fn each_turn_is_told_once() {
        let told = |before: &Record, after: &Record| {
            turns(before, after).into_iter().map(|(turn, _)| turn).collect::<Vec<_>>()
        };
        let nothing = Record::default();
        assert_eq!(told(&nothing, &taken(true, None)), [Turn::Taken]);
        assert_eq!(told(&taken(true, None), &taken(true, None)), []);
        assert_eq!(told(&taken(true, None), &taken(true, Some("b"))), [Turn::OutOfServiceSet]);
        assert_eq!(told(&taken(true, Some("b")), &taken(false, Some("b"))), [Turn::HandedBack]);
        assert_eq!(told(&taken(false, Some("b")), &nothing), [Turn::OutOfServiceRemoved]);
        assert_eq!(told(&taken(true, None), &nothing), [Turn::HandedBack]);
    }
}
