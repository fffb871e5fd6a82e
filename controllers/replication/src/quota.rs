//! ResourceQuotas, as far as they tell whether what they refused would be admitted now.
//!
//! The status of a quota changes with every pod of its namespace. A group that was refused is tried again when there is
//! room for what it asked for, and not each time that another pod comes or goes.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use mainstay_runtime::{
    index::Indexed,
    slim::{self, Header},
    stands_for,
};
use serde::Deserialize;

/// A ResourceQuota as the watch decodes it. The API server, too, goes by its status and not by its spec.
#[derive(Debug, Clone, Deserialize)]
pub struct WatchedQuota {
    #[serde(deserialize_with = "slim::metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    status: WatchedAmounts,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WatchedAmounts {
    hard: BTreeMap<String, Quantity>,
    used: BTreeMap<String, Quantity>,
}

stands_for!(WatchedQuota, v1::ResourceQuota);

/// A ResourceQuota as the store keeps it.
#[derive(Debug, PartialEq)]
pub struct Quota {
    /// Name, UID and version.
    pub header: Header,
    /// What is left of each resource that it limits; `None` where its status does not tell yet.
    left: BTreeMap<String, Option<f64>>,
}

impl From<WatchedQuota> for Quota {
    fn from(watched: WatchedQuota) -> Self {
        let header = Header::of(&watched);
        let WatchedAmounts { hard, used } = watched.status;
        let left = |(resource, hard): (String, Quantity)| {
            let used = used.get(&resource).and_then(|used| amount(&used.0));
            let left = amount(&hard.0).zip(used).map(|(hard, used)| hard - used);
            (resource, left)
        };
        Self { header, left: hard.into_iter().map(left).collect() }
    }
}

impl Quota {
    /// Whether it would admit now what it, or another quota, refused with this message. What cannot be told, would.
    pub fn admits(&self, refusal: &str) -> bool {
        let Some(Refusal { quota, requested }) = Refusal::parse(refusal) else { return true };
        let has_room = |(resource, wanted): &(&str, f64)| match self.left.get(*resource) {
            Some(left) => left.is_some_and(|left| *wanted <= left),
            None => true,
        };
        *self.header.key.name == *quota && requested.iter().all(has_room)
    }
}

impl Indexed for Quota {
    /// The namespace.
    type Bucket = Arc<str>;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.header.key.namespace)]
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

/// What a quota refused, by the text of the API server: `exceeded quota: NAME, requested: pods=1,cpu=2, used: …`
/// (k8s.io/apiserver, pkg/admission/plugin/resourcequota/controller.go).
struct Refusal<'a> {
    quota: &'a str,
    requested: Vec<(&'a str, f64)>,
}

impl<'a> Refusal<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (_, text) = text.split_once("exceeded quota: ")?;
        let (quota, text) = text.split_once(", requested: ")?;
        let (requested, _) = text.split_once(", used: ")?;
        let one = |part: &'a str| part.split_once('=').and_then(|(name, text)| Some((name, amount(text)?)));
        Some(Self { quota, requested: requested.split(',').map(one).collect::<Option<_>>()? })
    }
}

/// The value of a quantity: a number, with an exponent or a suffix.
fn amount(quantity: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let suffixed = || {
        SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| Some(quantity.strip_suffix(suffix)?.parse::<f64>().ok()? * factor))
    };
    quantity.parse().ok().or_else(suffixed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn quota(hard: Value, used: Value) -> Quota {
        let quota = json!({
            "metadata": {"name": "q", "namespace": "ns"}, "status": {"hard": hard, "used": used}
        });
        serde_json::from_value::<WatchedQuota>(quota).unwrap().into()
    }

    const REFUSAL: &str = "could not create a pod: pods \"web-x\" is forbidden: exceeded quota: q, \
        requested: limits.cpu=500m,pods=1, used: limits.cpu=2,pods=5, limited: limits.cpu=2,pods=9";

    #[test]
    fn what_was_refused_is_tried_again_when_there_is_room_for_all_of_it() {
        let hard = json!({"limits.cpu": "2", "pods": "9"});
        let admits = |cpu: &str| quota(hard.clone(), json!({"limits.cpu": cpu, "pods": "5"})).admits(REFUSAL);
        assert_eq!((admits("2"), admits("1600m"), admits("1500m")), (false, false, true));
        assert!(!quota(hard, json!({})).admits(REFUSAL), "the status does not tell yet");
        assert!(quota(json!({"pods": "9"}), json!({"pods": "5"})).admits(REFUSAL), "no limit any more");
    }

    #[test]
    fn another_quota_makes_no_room() {
        let other = REFUSAL.replace("quota: q,", "quota: p,");
        assert!(!quota(json!({}), json!({})).admits(&other));
    }

    #[test]
    fn a_refusal_that_cannot_be_read_is_tried_again() {
        assert!(quota(json!({"pods": "1"}), json!({"pods": "1"})).admits("exceeded quota"));
    }

    #[test]
    fn quantities_have_exponents_or_suffixes() {
        let cases =
            [("3", 3.0), ("250m", 0.25), ("1.5Ki", 1536.0), ("2e3", 2000.0), ("1E", 1e18), ("-.5k", -500.0)];
        for (text, value) in cases {
            assert_eq!(amount(text), Some(value), "{text}");
        }
        assert_eq!(amount("one"), None);
    }
}
