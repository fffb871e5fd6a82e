//! The slices of one group.

use std::{cmp::Reverse, collections::BTreeMap};

use super::types::{Item, Slice};

/// What to write in one group, given that no other group can make use of what it has to spare.
pub(super) struct Packing<'a, I> {
    /// Slices to rewrite, by id.
    pub(super) update: Vec<(usize, Vec<I>)>,
    /// What each of the slices to create holds.
    pub(super) create: Vec<Vec<I>>,
    /// Slices that the group does not need.
    pub(super) spare: Vec<&'a Slice<I>>,
}

/// A slice as it is to be.
struct Draft<'a, I> {
    slice: &'a Slice<I>,
    items: Vec<&'a I>,
    /// Whether it differs from what exists.
    written: bool,
}

impl<'a, I: Item> Draft<'a, I> {
    /// Keeps the wanted endpoints of `slice` that are in no slice yet, up to its maximum size, and removes them from
    /// `missing`.
    fn keep(slice: &'a Slice<I>, missing: &mut BTreeMap<I::Key, &'a I>, max: usize) -> Self {
        let mut draft = Self { slice, items: Vec::new(), written: slice.outdated };
        for old in &slice.items {
            let kept = if draft.items.len() < max { missing.remove(&old.key()) } else { None };
            draft.written |= kept != Some(old);
            draft.items.extend(kept);
        }
        draft
    }
}

/// Packs what is wanted of one group, `None` if the group itself is not wanted, into slices of at most `max` > 0 items.
pub(super) fn pack<'a, I: Item>(
    wanted: Option<&'a [I]>,
    existing: Vec<&'a Slice<I>>,
    max: usize,
) -> Packing<'a, I> {
    let mut missing: BTreeMap<_, _> =
        wanted.unwrap_or_default().iter().map(|item| (item.key(), item)).collect();
    let drafts = existing.into_iter().map(|slice| Draft::keep(slice, &mut missing, max));
    let (mut drafts, mut spare): (Vec<_>, Vec<_>) = drafts.partition(|draft| !draft.items.is_empty());
    let mut create = place(missing.into_values(), &mut drafts, max);
    let only_a_placeholder = wanted.is_some_and(<[I]>::is_empty);
    if only_a_placeholder {
        create.push(Vec::new());
    }

    // First what serves without a write, then what is of no use to other groups.
    spare.sort_by_key(|draft| (only_a_placeholder && draft.written, draft.slice.recyclable));
    let reused = create.len().min(spare.len());
    for (mut draft, items) in spare.drain(..reused).zip(create.drain(..reused)) {
        draft.written |= !items.is_empty();
        draft.items = items;
        drafts.push(draft);
    }
    let owned = |items: Vec<&I>| items.into_iter().cloned().collect();
    let written = drafts.into_iter().filter(|draft| draft.written);
    Packing {
        update: written.map(|draft| (draft.slice.id, owned(draft.items))).collect(),
        create: create.into_iter().map(owned).collect(),
        spare: spare.into_iter().map(|draft| draft.slice).collect(),
    }
}

/// Places the rest where it costs the fewest writes, and returns what takes slices of its own. No draft is empty.
fn place<'a, I>(
    mut rest: impl ExactSizeIterator<Item = &'a I>,
    drafts: &mut [Draft<'a, I>],
    max: usize,
) -> Vec<Vec<&'a I>> {
    let mut open: Vec<_> = drafts.iter_mut().filter(|draft| draft.written).collect();
    open.sort_by_key(|draft| Reverse(draft.items.len()));
    for draft in open {
        let room = max - draft.items.len();
        draft.items.extend(rest.by_ref().take(room));
    }
    let mut create = Vec::new();
    while rest.len() > 0 {
        let fits = |draft: &&mut Draft<'a, I>| !draft.written && draft.items.len() + rest.len() <= max;
        // Of equals the last is found, hence backwards.
        match drafts.iter_mut().rev().filter(fits).max_by_key(|draft| draft.items.len()) {
            Some(draft) => {
                draft.written = true;
                draft.items.extend(rest.by_ref());
            }
            None => create.push(rest.by_ref().take(max).collect()),
        }
    }
    create
}
