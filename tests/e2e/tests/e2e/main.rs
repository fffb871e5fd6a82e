//! The end-to-end tests, one file a theme. `make e2e` runs them.

mod admission;
mod basics;
mod canary;
mod chart;
mod claims;
mod deletion;
mod disruption;
mod failures;
mod in_place;
mod install;
mod leader;
mod quiet;
mod replacement;
mod revisions;
mod rights;
mod rollback;
mod rollout;
mod rollout_crash;
mod rollout_scale;
mod scale_down;
mod status;
mod update_strategies;
