//! One run of a scenario with one fault, from the start of the controller until the cluster is quiet.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use mainstay_endpoints::network::Network;
use mainstay_probe::{Answer, Failure, Outcome, ResolveError};
use parking_lot::Mutex;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{AbortHandle, LocalSet, spawn_local},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    fault::Fault,
    gate::{Call, Door, gate},
    ledger::{Ledger, Shared},
    outcome::outcome,
    scenario::{Act, Scenario},
    sent::Sent,
};
use crate::{
    model::{
        server::Server,
        service,
        watch::{Lag, Lags},
    },
    world::{self, Cluster},
};

/// A cluster in which no request was made for this long is quiet.
const QUIET: Duration = Duration::from_secs(180);
/// A run in which a write is refused for good ends this long after the last step: it is tried again and again.
const REFUSED: Duration = Duration::from_secs(1800);
/// A cluster that is not quiet after this time will never be.
const LONGEST: Duration = Duration::from_secs(7200);
/// A cluster in which so many requests were made will never be quiet either.
const MOST: usize = 3000;
/// One whose controller has a defect is given up sooner: only that it is seen counts.
const MOST_WITH_DEFECT: usize = 300;
/// A process that has ended is started again after this time.
const RESTART: Duration = Duration::from_secs(2);
/// How long a check takes.
const CHECK: Duration = Duration::from_millis(5);
/// How long an answer of the DNS holds.
const HOLDS: Duration = Duration::from_secs(30);
/// The seed of every run, so that only the fault makes a difference.
const SEED: u64 = 1;

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    /// The requests that count.
    pub requests: Vec<Sent>,
    /// How many of them are not of the background.
    pub busy: usize,
    /// Which kinds were watched, by plural name.
    pub watched: BTreeSet<&'static str>,
    /// What the cluster looks like in the end.
    pub outcome: Vec<String>,
    /// Of these objects the one that was deleted and recreated, as by a user.
    pub recreated: Option<String>,
    /// Whether that was what the scenario is about.
    pub begins_anew: bool,
    /// Promises broken, in words.
    pub broken: Vec<String>,
    /// Everything that happened, for people.
    pub story: Vec<String>,
}

impl Run {
    /// Plays a scenario, on a thread of its own.
    pub fn of(scenario: &Scenario, fault: &Fault) -> Self {
        mainstay_still::run(SEED, async || {
            let tasks = LocalSet::new();
            tasks.run_until(Player::new(scenario, fault.clone()).play()).await
        })
    }
}

struct Process {
    task: AbortHandle,
    /// Tells it to end.
    shutdown: CancellationToken,
}

struct Player<'a> {
    scenario: &'a Scenario,
    server: Arc<Mutex<Server>>,
    cluster: Arc<Mutex<Cluster>>,
    ledger: Shared,
    calls: (UnboundedSender<Call>, UnboundedReceiver<Call>),
    processes: Vec<Process>,
}

impl<'a> Player<'a> {
    fn new(scenario: &'a Scenario, fault: Fault) -> Self {
        let mut server = Server::new();
        if let Fault::Behind(versions) = fault {
            server.behind = versions;
        }
        scenario.given.iter().for_each(|object| drop(server.given(object.clone())));
        Self {
            scenario,
            server: Arc::new(Mutex::new(server)),
            cluster: Arc::default(),
            ledger: Arc::new(Mutex::new(Ledger::new(scenario, fault))),
            calls: unbounded_channel(),
            processes: Vec::new(),
        }
    }

    async fn play(mut self) -> Run {
        let live = tokio::spawn(world::live(Arc::clone(&self.server), Arc::clone(&self.cluster)));
        // What is given has settled before the controller starts.
        sleep(Duration::from_secs(20)).await;
        self.start();
        let began = Instant::now();
        let mut steps = self.scenario.steps.clone();
        steps.sort_by_key(|(after, _)| *after);
        let mut steps = steps.into_iter().peekable();
        loop {
            let next = steps.peek().map_or_else(|| self.ends(began), |(after, _)| began + *after);
            tokio::select! {
                biased;
                Some(call) = self.calls.1.recv() => self.answer(call).await,
                () = sleep_until(next) => match steps.next() {
                    Some((_, act)) => self.act(&act),
                    None if self.ends(began) <= Instant::now() => break,
                    None => {}
                },
            }
            let most = if self.scenario.defect.is_some() { MOST_WITH_DEFECT } else { MOST };
            let mut ledger = self.ledger.lock();
            if began.elapsed() > LONGEST || ledger.busy > most {
                let (busy, after) = (ledger.busy, began.elapsed().as_secs());
                ledger.broken.push(format!("quiet: after {after} s and {busy} requests more are made"));
                break;
            }
        }
        live.abort();
        self.end()
    }

