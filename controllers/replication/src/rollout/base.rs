//! What a rollout starts from if no revision has ever had all of its pods available.
//!
//! A group that cannot have all of its pods serves with the others. Its rollouts pause, keep old pods and roll back
//! like those of any other group, so it needs a revision to roll back to.

use std::cmp::Reverse;

use super::State;
use crate::plan::Tallies;

impl State {
    /// Where there is no current revision and another than those that serve is `wanted`, the one of which most pods are
    /// available becomes the current one; of several as large, the oldest. `number` is the place of a revision in the
    /// group's history, and `None` where no pod of it could be made.
    pub fn stand_on_what_serves(
        &mut self,
        wanted: &str,
        by_revision: &Tallies<'_>,
        number: impl Fn(&str) -> Option<i64>,
    ) {
        if self.current.is_some() {
            return;
        }
        let serving =
            by_revision.iter().filter(|(revision, counts)| **revision != wanted && counts.available > 0);
        let ranked = serving
            .filter_map(|(&revision, counts)| Some((counts.available, Reverse(number(revision)?), revision)));
        self.current = ranked.max().map(|(.., revision)| revision.into());
    }
}
