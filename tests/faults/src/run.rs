//! One run: the controller, the server, what users do, and one fault, a step at a time.
//!
//! The run decides when each watch shows the next change, when a reconcile begins, when a request is carried out and
//! when the clock moves. Nothing depends on real time or on the order in which tasks happen to be woken.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use kube::Client;
use mainstay_crds::ReplicaGroup;
use mainstay_runtime::reconcile::PACE;
use tokio::{sync::mpsc::UnboundedReceiver, time::Instant};

use crate::{
    defect::Defect,
    fault::{Answer, Fault, Sort, Then, View},
    kind::Kind,
    ledger::Ledger,
    process::Process,
    scenario::{Act, Scenario, When},
    server::{Effect, Server, is_terminating, name},
    wire::{self, Call, Reply},
};

/// A run that has not settled after so many turns never will.
const MAX_TURNS: usize = 500;

/// The loop ends a reconcile after this time.
const PASS_LIMIT: Duration = Duration::from_secs(120);

/// So many reconciles may go by before a late watch shows the next change.
const PATIENCE: usize = 3;

/// The clock goes on by less than this before a kubelet does its part, so that no change runs into its deadline.
const SOON: Duration = Duration::from_secs(60);

/// A run under way.
pub struct Run {
    /// The cluster.
    pub server: Server,
    /// What has been done.
    pub ledger: Ledger,
    /// The requests since something may go wrong.
    pub requests: Vec<Sort>,
    client: Client,
    calls: UnboundedReceiver<Call>,
    process: Process,
    steps: VecDeque<(When, Act)>,
    /// Steps until something may go wrong.
    sheltered: usize,
    /// Passes since the watches last showed anything.
    passes: usize,
    changes: usize,
    refusals: usize,
    fault: Fault,
    view: View,
    defect: Defect,
    turns: usize,
    listing: bool,
    silent: Vec<Call>,
}

impl Run {
    /// Runs the scenario until everything has settled, and once more to see that nothing more is done.
    pub async fn of(scenario: &Scenario, view: View, fault: Fault, defect: Defect) -> Self {
        let (client, calls) = wire::client();
        let process = Process::new(client.clone(), defect);
        let steps = scenario.steps.clone().into();
        let mut server = Server::default();
        server.second_controller = defect == Defect::SecondController;
        let mut run = Self {
            server,
            ledger: Ledger::default(),
            requests: Vec::new(),
            client,
            calls,
            process,
            steps,
            sheltered: scenario.from + 1,
            passes: 0,
            changes: 0,
            refusals: 0,
            fault,
            view,
            defect,
            turns: 0,
            listing: false,
            silent: Vec::new(),
        };
        while run.turn().await {
            run.turns += 1;
            if run.turns > MAX_TURNS {
                let behind = Kind::ALL.map(|kind| run.process.behind(&run.server, kind));
                run.ledger.broken.push(format!("endless: {MAX_TURNS} turns, watches {behind:?} behind"));
                return run;
            }
        }
        let going = run
            .server
            .all(Kind::Group)
            .chain(run.server.all(Kind::Pod))
            .filter(|object| is_terminating(object));
        let going: Vec<_> =
            going.map(|object| format!("endless: the deletion of {}", name(object))).collect();
        run.ledger.broken.extend(going);
        run.expect_silence("the same process").await;
        run.process = run.successor(0);
        run.expect_silence("a new process").await;
        run
    }

    /// Whatever happens next. Returns `false` when nothing does.
    async fn turn(&mut self) -> bool {
        self.deliver();
        tokio::time::advance(PACE).await;
        let may_pass = self.passes < PATIENCE || !self.is_behind();
        if may_pass && let Some(group) = self.process.next_group() {
            self.pass(&group).await;
            return true;
        }
        let due = self.process.next_due();
        let soon = |due: &Instant| due.saturating_duration_since(Instant::now()) < SOON;
        if let Some(due) = due.filter(|due| self.passes < PATIENCE && self.is_behind() && soon(due)) {
            // The clock reaches the controller before the next change does.
            tokio::time::advance(due - Instant::now()).await;
            return true;
        }
        if self.show_more() || self.server.kubelet() || self.server.collect_garbage() {
            return true;
        }
        if let Some(due) = due {
            tokio::time::advance(due.saturating_duration_since(Instant::now())).await;
            return true;
        }
        self.take_step()
    }

