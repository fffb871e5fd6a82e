//! What the bench is told.

use crate::run::Common;
use clap::Args;

/// What is measured.
#[derive(Args)]
pub(crate) struct Options {
    /// Deployments that use the ConfigMap
    #[arg(long, default_value_t = 50)]
    pub deployments: usize,
    /// Changes of the ConfigMap
    #[arg(long, default_value_t = 30)]
    pub changes: usize,
    /// Secrets
    #[arg(long, default_value_t = 500)]
    pub secrets: usize,
    /// Their sizes, one after the other, in KiB
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 500])]
    pub sizes: Vec<usize>,
    #[command(flatten)]
    pub common: Common,
}
