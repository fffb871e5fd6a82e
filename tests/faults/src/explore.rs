//! Every fault at every request in every view of a scenario, each run held against the undisturbed one.

use std::collections::BTreeMap;

use mainstay_replication::names::SLOT;
use serde_json::Value;

use crate::{
    defect::Defect,
    fault::{self, Fault, VIEWS, View},
    kind::Kind,
    part::Part,
    run::Run,
    scenario::Scenario,
    server::{Server, controller, is_terminating, name, uid},
};

/// Requests that a fault may cost beyond those of the undisturbed run in the same view: retries of what was under way
/// and look-ups of what had no answer.
const MORE_REQUESTS: usize = 24;
/// Live reads in a reconcile whose stores may turn out to be behind: of the group, of its pods, and of
/// a write without an answer.
const READS: usize = 3;
/// The status may be written before and after a reconcile writes, and so often while reconciles wait for answers.
const MORE_STATUS: usize = 12;

/// What an exploration has found.
#[derive(Debug, Default)]
pub struct Report {
    /// How many runs were made.
    pub runs: usize,
    /// How many faults there were in one view, undisturbed runs included.
    pub faults: usize,
    /// Runs that broke a promise, by the promise's first word.
    pub broken: BTreeMap<String, usize>,
    /// The first run that broke each of them, told in full.
    pub stories: BTreeMap<String, String>,
}

/// Explores a [part] of a scenario; with a defect all of it, until every promise of `sought` has been broken once.
///
/// [part]: Part::from_environment
pub async fn explore(scenario: &Scenario, defect: Defect, sought: &[&str]) -> Report {
    let mut report = Report::default();
    let part = if sought.is_empty() { Part::from_environment() } else { Part::ALL };
    let mut numbers = 0..;
    let clean = Run::of(scenario, View::Prompt, Fault::None, Defect::None).await;
    for view in VIEWS {
        let undisturbed = Run::of(scenario, view, Fault::None, Defect::None).await;
        let faults = fault::all(&undisturbed.requests);
        report.faults = report.faults.max(faults.len());
        let chosen = faults.into_iter().zip(numbers.by_ref()).filter(|(_, number)| part.has(*number));
        for (fault, _) in chosen {
            let run = Run::of(scenario, view, fault, defect).await;
            report.runs += 1;
            for broken in verdicts(scenario, &clean, &undisturbed, &run) {
                report.add(broken, || format!("{}, {view:?}, {fault:?}", scenario.name), &run);
            }
            if !sought.is_empty() && sought.iter().all(|promise| report.broken.contains_key(*promise)) {
                return report;
            }
        }
    }
    report
}

impl Report {
    fn add(&mut self, broken: String, title: impl Fn() -> String, run: &Run) {
        let promise = broken.split(':').next().unwrap_or_default().to_owned();
        *self.broken.entry(promise.clone()).or_default() += 1;
        let story = || format!("{}: {broken}\n{}", title(), run.ledger.story.join("\n"));
        self.stories.entry(promise).or_insert_with(story);
    }
}

/// The promises that the run broke.
fn verdicts(scenario: &Scenario, clean: &Run, undisturbed: &Run, run: &Run) -> Vec<String> {
    let mut broken = run.ledger.broken.clone();
    let (expected, found) = (outcome(&clean.server), outcome(&run.server));
    if expected != found {
        broken.push(format!("outcome: expected {expected:#?}, found {found:#?}"));
    }
    let counts = |run: &Run| (run.ledger.creates, run.ledger.deletes);
    if scenario.exact && counts(clean) != counts(run) {
        let (expected, found) = (counts(clean), counts(run));
        broken.push(format!("counts: expected {expected:?} creates and deletes, found {found:?}"));
    }
    let most = undisturbed.ledger.requests + MORE_REQUESTS + READS * run.ledger.passes;
    let made = run.ledger.requests;
    if made > most {
        broken.push(format!("requests: {made} made, at most {most} expected"));
    }
    let (most, made) = (2 * run.ledger.passes + MORE_STATUS, run.ledger.status_writes);
    if made > most {
        broken.push(format!("status writes: {made} made, at most {most} expected"));
    }
    broken
}

/// What a user sees in the end: every pod without its name, every group with its status, and how many claims.
fn outcome(server: &Server) -> Vec<String> {
    let owners: BTreeMap<_, _> = server.all(Kind::Group).map(|group| (uid(group), name(group))).collect();
    let pods = server.all(Kind::Pod).map(|pod| {
        let owner = controller(pod).map(|uid| owners.get(uid).copied().unwrap_or("another"));
        let (mut labels, phase) = (pod["metadata"]["labels"].clone(), &pod["status"]["phase"]);
        // Names of slots are drawn by lot.
        let slot = labels.as_object_mut().and_then(|labels| labels.remove(SLOT)).is_some();
        format!("pod of {owner:?} {labels} {phase} slot={slot} terminating={}", is_terminating(pod))
    });
    let groups = server.all(Kind::Group).map(|group| {
        let status = group["status"].as_object().into_iter().flatten();
        let counters: Vec<_> = status.filter(|(key, _)| *key != "conditions").collect();
        let conditions = group["status"]["conditions"].as_array().into_iter().flatten();
        let heads: Vec<_> = conditions.map(head).collect();
        format!("group {} {counters:?} {heads:?}", name(group))
    });
    let mut outcome: Vec<_> = pods.chain(groups).collect();
    outcome.push(format!("{} claims", server.all(Kind::Claim).count()));
    outcome.sort();
    outcome
}

fn head(condition: &Value) -> String {
    format!("{}={}:{}", condition["type"], condition["status"], condition["reason"])
}
