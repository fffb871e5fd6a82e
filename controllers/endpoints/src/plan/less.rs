//! What can be done where not everything can: endpoints that must go do, and none is lost.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    pack::{self, Item},
    watched::{Conditions, Endpoint, EndpointKey, Group, Slice},
};

/// What to write, as [`super::slices`] has it.
type Changes = pack::Plan<Group, Endpoint>;
/// One slice that is rewritten.
type Update = pack::Update<Group, Endpoint>;

/// The slices with their endpoints as they may stay, as far as that changes them.
pub fn restricted(
    slices: &[Arc<Slice>],
    mut stays: impl FnMut(&Endpoint) -> Option<Endpoint>,
) -> Vec<Update> {
    let slices = slices.iter().enumerate().filter(|(_, slice)| !slice.header.terminating);
    let update = |(id, slice): (usize, &Arc<Slice>)| {
        let items: Vec<_> = slice.endpoints.iter().filter_map(&mut stays).collect();
        (items != slice.endpoints).then(|| Update { id, group: slice.group.clone(), items })
    };
    slices.filter_map(update).collect()
}

/// What of `changes` may be carried out although the slices that it creates cannot be. What was to move into one of them stays
/// where it is, with its new conditions; all else is done, so that nothing that refuses new slices keeps a pod that is gone, or
/// an address that is forbidden, in use.
pub fn without_new(changes: &Changes, slices: &[Arc<Slice>]) -> Changes {
    let items = changes.create.iter().flat_map(|(_, items)| items);
    let mut without_place: HashMap<_, _> = items.map(|item| (item.key(), item.conditions)).collect();
    let (mut update, mut narrowed): (Vec<_>, Vec<_>) = (changes.update.iter().collect(), Vec::new());
    loop {
        let (loses, fits): (Vec<_>, Vec<_>) =
            update.into_iter().partition(|update| loses(update, &slices[update.id], &without_place));
        update = fits;
        if loses.is_empty() {
            break;
        }
        // What such a one would have got has no other place either.
        for update in &loses {
            let slice = &slices[update.id];
            let had: HashSet<_> = slice.endpoints.iter().map(Item::key).collect();
            let is_new = |item: &&Endpoint| update.group != slice.group || !had.contains(&item.key());
            without_place
                .extend(update.items.iter().filter(is_new).map(|item| (item.key(), item.conditions)));
        }
        narrowed.extend(loses);
    }
    let gone = |id: &usize| Update { id: *id, group: slices[*id].group.clone(), items: Vec::new() };
    let gone: Vec<_> = changes.delete.iter().map(gone).collect();
    let (emptied, delete): (Vec<_>, Vec<_>) =
        gone.iter().partition(|update| loses(update, &slices[update.id], &without_place));
    let narrowed = narrowed.into_iter().chain(emptied);
    let narrowed = narrowed.filter_map(|update| narrow(update, &slices[update.id], &without_place));
    Changes {
        update: update.into_iter().cloned().chain(narrowed).collect(),
        create: Vec::new(),
        delete: delete.into_iter().map(|update| update.id).collect(),
    }
}

/// Whether an update would take an endpoint away that has no other place.
fn loses(update: &Update, slice: &Slice, without_place: &HashMap<EndpointKey, Conditions>) -> bool {
    let kept = kept(update, slice);
    let is_lost = |key: EndpointKey| without_place.contains_key(&key) && !kept.contains_key(&key);
    slice.endpoints.iter().map(Item::key).any(is_lost)
}

/// What of its slice an update keeps.
fn kept<'a>(update: &'a Update, slice: &Slice) -> HashMap<EndpointKey, &'a Endpoint> {
    let items = update.items.iter().filter(|_| update.group == slice.group);
    items.map(|item| (item.key(), item)).collect()
}

/// The update as far as it brings nothing into its slice, and takes nothing away that has no other place; `None` if nothing is
/// left of it.
fn narrow(
    update: &Update,
    slice: &Slice,
    without_place: &HashMap<EndpointKey, Conditions>,
) -> Option<Update> {
    let kept = kept(update, slice);
    let stays = |old: &Endpoint| {
        let stays = || Some(Endpoint { conditions: *without_place.get(&old.key())?, ..old.clone() });
        kept.get(&old.key()).map(|item| (*item).clone()).or_else(stays)
    };
    let items: Vec<_> = slice.endpoints.iter().filter_map(stays).collect();
    (items != slice.endpoints).then(|| Update { id: update.id, group: slice.group.clone(), items })
}
