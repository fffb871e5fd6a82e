//! What must hold at the moment of every write, checked against the server's own state.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::Method;
use mainstay_crds::ReplicaGroup;
use mainstay_replication::{
    names::{REVISION, SLOT},
    plan::Strategy,
    revision::hash,
    rollout::Settings,
};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    kind::Kind,
    process::MAX_IN_FLIGHT,
    server::{Effect, Server, controller, finalizers, is_terminating, name, selects},
    wire::Request,
};

/// An eviction that a budget refused is tried again after so long, as docs/replicagroup.md says.
const EVICTION_PAUSE: Duration = Duration::from_secs(5);

/// What the controller did in a run, and which promises it broke.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Pods created.
    pub creates: usize,
    /// Pods deleted.
    pub deletes: usize,
    /// Passes begun.
    pub passes: usize,
    /// Requests for pods and reads.
    pub requests: usize,
    /// Requests for the status.
    pub status_writes: usize,
    /// Promises broken, in words.
    pub broken: Vec<String>,
    /// Everything that happened, for people.
    pub story: Vec<String>,
    /// `spec.replicas` at the last live read of a group.
    read: BTreeMap<String, i32>,
    /// Writes of the current reconcile after its group had changed.
    late: u32,
    /// In which reconcile, and when, a budget last refused an eviction to this process.
    pub budget_refused: Option<(usize, Instant)>,
    /// The generations at which the server refused a group's pods.
    refused: BTreeSet<(String, i64)>,
}

/// By how many pods a group may be too large or too small while it has pods of another revision than it should.
fn slack(group: &ReplicaGroup, server: &Server) -> (usize, usize) {
    let own = server.all(Kind::Pod).filter(|pod| controller(pod) == group.metadata.uid.as_deref());
    let mut revisions: BTreeSet<_> =
        own.filter_map(|pod| pod["metadata"]["labels"][REVISION].as_str().map(str::to_owned)).collect();
    revisions.insert(hash(&group.spec.template).to_string());
    match Settings::of(group).strategy {
        Strategy::Rolling { surge, unavailable } if revisions.len() > 1 => (surge, unavailable),
        _ => (0, 0),
    }
}

impl Ledger {
    /// A reconcile begins, planned on the group as it is given.
    pub fn begin(&mut self, planned: &ReplicaGroup) {
        self.late = 0;
        self.passes += 1;
        self.story.push(format!(
            "pass of {} at generation {}",
            planned.metadata.name.as_deref().unwrap_or_default(),
            planned.metadata.generation.unwrap_or_default()
        ));
    }

    /// Takes note of a request of a reconcile that was planned on one state of the group while the stores of the process
    /// now show another, of what it changed and what was answered.
    pub fn note(
        &mut self,
        planned: &ReplicaGroup,
        seen: Option<&ReplicaGroup>,
        request: &Request,
        code: Option<u16>,
        effect: &Effect,
        server: &Server,
    ) {
        let outdated = seen.is_none_or(|seen| seen.metadata.generation != planned.metadata.generation);
        let seen = seen.unwrap_or(planned);
        let group = seen.metadata.name.clone().unwrap_or_default();
        let body_name = request.body["metadata"]["name"].as_str();
        let target = request.name.as_deref().or(body_name).unwrap_or("*");
        let part = if request.status { "/status" } else { "" };
        let changed = if matches!(effect, Effect::None) { "" } else { ", done" };
        let answer = code.map_or("no answer".to_owned(), |code| code.to_string());
        self.story.push(format!(
            "  {group}: {} {:?} {target}{part}: {answer}{changed}",
            request.method, request.kind
        ));
        *(if request.status { &mut self.status_writes } else { &mut self.requests }) += 1;
        if matches!(code, Some(403 | 422)) && !request.status {
            self.refused.insert((group.clone(), seen.metadata.generation.unwrap_or_default()));
        }
        let reads_group = request.method == Method::GET && request.kind == Kind::Group;
        if !reads_group && matches!(effect, Effect::None) {
            return;
        }
        let live = server.group(&group);
        if reads_group {
            self.read.insert(group.clone(), live.as_ref().map_or(0, |live| live.spec.replicas));
        }
        if outdated && matches!(effect, Effect::Created(_) | Effect::Deleted(_)) {
            self.late += 1;
            let late = self.late;
            // Those that were under way could not be called back.
            self.require(late <= MAX_IN_FLIGHT.into(), || {
                format!("outdated: {late} writes of an old plan after the store had shown a new spec")
            });
        }
        match effect {
            Effect::None => {}
            Effect::Created(pod) => {
                self.creates += 1;
                self.check_create(planned, seen, live.as_ref(), pod, server);
            }
            Effect::Deleted(pod) => {
                self.deletes += 1;
                self.check_delete(seen, live.as_ref(), pod, server);
            }
            Effect::Patched { before, after } => self.check_patch(seen, before, after),
            Effect::Claimed(_) => self.check_claims(seen, live.as_ref(), server),
            Effect::Status(after) => self.check_status(seen, live.as_ref(), &after["status"]),
        }
    }

