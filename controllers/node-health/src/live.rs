//! Live reads: no verdict about a node is based on a watch alone.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{Api, Client, Resource, api::ListParams};
use mainstay_crds::{NodeHealthPolicy, NodeHealthPolicyStatus};
use mainstay_probe::{Check, Failure, Http, Kind, Tls};
use mainstay_runtime::{
    clock::{Clock, Moment},
    decode::Decoded,
    failure::RequestError,
    request::{in_time, within},
};

use crate::{
    apply::pods,
    observations::Observations,
    settings::{KubeletCheck, Settings},
    watched::{self, Facts, LEASES, Lease, Node, WatchedLease, WatchedNode},
};

/// How often the API server is asked whether it answers.
const PULSE: Duration = Duration::from_secs(1);
/// A live read that takes longer says nothing: in the meantime the node may have been heard of.
const LIMIT: Duration = Duration::from_secs(2);

/// This many answers in a row without a second opinion end the doubt that an earlier one has raised: a single probe may be lost.
const MISSED: u32 = 3;

/// What a live read has shown of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// When it came. `None`: not yet.
    pub at: Option<Moment>,
    /// The failure that is confirmed, by its beginning.
    pub silence: Option<Moment>,
    /// The failing condition that does, by its beginning.
    pub failing: Option<Moment>,
    /// What says otherwise.
    pub doubt: Option<Arc<str>>,
    /// Who was asked for a second opinion: the kubelet, and pods.
    pub asked: (Option<KubeletCheck>, bool),
    /// How many answers in a row have had no second opinion.
    pub missed: u32,
}

impl Answer {
    /// What it says, `before` considered: a doubt about the same silence stands until several answers in a row have had none.
    pub fn after(mut self, before: &Self, now: Moment) -> Self {
        self.at = Some(now);
        if self.doubt.is_some() {
            return self;
        }
        let is_same = self.silence.is_some() && self.silence == before.silence && self.asked == before.asked;
        self.missed = if is_same { before.missed.saturating_add(1) } else { 1 };
        if self.missed < MISSED && is_same {
            self.doubt.clone_from(&before.doubt);
        }
        self
    }

    /// Whether who was asked may only have missed the question.
    pub fn may_be_lost(&self) -> bool {
        self.asked != (None, false) && self.doubt.is_none() && self.missed < MISSED
    }
}

/// What is asked about a node.
pub struct Question {
    /// The node.
    pub node: Arc<Node>,
    /// Its policy.
    pub settings: Arc<Settings>,
    /// Since when it has not renewed its Lease.
    pub silent_since: Moment,
    /// The condition that fails, its status, and since when.
    pub failing: Option<(Arc<str>, Arc<str>, Moment)>,
    /// The time between two renewals of its Lease.
    pub interval: Duration,
}

impl Question {
    /// Reads from the API server, and asks for the second opinions of the policy.
    ///
    /// # Errors
    /// When the API server does not answer in time.
    pub async fn ask(&self, client: &Client, observations: &Observations) -> Result<Answer, RequestError> {
        let name = self.node.name();
        let lease = tokio::try_join!(self.lease(client), self.still_failing(client));
        let (renewed, still_failing) = lease?;
        let asked = (self.settings.kubelet, self.settings.pods);
        let mut answer = Answer { asked, ..Answer::default() };
        if still_failing {
            answer.failing = self.failing.as_ref().map(|(_, _, since)| *since);
        }
        if let Some((renewed, lasts)) = renewed
            && observations.read(name, renewed, lasts)
        {
            // The watch is behind.
            observations.notify();
            return Ok(answer);
        }
        if renewed.is_none() && observations.posted(name, self.posted(client).await?) {
            observations.notify();
            return Ok(answer);
        }
        answer.silence = Some(self.silent_since);
        answer.doubt = self.second_opinion(client, observations.renewal(name)).await;
        Ok(answer)
    }

