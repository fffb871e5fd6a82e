//! A pool's spec, converted once for each generation to the types of a reconcile.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{
    ResourceExt,
    core::{ParseExpressionError, Selector},
};
use mainstay_crds::{
    CheckType, EndpointCheck, EndpointPool, FailoverPolicy, MemberAddress, MemberPort, PoolMembers, TlsCheck,
    seconds,
};
use mainstay_probe::{Failure, Grpc, Http, Kind, Tls, TlsError};
use thiserror::Error;

use crate::{
    checker::Definition,
    choose::{Failover, Policy, SlowStart},
    health,
};

/// No pool has more members: their endpoints go to every node, and DNS names alone could bring a million. Nor has it more
/// addresses of names that are known, and more endpoints that drain.
pub(crate) const MAX_MEMBERS: usize = 20_000;

/// What of a spec cannot be used although it was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// A label selector.
    #[error("podSelector of spec.members {set:?} cannot be used: {why}; correct it")]
    Selector {
        /// The set.
        set: String,
        /// Why.
        why: String,
    },
    /// An address.
    #[error("spec.members {set:?} names {address:?}, which is not an IP address; correct it")]
    Address {
        /// The set.
        set: String,
        /// The text.
        address: String,
    },
    /// The status codes of an HTTP check.
    #[error(
        "spec.check.http.expectedStatuses has {0:?}, a range whose end comes before its beginning; correct it"
    )]
    Statuses(String),
    /// How certificates are verified.
    #[error("spec.check.tls cannot be used: {0}")]
    Tls(String),
    /// What an HTTP or gRPC check would send.
    #[error("spec.check: {0}")]
    Unsendable(Failure),
}

/// A pool's spec, as reconciles read it.
#[derive(Debug)]
pub struct Settings {
    /// Where endpoints come from.
    pub sets: Vec<Set>,
    /// How they are checked.
    pub check: Option<Check>,
    /// Which of them are used.
    pub policy: Policy,
    /// For how long endpoints that leave are kept.
    pub drain: Duration,
    /// The most endpoints of a slice.
    pub max_per_slice: usize,
}

/// A set of endpoints.
#[derive(Debug)]
pub struct Set {
    /// Its name.
    pub name: Arc<str>,
    /// Its tier.
    pub tier: u8,
    /// Target ports by the name of the Service's port.
    pub ports: HashMap<String, IntOrString>,
    /// Where they come from.
    pub source: Source,
}

/// Where the endpoints of a set come from.
#[derive(Debug)]
pub enum Source {
    /// Pods.
    Pods {
        /// Of this namespace.
        namespace: Arc<str>,
        /// With these labels.
        selector: Selector,
    },
    /// Addresses.
    Addresses(Vec<Fixed>),
    /// DNS names.
    Names(Vec<String>),
}

/// An address that a spec names.
#[derive(Debug)]
pub struct Fixed {
    /// The address.
    pub address: IpAddr,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// Its name in the DNS of a headless Service.
    pub hostname: Option<Arc<str>>,
}

/// How endpoints are checked, and where.
#[derive(Debug)]
pub struct Check {
    /// As the spec says it.
    pub spec: EndpointCheck,
    /// What is asked, and how often.
    pub definition: Arc<Definition>,
    /// Which port is asked.
    pub port: CheckPort,
}

/// The port that is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckPort {
    /// That of the Service's first port which is one of TCP.
    First,
    /// That of the Service's port of this name.
    Named(String),
    /// This one.
    Number(u16),
}