    fn require(&mut self, holds: bool, promise: impl FnOnce() -> String) {
        if !holds {
            let broken = promise();
            self.story.push(format!("  BROKEN: {broken}"));
            self.broken.push(broken);
        }
    }

    /// A budget has refused an eviction, which must not have been tried again at once.
    pub fn note_refusal(&mut self) {
        let (pass, now) = (self.passes, Instant::now());
        if let Some((refused_in, at)) = self.budget_refused.replace((pass, now)) {
            let waited = now - at;
            self.require(refused_in == pass || waited >= EVICTION_PAUSE, || {
                format!("impatient: an eviction was tried again {waited:?} after it was refused")
            });
        }
    }

    fn check_create(
        &mut self,
        planned: &ReplicaGroup,
        seen: &ReplicaGroup,
        live: Option<&ReplicaGroup>,
        pod: &Value,
        server: &Server,
    ) {
        let own = controller(pod) == seen.metadata.uid.as_deref();
        self.require(own, || format!("{} was made for another owner", name(pod)));
        let slot = &pod["metadata"]["labels"][SLOT];
        // A pod that has failed has let go of its claims.
        let holders = server.all(Kind::Pod).filter(|other| other["status"]["phase"] != "Failed");
        let sharing = holders.filter(|other| other["metadata"]["labels"][SLOT] == *slot);
        let sharing = if slot.is_null() { 1 } else { sharing.count() };
        self.require(sharing == 1, || format!("claims: {sharing} pods have those of slot {slot}"));
        let active = server.active(seen).count();
        // An old plan has been found out by the number of its late writes.
        let known = seen.spec.replicas.max(planned.spec.replicas);
        let wanted = live.map_or(0, |live| live.spec.replicas).max(known);
        let wanted = usize::try_from(wanted).unwrap_or_default();
        let (surge, _) = slack(seen, server);
        let most = wanted + surge;
        self.require(active <= most, || format!("double: {active} active pods, at most {most}"));
    }

    /// There are no more claims than pods wanted: each replacement takes over those of the pod that it replaces.
    fn check_claims(&mut self, seen: &ReplicaGroup, live: Option<&ReplicaGroup>, server: &Server) {
        let wanted = live.map_or(0, |live| live.spec.replicas).max(seen.spec.replicas);
        let most = usize::try_from(wanted).unwrap_or_default() + slack(seen, server).0;
        let claims = server.all(Kind::Claim).count();
        self.require(claims <= most, || format!("claims: {claims} of them, at most {most}"));
    }

    fn check_delete(
        &mut self,
        seen: &ReplicaGroup,
        live: Option<&ReplicaGroup>,
        pod: &Value,
        server: &Server,
    ) {
        let own = controller(pod) == seen.metadata.uid.as_deref();
        self.require(own, || format!("foreign: {} was deleted, which is another's", name(pod)));
        let waits = finalizers(pod);
        self.require(waits.is_empty(), || format!("{} was deleted before its hook was done", name(pod)));
        let group = seen.metadata.name.as_deref().unwrap_or_default();
        let confirmed = self.read.get(group).copied();
        self.require(confirmed.is_some(), || format!("{} was deleted without a live read", name(pod)));
        // A group on its way out wants none.
        let live = live.filter(|live| live.metadata.deletion_timestamp.is_none());
        let wanted = live.map_or(0, |live| live.spec.replicas).min(confirmed.unwrap_or_default());
        let wanted = usize::try_from(wanted).unwrap_or_default();
        let active = server.active(seen).count();
        let (_, unavailable) = slack(seen, server);
        let least = wanted.saturating_sub(unavailable);
        self.require(active >= least, || format!("below: {active} active pods, at least {least}"));
    }

    fn check_patch(&mut self, seen: &ReplicaGroup, before: &Value, after: &Value) {
        let uid = seen.metadata.uid.as_deref();
        let (old, new) = (controller(before), controller(after));
        let adopted = old.is_none() && new == uid && selects(seen, before) && !is_terminating(before);
        let released = old == uid && new.is_none() && !selects(seen, before);
        let repeated = old == new && (new == uid || new.is_none());
        self.require(adopted || released || repeated, || {
            format!("foreign: {} went from {old:?} to {new:?}", name(before))
        });
    }

    fn check_status(&mut self, seen: &ReplicaGroup, live: Option<&ReplicaGroup>, status: &Value) {
        let group = seen.metadata.name.clone().unwrap_or_default();
        let claimed = status["observedGeneration"].as_i64();
        let known = seen.metadata.generation.min(live.and_then(|live| live.metadata.generation));
        self.require(claimed <= known, || format!("unseen: status of {claimed:?}, seen {known:?}"));
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let stalled = conditions.into_iter().any(|c| c["type"] == "Stalled" && c["status"] == "True");
        let refused = self.refused.contains(&(group, claimed.unwrap_or_default()));
        self.require(!stalled || refused, || {
            format!("unseen: stalled at generation {claimed:?}, at which nothing was refused")
        });
    }
}
