//! What the bench is told, and what its files agree on.

use crate::{run::Common, side::Side};
use clap::Args;

/// The label of the namespaces, which the policy picks.
pub(super) const LABEL: &str = "mainstay-bench/accounts";
/// The policy's name.
pub(super) const POLICY: &str = "mainstay-bench";
/// Requests under way when namespaces are made and deleted.
pub(super) const IN_FLIGHT: usize = 16;
/// The sides that take part.
pub(super) const SIDES: [Side; 3] = [Side::Mainstay, Side::AloneLifted, Side::Shipped];

/// What is measured.
#[derive(Args)]
pub(crate) struct Options {
    /// Namespaces that appear at once
    #[arg(long, default_value_t = 1000)]
    pub namespaces: usize,
    /// For how long nothing may be written afterwards, in seconds
    #[arg(long, default_value_t = 60)]
    pub settled_seconds: u64,
    #[command(flatten)]
    pub common: Common,
}
