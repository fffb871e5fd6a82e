//! Ends remediations that no visit to a node ends: of nodes that are gone, that are well, or that the policy does not act on
//! any more, and by templates that it does not name any more.

use std::sync::Arc;

use super::{
    jobs::Task,
    outcome::Outcome,
    state::{LeaderState, NodeHealth, Pass},
};
use crate::{
    apply::leftovers::{self, Standing},
    plan::State,
    settings::Settings,
    status::Judged,
};

impl NodeHealth {
    /// Lists the remediations of each policy now and then, and deletes what is over by the plan that follows the list.
    pub(super) fn sweep(&self, state: &mut LeaderState, pass: &Pass, judged: &[Judged<'_>]) {
        let LeaderState { settings, standing, jobs, .. } = state;
        for (name, read) in settings.iter() {
            let kinds = read.kinds();
            if kinds.is_empty() {
                continue;
            }
            let listed = standing.remove(name);
            // What a policy wants that cannot be read is not known, so that what stands goes on.
            let (Some(uid), Ok(policy)) = (read.uid.clone(), &read.settings) else { continue };
            if let Some(listed) = listed {
                let over = listed.into_iter().filter_map(|standing| {
                    let in_use = in_use(pass, name, judged, &standing);
                    standing.over(in_use, &policy.templates).map(|over| (standing, over))
                });
                let over: Vec<_> = over.collect();
                if !over.is_empty() {
                    let client = self.client.clone();
                    jobs.start_for(Task::Clear, (name, &uid), pass.now.moment, async move {
                        // One that the server refuses keeps no other.
                        let mut cleared = Ok(());
                        for (standing, over) in over {
                            cleared = cleared.and(standing.delete(&client, over).await);
                        }
                        Outcome::Cleared(cleared)
                    });
                }
            }
            let (client, policy) = (self.client.clone(), Arc::clone(policy));
            let ((policy_name, policy_uid), before) =
                ((Arc::clone(name), uid.clone()), read.unusable.clone());
            jobs.start_for(Task::List, (name, &uid), pass.now.moment, async move {
                let (listed, unusable) = tokio::join!(
                    leftovers::list(&client, &policy_name, &policy_uid, &kinds),
                    leftovers::unusable(&client, &policy.templates, &before),
                );
                Outcome::Listed(listed, unusable)
            });
        }
    }
}

/// Whether the policy may have this remediation of its node. `None`: there is no such node.
fn in_use(pass: &Pass, policy: &str, judged: &[Judged<'_>], standing: &Standing) -> Option<bool> {
    let index = pass.nodes.binary_search_by(|known| known.name().cmp(&standing.node)).ok()?;
    if standing.node_uid.as_deref().is_some_and(|uid| *uid != *pass.nodes[index].uid()) {
        return None;
    }
    let acts = |settings: &Settings| *settings.name == *policy && !settings.rules.dry_run;
    let is_well = judged.binary_search_by_key(&index, |judged| judged.index).is_ok_and(|place| {
        let Judged { view, planned, .. } = judged[place];
        planned.state == State::Healthy && view.heartbeat.is_heard()
    });
    Some(!is_well && pass.policy_of(index).is_some_and(|(_, settings)| acts(settings)))
}