impl Settings {
    /// Reads the spec of `pool`.
    ///
    /// # Errors
    /// [`SettingsError`], which names the field. Most of it is refused at admission already.
    pub fn read(pool: &EndpointPool) -> Result<Self, SettingsError> {
        let spec = &pool.spec;
        let namespace = pool.namespace().unwrap_or_default();
        let sets = spec.members.iter().map(|members| set(members, &namespace));
        let FailoverPolicy { below_percent, return_percent, return_seconds } = spec.failover;
        let slow_start = spec
            .slow_start
            .as_ref()
            .map(|slow| SlowStart { percent: percent(slow.percent), period: seconds(slow.period_seconds) });
        Ok(Self {
            sets: sets.collect::<Result<_, _>>()?,
            check: spec.check.as_ref().map(check).transpose()?,
            policy: Policy {
                panic_below: percent(spec.panic_threshold),
                max_ejected: percent(spec.max_ejected_percent),
                failover: Failover {
                    below: percent(below_percent),
                    back_above: percent(return_percent),
                    back_after: seconds(return_seconds),
                },
                slow_start,
            },
            drain: seconds(spec.drain_seconds),
            max_per_slice: usize::try_from(spec.max_endpoints_per_slice).unwrap_or(1),
        })
    }

    /// The DNS names of all sets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sets.iter().flat_map(Set::names).map(String::as_str)
    }
}

impl Set {
    /// Its DNS names.
    pub fn names(&self) -> &[String] {
        match &self.source {
            Source::Names(names) => names,
            Source::Pods { .. } | Source::Addresses(_) => &[],
        }
    }
}

fn percent(percent: i32) -> u8 {
    u8::try_from(percent.clamp(0, 100)).unwrap_or(100)
}

fn set(members: &PoolMembers, own: &str) -> Result<Set, SettingsError> {
    let PoolMembers { name, tier, pod_selector, namespace, addresses, dns_names, ports } = members;
    let source = match pod_selector {
        Some(selector) => {
            let unusable = |error: ParseExpressionError| SettingsError::Selector {
                set: name.clone(),
                why: error.to_string(),
            };
            let selector = Selector::try_from(selector.clone()).map_err(unusable)?;
            Source::Pods { namespace: namespace.as_deref().unwrap_or(own).into(), selector }
        }
        None if !dns_names.is_empty() => Source::Names(lowered(dns_names)),
        None => {
            Source::Addresses(addresses.iter().map(|address| fixed(name, address)).collect::<Result<_, _>>()?)
        }
    };
    let ports = ports.iter().map(|MemberPort { name, port }| (name.clone(), port.clone()));
    Ok(Set {
        name: name.as_str().into(),
        tier: u8::try_from(*tier).unwrap_or(u8::MAX),
        ports: ports.collect(),
        source,
    })
}

/// The names in lower case, each once: the DNS tells none apart by its case.
fn lowered(names: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    let names = names.iter().map(|name| name.to_ascii_lowercase());
    names.filter(|name| seen.insert(name.clone())).collect()
}

fn fixed(set: &str, address: &MemberAddress) -> Result<Fixed, SettingsError> {
    let MemberAddress { ip, zone, hostname } = address;
    let wrong = |_| SettingsError::Address { set: set.to_owned(), address: ip.clone() };
    Ok(Fixed {
        address: ip.parse().map_err(wrong)?,
        zone: zone.as_deref().map(Into::into),
        hostname: hostname.as_deref().map(Into::into),
    })
}

