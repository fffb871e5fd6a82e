//! Between a process and the server: counts requests, and does to one of them what the fault says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Method;
use serde_json::{Value, json};
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use super::{
    fault::{Blow, Fault},
    ledger::{Ledger, Shared},
    scenario::user,
    sent::sort,
};
use crate::model::{
    kinds::Kind,
    object::{map, uid},
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
    /// A second one starts, and this process is told to end.
    Handover(usize),
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

    fn blow(&self, server: &mut Server, request: &Request, blow: Blow, ledger: &mut Ledger) -> Fate {
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
                ledger.recreated = recreate(server, request);
                ledger.begins_anew = ledger.is_about(request);
                Fate::Served
            }
            Blow::Rival => {
                let leases = Kind::named("leases");
                let lease = server.store.all(leases).find(|lease| lease["metadata"]["namespace"] == "ns");
                if let Some(lease) = lease.map(|lease| key(lease)) {
                    server.store.delete(leases, &lease, None);
                }
                let _ = self.calls.send(Call::Rival);
                ledger.contested = true;
                Fate::Served
            }
            Blow::Handover => {
                let _ = self.calls.send(Call::Handover(self.process));
                Fate::Served
            }
        }
    }
}

impl Gate for Door {
    fn fate(&self, server: &mut Server, request: &mut Request) -> Fate {
        let mut ledger = self.ledger.lock();
        let Some(number) = ledger.count(request) else { return Fate::Served };
        if let Some(defect) = ledger.defect {
            defect(server, request);
        }
        let fate = match ledger.fault.clone() {
            Fault::At(at, blow) if at == number => {
                ledger.tell(&format!("{blow:?}:"));
                self.blow(server, request, blow, &mut ledger)
            }
            Fault::Refused(at) if at == number => {
                ledger.refused = sort(request);
                Fate::Answered(false, failure(403))
            }
            Fault::Refused(_) if ledger.refused.is_some() && ledger.refused == sort(request) => {
                Fate::Answered(false, failure(403))
            }
            Fault::Deleted(at) if at == number => {
                ledger.tell("a user deletes what this is about");
                ledger.subject.iter().for_each(|subject| user(server, Method::DELETE, subject, Value::Null));
                Fate::Served
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

/// Deletes the object that a request names, and recreates it as a user would. Returns the UID that it has then.
pub(super) fn recreate(server: &mut Server, request: &Request) -> Option<String> {
    let kind = request.kind()?;
    let old = server.store.find(kind, &request.namespace, request.object()).cloned()?;
    // With a namespace goes all that is in it, which takes its time.
    if request.is_of("namespaces") {
        return None;
    }
    let mut new = Value::clone(&old);
    let metadata = map(&mut new, "metadata");
    for of_server in [
        "uid",
        "resourceVersion",
        "managedFields",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "finalizers",
    ] {
        metadata.remove(of_server);
    }
    // A node's kubelet writes its status again; for all else that begins anew.
    if kind.row().status && !request.is_of("nodes") {
        map(&mut new, "spec").remove("nodeName");
        new.as_object_mut().map(|object| object.remove("status"));
    }
    server.store.edit(kind, &key(&old), |object| object["metadata"]["finalizers"] = json!([]));
    server.store.delete(kind, &key(&old), Some(0));
    let is_gone = server.store.get(kind, &key(&old)).is_none();
    is_gone.then(|| uid(&server.given(new)).to_owned())
}

/// The gate as the model takes it.
pub(super) fn gate(door: &Arc<Door>) -> Arc<dyn Gate> {
    Arc::clone(door) as Arc<dyn Gate>
}