    async fn lease(
        &self,
        client: &Client,
    ) -> Result<Option<(Option<Timestamp>, Option<Duration>)>, RequestError> {
        let leases: Api<WatchedLease> = Api::namespaced(client.clone(), LEASES);
        match within(LIMIT, leases.get(self.node.name())).await {
            Ok(lease) => {
                let lease = Lease::from(lease);
                Ok(Some((lease.renewed, lease.duration)))
            }
            Err(RequestError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn still_failing(&self, client: &Client) -> Result<bool, RequestError> {
        let Some((kind, status, _)) = &self.failing else { return Ok(false) };
        let nodes: Api<WatchedNode> = Api::all(client.clone());
        match within(LIMIT, nodes.get(self.node.name())).await {
            Ok(node) => Ok(Facts::from(node).has(kind, status)),
            Err(RequestError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// When the kubelet of a node without a Lease last posted its status.
    async fn posted(&self, client: &Client) -> Result<Option<Timestamp>, RequestError> {
        let nodes: Api<WatchedNode> = Api::all(client.clone());
        match within(LIMIT, nodes.get(self.node.name())).await {
            Ok(node) => Ok(watched::posted(&node)),
            Err(RequestError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What says that a silent node lives. Who cannot be asked says nothing.
    async fn second_opinion(&self, client: &Client, renewal: Option<Timestamp>) -> Option<Arc<str>> {
        if let (Some(check), Some(address)) = (&self.settings.kubelet, self.node.facts.address)
            && answers(check, SocketAddr::new(address, check.port)).await
        {
            return Some(format!("its kubelet answers at {address}:{}", check.port).into());
        }
        // Both times are the node's own: one that should have renewed its Lease, or posted its status, and made a pod ready
        // later lives.
        let lived = renewal.filter(|_| self.settings.pods)?.checked_add(self.interval).ok()?;
        let pods = pods::list(client, self.node.name()).await.ok()?;
        let later = pods.iter().filter_map(pods::ListedPod::ready_since).max()?;
        (later > lived).then(|| format!("one of its pods became ready at {later}").into())
    }
}

/// Whether a kubelet answers. Over HTTPS its certificate, which is often self-signed, need not be trusted by this
/// process: nothing secret is sent to it, and to present a certificate it must be running.
async fn answers(check: &KubeletCheck, target: SocketAddr) -> bool {
    let kind = if check.tls {
        let Ok(tls) = Tls::new(None, None, false) else { return false };
        let (path, expected) = ("/healthz".to_owned(), vec![100..=599]);
        Kind::Http(Http { path, host: None, expected, tls: Some(tls) })
    } else {
        Kind::Tcp
    };
    let outcome = Check { kind, timeout: check.timeout }.run(target).await;
    matches!(outcome.result, Ok(()) | Err(Failure::Tls(_)))
}

/// What is written down of each policy, by its UID. One that cannot be decoded says nothing.
///
/// # Errors
/// When the API server refuses the list, or does not answer in time.
pub async fn policies(client: &Client) -> Result<HashMap<String, NodeHealthPolicyStatus>, RequestError> {
    let policies: Api<Decoded<NodeHealthPolicy>> = Api::all(client.clone());
    let listed = in_time(policies.list(&ListParams::default())).await?;
    let written = listed.items.into_iter().filter_map(|policy| match policy {
        Decoded::Object(policy) => Some((policy.meta().uid.clone()?, policy.status.unwrap_or_default())),
        Decoded::Undecodable(_) => None,
    });
    Ok(written.collect())
}

/// Asks the API server again and again whether it answers, from its store and not from its cache.
pub async fn pulse(client: &Client, clock: &Clock, observations: &Observations, mut was_away: impl FnMut()) {
    let leases: Api<WatchedLease> = Api::namespaced(client.clone(), LEASES);
    let one = ListParams::default().limit(1);
    loop {
        let began = clock.now();
        if within(LIMIT, leases.list(&one)).await.is_ok() && observations.pulse() {
            tracing::warn!("the API server did not answer: the timers of all nodes restart");
            was_away();
        }
        clock.until(Some(began + PULSE)).await;
    }
}

/// Reads all Leases where no renewal has been heard of for longer than any node should be silent: either no node lives,
/// or the watch is deaf, which it does not notice by itself before it has run out.
pub async fn listen(client: &Client, clock: &Clock, observations: &Observations) {
    let leases: Api<WatchedLease> = Api::namespaced(client.clone(), LEASES);
    loop {
        let began = clock.now();
        if observations.is_deaf(began)
            && let Ok(listed) = in_time(leases.list(&ListParams::default())).await
        {
            let leases: Vec<_> = listed.items.into_iter().map(Lease::from).collect();
            let heard = observations.all_read(&leases);
            if heard > 0 {
                tracing::warn!(
                    nodes = heard,
                    "nodes renew their Leases but the watch does not show it; the Leases were read"
                );
            }
        }
        clock.until(Some(began + PULSE)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_secs(60);

    fn answer(doubt: Option<&str>) -> Answer {
        let silence = Some(Moment::from_secs(9));
        Answer { silence, doubt: doubt.map(Arc::from), asked: (None, true), ..Answer::default() }
    }

    #[test]
    fn one_answer_that_is_lost_ends_no_doubt() {
        let doubts = answer(Some("its kubelet answers")).after(&Answer::default(), NOW);
        let first = answer(None).after(&doubts, NOW);
        let second = answer(None).after(&first, NOW);
        let third = answer(None).after(&second, NOW);
        let is_doubted = [&first, &second, &third].map(|answer| answer.doubt.is_some());
        assert_eq!(is_doubted, [true, true, false]);
        // One that is heard in between begins anew.
        let heard = answer(Some("its kubelet answers")).after(&second, NOW);
        assert!(answer(None).after(&answer(None).after(&heard, NOW), NOW).doubt.is_some());
    }

    #[test]
    fn a_doubt_is_of_one_silence_and_of_who_was_asked() {
        let doubts = answer(Some("its kubelet answers"));
        let of = |change: fn(&mut Answer)| {
            let mut next = answer(None);
            change(&mut next);
            next.after(&doubts, NOW).doubt
        };
        assert_eq!(of(|next| next.silence = Some(Moment::from_secs(10))), None);
        assert_eq!(of(|next| next.silence = None), None);
        assert_eq!(of(|next| next.asked = (None, false)), None);
        assert!(of(|_| {}).is_some());
    }

    #[test]
    fn who_has_said_nothing_yet_may_not_have_heard() {
        let first = answer(None).after(&Answer::default(), NOW);
        let second = answer(None).after(&first, NOW);
        let third = answer(None).after(&second, NOW);
        assert_eq!([first, second, third].map(|answer| answer.may_be_lost()), [true, true, false]);
        let unasked = Answer { asked: (None, false), ..answer(None) };
        assert!(!unasked.after(&Answer::default(), NOW).may_be_lost());
    }
}
