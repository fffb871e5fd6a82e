//! Circuit breakers: when too many nodes fail at once, no new actions are taken.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use mainstay_runtime::clock::Moment;

use super::{
    due::Due,
    rules::Rules,
    types::{Breaker, BreakerMemory, Memory, NodeView, place},
    verdict::Verdict,
};

/// The key of a breaker: its policy, and its zone if it has one.
type Key = (Arc<str>, Option<Arc<str>>);

/// The index of a policy, and a zone if it is about one.
type Place = (usize, Option<Arc<str>>);

/// All breakers, and the policies whose breakers have just closed.
pub(super) struct BreakerStates {
    pub breakers: Vec<Breaker>,
    pub memory: BTreeMap<Key, BreakerMemory>,
    /// The policies a breaker of which closes now.
    pub cleared: Vec<Arc<str>>,
    storms: HashMap<Place, OpenBreaker>,
}

/// A breaker that is open, or no node that answers.
pub(super) struct OpenBreaker {
    pub everything: bool,
    zone: Option<Arc<str>>,
    limit: usize,
}

impl BreakerStates {
    /// What keeps a node from being acted on.
    pub(super) fn open_breaker(&self, node: &NodeView) -> Option<&OpenBreaker> {
        let rules = node.rules?;
        let of_policy = self.storms.get(&(rules, None));
        of_policy.or_else(|| self.storms.get(&(rules, Some(Arc::clone(&node.zone)))))
    }
}

impl OpenBreaker {
    pub(super) fn words(&self) -> String {
        if self.everything {
            return "any node to answer: all nodes are silent, so cordons and taints are removed".to_owned();
        }
        let place = self.zone.as_deref().map_or_else(|| "the policy".to_owned(), place);
        let limit = self.limit;
        format!(
            "the breaker of {place} to close: more than {limit} nodes are, or recently were, unhealthy \
                 or overdue"
        )
    }
}

/// Counts, and opens and closes breakers; who is blind leaves them as they are.
pub(super) fn breaker_states(
    rules: &[Rules],
    nodes: &[NodeView],
    verdicts: &[Verdict],
    memory: &Memory,
    now: Moment,
    blind: bool,
    due: &mut Due,
) -> BreakerStates {
    let mut counts: BTreeMap<Place, (usize, usize, usize)> = BTreeMap::new();
    let staying = || nodes.iter().zip(verdicts).filter(|(node, _)| !node.leaving);
    for (node, verdict) in staying() {
        let Some(rules) = node.rules else { continue };
        for zone in [None, Some(&node.zone)] {
            let (all, bad, uneasy) = counts.entry((rules, zone.cloned())).or_default();
            *all += 1;
            *bad += usize::from(verdict.counts());
            *uneasy += usize::from(verdict.counts() || verdict.is_uncertain(node));
        }
    }
    let everything =
        !blind && staying().next().is_some() && staying().all(|(node, verdict)| verdict.answers_nobody(node));
    let mut breaker_states = BreakerStates {
        breakers: Vec::with_capacity(counts.len()),
        memory: BTreeMap::new(),
        cleared: Vec::new(),
        storms: HashMap::new(),
    };
    for ((index, zone), (all, bad, uneasy)) in counts {
        let rules = &rules[index];
        let limits = &rules.breakers;
        let limit = if zone.is_some() { limits.zone } else { limits.cluster }.of(all);
        let key = (Arc::clone(&rules.policy), zone.clone());
        let before = memory.breakers.get(&key).cloned().unwrap_or_default();
        let everything = everything && zone.is_none();
        let is_storm = bad > limit || everything;
        // One node that is unhealthy is no storm, as long as it may be: a breaker whose limit is one could not close.
        let is_calm = uneasy <= (limit / 2).max(limit.min(1)) && !everything;
        let after = if blind { before.clone() } else { turn(&before, is_storm, is_calm, rules, now) };
        if before.open_since.is_some() && after.open_since.is_none() {
            breaker_states.cleared.push(Arc::clone(&rules.policy));
        }
        due.at(after.calm_since.map(|calm| calm.saturating_add(limits.close_after)));
        if after.open_since.is_some() {
            breaker_states
                .storms
                .insert((index, zone.clone()), OpenBreaker { everything, zone: zone.clone(), limit });
        }
        let policy = Arc::clone(&rules.policy);
        let open_since = after.open_since;
        breaker_states.breakers.push(Breaker {
            policy,
            zone,
            nodes: all,
            unhealthy: bad,
            limit,
            open_since,
            everything,
        });
        if after != BreakerMemory::default() {
            breaker_states.memory.insert(key, after);
        }
    }
    breaker_states
}

fn turn(before: &BreakerMemory, is_storm: bool, is_calm: bool, rules: &Rules, now: Moment) -> BreakerMemory {
    let Some(open_since) = before.open_since else {
        return BreakerMemory { open_since: is_storm.then_some(now), calm_since: None };
    };
    let calm_since = is_calm.then(|| before.calm_since.unwrap_or(now));
    let is_over = calm_since.is_some_and(|calm| calm.saturating_add(rules.breakers.close_after) <= now);
    if is_over {
        BreakerMemory::default()
    } else {
        BreakerMemory { open_since: Some(open_since), calm_since }
    }
}
