//! An upgrade replaces no pod: what an earlier version has written is what this one would write.

use super::*;
use crate::pod::WatchedPod;

/// A complete group, its ControllerRevision and its pods, as the version at aa62d28 wrote them.
const WRITTEN: &str = include_str!("previous.json");

/// What was written, with this hash in place of the one that it has.
fn written(hash: Option<&str>) -> (ReplicaGroup, Stores, Arc<str>) {
    let found: Value = serde_json::from_str(WRITTEN).unwrap();
    let of = found["revision"]["metadata"]["labels"][REVISION].as_str().unwrap();
    let hash = hash.unwrap_or(of);
    let found: Value = serde_json::from_str(&WRITTEN.replace(of, hash)).unwrap();
    let stores = Stores::default();
    let kept: revision::WatchedRevision = serde_json::from_value(found["revision"].clone()).unwrap();
    stores.revisions.apply(Event::Apply(kept.into()), |_| {});
    for pod in found["pods"].as_array().unwrap() {
        let pod: WatchedPod = serde_json::from_value(pod.clone()).unwrap();
        stores.pods.apply(Event::Apply(Pod::slim(pod, &mut LabelPool::default())), |_| {});
    }
    (serde_json::from_value(found["group"].clone()).unwrap(), stores, hash.into())
}

#[test]
fn a_group_of_an_earlier_version_is_complete_and_nothing_is_written_to_its_pods() {
    // The second is what a version with another way to compute hashes would have written.
    for hash in [None, Some("0123456789")] {
        let (group, stores, hash) = written(hash);
        let observed = Observed::gather(&group, &stores).unwrap();
        assert_eq!(observed.revisions.own, hash);
        let state = State::read(&group, group.status.as_ref().unwrap());
        let moment = Duration::from_secs(1);
        let look = Look { moment, wall: Timestamp::now(), watched: moment, sure: true };
        let assessed = observed.assess(&group, &state, Evidence::default(), &look);
        assert!(assessed.plan.is_empty(), "{:?}", assessed.plan);
        assert_eq!((assessed.updated, &assessed.decision.state.rollout), (2, &None));
    }
}

#[test]
fn a_template_has_the_hash_that_it_had_in_an_earlier_version() {
    let (group, _, hash) = written(None);
    assert_eq!(revision::hash(&group.spec.template), hash);
}
