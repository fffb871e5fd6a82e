//! What a pass asks the members and decides of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use mainstay_runtime::index::ObjectKey;

use super::{Endpoints, Pass};
use crate::{
    checker::{State, Target, Wanted},
    plan::{self, Input, Plan, Standing},
    watched::{Endpoint, Service},
};

impl Endpoints {
    /// Has the members checked, and returns what is known of them.
    pub(super) fn check(&self, pass: &Pass) -> Option<HashMap<Target, State>> {
        let Some(check) = &pass.settings.check else {
            self.checker.forget(&pass.key);
            return None;
        };
        let standing = Standing::of(&pass.observed.slices);
        let new_leader = !self.memory.lock().entry(pass.key.clone()).or_default().is_known();
        let wanted =
            pass.observed.members.iter().filter(|member| member.is_checkable()).filter_map(|member| {
                let resumed = standing.verdict(member, new_leader);
                Some((member.target.clone(), Wanted { port: member.check_port?, resumed }))
            });
        self.checker.want(&pass.key, Arc::clone(&check.definition), wanted.collect());
        Some(self.checker.states(&pass.key))
    }

    pub(super) fn plan(
        &self,
        pass: &Pass,
        service: &Service,
        states: Option<&HashMap<Target, State>>,
        now: Duration,
    ) -> Plan {
        let memory = {
            let mut memory = self.memory.lock();
            let remembered = memory.entry(pass.key.clone()).or_default();
            let tier = pass.pool.status.as_ref().and_then(|status| u8::try_from(status.tier?).ok());
            remembered
                .plan
                .clone()
                .unwrap_or_else(|| plan::Memory::resumed(&pass.observed.members, &pass.observed.slices, tier))
        };
        let input = Input {
            service,
            members: &pass.observed.members,
            states,
            slices: &pass.observed.slices,
            policy: &pass.settings.policy,
            drain: pass.settings.drain,
            memory: &memory,
            still_runs: &|endpoint| self.still_runs(endpoint),
        };
        plan::plan(&input, now)
    }

    /// Whether an endpoint that is no member any more has a server that could still answer.
    fn still_runs(&self, endpoint: &Endpoint) -> bool {
        let Some(target) = &endpoint.target else { return true };
        let key = ObjectKey { namespace: Arc::clone(&target.namespace), name: Arc::clone(&target.name) };
        let pod = self.stores.pods.get(&key);
        pod.is_some_and(|pod| {
            *pod.header.uid == *target.uid && pod.ready && pod.is_placed() && !pod.header.terminating
        })
    }
}
