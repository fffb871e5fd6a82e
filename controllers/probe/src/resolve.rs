//! Lookups of names in DNS. Nothing is cached here: [`Names`](crate::Names) keeps the known addresses of each name.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RecordType},
};
use tokio::time::timeout;

use crate::failure::bounded;

/// A lookup ends within this time, whatever the servers' number and their timeouts are.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// More addresses of one name are left out, the highest first: ten full EndpointSlices.
const MAX_ADDRESSES: usize = 1000;

/// An answer holds at least this long, so that a TTL of zero does not become a flood of lookups.
const MIN_VALID: Duration = Duration::from_secs(1);

/// An answer holds at most this long, so that a mistaken TTL does not hold a change up for days.
const MAX_VALID: Duration = Duration::from_secs(3600);

/// An answer of one family alone, because the other could not be had, holds at most this long.
const MAX_VALID_HALF: Duration = Duration::from_secs(30);

/// Which kind of address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4, record type A.
    V4,
    /// IPv6, record type AAAA.
    V6,
}

impl Family {
    /// Whether `address` is of this family.
    pub fn has(self, address: &IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// The addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Sorted, none twice, at least one and at most 1000.
    pub addresses: Vec<IpAddr>,
    /// How long the addresses hold: the lowest TTL of the records, 1 s to 1 h.
    pub valid_for: Duration,
    /// The family that the servers failed to answer for. Whether the name has addresses of it is not known.
    pub unanswered: Option<Family>,
}

/// Why a lookup gave no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// DNS says that the name does not exist (NXDOMAIN).
    #[error("the name does not exist in DNS; correct the name, or create its record")]
    NoSuchName,
    /// The name exists, without A and AAAA records.
    #[error("the name has neither an A nor an AAAA record in DNS; create one")]
    NoAddresses,
    /// No server answered in time.
    #[error("no DNS server answered in time")]
    TimedOut,
    /// A server answered with an error, or could not be reached; at most 200 characters of which.
    #[error("DNS failed: {0}")]
    Server(String),
    /// Not a DNS name.
    #[error("not a DNS name; use labels of at most 63 letters, digits and hyphens, 253 characters in all")]
    BadName,
}

impl ResolveError {
    /// The variant's name, as a reason and a metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSuchName => "NoSuchName",
            Self::NoAddresses => "NoAddresses",
            Self::TimedOut => "TimedOut",
            Self::Server(_) => "Server",
            Self::BadName => "BadName",
        }
    }

    /// Whether DNS itself said that there are no addresses, rather than failed to say.
    pub fn is_negative(&self) -> bool {
        matches!(self, Self::NoSuchName | Self::NoAddresses)
    }
}

/// Asks DNS servers for the addresses of names.
pub struct Resolver(TokioResolver);

impl Resolver {
    /// Asks the servers that `/etc/resolv.conf` names at this moment, with its timeout and attempts.
    ///
    /// # Errors
    /// [`ResolveError::Server`] when the file cannot be read or names no server.
    pub fn from_system() -> Result<Self, ResolveError> {
        Self::build(TokioResolver::builder_tokio().map_err(failure)?)
    }

    /// Asks these servers over UDP, and over TCP where an answer is too long for UDP.
    ///
    /// # Errors
    /// [`ResolveError::Server`] when `servers` is empty.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, ResolveError> {
        if servers.is_empty() {
            return Err(ResolveError::Server("no DNS server was given".to_owned()));
        }
        let servers = servers.iter().map(|server| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            connections.iter_mut().for_each(|connection| connection.port = server.port());
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        Self::build(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
    }

    fn build(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, ResolveError> {
        let options = builder.options_mut();
        options.cache_size = 0;
        // The controller's own hosts file says nothing about what a name means to others.
        options.use_hosts_file = ResolveHosts::Never;
        builder.build().map(Self).map_err(failure)
    }

    /// The addresses of `name`, which is taken as fully qualified: no search path applies. Both families are
    /// asked for at the same time, and one of them is enough. Ends within 10 s.
    ///
    /// # Errors
    /// See [`ResolveError`]; a negative answer only when it is one for both families.
    pub async fn look_up(&self, name: &str) -> Result<Answer, ResolveError> {
        let mut name = Name::from_ascii(name).map_err(|_| ResolveError::BadName)?;
        if name.num_labels() == 0 {
            return Err(ResolveError::BadName);
        }
        name.set_fqdn(true);
        let (v4, v6) = tokio::join!(self.records(&name, Family::V4), self.records(&name, Family::V6));
        combine(v4, v6)
    }

    /// The addresses of one family, and the lowest TTL of the records on the way to them.
    async fn records(&self, name: &Name, family: Family) -> Result<Records, ResolveError> {
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        let found = timeout(LOOK_UP_TIMEOUT, self.0.lookup(name.clone(), kind)).await;
        let found = found.map_err(|_| ResolveError::TimedOut)?.map_err(failure)?;
        let addresses: Vec<_> = found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
        let ttl = found.answers().iter().map(|record| record.ttl).min();
        match ttl {
            Some(ttl) if !addresses.is_empty() => Ok((addresses, Duration::from_secs(ttl.into()))),
            _ => Err(ResolveError::NoAddresses),
        }
    }
}

type Records = (Vec<IpAddr>, Duration);

fn combine(
    v4: Result<Records, ResolveError>,
    v6: Result<Records, ResolveError>,
) -> Result<Answer, ResolveError> {
    let ((mut addresses, mut ttl), failed) = match (v4, v6) {
        (Ok((mut addresses, ttl)), Ok((more, other))) => {
            addresses.extend(more);
            ((addresses, ttl.min(other)), None)
        }
        (Ok(records), Err(error)) => (records, Some((Family::V6, error))),
        (Err(error), Ok(records)) => (records, Some((Family::V4, error))),
        // Where one family is not known to be empty, the name is not.
        (Err(error), Err(other)) => return Err(if error.is_negative() { other } else { error }),
    };
    let unanswered = failed.filter(|(_, error)| !error.is_negative()).map(|(family, _)| family);
    if unanswered.is_some() {
        ttl = ttl.min(MAX_VALID_HALF);
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    Ok(Answer { addresses, valid_for: ttl.clamp(MIN_VALID, MAX_VALID), unanswered })
}

fn failure(error: NetError) -> ResolveError {
    match error {
        error if error.is_nx_domain() => ResolveError::NoSuchName,
        error if error.is_no_records_found() => ResolveError::NoAddresses,
        NetError::Timeout => ResolveError::TimedOut,
        NetError::Dns(DnsError::ResponseCode(code)) => {
            ResolveError::Server(format!("the server answered {}", bounded(&code.to_string())))
        }
        error => ResolveError::Server(bounded(&error.to_string())),
    }
}

#[cfg(test)]
mod tests;
