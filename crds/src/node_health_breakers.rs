//! The circuit breakers of a `NodeHealthPolicy`: no new actions while too many nodes fail at once.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::schema;

/// Circuit breakers: no new actions are taken while too many nodes fail at once. An open breaker closes after the number
/// of unhealthy nodes has stayed at or below half the limit (but at least one) for `closeAfter`; after that, actions are
/// taken no faster than `maxActionsPer` allows. When no node of the cluster answers, a network failure is assumed, and all
/// cordons and taints set by policies are removed, except the taint out-of-service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Breakers {
    /// The breaker of each zone.
    pub zone: Breaker,

    /// The breaker of all nodes of the policy.
    pub cluster: Breaker,

    /// The rate limit of actions.
    pub max_actions_per: MaxActionsPer,

    /// Time between a verdict and the first action, so that simultaneous failures are counted together. Default 2s.
    pub settle: Duration,

    /// How long the number of unhealthy nodes must stay low before a breaker closes. Default 60s.
    pub close_after: Duration,
}

impl Default for Breakers {
    fn default() -> Self {
        Self {
            zone: Breaker::default(),
            cluster: Breaker::default(),
            max_actions_per: MaxActionsPer::default(),
            settle: Duration::seconds(2),
            close_after: Duration::seconds(60),
        }
    }
}

/// When a breaker opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Breaker {
    /// The breaker opens when more nodes than this are unhealthy or overdue: a number, or a percentage of the nodes,
    /// rounded up. Default 40%.
    #[schemars(schema_with = "schema::nodes_or_percent")]
    pub max_unhealthy: IntOrString,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { max_unhealthy: IntOrString::String("40%".into()) }
    }
}

/// The rate limit: on how many nodes the controller begins to act in a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rate_rules()))]
pub struct MaxActionsPer {
    /// The number of nodes. Default 30.
    #[schemars(range(min = 1, max = 1000))]
    pub count: i32,

    /// The length of the window. Default 1m.
    pub window: Duration,
}

impl Default for MaxActionsPer {
    fn default() -> Self {
        Self { count: 30, window: Duration::seconds(60) }
    }
}

fn rate_rules() -> Vec<Rule> {
    vec![
        Rule::new("duration(self.window) >= duration('1s') && duration(self.window) <= duration('24h')")
            .message("spec.breakers.maxActionsPer.window must be between 1s and 24h")
            .field_path(".window"),
    ]
}

/// Quarantine of nodes that flap: after the controller has acted on a node `count` times within `window`, the node stays
/// out of use for `quarantine` after it is healthy again, and twice as long each further time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = flapping_rules()))]
pub struct Flapping {
    /// How many times. 0 turns this off. Default 3.
    #[schemars(range(min = 0, max = 100))]
    pub count: i32,

    /// The length of the window. Default 1h.
    pub window: Duration,

    /// How long the first quarantine lasts. Default 10m.
    pub quarantine: Duration,

    /// The longest quarantine. Default 2h.
    pub max_quarantine: Duration,
}

impl Default for Flapping {
    fn default() -> Self {
        Self {
            count: 3,
            window: Duration::seconds(3600),
            quarantine: Duration::seconds(600),
            max_quarantine: Duration::seconds(7200),
        }
    }
}

fn flapping_rules() -> Vec<Rule> {
    vec![
        Rule::new("self.count == 0 || duration(self.window) >= duration('1s')")
            .message(
                "spec.flapping.window must be at least 1s; to turn flapping off set spec.flapping.count to 0",
            )
            .field_path(".window"),
        Rule::new("duration(self.maxQuarantine) >= duration(self.quarantine)")
            .message("spec.flapping.maxQuarantine must not be shorter than spec.flapping.quarantine")
            .field_path(".maxQuarantine"),
    ]
}