    /// When the run ends, if nothing is done until then.
    fn ends(&self, began: Instant) -> Instant {
        let ledger = self.ledger.lock();
        if matches!(ledger.fault, Fault::Refused(_)) {
            let last = self.scenario.steps.iter().map(|(after, _)| *after).max().unwrap_or_default();
            return began + last + REFUSED;
        }
        let lags = ledger.lags.values().map(|(_, until)| *until);
        lags.fold(ledger.last.max(began), Instant::max) + QUIET
    }

    fn act(&self, act: &Act) {
        let mut ledger = self.ledger.lock();
        ledger.tell("a step of the scenario");
        ledger.disturbed();
        act(&mut self.server.lock(), &mut self.cluster.lock());
    }

    fn end(self) -> Run {
        let server = self.server.lock();
        let mut ledger = self.ledger.lock();
        ledger.ended(&server);
        let (outcome, recreated) = outcome(&server.store, self.scenario.scrub, ledger.recreated.as_deref());
        Run {
            requests: std::mem::take(&mut ledger.requests),
            busy: ledger.busy,
            watched: std::mem::take(&mut ledger.watched),
            outcome,
            recreated,
            begins_anew: ledger.begins_anew,
            broken: std::mem::take(&mut ledger.broken),
            story: std::mem::take(&mut ledger.story),
        }
    }

    async fn answer(&mut self, call: Call) {
        self.ledger.lock().disturbed();
        match call {
            Call::Rival => self.start(),
            Call::Handover(process) => {
                self.start();
                self.processes[process].shutdown.cancel();
            }
            Call::Restart(process) => {
                let process = &self.processes[process];
                process.task.abort();
                // One that was told to end has its successor.
                if !process.shutdown.is_cancelled() {
                    sleep(RESTART).await;
                    self.start();
                }
            }
        }
    }

    /// Starts a process of the controller.
    fn start(&mut self) {
        let process = self.processes.len();
        let door = Arc::new(Door {
            process,
            ledger: Arc::clone(&self.ledger),
            alive: AtomicBool::new(true),
            calls: self.calls.0.clone(),
        });
        let client = service::connect(&self.server, &gate(&door), &self.lags());
        let (controller, flags) = (self.scenario.controller, self.scenario.flags.clone());
        let (network, calls, ledger) = (self.network(), self.calls.0.clone(), Arc::clone(&self.ledger));
        let shutdown = CancellationToken::new();
        let told = shutdown.clone();
        ledger.lock().tell(&format!("process {process} starts"));
        let run = async move {
            let ended = controller.run(&flags, client, network, told).await;
            {
                let mut ledger = ledger.lock();
                ledger.tell(&format!("process {process} ended: {ended:?}"));
                ledger.contested = false;
            }
            door.alive.store(false, Ordering::Release);
            let _ = calls.send(Call::Restart(process));
        };
        self.processes.push(Process { task: spawn_local(run).abort_handle(), shutdown });
    }

    fn lags(&self) -> Lags {
        let ledger = Arc::clone(&self.ledger);
        Arc::new(move |kind| {
            let mut ledger = ledger.lock();
            ledger.watched.insert(kind.row().plural);
            let lag = ledger.lags.get(kind.row().plural).filter(|(_, until)| *until > Instant::now());
            lag.map_or(Lag::None, |(slow, _)| slow.lag())
        })
    }

    fn network(&self) -> Network {
        let (checked, asked) = (Arc::clone(&self.cluster), Arc::clone(&self.cluster));
        Network {
            check: Box::new(move |_, address| {
                let is_dead = checked.lock().dead.contains(&address.ip());
                let result = if is_dead { Err(Failure::Refused) } else { Ok(()) };
                async move {
                    sleep(CHECK).await;
                    Outcome { took: CHECK, result }
                }
                .boxed()
            }),
            look_up: Box::new(move |name| {
                let addresses = asked.lock().dns.get(name.trim_end_matches('.')).cloned();
                let answer = |addresses| Answer { addresses, valid_for: HOLDS, unanswered: None };
                std::future::ready(addresses.map(answer).ok_or(ResolveError::NoSuchName)).boxed()
            }),
        }
    }
}
