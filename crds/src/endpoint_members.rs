//! Where the endpoints of an `EndpointPool` come from.

use k8s_openapi::apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString};
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// A set of endpoints: pods, addresses or DNS names, exactly one of the three.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = member_rules()))]
pub struct PoolMembers {
    /// The name of the set in status and events.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// The tier of these endpoints. Default 0. The lowest tier is active as long as enough of its members are healthy
    /// (`spec.failover`); the next ones are on standby.
    #[serde(default)]
    #[schemars(range(min = 0, max = 15))]
    pub tier: i32,

    /// The pods that it matches. It must not be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub pod_selector: Option<LabelSelector>,

    /// The namespace of the pods. Default: that of the pool. Another namespace must have an EndpointGrant that names
    /// the pool's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,

    /// Addresses of servers, inside the cluster or outside. At most 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 1000),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ip"])
    )]
    pub addresses: Vec<MemberAddress>,

    /// DNS names, which are looked up when their TTL ends. Names must be fully qualified: no search path
    /// applies. While a name cannot be looked up its last addresses are kept. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::dns_names")]
    pub dns_names: Vec<String>,

    /// Target ports that differ from those that the Service names. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<MemberPort>,
}

/// The address of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberAddress {
    /// An IPv4 or IPv6 address. An address that the operator forbids is left out, and `MembersAccepted` says so.
    #[schemars(
        length(min = 2, max = 45),
        extend("x-kubernetes-validations" = [
            Rule::new("isIP(self)").message("an address must be an IPv4 or IPv6 address: write names into dnsNames"),
        ])
    )]
    pub ip: String,

    /// The zone of the server, for `trafficDistribution`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub zone: Option<String>,

    /// The name of the endpoint in the DNS of a headless Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub hostname: Option<String>,
}

/// The target of one port of the Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberPort {
    /// The name of the port in the Service; empty for its only port that has none.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub name: String,

    /// The port of the endpoints: a number, or for pods the name of a container's port.
    #[schemars(schema_with = "schema::port_or_name")]
    pub port: IntOrString,
}

fn member_rules() -> Vec<Rule> {
    vec![
        Rule::new(
            "(has(self.podSelector) ? 1 : 0) + (has(self.addresses) && size(self.addresses) > 0 ? 1 : 0) + \
             (has(self.dnsNames) && size(self.dnsNames) > 0 ? 1 : 0) == 1",
        )
        .message("each of spec.members needs exactly one of podSelector, addresses and dnsNames"),
        Rule::new("!has(self.namespace) || has(self.podSelector)")
            .message("namespace needs podSelector: addresses and DNS names have no namespace")
            .field_path(".namespace"),
        Rule::new(
            "!has(self.podSelector) || \
             (has(self.podSelector.matchLabels) && size(self.podSelector.matchLabels) > 0) || \
             (has(self.podSelector.matchExpressions) && size(self.podSelector.matchExpressions) > 0)",
        )
        .message("podSelector must not be empty: name at least one label in matchLabels or matchExpressions")
        .field_path(".podSelector"),
        Rule::new("!has(self.ports) || has(self.podSelector) || self.ports.all(p, type(p.port) == int)")
            .message("only pods have named ports: give the ports of addresses and DNS names as numbers")
            .field_path(".ports"),
    ]
}
