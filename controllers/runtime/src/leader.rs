//! At most one writer at a time, by a Lease, as client-go's leader election does it.
//!
//! The promise: the loser has stopped writing before the winner starts. It is based on three numbers. A leader counts
//! its lease from *before* it sent the last successful renewal, and stops after `renew_deadline`. A standby counts
//! from when it *saw* the Lease change last, by its own clock, and waits `lease_duration`, which is longer. No clock
//! is compared with another machine's. Every write of the Lease carries the resourceVersion that the decision was
//! based on, so only one of two standbys succeeds.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use crate::failure::RequestError;

/// When leadership is acquired, renewed and released.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// This process, unlike any other.
    pub identity: String,
    /// How long a standby waits after the last renewal that it saw.
    pub lease_duration: Duration,
    /// How long a leader goes on without a successful renewal.
    pub renew_deadline: Duration,
    /// Pause between attempts.
    pub retry_period: Duration,
}

/// Settings that cannot keep the promise.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// A leader would continue to write while a standby takes over.
    #[error("--lease-duration ({lease:?}) must be longer than --renew-deadline ({renew:?})")]
    DeadlineTooLong {
        /// The lease duration.
        lease: Duration,
        /// The renew deadline.
        renew: Duration,
    },
    /// A leader would stop after its first failed attempt.
    #[error("--renew-deadline ({renew:?}) must be longer than --retry-period ({retry:?})")]
    RetryTooLong {
        /// The renew deadline.
        renew: Duration,
        /// The retry period.
        retry: Duration,
    },
    /// The Lease holds whole seconds.
    #[error("--lease-duration must be at least 1s")]
    TooShort,
}

/// Takes and keeps the Lease for one process.
#[derive(Debug)]
pub struct Elector {
    leases: Api<Lease>,
    settings: Settings,
    /// The Lease as last seen, and when it was first seen so.
    seen: Option<(Lease, Instant)>,
    /// Until when this process may write.
    leads_until: Option<Instant>,
}

impl Elector {
    /// Checks the settings; sends nothing yet.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn new(client: Client, settings: Settings) -> Result<Self, SettingsError> {
        let Settings { lease_duration: lease, renew_deadline: renew, retry_period: retry, .. } = settings;
        if lease < Duration::from_secs(1) {
            return Err(SettingsError::TooShort);
        }
        if lease <= renew {
            return Err(SettingsError::DeadlineTooLong { lease, renew });
        }
        if renew <= retry {
            return Err(SettingsError::RetryTooLong { renew, retry });
        }
        let leases = Api::namespaced(client, &settings.namespace);
        Ok(Self { leases, settings, seen: None, leads_until: None })
    }

    /// Waits until this process leads. Failures are logged and tried again.
    pub async fn acquire(&mut self) {
        tracing::info!(lease = %self.settings.name, identity = %self.settings.identity, "waiting to lead");
        loop {
            match self.attempt(self.settings.renew_deadline).await {
                Ok(true) => return tracing::info!(lease = %self.settings.name, "leading"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "could not acquire the Lease; trying again"),
            }
            sleep(self.settings.retry_period).await;
        }
    }

    /// Renews the Lease for as long as that works; returns when leadership is lost. All writers must have stopped when
    /// this returns.
    pub async fn keep(&mut self) {
        while let Some(left) = self.time_left() {
            sleep(self.settings.retry_period.min(left)).await;
            let Some(left) = self.time_left() else { break };
            match self.attempt(left).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::error!(lease = %self.settings.name, "another process holds the Lease");
                    break;
                }
                Err(error) => tracing::warn!(%error, "could not renew the Lease; trying again"),
            }
        }
        self.leads_until = None;
    }

    /// Gives the Lease up, so that the next leader need not wait for it to run out. Does nothing when another
    /// process holds it.
    ///
    /// # Errors
    /// The request's: the Lease then runs out by itself.
    pub async fn release(&mut self) -> Result<(), RequestError> {
        self.leads_until = None;
        let Some((mut lease, _)) = self.seen.take() else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.settings.identity) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        // The value client-go leaves behind; the API allows no 0.
        spec.lease_duration_seconds = Some(1);
        let params = PostParams::default();
        let write = self.leases.replace(&self.settings.name, &params, &lease);
        let wait = self.settings.retry_period;
        timeout(wait, write).await.map_err(|_| RequestError::timed_out(wait))?.map(drop).map_err(Into::into)
    }

    fn time_left(&self) -> Option<Duration> {
        self.leads_until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// One read and, where that is due, one write. Returns whether this process leads after it.
    async fn attempt(&mut self, limit: Duration) -> Result<bool, RequestError> {
        let began = Instant::now();
        let ours =
            timeout(limit, self.read_and_write()).await.map_err(|_| RequestError::timed_out(limit))??;
        self.leads_until = ours.then(|| began + self.settings.renew_deadline);
        Ok(ours)
    }

    async fn read_and_write(&mut self) -> Result<bool, RequestError> {
        let written = match self.leases.get_opt(&self.settings.name).await? {
            None => self.leases.create(&PostParams::default(), &self.claim(None)).await,
            Some(lease) => {
                self.look(lease.clone());
                if !self.is_ours(&lease) && !self.has_run_out(&lease) {
                    return Ok(false);
                }
                let claim = self.claim(Some(lease));
                self.leases.replace(&self.settings.name, &PostParams::default(), &claim).await
            }
        };
        // A conflict says that somebody wrote in between: no success, and the next attempt reads who it was.
        self.look(written?);
        Ok(true)
    }

    /// Notes when this process first saw the Lease in its present state.
    fn look(&mut self, lease: Lease) {
        let known = self.seen.as_ref().is_some_and(|(seen, _)| {
            seen.metadata.resource_version == lease.metadata.resource_version
                && seen.metadata.uid == lease.metadata.uid
        });
        if !known {
            self.seen = Some((lease, Instant::now()));
        }
    }

    fn is_ours(&self, lease: &Lease) -> bool {
        holder(lease) == Some(&self.settings.identity)
    }

    fn has_run_out(&self, lease: &Lease) -> bool {
        let duration = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
        let duration = Duration::from_secs(u64::try_from(duration).unwrap_or_default());
        let unchanged = self.seen.as_ref().map(|(_, since)| since.elapsed()).unwrap_or_default();
        holder(lease).is_none() || unchanged > duration
    }

    fn claim(&self, current: Option<Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let before = current.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let ours = before.holder_identity.as_deref() == Some(&self.settings.identity);
        let seconds = self.settings.lease_duration.as_secs().try_into().unwrap_or(i32::MAX);
        let metadata = current.map(|lease| lease.metadata).unwrap_or_else(|| ObjectMeta {
            name: Some(self.settings.name.clone()),
            namespace: Some(self.settings.namespace.clone()),
            ..ObjectMeta::default()
        });
        let spec = LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: if ours { before.acquire_time } else { Some(now.clone()) },
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!ours)),
            renew_time: Some(now),
            ..before
        };
        Lease { metadata, spec: Some(spec) }
    }
}

fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

#[cfg(test)]
mod tests;
