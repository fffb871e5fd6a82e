//! Which revision is the current one where nothing is remembered: the status was lost, or the ConfigRollout was
//! recreated. What the templates name is adopted, so that a rollback does not lead to the sources.

use std::collections::BTreeSet;

use super::{
    keys::Number,
    types::{Observed, TargetView},
};

/// The revision that the targets of the last stage have, which an unproven one reaches last; the oldest where they have
/// several. `None` where none of them names a revision, whatever those of earlier stages name: it may be one that a
/// canary tests.
pub(super) fn current(observed: &Observed) -> Option<Number> {
    let numbers: BTreeSet<Number> =
        observed.snapshots.values().flat_map(|objects| objects.keys().copied()).collect();
    let has = |target: &TargetView| {
        let names_one = target.pins.0.values().flatten().any(|pin| *pin > 0);
        numbers.iter().rev().copied().find(|number| names_one && observed.is_at(target, *number))
    };
    let using = || observed.targets.iter().filter(|target| !target.pins.0.is_empty());
    // What one that cannot be read has is not known.
    let unreadable = observed.unreadable_targets.iter().map(|(_, stage)| *stage);
    let last = using().map(|target| target.stage).chain(unreadable).max()?;
    using().filter(|target| target.stage == last).filter_map(has).min()
}
