//! What keeps a `NodeHealthPolicy` from believing a storm.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::schema;

/// When nothing is done, since too many nodes fail at once. A breaker that has opened stays open until no more than half
/// of its limit have been unhealthy for `closeAfter`; what is left to do then is done no faster than `maxActionsPer`
/// allows. When no node of the cluster answers any more, what was taken is handed back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Breakers {
    /// The breaker of each zone.
    pub zone: Breaker,

    /// The breaker of all nodes of the policy.
    pub cluster: Breaker,

    /// How many nodes are acted on in how long.
    pub max_actions_per: MaxActionsPer,

    /// A verdict stands for so long before anything is done, so that a storm is seen as one. Default 2s.
    pub settle: Duration,

    /// For how long it must be calm before a breaker closes. Default 60s.
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
    /// More unhealthy or overdue nodes than this open it: a number, or a percentage of the nodes, rounded up. Default
    /// 40%.
    #[schemars(schema_with = "schema::nodes_or_percent")]
    pub max_unhealthy: IntOrString,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { max_unhealthy: IntOrString::String("40%".into()) }
    }
}

/// How many nodes are acted on in how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rate_rules()))]
pub struct MaxActionsPer {
    /// So many nodes. Default 30.
    #[schemars(range(min = 1, max = 1000))]
    pub count: i32,

    /// In so long. Default 1m.
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

/// When a node that comes and goes is kept out of use: after it has been acted on `count` times in `window` it is given
/// back only after `quarantine`, twice as long each further time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = flapping_rules()))]
pub struct Flapping {
    /// How often. 0 turns this off. Default 3.
    #[schemars(range(min = 0, max = 100))]
    pub count: i32,

    /// In how long. Default 1h.
    pub window: Duration,

    /// For how long the first time. Default 10m.
    pub quarantine: Duration,

    /// And no longer than this. Default 2h.
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
