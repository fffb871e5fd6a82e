//! How the endpoints of an `EndpointPool` are checked.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// A request that the controller's leading replica sends to each endpoint at intervals.
///
/// Only the status of an answer is reported. Response bodies are never read, stored or logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = check_rules()))]
pub struct EndpointCheck {
    /// The kind of check. `HTTP`: a GET request whose status must be an expected one. `TCP`: the connection must be
    /// accepted. `GRPC`: the gRPC health service must return SERVING.
    pub r#type: CheckType,

    /// The name of a port of the Service, whose target port is checked, or a number. Default: the Service's first port
    /// of the protocol TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::port_or_name")]
    pub port: Option<IntOrString>,

    /// Settings of an HTTP check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,

    /// Settings of a gRPC check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcCheck>,

    /// Checks over TLS; a certificate that cannot be verified is a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsCheck>,

    /// Seconds from one check of an endpoint to the next, with a jitter of ±10 %. Default 10.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 3600))]
    pub interval_seconds: i32,

    /// The interval while the result is about to change. Default 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 3600))]
    pub edge_interval_seconds: i32,

    /// Seconds after which a check without an answer fails. Default 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: i32,

    /// Number of consecutive successful checks required to mark a failing endpoint healthy. Default 2. For a new endpoint
    /// one success is enough.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub success_threshold: i32,

    /// Number of consecutive failed checks required to mark an endpoint failing. Default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: i32,

    /// Each time an endpoint fails within this many seconds after it became healthy again, the number of successes that it
    /// needs to become healthy doubles, up to 16 times `successThreshold`. Default 600; 0 turns this off.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 0, max = 86400))]
    pub flap_window_seconds: i32,

    /// How many checks of the pool may run at the same time. Default 50. A value of the chart limits the checks of all
    /// pools together.
    #[serde(default = "fifty")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent: i32,
}

fn two() -> i32 {
    2
}

fn three() -> i32 {
    3
}

fn ten() -> i32 {
    10
}

fn fifty() -> i32 {
    50
}

fn ten_minutes() -> i32 {
    600
}

/// A kind of check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum CheckType {
    /// A GET request.
    Http,
    /// A connection.
    Tcp,
    /// The standard gRPC health service.
    Grpc,
}

/// A GET request over HTTP/1.1. Redirects are not followed: their own status counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpCheck {
    /// The path, with the query if there is one. Default `/`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,

    /// The header `Host`. Default: `tls.serverName`, or else the endpoint's address and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9.:_\[\]-]+$"))]
    pub host: Option<String>,

    /// The status codes that count as success, single ones and ranges. Default `200-399`.
    #[schemars(schema_with = "schema::statuses")]
    pub expected_statuses: Vec<String>,
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self { path: "/".into(), host: None, expected_statuses: vec!["200-399".into()] }
    }
}

/// A call of `grpc.health.v1.Health/Check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcCheck {
    /// The service to check. Default: the server as a whole.
    #[schemars(length(max = 253))]
    pub service: String,

    /// The pseudo header `:authority`. Default: `tls.serverName`, or else the endpoint's address and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9.:_\[\]-]+$"))]
    pub authority: Option<String>,
}

/// How the certificate of an endpoint is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsCheck {
    /// The name that the certificate must be valid for. Default: the endpoint's IP address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub server_name: Option<String>,

    /// The trusted certificate authorities, as PEM. Default: the roots in the controller's image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536), regex(pattern = r"-----BEGIN CERTIFICATE-----"))]
    pub ca_bundle: Option<String>,
}

fn check_rules() -> Vec<Rule> {
    vec![
        Rule::new("!has(self.http) || self.type == 'HTTP'")
            .message("spec.check.http needs spec.check.type HTTP: remove it or change the type")
            .field_path(".http"),
        Rule::new("!has(self.grpc) || self.type == 'GRPC'")
            .message("spec.check.grpc needs spec.check.type GRPC: remove it or change the type")
            .field_path(".grpc"),
        Rule::new("!has(self.tls) || self.type != 'TCP'")
            .message("spec.check.tls needs spec.check.type HTTP or GRPC: a TCP check sends nothing on the connection")
            .field_path(".tls"),
        Rule::new("self.timeoutSeconds <= self.intervalSeconds")
            .message("spec.check.timeoutSeconds must not be more than spec.check.intervalSeconds")
            .field_path(".timeoutSeconds"),
    ]
}
