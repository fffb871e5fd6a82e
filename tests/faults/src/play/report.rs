//! What an exploration has found, in words.

use std::fmt::{self, Write};

/// A run that broke a promise.
#[derive(Debug)]
pub struct Violation {
    /// By which [`replay`](super::explore::replay) plays it again.
    pub script: String,
    /// What was broken, in words.
    pub broken: Vec<String>,
    /// Everything that happened.
    pub story: Vec<String>,
}

/// What an exploration has found. Shown, it is a row of a table: scenarios, requests at which a fault was played, runs,
/// runs that broke a promise, and those of them that are known.
#[derive(Debug, Default)]
pub struct Report {
    /// How many scenarios were played.
    pub scenarios: usize,
    /// At how many of their requests something went wrong.
    pub places: usize,
    /// How many runs were made.
    pub runs: usize,
    /// How many of them broke a promise as is known.
    pub known: usize,
    /// Those that broke one otherwise.
    pub violations: Vec<Violation>,
}

impl Report {
    /// Both together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.violations.extend(other.violations);
        Self {
            scenarios: self.scenarios + other.scenarios,
            places: self.places + other.places,
            runs: self.runs + other.runs,
            known: self.known + other.known,
            violations: self.violations,
        }
    }

    /// # Panics
    /// When a run broke a promise that is not known to be broken: with the scripts of all such runs, and the story of the
    /// first.
    pub fn assert_kept(&self) {
        let Some(first) = self.violations.first() else { return };
        let mut text = format!("{} of {} runs broke a promise\n", self.violations.len(), self.runs);
        for violation in &self.violations {
            let mut words = violation.broken.clone();
            // An oracle tells the same at each write.
            words.dedup();
            let _ = writeln!(text, "MAINSTAY_FAULTS_REPLAY='{}'\n  {}", violation.script, words.join("\n  "));
        }
        panic!("{text}\n{}\n{}", first.broken.join("\n"), first.story.join("\n"));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenarios, places, runs, known, violations } = self;
        let broken = violations.len() + known;
        write!(f, "{scenarios:9} | {places:6} | {runs:6} | {broken:10} | {known:5} |")
    }
}
