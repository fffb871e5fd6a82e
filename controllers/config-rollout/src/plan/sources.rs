//! Which revision the targets should have: the newest, the previous, or one that has yet to be created.
//!
//! A source is settled in an object of a revision if that is a copy of the same version, or was compared with it and
//! found equal in all keys that are used. The result is kept only in memory: after a restart the source is read once
//! more.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    keys::{Number, SourceKey},
    state::State,
    types::{Observed, SourceVersion, Uses},
};

/// What was found by reading a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which version was read.
    pub version: SourceVersion,
    /// What of it the targets used then.
    pub uses: Uses,
    /// The objects that it equals in all that is used.
    pub equals: BTreeSet<Number>,
    /// Why it can be in no revision.
    pub problem: Option<Problem>,
}

/// Why a source can be in no revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Keys without which pods do not start are not in it.
    KeyMissing(Vec<String>),
    /// The server refuses a copy of it.
    Refused(String),
}

/// What was found by reading sources.
pub type Findings = BTreeMap<SourceKey, Finding>;

/// What the targets should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// What they have: they use no source, or none of which there could be a revision.
    Nothing,
    /// This revision.
    Revision(Number),
    /// A revision that is made when the sources have been read.
    Unknown,
}

impl Observed {
    /// What was found about the version of the source as it is, in the keys that are used now.
    pub fn finding<'a>(&self, findings: &'a Findings, source: &SourceKey) -> Option<&'a Finding> {
        let finding = findings.get(source)?;
        let is_current = self.sources.get(source) == Some(&finding.version)
            && self.uses.get(source) == Some(&finding.uses);
        is_current.then_some(finding)
    }

    /// The sources that are used, exist, and can be in a revision as far as is known.
    pub fn sound_sources<'a>(&'a self, findings: &'a Findings) -> impl Iterator<Item = &'a SourceKey> {
        self.uses.keys().filter(|source| {
            let finding = self.finding(findings, source);
            self.sources.contains_key(*source) && finding.is_none_or(|finding| finding.problem.is_none())
        })
    }

    /// Whether a source without which pods do not start is missing, or can be in no revision.
    pub fn is_incomplete(&self, findings: &Findings) -> bool {
        self.uses.iter().any(|(source, uses)| {
            let is_missing = uses.required && self.missing_sources.contains(source);
            is_missing || self.finding(findings, source).is_some_and(|finding| finding.problem.is_some())
        })
    }

    /// Whether the source is the very version of which revision `number` has a copy.
    pub fn is_copied(&self, source: &SourceKey, number: Number) -> bool {
        let object = self.object(source, number);
        let snapshot = self.snapshots.get(source).and_then(|objects| objects.get(&object));
        snapshot.is_some_and(|snapshot| self.sources.get(source) == Some(&snapshot.of))
    }

    fn equals(&self, findings: &Findings, source: &SourceKey, number: Number) -> bool {
        let object = self.object(source, number);
        self.is_copied(source, number)
            || self.finding(findings, source).is_some_and(|finding| finding.equals.contains(&object))
    }
}

/// What the targets should have.
/// With `holds`, none is made, and none begins, while a source that is used is incomplete.
pub fn wanted(observed: &Observed, findings: &Findings, state: &State, holds: bool) -> Wanted {
    let sound: Vec<_> = observed.sound_sources(findings).collect();
    let all_equal = |number| sound.iter().all(|source| observed.equals(findings, source, number));
    let newest = state.newest;
    let is_held = holds && observed.is_incomplete(findings);
    // One that was made of a part, because the server refused a copy, or of what is complete no more.
    let is_part = newest == 0 || is_held && !state.has_begun(newest);
    let or_nothing = if is_part { Wanted::Nothing } else { Wanted::Revision(newest) };
    if sound.is_empty() {
        // Sources that are missing keep the targets where they are.
        return if observed.uses.is_empty() { Wanted::Nothing } else { or_nothing };
    }
    if newest > 0 && all_equal(newest) {
        return or_nothing;
    }
    match state.stable {
        // Somebody has taken a change back.
        Some(stable) if stable > 0 && all_equal(stable) => Wanted::Revision(stable),
        _ if is_held => Wanted::Nothing,
        _ => Wanted::Unknown,
    }
}
