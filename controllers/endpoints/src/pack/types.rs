//! The input and the output of packing.

/// What a slice holds: an endpoint.
pub trait Item: Clone + PartialEq {
    /// What makes two items the same endpoint: addresses, host name and target.
    type Key: Ord;

    /// The identity of this item. Two items of one key that are not equal are one endpoint that changed: it is updated
    /// in the slice where it is.
    fn key(&self) -> Self::Key;
}

/// A slice that exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice<I> {
    /// The caller's index of it, by which the plan names it. No two slices share one.
    pub id: usize,
    /// What it holds, in order.
    pub items: Vec<I>,
    /// Whether it may be turned into a slice of another group. Within its group it may always be refilled: a slice
    /// that must be deleted whatever it contains is the caller's to delete and to leave out here.
    pub recyclable: bool,
    /// Whether it has to be written even if it keeps its items, because its labels or other metadata are wrong.
    pub outdated: bool,
}
