//! Bindings that a policy has taken over.

use super::*;

#[test]
fn a_binding_that_was_taken_over_does_not_go_on_to_give_what_the_policy_gave() {
    let mut observed = settled();
    observed.bindings.get_mut("bot").unwrap().mark =
        Some(Mark { policy: name("ci"), origin: Origin::Adopted });
    observed.desired.clear();
    observed.leaving = [(name("ci"), Leaving::Delete(at(0)))].into();
    let actions = plan(&observed, at(10)).actions;
    assert!(actions.contains(&Action::RestoreBinding(name("bot"), "b".into())), "{actions:?}");
    // `Orphan` says that all stays as it is.
    observed.leaving = [(name("ci"), Leaving::Orphan)].into();
    let orphaned = plan(&observed, at(10)).actions;
    assert!(orphaned.contains(&Action::Release(Part::Binding, name("bot"), "b".into())), "{orphaned:?}");
}

#[test]
fn who_was_bound_is_written_down_when_a_binding_is_taken_over_and_not_later() {
    let mut observed = settled();
    let binding = observed.bindings.get_mut("bot").unwrap();
    (binding.mark, binding.binding, binding.consent) = (None, None, Some(name("ci")));
    let first = |observed: &Observed| match &plan(observed, at(10)).actions[..] {
        [Action::UpdateBinding { adopted: true, first, .. }] => *first,
        other => panic!("{other:?}"),
    };
    assert!(first(&observed));
    observed.bindings.get_mut("bot").unwrap().mark =
        Some(Mark { policy: name("ci"), origin: Origin::Adopted });
    assert!(!first(&observed), "those are the policy's");
    // A tool that labels all that it finds has bound nobody.
    observed.bindings.get_mut("bot").unwrap().mark =
        Some(Mark { policy: name("ci"), origin: Origin::Foreign });
    assert!(first(&observed));
}
