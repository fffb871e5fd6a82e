//! Values that a structural schema admits, and values that it refuses: all at its bounds, in every field.
//!
//! Tests of the types decode what is admitted; tests on a cluster write both. A schema is JSON, as a
//! CustomResourceDefinition has it, so that nothing here depends on the types it was derived from.

mod admitted;
mod case;
mod defaults;
mod refused;
mod texts;
mod walk;

pub use admitted::{admitted, full, sparse};
pub use case::{Case, cases};
pub use defaults::set_defaults;
pub use refused::{Refused, refused};
pub use walk::walk;
