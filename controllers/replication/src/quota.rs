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
    left: BTreeMap<String, Option<Nano>>,
}

impl From<WatchedQuota> for Quota {
    fn from(watched: WatchedQuota) -> Self {
        let header = Header::of(&watched);
        let WatchedAmounts { hard, used } = watched.status;
        let left = |(resource, hard): (String, Quantity)| {
            let used = used.get(&resource).and_then(|used| amount(&used.0));
            let left = amount(&hard.0).zip(used).and_then(|(hard, used)| hard.checked_sub(used));
            (resource, left)
        };
        Self { header, left: hard.into_iter().map(left).collect() }
    }
}

impl Quota {
    /// Whether it would admit now what it, or another quota, refused with this message. What cannot be told, would.
    pub fn admits(&self, refusal: &str) -> bool {
        let Some(Refusal { quota, requested }) = Refusal::parse(refusal) else { return true };
        let has_room = |(resource, wanted): &(&str, Nano)| match self.left.get(*resource) {
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
    requested: Vec<(&'a str, Nano)>,
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

/// A billionth: the API server rounds every quantity up to whole ones, so that a comparison of these is exact
/// (k8s.io/apimachinery, pkg/api/resource/quantity.go).
type Nano = i128;

/// A whole, in billionths.
const ONE: Nano = 1_000_000_000;

/// The value of a quantity: a number, with an exponent or a suffix. `None` also where it is beyond all bounds.
fn amount(quantity: &str) -> Option<Nano> {
    const SUFFIXES: [(&str, Nano); 15] = [
        ("Ki", ONE << 10),
        ("Mi", ONE << 20),
        ("Gi", ONE << 30),
        ("Ti", ONE << 40),
        ("Pi", ONE << 50),
        ("Ei", ONE << 60),
        ("n", 1),
        ("u", 1_000),
        ("m", 1_000_000),
        ("k", ONE * 1_000),
        ("M", ONE * 1_000_000),
        ("G", ONE * ONE),
        ("T", ONE * ONE * 1_000),
        ("P", ONE * ONE * 1_000_000),
        ("E", ONE * ONE * ONE),
    ];
    let suffix = |&(suffix, factor): &(&str, Nano)| Some((quantity.strip_suffix(suffix)?, factor));
    if let Some((number, factor)) = SUFFIXES.iter().find_map(suffix) {
        return scaled(number, factor, 0);
    }
    match quantity.split_once(['e', 'E']) {
        Some((number, exponent)) => scaled(number, ONE, exponent.parse().ok()?),
        None => scaled(quantity, ONE, 0),
    }
}

/// A decimal `number` of things of that size, times ten to the `exponent`, rounded away from zero.
fn scaled(number: &str, size: Nano, exponent: i32) -> Option<Nano> {
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = format!("{whole}{fraction}");
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
    let value = digits.parse::<u128>().ok()?.checked_mul(size.unsigned_abs())?;
    let value = if exponent < 0 { value.div_ceil(power) } else { value.checked_mul(power)? };
    let value = Nano::try_from(value).ok()?;
    Some(if negative { -value } else { value })
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
    fn what_fits_exactly_fits() {
        let text = "exceeded quota: q, requested: requests.cpu=100m,x=0.3, used: x=1, limited: x=2";
        let hard = json!({"requests.cpu": "1", "x": "0.4"});
        assert!(quota(hard.clone(), json!({"requests.cpu": "900m", "x": "100m"})).admits(text));
        assert!(!quota(hard, json!({"requests.cpu": "900m", "x": "100000001n"})).admits(text));
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
        let cases = [
            ("3", 3 * ONE),
            ("250m", 250_000_000),
            ("1.5Ki", 1536 * ONE),
            ("2e3", 2000 * ONE),
            ("25E-1", 2_500_000_000),
            ("1E", ONE * ONE * ONE),
            ("-.5k", -500 * ONE),
            ("+1.n", 1),
            (".1n", 1),
        ];
        for (text, value) in cases {
            assert_eq!(amount(text), Some(value), "{text}");
        }
        for text in ["one", "", ".", "k", "1e", "1ee1", "--1", "1e99", "9e-99999"] {
            assert_eq!(amount(text), None, "{text}");
        }
    }
}