    fn is_behind(&self) -> bool {
        let behind = |kind: &Kind| self.process.behind(&self.server, *kind) > 0;
        self.listing || Kind::ALL.iter().any(behind)
    }

    /// Shows the controller the next change, whatever the view. Returns `false` when there is none.
    fn show_more(&mut self) -> bool {
        self.passes = 0;
        if self.listing {
            self.finish_lists();
            return true;
        }
        self.process.take_any(&self.server).is_some()
    }

    fn take_step(&mut self) -> bool {
        let Some((_, act)) = self.steps.pop_front() else { return false };
        let quota = self.server.quota;
        self.sheltered = self.sheltered.saturating_sub(1);
        self.ledger.story.push("a user acts".into());
        act(&mut self.server);
        if self.server.quota != quota {
            self.process.release();
        }
        if self.server.budget.is_some() {
            self.process.show_budget();
        }
        true
    }

    /// Shows the controller as much as the view lets it see.
    fn deliver(&mut self) {
        let kinds = Kind::ALL;
        let behind = kinds.map(|kind| self.process.behind(&self.server, kind));
        let view = if self.sheltered > 0 { View::Prompt } else { self.view };
        match view {
            View::Live | View::Prompt => while self.process.take_any(&self.server).is_some() {},
            View::OneByOne => {
                self.process.take_any(&self.server);
            }
            View::Late(late, by) => {
                for (kind, behind) in kinds.into_iter().zip(behind) {
                    let allowed = if kind == late { by } else { 0 };
                    for _ in 0..behind.saturating_sub(allowed) {
                        self.process.take_next(&self.server, kind);
                    }
                }
            }
            View::Twice => {
                while let Some(change) = self.process.take_any(&self.server) {
                    self.process.take(&self.server.history[change]);
                }
            }
            View::Relists if self.turns.is_multiple_of(2) => {
                self.process.take_any(&self.server);
            }
            View::Relists => {
                if behind.iter().any(|behind| *behind > 0) {
                    self.begin_lists();
                    self.finish_lists();
                }
            }
            View::SlowLists => match self.turns % 4 {
                0 if behind.iter().any(|behind| *behind > 0) => self.begin_lists(),
                3 if self.listing => self.finish_lists(),
                _ => {}
            },
        }
    }

    fn begin_lists(&mut self) {
        self.listing = true;
        Kind::ALL.iter().for_each(|&kind| self.process.begin_list(&self.server, kind));
    }

    fn finish_lists(&mut self) {
        self.listing = false;
        Kind::ALL.iter().for_each(|&kind| self.process.end_list(kind));
    }

    /// One reconcile over the group, up to its end or a crash.
    async fn pass(&mut self, name: &str) {
        let Some(group) = self.process.group(name) else { return };
        if self.defect == Defect::NoGate {
            self.process.forget_writes(name);
        }
        self.passes += 1;
        self.ledger.begin(&group);
        let turn = self.process.turn(name);
        let mut pass = Box::pin(self.process.reconcile(Arc::clone(&group), turn));
        let limit = Instant::now() + PASS_LIMIT;
        let ended = loop {
            tokio::select! {
                biased;
                Some(call) = self.calls.recv() => {
                    if let Some(then) = self.serve(&group, call) {
                        break Err(then);
                    }
                }
                ended = &mut pass => break Ok(ended),
                () = tokio::time::sleep_until(limit) => break Err(Then::SameProcess),
            }
        };
        drop(pass);
        self.silent.clear();
        match ended {
            Ok(ended) => {
                self.ledger.story.push(format!("  ended: {ended:?}"));
                self.process.conclude(name, Some(ended));
            }
            Err(Then::SameProcess) => self.process.conclude(name, None),
            Err(Then::Restart) => self.replace(0),
            Err(Then::Takeover(behind)) => self.replace(behind),
        }
    }

    fn replace(&mut self, behind: usize) {
        self.listing = false;
        self.ledger.budget_refused = None;
        self.process = self.successor(behind);
    }

    /// A process that has just begun to lead: with fresh lists, or with watches so many changes behind.
    fn successor(&self, behind: usize) -> Process {
        let mut process = Process::new(self.client.clone(), self.defect);
        if self.server.budget.is_some() {
            process.show_budget();
        }
        if behind == 0 {
            for kind in Kind::ALL {
                process.begin_list(&self.server, kind);
                process.end_list(kind);
            }
        }
        for _ in 0..self.server.history.len().saturating_sub(behind) {
            process.take_any(&self.server);
        }
        process
    }