fn check(check: &EndpointCheck) -> Result<Check, SettingsError> {
    let tls = |h2: bool| check.tls.as_ref().map(|tls| verification(tls, h2)).transpose();
    // A server of several names answers for the one that is asked for, in the request as in the handshake.
    let name = || check.tls.as_ref().and_then(|tls| tls.server_name.clone());
    let kind = match check.r#type {
        CheckType::Tcp => Kind::Tcp,
        CheckType::Http => {
            let http = check.http.clone().unwrap_or_default();
            Kind::Http(Http {
                path: http.path,
                host: http.host.or_else(name),
                expected: http
                    .expected_statuses
                    .iter()
                    .map(|text| statuses(text))
                    .collect::<Result<_, _>>()?,
                tls: tls(false)?,
            })
        }
        CheckType::Grpc => {
            let grpc = check.grpc.clone().unwrap_or_default();
            Kind::Grpc(Grpc {
                service: grpc.service,
                authority: grpc.authority.or_else(name),
                tls: tls(true)?,
            })
        }
    };
    kind.validate().map_err(SettingsError::Unsendable)?;
    let times = |number: i32| u32::try_from(number).unwrap_or(1);
    let settings = health::Settings {
        interval: seconds(check.interval_seconds),
        timeout: seconds(check.timeout_seconds),
        unhealthy_interval: seconds(check.edge_interval_seconds.min(check.interval_seconds)),
        successes: times(check.success_threshold),
        failures: times(check.failure_threshold),
        flap_window: seconds(check.flap_window_seconds),
    };
    let port = match &check.port {
        None => CheckPort::First,
        Some(IntOrString::String(name)) => CheckPort::Named(name.clone()),
        Some(IntOrString::Int(number)) => CheckPort::Number(u16::try_from(*number).unwrap_or_default()),
    };
    let max_concurrent = usize::try_from(check.max_concurrent).unwrap_or(1);
    Ok(Check {
        spec: check.clone(),
        definition: Arc::new(Definition { settings, kind, max_concurrent }),
        port,
    })
}

fn verification(tls: &TlsCheck, h2: bool) -> Result<Tls, SettingsError> {
    let TlsCheck { server_name, ca_bundle } = tls;
    Tls::new(server_name.as_deref(), ca_bundle.as_deref(), h2)
        .map_err(|error: TlsError| SettingsError::Tls(error.to_string()))
}

/// A status code or a range of them.
fn statuses(text: &str) -> Result<RangeInclusive<u16>, SettingsError> {
    let wrong = || SettingsError::Statuses(text.to_owned());
    let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = number(first)?..=number(last)?;
    if range.is_empty() { Err(wrong()) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(check: serde_json::Value) -> Result<Settings, SettingsError> {
        let pool = json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool",
            "metadata": {"name": "pool", "namespace": "ns"},
            "spec": {"serviceRef": {"name": "web"}, "members": [], "check": check},
        });
        Settings::read(&serde_json::from_value(pool).unwrap())
    }

    #[test]
    fn a_server_is_asked_for_the_name_that_its_certificate_is_verified_for() {
        let host = |check| match &read(check).unwrap().check.unwrap().definition.kind {
            Kind::Http(http) => http.host.clone(),
            Kind::Grpc(grpc) => grpc.authority.clone(),
            Kind::Tcp => None,
        };
        let tls = json!({"serverName": "db.example"});
        for (kind, part, name) in [("HTTP", "http", "host"), ("GRPC", "grpc", "authority")] {
            assert_eq!(host(json!({"type": kind})), None);
            assert_eq!(host(json!({"type": kind, "tls": tls})).as_deref(), Some("db.example"));
            let named = json!({"type": kind, "tls": tls, part: {name: "other.example"}});
            assert_eq!(host(named).as_deref(), Some("other.example"));
        }
    }

    #[test]
    fn a_name_is_the_same_in_capitals() {
        let pool = json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool",
            "metadata": {"name": "pool", "namespace": "ns"},
            "spec": {"serviceRef": {"name": "web"},
                "members": [{"name": "db", "dnsNames": ["DB.Example.com", "a.example", "db.example.COM"]}]},
        });
        let settings = Settings::read(&serde_json::from_value(pool).unwrap()).unwrap();
        assert_eq!(settings.names().collect::<Vec<_>>(), ["db.example.com", "a.example"]);
    }

    #[test]
    fn a_check_that_cannot_be_sent_is_refused_by_name() {
        let read = |http| read(json!({"type": "HTTP", "http": http}));
        assert!(read(json!({"path": "/ready?full=1"})).is_ok());
        for (part, http) in [("path", json!({"path": "/a b"})), ("host", json!({"host": "a\nb"}))] {
            let error = read(http).unwrap_err().to_string();
            assert!(error.contains("spec.check") && error.contains(part), "{error}");
        }
    }
}
