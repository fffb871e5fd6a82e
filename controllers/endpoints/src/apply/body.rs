//! The JSON of a slice.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Serialize;

use crate::{
    names::{HEADLESS, MANAGED_BY, MANAGER, NOTES, POOL, SERVICE_NAME, TRIGGER_TIME},
    plan::Noted,
    watched::{Conditions, Endpoint, Family, Group, Port, Service},
};

/// The labels of a pool's slices: those of the Service, and what the slices are.
pub(crate) fn labels(service: &Service, pool: &str) -> BTreeMap<String, String> {
    let mut labels = service.labels.clone();
    labels.remove(HEADLESS);
    if service.is_headless {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), service.header.key.name.to_string());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.insert(POOL.to_owned(), pool.to_owned());
    labels
}

/// What the slices of one reconcile have in common.
pub(super) struct Head<'a> {
    pub(super) namespace: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) owner: &'a OwnerReference,
    pub(super) trigger: Option<Timestamp>,
    pub(super) noted: &'a Noted,
}

/// The slice that is replaced.
pub(super) struct Replaced<'a> {
    pub(super) annotations: &'a BTreeMap<String, String>,
    /// Its owners beside the pool.
    pub(super) co_owners: &'a [OwnerReference],
    pub(super) finalizers: &'a [String],
    /// The version that it must still have.
    pub(super) version: Option<u64>,
}

impl Head<'_> {
    /// The body of a slice of this name.
    pub(super) fn slice(
        &self,
        name: &str,
        group: &Group,
        endpoints: &[Endpoint],
        replaced: Option<&Replaced<'_>>,
    ) -> serde_json::Result<Vec<u8>> {
        let mut annotations = replaced.map(|slice| slice.annotations.clone()).unwrap_or_default();
        annotations.remove(TRIGGER_TIME);
        annotations.remove(NOTES);
        if let Some(notes) = self.noted.text(group, endpoints, &annotations) {
            annotations.insert(NOTES.to_owned(), notes);
        }
        if let Some(trigger) = self.trigger {
            annotations.insert(TRIGGER_TIME.to_owned(), trigger.to_string());
        }
        let version = replaced.and_then(|slice| slice.version);
        let co_owners = replaced.map(|slice| slice.co_owners).unwrap_or_default();
        serde_json::to_vec(&Body {
            api_version: "discovery.k8s.io/v1",
            kind: "EndpointSlice",
            metadata: Metadata {
                name,
                namespace: self.namespace,
                labels: self.labels,
                annotations,
                owner_references: [self.owner].into_iter().chain(co_owners).collect(),
                finalizers: replaced.map(|slice| slice.finalizers).unwrap_or_default(),
                resource_version: version.map(|version| version.to_string()),
            },
            address_type: group.family,
            endpoints: endpoints.iter().map(Written::of).collect(),
            ports: &group.ports,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    address_type: Family,
    endpoints: Vec<Written<'a>>,
    ports: &'a [Port],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    name: &'a str,
    namespace: &'a str,
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    owner_references: Vec<&'a OwnerReference>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    finalizers: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    addresses: [IpAddr; 1],
    conditions: Conditions,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_ref: Option<TargetRef<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hints: Option<Hints<'a>>,
}

#[derive(Serialize)]
struct TargetRef<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hints<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    for_zones: Option<[Hint<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    for_nodes: Option<[Hint<'a>; 1]>,
}

#[derive(Serialize)]
struct Hint<'a> {
    name: &'a str,
}

impl<'a> Written<'a> {
    fn of(endpoint: &'a Endpoint) -> Self {
        let hint = |name: &'a std::sync::Arc<str>| [Hint { name }];
        let hints = Hints {
            for_zones: endpoint.hint_zone.as_ref().map(hint),
            for_nodes: endpoint.hint_node.as_ref().map(hint),
        };
        Self {
            addresses: [endpoint.address],
            conditions: endpoint.conditions,
            hostname: endpoint.hostname.as_deref(),
            node_name: endpoint.node.as_deref(),
            zone: endpoint.zone.as_deref(),
            target_ref: endpoint.target.as_ref().map(|target| TargetRef {
                kind: "Pod",
                namespace: &target.namespace,
                name: &target.name,
                uid: &target.uid,
            }),
            hints: Some(hints).filter(|hints| hints.for_zones.is_some() || hints.for_nodes.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::watched::{Slice, WatchedSlice};

    #[test]
    fn what_is_written_is_read_back_as_it_was() {
        let target = crate::watched::Target { namespace: "ns".into(), name: "p".into(), uid: "u".into() };
        let endpoint = Endpoint {
            address: "2001:db8::1".parse().unwrap(),
            conditions: Conditions { ready: true, serving: true, terminating: false },
            hostname: Some("h".into()),
            node: Some("n".into()),
            zone: Some("z".into()),
            target: Some(target),
            hint_zone: Some("z".into()),
            hint_node: Some("n".into()),
        };
        let port =
            Port { name: "http".into(), port: 80, protocol: "TCP".into(), app_protocol: Some("h2c".into()) };
        let group = Group { family: Family::V6, ports: [port].into() };
        let labels = BTreeMap::from([(POOL.to_owned(), "pool".to_owned())]);
        let owner: OwnerReference = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "EndpointPool", "name": "pool", "uid": "o", "controller": true
        }))
        .unwrap();
        let head =
            Head { namespace: "ns", labels: &labels, owner: &owner, trigger: None, noted: &Noted::default() };
        let body = head.slice("web-x", &group, std::slice::from_ref(&endpoint), None).unwrap();
        let slice = Slice::from(serde_json::from_slice::<WatchedSlice>(&body).unwrap());
        assert!(!slice.tampered);
        assert_eq!((slice.group, slice.endpoints), (group, vec![endpoint]));
        assert_eq!((slice.owner, slice.labels), (Some(("pool".into(), "o".into())), labels));
    }

    #[test]
    fn what_others_have_added_is_kept_and_the_trigger_time_is_not() {
        let annotations =
            BTreeMap::from([("a".to_owned(), "b".to_owned()), (TRIGGER_TIME.to_owned(), "x".to_owned())]);
        let (labels, owner) = (BTreeMap::new(), OwnerReference::default());
        let head =
            Head { namespace: "ns", labels: &labels, owner: &owner, trigger: None, noted: &Noted::default() };
        let group = Group { family: Family::V4, ports: std::sync::Arc::default() };
        let other: OwnerReference =
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u"}))
                .unwrap();
        let replaced = Replaced {
            annotations: &annotations,
            co_owners: &[other],
            finalizers: &["example.com/f".to_owned()],
            version: Some(7),
        };
        let body = head.slice("web-x", &group, &[], Some(&replaced)).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["metadata"]["annotations"], json!({"a": "b"}));
        assert_eq!(body["metadata"]["resourceVersion"], "7");
        assert_eq!(body["metadata"]["finalizers"], json!(["example.com/f"]));
        assert_eq!(body["metadata"]["ownerReferences"][1]["uid"], "u");
        assert_eq!((&body["ports"], &body["endpoints"]), (&json!([]), &json!([])));
    }
}
