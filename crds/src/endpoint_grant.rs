//! `EndpointGrant`: lets pools of other namespaces use the pods of its namespace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Which pools may use which pods of the grant's namespace.
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mainstay.dev",
    version = "v1alpha1",
    kind = "EndpointGrant",
    plural = "endpointgrants",
    shortname = "epg",
    namespaced,
    derive = "PartialEq",
    doc = "EndpointGrant lets EndpointPools of other namespaces use pods of its own namespace. Without a grant an \
           EndpointPool can use only pods of its own namespace.",
    printcolumn(name = "From", type_ = "string", json_path = ".spec.from[*].namespace"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::with_flowing_text)]
pub struct EndpointGrantSpec {
    /// The pools that may use the pods. At most 64 entries.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub from: Vec<GrantedTo>,

    /// The pods that may be used. Default: all pods of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub pod_selector: Option<LabelSelector>,
}

/// Pools of another namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrantedTo {
    /// The namespace of the pools.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: String,

    /// The only pool that may use the pods. Default: every pool of that namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub pool: Option<String>,
}
