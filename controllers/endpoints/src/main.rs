//! The EndpointPool controller as a program.

use std::process::ExitCode;

use clap::Parser;
use mainstay_endpoints::{
    controller::{self, Options},
    ranges::{self, Forbidden, Range},
};
use mainstay_runtime::{flags::Flags, manager};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Gives Services the endpoints that EndpointPools name, as far as they answer their checks.
#[derive(Debug, Parser)]
#[command(name = "mainstay-endpoints", version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// Addresses that no pool may name: networks, `nodes` and `api-server`; loopback and link-local ones never may
    #[arg(long, env = "MAINSTAY_FORBIDDEN_RANGES", value_delimiter = ',', default_values = ranges::DEFAULT)]
    forbidden_ranges: Vec<Entry>,
    /// How many checks are under way at the same time
    #[arg(long, env = "MAINSTAY_MAX_CONCURRENT_CHECKS", default_value_t = 256,
          value_parser = clap::value_parser!(u16).range(1..))]
    max_concurrent_checks: u16,
}

/// An entry of a list that may be empty: an empty list is given as one empty entry.
#[derive(Debug, Clone)]
struct Entry(Option<Range>);

impl std::str::FromStr for Entry {
    type Err = ranges::RangeError;

    fn from_str(text: &str) -> Result<Self, ranges::RangeError> {
        if text.is_empty() { Ok(Self(None)) } else { text.parse().map(|range| Self(Some(range))) }
    }
}

// One thread serves thousands of checks a second; more would spend their time on waking each other.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { flags, forbidden_ranges, max_concurrent_checks } = Arguments::parse();
    let options = Options {
        forbidden: Forbidden(forbidden_ranges.into_iter().filter_map(|entry| entry.0).collect()),
        max_concurrent_checks: max_concurrent_checks.into(),
    };
    manager::run("mainstay-endpoints", flags, async |manager| controller::build(manager, options).await).await
}
