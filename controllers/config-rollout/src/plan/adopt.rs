//! Which revision is the current one where nothing is remembered: the status was lost, or the ConfigRollout was
//! recreated. What the templates name is adopted, so that a rollback does not lead to the sources.

use std::collections::BTreeSet;

use super::{
    keys::Number,
    types::{Observed, TargetView},
};

/// The revision that the targets of the last stage have, which an unproven one reaches last; the oldest where they have
/// several. `None` where no template names a revision.
pub(super) fn current(observed: &Observed) -> Option<Number> {
    let numbers: BTreeSet<Number> =
        observed.snapshots.values().flat_map(|objects| objects.keys().copied()).collect();
    let has = |target: &TargetView| {
        let names_one = target.pins.0.values().flatten().any(|pin| *pin > 0);
        numbers.iter().rev().copied().find(|number| names_one && observed.is_at(target, *number))
    };
    let had = observed.targets.iter().filter_map(|target| Some((target.stage, has(target)?)));
    let had: Vec<_> = had.collect();
    let last = had.iter().map(|(stage, _)| *stage).max()?;
    had.into_iter().filter(|(stage, _)| *stage == last).map(|(_, number)| number).min()
}
