//! The load: one module for each controller, which changes what its users change, and knows at the end what must have come
//! of it.

pub(crate) mod accounts;
pub(crate) mod config;
pub(crate) mod groups;
pub(crate) mod nodes;
pub(crate) mod pools;
