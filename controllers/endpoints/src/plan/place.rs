//! Identifies an endpoint among the slices of a pool.

use std::sync::Arc;

use crate::{
    observe::Member,
    watched::{EndpointKey, Family, Group},
};

/// An endpoint in one of the pool's slices: with other ports it is another one.
pub type Place = (Group, EndpointKey);

/// The group of a member's endpoint.
pub(super) fn group_of(member: &Member) -> Group {
    Group { family: Family::of(&member.endpoint.address), ports: Arc::clone(&member.ports) }
}
