//! The end-to-end tests, one file a theme. `make e2e` runs them.

mod admission;
mod basics;
mod chart;
mod claims;
mod deletion;
mod failures;
mod install;
mod leader;
mod quiet;
mod replacement;
mod rights;
mod scale_down;
mod status;
