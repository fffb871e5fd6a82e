//! The Service that an `EndpointPool` creates.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceSpec;
use kube::core::Rule;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{pod_template::upstream, schema};

/// A Service without a selector.
///
/// In Rust it is kept as the user wrote it, for the reasons given at [`PodTemplate`](crate::PodTemplate).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceTemplate {
    /// Labels of the Service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The `ServiceSpec`, as written.
    pub spec: Map<String, Value>,
}

/// Fields by which a Service would choose its own pods, or send traffic past the pool's members.
const REFUSED: [&str; 3] = ["selector", "externalName", "externalIPs"];

impl JsonSchema for ServiceTemplate {
    fn schema_name() -> Cow<'static, str> {
        "ServiceTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut labels = schema::labels();
        labels["description"] = "Labels of the Service.".into();
        json_schema!({
            "type": "object",
            "required": ["spec"],
            "properties": {
                "labels": labels,
                "annotations": {
                    "description": "Annotations of the Service.",
                    "type": "object",
                    "additionalProperties": { "type": "string" },
                },
                "spec": spec(),
            },
        })
    }
}

fn spec() -> Value {
    let mut spec = upstream::<ServiceSpec>("ServiceSpec");
    spec["description"] =
        "The Service's specification, as `kubectl explain service.spec` describes it, without \
                           selector, externalName and externalIPs."
            .into();
    spec["required"] = json!(["ports"]);
    let refusals = REFUSED.iter().map(|field| {
        Rule::new(format!("!has(self.{field})"))
            .message(
                format!("spec.serviceRef.create.spec.{field} must not be set: the pool says where the traffic goes")
                    .as_str(),
            )
            .field_path(format!(".{field}"))
    });
    let external = Rule::new("!has(self.type) || self.type != 'ExternalName'")
        .message("spec.serviceRef.create.spec.type must not be ExternalName: such a Service has no endpoints")
        .field_path(".type");
    spec["x-kubernetes-validations"] = json!(refusals.chain([external]).collect::<Vec<_>>());
    spec
}