    /// Decides what becomes of a request.
    fn serve(&mut self, planned: &ReplicaGroup, call: Call) -> Option<Then> {
        if self.sheltered > 0 {
            let reply = self.carry_out(planned, &call, true, None);
            self.answer(call, reply);
            return None;
        }
        let request = self.requests.len();
        let write = self.requests.iter().filter(|sort| **sort != Sort::Read).count();
        self.requests.push(sort(&call));
        match self.fault {
            Fault::Answer { at, applied, answer } if at == request => {
                if answer == Answer::Code(409) && call.request.is_write() && call.request.name.is_some() {
                    self.contend(&call);
                }
                let code = if let Answer::Code(code) = answer { Some(code) } else { None };
                self.carry_out(planned, &call, applied, code);
                match answer {
                    Answer::Code(code) => {
                        call.answer(Reply::failure(code, "Injected", "injected by the test"))
                    }
                    Answer::Lost => drop(call),
                    Answer::Silence => self.silent.push(call),
                }
            }
            Fault::Crash { at, applied, then } if call.request.is_write() && at == write => {
                self.ledger.story.push(format!("  crash: {then:?}"));
                self.carry_out(planned, &call, applied, None);
                while let Ok(sent) = self.calls.try_recv() {
                    self.requests.push(sort(&sent));
                    self.carry_out(planned, &sent, applied, None);
                }
                return Some(then);
            }
            _ => {
                let reply = self.carry_out(planned, &call, true, None);
                self.answer(call, reply);
            }
        }
        if self.view == View::Live {
            self.deliver();
        }
        None
    }

    /// Gives the server's own answer. Only a refusal that has reached the process can hold it back.
    fn answer(&mut self, call: Call, reply: Reply) {
        if call.request.evicts && reply.code == 429 {
            self.ledger.note_refusal();
        }
        call.answer(reply);
    }

    /// A conflict means that somebody else was writing the object at the same time.
    fn contend(&mut self, call: &Call) {
        let name = call.request.name.clone().unwrap_or_default();
        self.server.edit(call.request.kind, &name, |object| {
            object["metadata"]["annotations"]["touched"] = "by another".into();
        });
    }

    fn carry_out(&mut self, planned: &ReplicaGroup, call: &Call, applied: bool, told: Option<u16>) -> Reply {
        let to_pods = call.request.is_write() && call.request.kind == Kind::Pod;
        if to_pods && applied {
            self.step_if(|run, when| matches!(when, When::Before(n) if n <= run.changes + 1));
        }
        let (reply, effect) = if applied {
            match self.process.answer(&call.request, &self.server) {
                Some(reply) => (reply, Effect::None),
                None => self.server.handle(&call.request),
            }
        } else {
            (Reply::failure(500, "Injected", "not carried out"), Effect::None)
        };
        self.changes += usize::from(to_pods && !matches!(effect, Effect::None));
        self.refusals += usize::from(to_pods && matches!(reply.code, 403 | 422 | 429));
        let seen = self.process.group(planned.metadata.name.as_deref().unwrap_or_default());
        let seen = seen.filter(|seen| seen.metadata.uid == planned.metadata.uid);
        let code = told.or(applied.then_some(reply.code));
        self.ledger.note(planned, seen.as_deref(), &call.request, code, &effect, &self.server);
        self.step_if(|run, when| matches!(when, When::Refused(n) if n <= run.refusals));
        reply
    }

    fn step_if(&mut self, is_time: impl Fn(&Self, When) -> bool) {
        if self.steps.front().is_some_and(|(when, _)| is_time(self, *when)) {
            self.take_step();
        }
    }

    /// A reconcile over settled groups must make no request at all.
    async fn expect_silence(&mut self, who: &str) {
        let before = self.requests.len();
        while let Some(group) = self.process.next_group() {
            self.pass(&group).await;
        }
        let groups: Vec<_> = self.server.all(Kind::Group).map(|group| name(group).to_owned()).collect();
        for group in groups {
            tokio::time::advance(PACE).await;
            self.pass(&group).await;
        }
        let made = self.requests.len() - before;
        if made > 0 {
            self.ledger.broken.push(format!("restless: {who} made {made} requests over settled groups"));
        }
    }
}

fn sort(call: &Call) -> Sort {
    match (call.request.is_write(), call.request.status) {
        (false, _) => Sort::Read,
        (true, false) => Sort::Pod,
        (true, true) => Sort::Status,
    }
}
