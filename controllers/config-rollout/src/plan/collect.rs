//! Which objects of revisions the plan does not need any more.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    keys::{Number, SourceKey},
    state::State,
    types::{Observed, Settings},
};

/// The objects that may be deleted if nothing in the namespace refers to them; none while a target is updating or a
/// target's references are not known, and none that is also a source.
pub fn unused(observed: &Observed, settings: &Settings, state: &State) -> Vec<(SourceKey, Number)> {
    if state.rollout.is_some() || !observed.unreadable_targets.is_empty() {
        return Vec::new();
    }
    let mut kept: BTreeSet<(&SourceKey, Number)> = BTreeSet::new();
    let failed = state.failed.as_ref().map(|(number, _)| *number);
    for number in [Some(state.newest), state.stable, failed].into_iter().flatten() {
        kept.extend(observed.snapshots.keys().map(|source| (source, observed.object(source, number))));
    }
    for (source, objects) in &observed.snapshots {
        let is_source = |name| observed.sources.contains_key(&SourceKey { kind: source.kind, name });
        let sources = objects.iter().filter(|(_, object)| is_source(Arc::clone(&object.name)));
        kept.extend(sources.map(|(number, _)| (source, *number)));
    }
    for (source, pins) in observed.targets.iter().flat_map(|target| &target.pins.0) {
        kept.extend(pins.iter().map(|pin| (source, *pin)));
    }
    let all = observed
        .snapshots
        .iter()
        .flat_map(|(source, objects)| objects.keys().map(move |number| (source, *number)));
    let free: Vec<_> = all.filter(|object| !kept.contains(object)).collect();
    let numbers: BTreeSet<_> = free.iter().map(|(_, number)| *number).collect();
    let history: BTreeSet<_> = numbers.into_iter().rev().take(settings.history).collect();
    let free = free.into_iter().filter(|(_, number)| !history.contains(number));
    free.map(|(source, number)| (source.clone(), number)).collect()
}
