//! Runs that nothing disturbs: what the others are held against.

use std::{collections::BTreeSet, sync::OnceLock, time::Duration};

use http::Method;
use serde_json::Value;

use super::{
    fault::Fault,
    gate::recreate,
    outcome::is_same,
    run::Run,
    scenario::{Scenario, user},
};
use crate::{
    model::{request::Request, server::Server},
    world::Cluster,
};

/// A user deletes what a scenario is about this long after the last step, when all has settled.
const SETTLES: Duration = Duration::from_secs(300);
/// Or this long before one of them.
const BEFORE: Duration = Duration::from_secs(1);

/// The undisturbed runs of a scenario.
pub struct Clean {
    pub(super) run: Run,
    scenario: Scenario,
    /// Played when the first run needs it.
    about: OnceLock<Option<About>>,
}

/// The ends of those in which a user has to do with what the scenario is about.
#[derive(Debug)]
struct About {
    /// It is deleted before one of the steps or in the end, or was never there.
    deleted: Vec<Vec<String>>,
    /// It is deleted then, and recreated at once.
    recreated: Vec<Vec<String>>,
}

impl Clean {
    /// Plays them.
    pub fn of(scenario: &Scenario) -> Self {
        let good = Scenario { defect: None, ..scenario.clone() };
        Self { run: Run::of(&good, &Fault::None), scenario: good, about: OnceLock::new() }
    }

    fn about(&self) -> Option<&About> {
        let play = || self.scenario.subject.map(|subject| About::of(&self.scenario, subject));
        self.about.get_or_init(play).as_ref()
    }

    /// The ends between which a run with this fault has to end. Where what the scenario is about is deleted on the way, it is
    /// left open how far the controller had got, but not that each object is as in an end that is good.
    pub(super) fn ends<'a>(&'a self, fault: &Fault, run: &'a Run) -> Vec<Vec<String>> {
        let mut ends = vec![self.run.outcome.clone()];
        let is_deleted = matches!(fault, Fault::Deleted(_));
        if run.outcome == ends[0] && !is_deleted {
            return ends;
        }
        if let Some(about) = Some(self).filter(|_| is_deleted || run.begins_anew).and_then(Self::about) {
            if is_deleted {
                ends.clone_from(&about.deleted);
            } else {
                ends.extend(about.recreated.iter().cloned());
            }
        }
        if let Some(of_user) = run.recreated.as_ref().filter(|_| !run.begins_anew) {
            ends.extend(ends.clone().into_iter().filter_map(|end| with(end, of_user)));
        }
        ends
    }

    /// The number of the first request whose words begin so.
    pub fn first(&self, words: &str) -> Option<usize> {
        self.run.requests.iter().position(|sent| sent.words.starts_with(words))
    }
}

/// A good end with what a user has recreated: it is the user's, and stays also where a controller would have taken away its own.
/// Pods are replaced: a new one finds a node of its own.
fn with(mut end: Vec<String>, of_user: &String) -> Option<Vec<String>> {
    let standing = end.iter().position(|object| is_same(object, of_user));
    match standing {
        Some(place) if of_user.contains(r#""kind":"Pod""#) => end[place].clone_from(of_user),
        Some(_) => return None,
        None => end.push(of_user.clone()),
    }
    Some(end)
}

impl About {
    fn of(scenario: &Scenario, subject: &'static str) -> Self {
        let path = Request::new(Method::GET, subject, Value::Null);
        let is_meant = |object: &Value| {
            object["kind"] == path.kind().map_or("", |kind| kind.row().kind)
                && object["metadata"]["name"] == *path.name
        };
        let mut absent = scenario.clone();
        absent.given.retain(|object| !is_meant(object));
        let steps: BTreeSet<_> = scenario.steps.iter().map(|(after, _)| *after).collect();
        let last = steps.last().copied().unwrap_or_default() + SETTLES;
        let before = steps.into_iter().filter_map(|step| step.checked_sub(BEFORE));
        let times: Vec<_> = before.chain([last]).map(|at| at.as_secs()).collect();
        let end = |scenario: &Scenario| Run::of(scenario, &Fault::None).outcome;
        let deletes =
            |server: &mut Server, _: &mut Cluster| user(server, Method::DELETE, subject, Value::Null);
        let recreates = move |server: &mut Server, _: &mut Cluster| drop(recreate(server, &path));
        let deleted = times.iter().map(|at| end(&scenario.clone().at(*at, deletes)));
        let deleted = deleted.chain([end(&absent)]).collect();
        let recreated = times.iter().map(|at| end(&scenario.clone().at(*at, recreates.clone()))).collect();
        Self { deleted, recreated }
    }
}
