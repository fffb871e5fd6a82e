//! The flags that every controller takes. Each can be given as an environment variable too.

use std::{net::SocketAddr, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where a server listens; `0` turns it off, as in controller-runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindAddress(pub Option<SocketAddr>);

impl FromStr for BindAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self(None));
        }
        // ":8080" is what users of controller-runtime type: all addresses of both families.
        let full = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
        full.parse().map(|address| Self(Some(address))).map_err(|_| {
            format!(
                "{text:?} is not an address to listen on: write HOST:PORT, :PORT, or 0 to turn the server \
                 off"
            )
        })
    }
}

/// The flags of [`crate::process::run`].
#[derive(Debug, Clone, Args)]
pub struct Flags {
    /// Act only while holding the Lease; needed if a second replica may run
    #[arg(long, env = "MAINSTAY_LEADER_ELECT", default_value_t = true, num_args = 0..=1,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Name of the Lease [default: the name of the controller, such as mainstay-replication]
    #[arg(long, env = "MAINSTAY_LEADER_ELECTION_ID")]
    pub leader_election_id: Option<String>,
    /// Namespace of the Lease [default: $POD_NAMESPACE, else that of the credentials]
    #[arg(long, env = "MAINSTAY_LEADER_ELECTION_NAMESPACE")]
    pub leader_election_namespace: Option<String>,
    /// How long a standby waits after the last renewal that it saw before it takes over
    #[arg(long, env = "MAINSTAY_LEASE_DURATION", default_value = "15s", value_parser = duration)]
    pub lease_duration: Duration,
    /// How long the leader tries to renew before it stops writing; shorter than the lease duration
    #[arg(long, env = "MAINSTAY_RENEW_DEADLINE", default_value = "10s", value_parser = duration)]
    pub renew_deadline: Duration,
    /// Pause between attempts to take or renew the Lease
    #[arg(long, env = "MAINSTAY_RETRY_PERIOD", default_value = "2s", value_parser = duration)]
    pub retry_period: Duration,
    /// Where /metrics is served; 0 turns it off
    #[arg(long, env = "MAINSTAY_METRICS_BIND_ADDRESS", default_value = ":8080")]
    pub metrics_bind_address: BindAddress,
    /// Where /healthz and /readyz are served; 0 turns them off
    #[arg(long, env = "MAINSTAY_HEALTH_PROBE_BIND_ADDRESS", default_value = ":8081")]
    pub health_probe_bind_address: BindAddress,
    /// How many objects are reconciled at the same time; those of one namespace take half of it at most
    #[arg(long, env = "MAINSTAY_MAX_CONCURRENT_RECONCILES", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub max_concurrent_reconciles: u16,
    /// How many concurrent writes one object may have
    #[arg(long, env = "MAINSTAY_MAX_IN_FLIGHT_WRITES", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub max_in_flight_writes: u16,
    /// A reconcile that takes longer is ended and tried again
    #[arg(long, env = "MAINSTAY_RECONCILE_TIMEOUT", default_value = "120s", value_parser = duration)]
    pub reconcile_timeout: Duration,
    /// The format of log lines
    #[arg(long, env = "MAINSTAY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Which log lines are written: a level, or a tracing filter such as `info,mainstay_runtime=debug`
    #[arg(long, env = "MAINSTAY_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// Reads `500ms`, `15s` or `1h30m`.
///
/// # Errors
/// A sentence that names the text and the accepted forms.
pub fn duration(text: &str) -> Result<Duration, String> {
    let read: Option<SignedDuration> = text.parse().ok();
    read.and_then(|read| read.try_into().ok()).ok_or_else(|| {
        format!("{text:?} is not a duration: write numbers with their units, such as 500ms, 15s or 1h30m")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "5", "s", "-1s", "soon", "1mo", "99999999999999999999h", "18446744073709551615h"] {
            assert!(duration(wrong).is_err_and(|text| text.contains(wrong)), "{wrong:?}");
        }
    }

    #[test]
    fn bind_addresses_follow_controller_runtime() {
        assert_eq!("0".parse(), Ok(BindAddress(None)));
        assert_eq!(":9090".parse(), "[::]:9090".parse::<BindAddress>());
        assert!("9090".parse::<BindAddress>().is_err_and(|text| text.contains("HOST:PORT")));
    }
}
