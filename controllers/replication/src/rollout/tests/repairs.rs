//! What comes back while nothing that is decided can be noted.

use super::*;

#[test]
fn what_is_lost_meanwhile_comes_back_as_what_is_proven() {
    let rollout = Rollout {
        available: 5,
        kept: Some(Kept { replicas: 5, of: 10 }),
        ..Rollout::new(rev("b"), None, at(0))
    };
    let state = State { rollout: Some(rollout), ..at_a() };
    // Of five and five, three old ones are lost. In proportion that would be seven new ones.
    let left = by_revision(&[("a", 2), ("b", 5)]);
    let of = |repairs| {
        let decision =
            decide(&Settings { paused: true, repairs, ..settings(10) }, &rev("b"), &state, &left, at(10));
        let mut shares: Vec<_> =
            shares(&decision).into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        shares.sort();
        shares
    };
    assert_eq!(of(false), [("a".to_owned(), 3), ("b".to_owned(), 7)]);
    assert_eq!(of(true), [("a".to_owned(), 5), ("b".to_owned(), 5)]);
}
