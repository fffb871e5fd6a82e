//! What the bench is told.

use crate::run::Common;
use clap::Args;

/// What is measured, and how often.
#[derive(Args)]
pub(crate) struct Options {
    /// Services of each side
    #[arg(long, default_value_t = 50)]
    pub services: usize,
    /// Pods of each Service
    #[arg(long, default_value_t = 100)]
    pub pods: usize,
    /// Flips of readiness a second
    #[arg(long, default_value_t = 20)]
    pub rate: u32,
    /// For how long they go on, in seconds
    #[arg(long, default_value_t = 60)]
    pub seconds: u32,
    /// Addresses that are checked; 0 = none
    #[arg(long, default_value_t = 5000)]
    pub checked: usize,
    #[command(flatten)]
    pub common: Common,
}
