//! Between a process and the server: counts requests, and does to one of them what the fault says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use super::{
    fault::{Blow, Fault},
    ledger::Shared,
};
use crate::model::{
    kinds::Kind,
    object::map,
    request::{Reply, Request},
    server::Server,
    service::{Fate, Gate, Served},
    store::key,
};

/// What the player has to do.
#[derive(Debug)]
pub(super) enum Call {
    /// This process has ended, and a new one starts.
    Restart(usize),
    /// A second one starts.
    Rival,
}

/// The gate of one process.
pub(super) struct Door {
    pub(super) process: usize,
    pub(super) ledger: Shared,
    pub(super) alive: AtomicBool,
    pub(super) calls: UnboundedSender<Call>,
}

impl Door {
    fn end(&self) {
        self.alive.store(false, Ordering::Release);
        let _ = self.calls.send(Call::Restart(self.process));
    }

    fn blow(&self, server: &mut Server, request: &Request, blow: Blow) -> Fate {
        match blow {
            Blow::CrashBefore => {
                self.end();
                Fate::Hung(false)
            }
            Blow::CrashAfter => {
                self.end();
                Fate::Hung(true)
            }
            Blow::AnswerLost => Fate::Lost(true),
            Blow::RequestLost => Fate::Lost(false),
            Blow::Code(code) => Fate::Answered(false, failure(code)),
            Blow::DoneBut(code) => Fate::Answered(true, failure(code)),
            Blow::Hung(done) => Fate::Hung(done),
            Blow::Recreated => {
                recreate(server, request);
                Fate::Served
            }
            Blow::Rival => {
                let leases = Kind::named("leases");
                let lease = server.store.all(leases).find(|lease| lease["metadata"]["namespace"] == "ns");
                if let Some(lease) = lease.map(|lease| key(lease)) {
                    server.store.delete(leases, &lease, None);
                }
                let _ = self.calls.send(Call::Rival);
                Fate::Served
            }
        }
    }
}

impl Gate for Door {
    fn fate(&self, server: &mut Server, request: &Request) -> Fate {
        let mut ledger = self.ledger.lock();
        let Some(number) = ledger.count(request) else { return Fate::Served };
        let like = || (request.method.clone(), request.kind(), request.subresource.clone());
        let fate = match ledger.fault.clone() {
            Fault::At(at, blow) if at == number => {
                ledger.tell(&format!("{blow:?}:"));
                self.blow(server, request, blow)
            }
            Fault::Refused(at) if at == number && request.is_write() => {
                ledger.refused = Some(like());
                Fate::Answered(false, failure(403))
            }
            Fault::Refused(_) if ledger.refused.as_ref().is_some_and(|refused| *refused == like()) => {
                Fate::Answered(false, failure(403))
            }
            Fault::Watch(at, plural, slow, seconds) if at == number => {
                let until = Instant::now() + Duration::from_secs(seconds);
                ledger.lags.insert(plural, (slow, until));
                Fate::Served
            }
            _ => Fate::Served,
        };
        ledger.tell(&format!("{number:4} [{}] {request:?}{}", self.process, words(&fate)));
        fate
    }

    fn served(&self, server: &Server, served: &Served<'_>) {
        let mut ledger = self.ledger.lock();
        if !served.reply.is_success() {
            let code = served.reply.code.as_u16();
            ledger.tell(&format!("     {code} to {:?}", served.request));
        }
        ledger.served(self.process, server, served);
    }

    fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }
}

fn words(fate: &Fate) -> String {
    match fate {
        Fate::Served => String::new(),
        Fate::Answered(done, reply) => format!(" answered {} (done: {done})", reply.code.as_u16()),
        Fate::Lost(done) => format!(" lost (done: {done})"),
        Fate::Hung(done) => format!(" hung (done: {done})"),
    }
}

fn failure(code: u16) -> Reply {
    let reason = match code {
        403 => "Forbidden",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        504 => "Timeout",
        _ => "InternalError",
    };
    let details = if code == 429 { json!({"retryAfterSeconds": 7}) } else { json!({}) };
    Reply::detailed(code, reason, "a fault of this run", details)
}

/// Deletes the object that a request names, and recreates it as a user would.
fn recreate(server: &mut Server, request: &Request) {
    let Some(kind) = request.kind() else { return };
    let Some(old) = server.store.find(kind, &request.namespace, &request.name).cloned() else { return };
    let mut new = Value::clone(&old);
    let metadata = map(&mut new, "metadata");
    for of_server in
        ["uid", "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "finalizers"]
    {
        metadata.remove(of_server);
    }
    server.store.edit(kind, &key(&old), |object| object["metadata"]["finalizers"] = json!([]));
    server.store.delete(kind, &key(&old), Some(0));
    if server.store.get(kind, &key(&old)).is_none() {
        server.store.create(kind, new);
    }
}

/// The gate as the model takes it.
pub(super) fn gate(door: &Arc<Door>) -> Arc<dyn Gate> {
    Arc::clone(door) as Arc<dyn Gate>
}
