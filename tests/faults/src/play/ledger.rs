//! What happens in a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    fault::{Fault, Slow},
    oracle::{Oracle, Written},
    scenario::{Defect, Scenario},
    sent::{Sent, sort},
};
use crate::model::{request::Request, server::Server, service::Served};

/// What happens in a run.
pub(super) struct Ledger {
    pub(super) fault: Fault,
    background: fn(&Request) -> bool,
    began: Instant,
    /// The requests that count.
    pub(super) requests: Vec<Sent>,
    /// How many of them are not of the background.
    pub(super) busy: usize,
    /// When the last of these came.
    pub(super) last: Instant,
    /// Promises broken, in words.
    pub(super) broken: Vec<String>,
    /// Everything that happened, for people.
    pub(super) story: Vec<String>,
    oracles: Vec<Box<dyn Oracle>>,
    /// Which kinds of writes are refused for good.
    pub(super) refused: Option<String>,
    /// Whether two processes may take themselves for the leader.
    pub(super) contested: bool,
    /// The UID of what was deleted and recreated.
    pub(super) recreated: Option<String>,
    /// Whether that is what the scenario is about.
    pub(super) begins_anew: bool,
    /// What is deleted where the fault says so.
    pub(super) subject: Option<&'static str>,
    /// What its processes do wrong.
    pub(super) defect: Option<Defect>,
    /// Which kinds are watched, by plural name.
    pub(super) watched: BTreeSet<&'static str>,
    /// How watches of a kind lag, and until when.
    pub(super) lags: BTreeMap<String, (Slow, Instant)>,
}

impl Ledger {
    pub(super) fn new(scenario: &Scenario, fault: Fault) -> Self {
        Self {
            fault,
            background: scenario.background,
            began: Instant::now(),
            requests: Vec::new(),
            busy: 0,
            last: Instant::now(),
            broken: Vec::new(),
            story: Vec::new(),
            oracles: (scenario.oracles)(),
            refused: None,
            contested: false,
            recreated: None,
            begins_anew: false,
            subject: scenario.subject,
            defect: scenario.defect,
            watched: BTreeSet::new(),
            lags: BTreeMap::new(),
        }
    }

    /// The number of a request, if it counts.
    pub(super) fn count(&mut self, request: &Request) -> Option<usize> {
        let is_leadership = request.is_of("leases") && request.namespace == "ns";
        let is_about_server = request.kind().is_none() && request.method == Method::GET;
        if is_leadership || is_about_server || request.is_of("events") {
            return None;
        }
        if !(self.background)(request) {
            self.last = Instant::now();
            self.busy += 1;
        }
        self.requests.push(Sent { words: format!("{request:?}"), sort: sort(request) });
        Some(self.requests.len() - 1)
    }

    /// Whether a request names what the scenario is about.
    pub(super) fn is_about(&self, request: &Request) -> bool {
        let named = |subject| Request::new(Method::GET, subject, Value::Null);
        self.subject.map(named).is_some_and(|subject| {
            (&subject.target, &subject.namespace, &*subject.name)
                == (&request.target, &request.namespace, request.object())
        })
    }

    pub(super) fn tell(&mut self, words: &str) {
        let at = self.began.elapsed().as_secs_f64();
        self.story.push(format!("{at:9.3} {words}"));
    }

    /// Something was done: the run is not quiet.
    pub(super) fn disturbed(&mut self) {
        self.last = Instant::now();
    }

    pub(super) fn served(&mut self, process: usize, server: &Server, served: &Served<'_>) {
        let Served { request, before, reply } = served;
        if !request.is_write() || !reply.is_success() {
            return;
        }
        let written = Written {
            process,
            request,
            before: before.as_ref(),
            contested: self.contested,
            refused: self.refused.as_deref(),
            store: &server.store,
        };
        let broken: Vec<_> = self.oracles.iter_mut().filter_map(|oracle| oracle.wrote(&written)).collect();
        for words in broken {
            self.tell(&format!("BROKEN: {words}"));
            self.broken.push(words);
        }
    }

    pub(super) fn ended(&mut self, server: &Server) {
        let broken = self.oracles.iter_mut().filter_map(|oracle| oracle.ended(&server.store));
        let broken: Vec<_> = broken.collect();
        self.broken.extend(broken);
    }
}

/// A ledger that the processes of a run share.
pub(super) type Shared = Arc<parking_lot::Mutex<Ledger>>;
