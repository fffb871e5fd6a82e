//! Which EndpointSlices to write, so that together they contain the wanted endpoints.
//!
//! [`plan`] is pure and total, and knows nothing of Kubernetes except the maximum size of a slice. It promises:
//!
//! - Once the plan is carried out, the slices contain each wanted item exactly once, none contains more than `max`,
//!   and the next plan is empty.
//! - A slice is written only if something in it changed, if the caller says that it is outdated, or if it gets new
//!   items. Slices are never rebalanced, so that one changed endpoint costs one write.
//! - Items keep their order within a slice; new ones are appended, in the order of their keys.
//! - The same input gives the same plan, and a plan names a slice at most once.
//!
//! The rules are those of the EndpointSlice controller of kube-controller-manager (`reconcileByPortMapping` and
//! `finalize` in k8s.io/endpointslice), with one difference: an empty slice is never kept beside others.

mod group;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeMap;

use self::group::pack;
pub use self::types::{Item, Slice};

/// One slice is to hold `items`, as one of `group`, and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Update<G, I> {
    /// Which slice: [`Slice::id`].
    pub id: usize,
    /// The group that it belongs to from now on.
    pub group: G,
    /// All it is to hold, in order.
    pub items: Vec<I>,
}

/// What to write. To lose no endpoint on the way, create first, then update, then delete.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<G, I> {
    /// Slices to rewrite: by group, those that change their group last.
    pub update: Vec<Update<G, I>>,
    /// Slices to create: the group and what each holds.
    pub create: Vec<(G, Vec<I>)>,
    /// Slices to delete: [`Slice::id`].
    pub delete: Vec<usize>,
}

impl<G, I> Plan<G, I> {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.update.is_empty() && self.create.is_empty() && self.delete.is_empty()
    }
}

/// What is wanted of a group, if it is wanted, and its slices.
type Group<'a, I> = (Option<&'a [I]>, Vec<&'a Slice<I>>);

/// Plans the slices of one Service.
///
/// A group is what all items of a slice share: address family and ports. `wanted` says what each is to hold; of several
/// items of one key the last counts. A group that is wanted with no items gets exactly one slice, an empty one; a group
/// that is not in `wanted` gets none. `max` is the most items a slice may hold; zero counts as one.
///
/// A slice that its group no longer needs becomes one that another group needs, if it is recyclable and `same_family`
/// holds for the two groups: the family of addresses of a slice cannot be changed. `same_family` has to be an
/// equivalence.
pub fn plan<G: Ord + Clone, I: Item>(
    wanted: &BTreeMap<G, Vec<I>>,
    existing: &[(G, Slice<I>)],
    max: usize,
    same_family: impl Fn(&G, &G) -> bool,
) -> Plan<G, I> {
    let mut groups: BTreeMap<&G, Group<'_, I>> = BTreeMap::new();
    for (group, items) in wanted {
        groups.entry(group).or_default().0 = Some(items);
    }
    for (group, slice) in existing {
        groups.entry(group).or_default().1.push(slice);
    }
    let mut plan = Plan { update: Vec::new(), create: Vec::new(), delete: Vec::new() };
    let (mut new, mut spare) = (Vec::new(), Vec::new());
    for (group, (items, slices)) in groups {
        let packing = pack(items, slices, max.max(1));
        let updates =
            packing.update.into_iter().map(|(id, items)| Update { id, group: group.clone(), items });
        plan.update.extend(updates);
        new.extend(packing.create.into_iter().map(|items| (group, items)));
        spare.extend(packing.spare.into_iter().map(|slice| (group, slice)));
    }
    for (group, items) in new {
        let fits = |&(other, slice): &(&G, &Slice<I>)| slice.recyclable && same_family(group, other);
        match spare.iter().position(fits) {
            Some(place) => {
                let (_, slice) = spare.remove(place);
                plan.update.push(Update { id: slice.id, group: group.clone(), items });
            }
            None => plan.create.push((group.clone(), items)),
        }
    }
    plan.delete = spare.into_iter().map(|(_, slice)| slice.id).collect();
    plan
}
