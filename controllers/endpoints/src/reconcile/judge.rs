//! What a reconcile asks the members and decides of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use mainstay_runtime::clock::Moment;

use super::{Context, Endpoints};
use crate::{
    checker::{State, Target, Wanted},
    health::Verdict,
    observe::may_drain,
    plan::{self, Input, Plan},
    status,
    watched::Service,
};

impl Endpoints {
    /// Has the members checked, and returns what is known of them. Of a member whose port to check is not there, that is
    /// what was decided before.
    pub(super) fn check(&self, context: &Context) -> Option<HashMap<Target, State>> {
        let Some(check) = &context.settings.check else {
            self.checker.forget(&context.key);
            return None;
        };
        let (mut wanted, mut uncheckable) = (HashMap::new(), Vec::new());
        for member in context.observed.members.iter().filter(|member| member.is_checkable()) {
            let resumed = context.standing.verdict(member);
            match member.check_port {
                Some(port) => {
                    wanted.insert(member.target.clone(), Wanted { port, resumed });
                }
                None => {
                    let verdict = resumed.unwrap_or(Verdict::Unknown);
                    let state = State { verdict, since: Moment::ZERO, failure: None };
                    uncheckable.push((member.target.clone(), state));
                }
            }
        }
        self.checker.want(&context.key, Arc::clone(&check.definition), wanted);
        let mut states = self.checker.states(&context.key);
        states.extend(uncheckable);
        Some(states)
    }

    pub(super) fn plan(
        &self,
        context: &Context,
        service: &Service,
        states: Option<&HashMap<Target, State>>,
        now: Duration,
    ) -> Plan {
        let memory = {
            let mut memory = self.memory.lock();
            let remembered = memory.entry(context.key.clone()).or_default();
            let resumed = || {
                let choice = status::choice_of(&context.pool);
                plan::Memory::resumed(&context.observed.members, &context.standing, choice)
            };
            remembered.plan.clone().unwrap_or_else(resumed)
        };
        let view = self.view();
        let input = Input {
            service,
            members: &context.observed.members,
            awaited: &context.observed.awaited,
            kept: &context.observed.kept,
            exchanged: &context.observed.exchanged,
            has_names: context.settings.names().next().is_some(),
            states,
            slices: &context.observed.slices,
            standing: &context.standing,
            policy: &context.settings.policy,
            drain: context.settings.drain,
            memory: &memory,
            may_drain: &|endpoint| may_drain(&context.key, endpoint, &view),
        };
        plan::plan(&input, now)
    }
}
