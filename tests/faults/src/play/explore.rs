//! Every fault at every request of a scenario, each run held against the undisturbed one.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};

use super::{
    fault::{Blow, Fault},
    run::Run,
    scenario::Scenario,
};
use crate::part::Part;

/// How many runs are played at the same time.
const AT_ONCE: usize = 2;

/// Of reads with the same words, as a poll makes them, so many are disturbed.
const ALIKE: usize = 4;

/// A run that broke a promise.
#[derive(Debug)]
pub struct Violation {
    /// By which [`replay`] plays it again.
    pub script: String,
    /// What was broken, in words.
    pub broken: Vec<String>,
    /// Everything that happened.
    pub story: Vec<String>,
}

/// What an exploration has found.
#[derive(Debug, Default)]
pub struct Report {
    /// How many requests the undisturbed run makes.
    pub requests: usize,
    /// How many runs were made.
    pub runs: usize,
    /// Those that broke a promise.
    pub violations: Vec<Violation>,
}

/// Plays a scenario with each of these blows at each request: of these runs the part that the environment names.
pub fn explore(scenario: &Scenario, blows: &[Blow]) -> Report {
    let clean = Run::of(scenario, &Fault::None);
    let places = places(&clean.requests);
    let at = |blow: &Blow| {
        let blow = *blow;
        places.iter().map(move |number| Fault::At(*number, blow))
    };
    let part = Part::from_environment();
    let blows = blows.iter().flat_map(at).enumerate().filter(|(number, _)| part.has(*number));
    let faults: Vec<Fault> = [Fault::None].into_iter().chain(blows.map(|(_, fault)| fault)).collect();
    explore_all(scenario, &clean, &faults)
}

/// The requests that are worth a fault: all writes, and of reads that are alike the first.
fn places(requests: &[String]) -> Vec<usize> {
    let mut seen = BTreeMap::new();
    let mut is_worth = |words: &String| {
        let times = seen.entry(words.clone()).or_insert(0);
        *times += 1;
        *times <= ALIKE || !words.starts_with("GET")
    };
    (0..requests.len()).filter(|number| is_worth(&requests[*number])).collect()
}

/// Plays a scenario with each of these faults, and holds each run against an undisturbed one.
pub fn explore_all(scenario: &Scenario, clean: &Run, faults: &[Fault]) -> Report {
    let (next, violations) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run = Run::of(scenario, fault);
                    let broken = verdict(scenario, clean, fault, &run);
                    if !broken.is_empty() {
                        let violation =
                            Violation { script: script(scenario, fault), broken, story: run.story };
                        violations.lock().expect("no run panics here").push(violation);
                    }
                }
            });
        }
    });
    let mut violations = violations.into_inner().expect("no run panics here");
    violations.sort_by(|one, other| one.script.cmp(&other.script));
    Report { requests: clean.requests.len(), runs: faults.len(), violations }
}

/// The promises that a run broke.
fn verdict(scenario: &Scenario, clean: &Run, fault: &Fault, run: &Run) -> Vec<String> {
    let mut broken = run.broken.clone();
    let is_refused = matches!(fault, Fault::Refused(_));
    if !is_refused && clean.outcome != run.outcome {
        let missing = clean.outcome.iter().filter(|object| !run.outcome.contains(object));
        let strange = run.outcome.iter().filter(|object| !clean.outcome.contains(object));
        let lines = missing.map(|it| format!("- {it}")).chain(strange.map(|it| format!("+ {it}")));
        broken.push(format!("outcome:\n{}", lines.collect::<Vec<_>>().join("\n")));
    }
    let most = clean.busy * if is_refused { 10 } else { 1 } + scenario.more;
    if run.busy > most {
        broken.push(format!("requests: {} made, at most {most} expected", run.busy));
    }
    // Which of two tasks that are due at the same moment goes first is drawn by tokio, from a number that counts the runtimes
    // of this process.
    let sorted = |run: &Run| {
        let mut requests = run.requests.clone();
        requests.sort();
        requests
    };
    if *fault == Fault::None && sorted(clean) != sorted(run) {
        broken.push("repeatable: the same run made other requests".to_owned());
    }
    broken
}

/// What plays a run again: see [`replay`].
fn script(scenario: &Scenario, fault: &Fault) -> String {
    json!({"scenario": scenario.name, "fault": fault}).to_string()
}

/// Plays what a script says, if it is about one of these scenarios; returns the undisturbed run, the run and what it broke.
pub fn replay(script: &str, scenarios: &[Scenario]) -> Option<(Run, Run, Vec<String>)> {
    let script: Value = serde_json::from_str(script).ok()?;
    let scenario = scenarios.iter().find(|scenario| script["scenario"] == scenario.name)?;
    let fault: Fault = serde_json::from_value(script["fault"].clone()).ok()?;
    let (clean, run) = (Run::of(scenario, &Fault::None), Run::of(scenario, &fault));
    let broken = verdict(scenario, &clean, &fault, &run);
    Some((clean, run, broken))
}

impl Report {
    /// # Panics
    /// When a run broke a promise: with the scripts of all such runs, and the story of the first.
    pub fn assert_kept(&self) {
        let Some(first) = self.violations.first() else { return };
        let mut text = format!("{} of {} runs broke a promise\n", self.violations.len(), self.runs);
        for violation in &self.violations {
            let words: Vec<_> = violation.broken.iter().filter_map(|words| words.lines().next()).collect();
            let _ = writeln!(text, "MAINSTAY_FAULTS_REPLAY='{}'  {}", violation.script, words.join("; "));
        }
        panic!("{text}\n{}\n{}", first.broken.join("\n"), first.story.join("\n"));
    }
}
