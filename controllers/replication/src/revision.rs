//! Revisions: the templates that a group has had, each stored as a ControllerRevision of which only the number ever
//! changes.
//!
//! A revision is identified by the hash of its template, which its pods carry as a label, and which ends the name of
//! its ControllerRevision. The same template is therefore always the same revision, however often it is restored.

use std::sync::Arc;

use k8s_openapi::{api::apps::v1, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;
use mainstay_crds::{PodTemplate, ReplicaGroup};
use mainstay_runtime::{
    index::Indexed,
    names,
    slim::{self, Header},
    stands_for,
};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{names::REVISION, owner::Controller};

/// Digits of a hash. A collision among the few revisions of one group would take some hundred thousand of them, and
/// is found when the ControllerRevision is compared.
const DIGITS: usize = 10;
/// The longest name that an object may have.
const MAX_NAME: usize = 253;
/// What of it the hash leaves to the group.
const ROOM: usize = MAX_NAME - DIGITS - 1;

/// The hash of a template: equal for equal templates, in whatever order their fields were written.
pub fn hash(template: &PodTemplate) -> Arc<str> {
    // Maps are sorted, in Rust and by serde_json.
    let text = serde_json::to_vec(template).unwrap_or_default();
    digest(&text).into()
}

/// The name of a group's ControllerRevision. That of a group with a long name has a digest of it, since others may begin
/// with the same letters.
pub fn name(group: &str, hash: &str) -> String {
    if group.len() <= ROOM {
        return format!("{group}-{hash}");
    }
    format!("{}-{}-{hash}", names::cut(group, ROOM - DIGITS - 1), digest(group.as_bytes()))
}

fn digest(text: &[u8]) -> String {
    let mut digits: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    digits.truncate(DIGITS);
    digits
}

/// The hash of the revision that a ControllerRevision of `group` of that name keeps. Also names are known that an earlier
/// version gave to those of a group with a long name: that was cut, and nothing else.
pub fn hash_of(group: &ReplicaGroup, name: &str) -> Option<Arc<str>> {
    let (start, hash) = name.rsplit_once('-')?;
    let group = group.name_any();
    let is_cut = || group.len() > ROOM && group.get(..ROOM) == Some(start);
    (self::name(&group, hash) == name || is_cut()).then(|| hash.into())
}

/// A ControllerRevision as the watch decodes it.
#[derive(Debug, Clone, Deserialize)]
pub struct WatchedRevision {
    #[serde(deserialize_with = "slim::metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    revision: i64,
}

stands_for!(WatchedRevision, v1::ControllerRevision);

/// A ControllerRevision as the store keeps it.
#[derive(Debug, PartialEq)]
pub struct Revision {
    /// Name, UID and version.
    pub header: Header,
    /// Its group.
    pub controller: Option<Controller>,
    /// The hash of its template.
    pub hash: Arc<str>,
    /// Its place in the group's history, from 1.
    pub number: i64,
    /// The template as JSON, which takes a tenth of what it takes parsed; `None` where it cannot be read.
    text: Option<Box<str>>,
}

impl Revision {
    /// The template; `None` where it cannot be read.
    pub fn template(&self) -> Option<PodTemplate> {
        serde_json::from_str(self.text.as_deref()?).ok()
    }

    /// Whether there is one.
    pub fn has_template(&self) -> bool {
        self.text.is_some()
    }
}

impl From<WatchedRevision> for Revision {
    fn from(watched: WatchedRevision) -> Self {
        let header = Header::of(&watched);
        let WatchedRevision { metadata, data, revision } = watched;
        let controller = Controller::of(&metadata);
        let label = metadata.labels.and_then(|mut labels| labels.remove(REVISION));
        Self {
            controller,
            hash: label.unwrap_or_default().into(),
            number: revision,
            text: template_of(&data)
                .and_then(|template| serde_json::to_string(&template).ok())
                .map(Into::into),
            header,
        }
    }
}

/// The data of a ControllerRevision with that template, in the form in which the built-in kinds write theirs.
pub(crate) fn data(template: &PodTemplate) -> Value {
    serde_json::json!({"spec": {"template": template}})
}

/// The template in the data of a ControllerRevision.
pub(crate) fn template_of(data: &Value) -> Option<PodTemplate> {
    PodTemplate::deserialize(data.get("spec")?.get("template")?).ok()
}

impl Indexed for Revision {
    /// The UID of the group.
    type Bucket = Arc<str>;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<Arc<str>> {
        self.controller.iter().map(|controller| Arc::clone(&controller.uid)).collect()
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(value: Value) -> PodTemplate {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_template_has_one_hash_and_another_template_another() {
        let parse = |text: &str| hash(&serde_json::from_str(text).unwrap());
        let one = parse(
            r#"{"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"x": 1, "y": {"p": 1, "q": 2}}}"#,
        );
        let same = parse(
            r#"{"spec": {"y": {"q": 2, "p": 1}, "x": 1}, "metadata": {"labels": {"b": "2", "a": "1"}}}"#,
        );
        let other = parse(
            r#"{"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"x": 2, "y": {"p": 1, "q": 2}}}"#,
        );
        assert_eq!((one.len(), one == same, one == other), (DIGITS, true, false));
    }

    #[test]
    fn a_template_survives_its_revision() {
        let template = template(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"newField": [1]}}));
        assert_eq!(template_of(&data(&template)), Some(template));
    }

    #[test]
    fn the_text_that_is_kept_of_a_template_says_all_that_it_says() {
        let written = json!({
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"resources": {"limits": {"cpu": 0.5, "memory": 1_000_000_000_000_u64}}}], "new": null},
        });
        let kept = |template: Value| {
            let object = json!({"metadata": {"name": "web-0123"}, "data": {"spec": {"template": template}}});
            Revision::from(serde_json::from_value::<WatchedRevision>(object).unwrap())
        };
        assert_eq!(kept(written.clone()).template(), Some(template(written)));
        let unreadable = kept(json!("none"));
        assert_eq!((unreadable.has_template(), unreadable.template()), (false, None));
    }

    #[test]
    fn every_group_has_a_name_for_its_revisions_that_no_other_has() {
        let long = |end: &str| format!("{}{end}", "x".repeat(230));
        let names = ["-a-and-much-more-of-it", "-b-and-much-more-of-it", ".a-and-much-more-of-it"].map(long);
        let revisions = names.each_ref().map(|group| name(group, "0123456789"));
        assert_ne!(revisions[0], revisions[1]);
        for revision in revisions {
            assert!(revision.len() <= MAX_NAME && !revision.contains(".-"), "{revision}");
            let (_, hash) = revision.rsplit_once('-').unwrap();
            assert_eq!(hash, "0123456789");
        }
    }

    #[test]
    fn the_name_that_an_earlier_version_gave_is_known() {
        let long = "x".repeat(250);
        let group: ReplicaGroup = serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "metadata": {"name": long},
            "spec": {"selector": {}, "template": {}}
        }))
        .unwrap();
        let hash = "0123456789";
        for kept in [name(&long, hash), format!("{}-{hash}", &long[..242])] {
            assert_eq!(hash_of(&group, &kept).as_deref(), Some(hash), "{kept}");
        }
        assert_eq!(hash_of(&group, &format!("{}-{hash}", &long[..241])), None);
    }

    #[test]
    fn names_of_other_groups_are_not_taken_for_ones_own() {
        let group: ReplicaGroup = serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "metadata": {"name": "web-a"},
            "spec": {"selector": {}, "template": {}}
        }))
        .unwrap();
        assert_eq!(hash_of(&group, "web-a-0123").as_deref(), Some("0123"));
        assert_eq!((hash_of(&group, "web-b-0123"), hash_of(&group, "0123")), (None, None));
    }
}
