//! Everything that is read to observe a pool.

use crate::{interests::Interests, lookups::Lookups, ranges::Bounds, stores::Stores};

/// What [`Observed::gather`](super::Observed::gather) reads.
pub struct View<'a> {
    /// Objects.
    pub stores: &'a Stores,
    /// The pools that name a Service.
    pub interests: &'a Interests,
    /// The addresses of names.
    pub lookups: &'a Lookups,
    /// Addresses that are out of bounds.
    pub forbidden: Bounds<'a>,
}
