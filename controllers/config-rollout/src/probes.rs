//! The probes of gates, beside the loop: a Service that does not answer holds up no reconcile.
//!
//! Each target that is judged has one request in progress at most, and `maxTargetsRolling` limits how many are judged.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kube::{Api, Client};
use mainstay_crds::{ConfigProbe, seconds};
use mainstay_probe::{Check, Http, Kind};
use mainstay_runtime::{index::ObjectKey, reconcile::Work, request::in_time};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::plan::TargetKey;

/// How often a Service is asked.
const PACE: Duration = Duration::from_secs(1);

/// A target of a rollout.
type Key = (ObjectKey, TargetKey);

/// What the probes of all rollouts say.
#[derive(Debug, Clone, Default)]
pub struct Probes(Arc<Mutex<HashMap<Key, Probed>>>);

/// What the probe of one target says of one change.
#[derive(Debug)]
struct Probed {
    change: Option<Timestamp>,
    /// When the request was sent that is in progress, or was last.
    sent: Instant,
    is_asked: bool,
    last: Option<Result<(), String>>,
    /// How many requests in a row have failed.
    failures: u32,
}

impl Probed {
    fn of(change: Option<Timestamp>) -> Self {
        Self { change, sent: Instant::now(), is_asked: false, last: None, failures: 0 }
    }

    /// What is known; nothing while fewer requests have failed than are needed.
    fn said(&self, threshold: u32) -> Option<Result<(), String>> {
        self.last.clone().filter(|last| last.is_ok() || self.failures >= threshold)
    }

    /// Whether another request is due.
    fn is_due(&self) -> bool {
        !self.is_asked && (self.last.is_none() || self.sent.elapsed() >= PACE)
    }

    /// Notes an answer. Returns whether it says something else than the one before.
    fn note(&mut self, answer: Result<(), String>) -> bool {
        self.is_asked = false;
        self.failures = if answer.is_ok() { 0 } else { self.failures.saturating_add(1) };
        let is_news = self.last.as_ref().map(Result::is_ok) != Some(answer.is_ok());
        self.last = Some(answer);
        is_news
    }
}

impl Probes {
    /// What the Service said since the target's change, if that is known; asks it again when that is due. An answer that
    /// is news triggers a reconcile.
    pub(crate) fn ask(
        &self,
        client: &Client,
        work: &Arc<Work>,
        key: Key,
        change: Option<Timestamp>,
        probe: &ConfigProbe,
    ) -> Option<Result<(), String>> {
        let mut table = self.0.lock();
        let probed = table.entry(key.clone()).or_insert_with(|| Probed::of(change));
        if probed.change != change {
            *probed = Probed::of(change);
        }
        let said = probed.said(probe.failure_threshold.unsigned_abs());
        if probed.is_due() {
            (probed.is_asked, probed.sent) = (true, Instant::now());
            let (probes, client, work, probe) =
                (self.clone(), client.clone(), Arc::clone(work), probe.clone());
            tokio::spawn(async move {
                let answer = send(&client, &key.0.namespace, &probe).await;
                if probes.note(&key, change, answer) {
                    work.trigger(&key.0);
                }
            });
        }
        said
    }

    /// Notes an answer, if it is about the change that is judged still. Returns whether it is news.
    fn note(&self, key: &Key, change: Option<Timestamp>, answer: Result<(), String>) -> bool {
        let mut table = self.0.lock();
        table.get_mut(key).filter(|probed| probed.change == change).is_some_and(|probed| probed.note(answer))
    }

    /// Forgets what the targets of a rollout have said, but for these.
    pub(crate) fn keep(&self, rollout: &ObjectKey, targets: &BTreeSet<&TargetKey>) {
        self.0.lock().retain(|(of, target), _| of != rollout || targets.contains(target));
    }
}

/// Calls a Service of the namespace. Only Services are called, by their cluster address, so that a user cannot make
/// the controller reach what the namespace's own pods could not.
async fn send(client: &Client, namespace: &str, probe: &ConfigProbe) -> Result<(), String> {
    let ConfigProbe { service: name, port, path, timeout_seconds, failure_threshold: _ } = probe;
    let services = Api::<v1::Service>::namespaced(client.clone(), namespace);
    let service = in_time(services.get_opt(name)).await.map_err(|error| error.to_string())?;
    let service = service.ok_or_else(|| format!("there is no Service {name}"))?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).and_then(|address| address.parse().ok());
    let address = address.ok_or_else(|| format!("Service {name} has no cluster address"))?;
    let http = Http {
        path: path.clone(),
        host: Some(format!("{name}.{namespace}:{port}")),
        expected: vec![200..=399],
        tls: None,
    };
    let timeout = seconds(*timeout_seconds);
    let outcome = Check { kind: Kind::Http(http), timeout }.run(SocketAddr::new(address, *port)).await;
    outcome.result.map_err(|failure| format!("Service {name}: {failure}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_believed_when_as_many_in_a_row_as_the_spec_says_have_failed() {
        let mut probed = Probed::of(None);
        assert!(probed.is_due() && probed.said(2).is_none(), "no answer is known");
        assert!(probed.note(Ok(())), "the first answer is news");
        assert_eq!(probed.said(2), Some(Ok(())));
        assert!(!probed.is_due(), "a second has not passed");
        assert!(probed.note(Err("503".to_owned())));
        assert_eq!(probed.said(2), None, "one failure says nothing");
        assert_eq!(probed.said(1), Some(Err("503".to_owned())));
        probed.note(Err("503".to_owned()));
        assert_eq!(probed.said(2), Some(Err("503".to_owned())));
        probed.note(Ok(()));
        probed.note(Err("503".to_owned()));
        assert_eq!(probed.said(2), None, "they are counted from the last success");
    }
}
