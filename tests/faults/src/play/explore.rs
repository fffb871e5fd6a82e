//! Every fault at every request of a scenario, each run held against the undisturbed one.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use serde_json::{Value, json};

pub use super::clean::Clean;
use super::{
    fault::Fault,
    faults,
    outcome::differences,
    report::{Report, Violation},
    run::Run,
    scenario::Scenario,
};
use crate::part::Part;

/// How many runs are played at the same time.
const AT_ONCE: usize = 2;
/// The first scenario of a controller is played with every fault, the others with one of so many. With 7, which divides no
/// number of blows, each blow meets each kind of request in one scenario or another.
const SHARE: usize = 7;

/// Plays these scenarios of a controller, the first with every fault and the others with a share of them; of these runs the
/// part that the environment names, and prints a row of the table.
///
/// # Panics
/// When a promise is broken that is not known to be broken, or one that is known is kept.
pub fn explore(controller: &str, scenarios: &[Scenario]) {
    let (part, began) = (Part::from_environment(), Instant::now());
    let scenarios = scenarios.iter().enumerate();
    let reports = scenarios.map(|(number, scenario)| explore_one(number, scenario, part));
    let report = reports.fold(Report::default(), Report::and);
    println!("faults | {controller:14} | {report} {:4} s", began.elapsed().as_secs());
    report.assert_kept();
}

fn explore_one(number: usize, scenario: &Scenario, part: Part) -> Report {
    let clean = Clean::of(scenario);
    let places = faults::places(&clean.run.requests).len();
    assert!(places > 5, "{}: the controller does nothing:\n{}", scenario.name, clean.run.story.join("\n"));
    let share = if number == 0 { 1 } else { SHARE };
    let all = faults::of(scenario, &clean.run).into_iter().skip(number % share).step_by(share).enumerate();
    let chosen = all.filter(|(number, _)| part.has(*number)).map(|(_, fault)| fault);
    let mut faults = vec![Fault::None];
    if number == 0 {
        faults.extend(scenario.known.iter().map(|known| known.shown_by.clone()));
    }
    faults.extend(chosen);
    Report { scenarios: 1, places, ..explore_all(scenario, &clean, &faults) }
}

/// Plays a scenario with each of these faults, and holds each run against an undisturbed one.
pub fn explore_all(scenario: &Scenario, clean: &Clean, faults: &[Fault]) -> Report {
    let (next, violations) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let known = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run = Run::of(scenario, fault);
                    let broken = verdict(scenario, clean, fault, &run);
                    let broken = unknown(scenario, fault, broken, &known);
                    if broken.is_empty() {
                        continue;
                    }
                    let violation = Violation { script: script(scenario, fault), broken, story: run.story };
                    violations.lock().expect("no run panics here").push(violation);
                }
            });
        }
    });
    let mut violations = violations.into_inner().expect("no run panics here");
    violations.sort_by(|one, other| one.script.cmp(&other.script));
    Report { runs: faults.len(), known: known.into_inner(), violations, ..Report::default() }
}

/// What of this is not known to be broken, and what is known and was kept. Counts the runs that break what is known.
fn unknown(scenario: &Scenario, fault: &Fault, broken: Vec<String>, known: &AtomicUsize) -> Vec<String> {
    let shown = scenario.known.iter().find(|known| known.shown_by == *fault);
    let is_known = scenario.known.iter().any(|known| known.shown_by == *fault || (known.explains)(fault));
    match shown {
        Some(shown) if broken.is_empty() => {
            vec![format!("known: {} is kept now, take its mark away", shown.name)]
        }
        _ if is_known && !broken.is_empty() => {
            known.fetch_add(1, Ordering::Relaxed);
            Vec::new()
        }
        _ => broken,
    }
}

/// The promises that a run broke.
fn verdict(scenario: &Scenario, clean: &Clean, fault: &Fault, run: &Run) -> Vec<String> {
    let mut broken = run.broken.clone();
    let is_refused = matches!(fault, Fault::Refused(_));
    if !is_refused {
        let shown = |end: &Vec<String>| settled(scenario, fault, end);
        let good: Vec<_> = clean.ends(fault, run).iter().map(shown).collect();
        let differences = differences(&good, &shown(&run.outcome));
        if !differences.is_empty() {
            broken.push(format!("outcome: {}", differences.join("\n  ")));
        }
    }
    let most = clean.run.busy * if is_refused { 10 } else { 1 } + scenario.more;
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
    if *fault == Fault::None && sorted(&clean.run) != sorted(run) {
        broken.push("repeatable: the same run made other requests".to_owned());
    }
    broken
}

/// An end without what is left open after this fault.
fn settled(scenario: &Scenario, fault: &Fault, end: &[String]) -> Vec<String> {
    let (is_open, take_out) = scenario.open;
    if !is_open(fault) {
        return end.to_vec();
    }
    let shown = |object: &String| {
        let mut object: Value = object.parse().expect("it was written as JSON");
        take_out(&mut object);
        (!object.is_null()).then(|| object.to_string())
    };
    end.iter().filter_map(shown).collect()
}

/// What plays a run again: see [`replay`].
fn script(scenario: &Scenario, fault: &Fault) -> String {
    let controller = format!("{:?}", scenario.controller);
    json!({"controller": controller, "scenario": scenario.name, "fault": fault}).to_string()
}

/// Plays what a script says, if it is about one of these scenarios; returns the stories of the undisturbed run and of the run,
/// and what that broke.
pub fn replay(script: &str, scenarios: &[Scenario]) -> Option<(Vec<String>, Vec<String>, Vec<String>)> {
    let script: Value = serde_json::from_str(script).ok()?;
    let is_meant = |scenario: &&Scenario| {
        script["scenario"] == scenario.name && script["controller"] == format!("{:?}", scenario.controller)
    };
    let scenario = scenarios.iter().find(is_meant)?;
    let fault: Fault = serde_json::from_value(script["fault"].clone()).ok()?;
    let (clean, run) = (Clean::of(scenario), Run::of(scenario, &fault));
    let broken = verdict(scenario, &clean, &fault, &run);
    Some((clean.run.story, run.story, broken))
}
