//! What is checked, how, and what is known of it.

use std::{net::IpAddr, sync::Arc};

use mainstay_probe::{Failure, Kind};
use mainstay_runtime::clock::Moment;

use crate::health::{Settings, Verdict};

/// Which endpoint of a pool. Its port may change without losing the verdict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The set that it comes from.
    pub set: Arc<str>,
    /// Its address.
    pub address: IpAddr,
    /// The name of its pod: those on the network of their node share its address.
    pub pod: Option<Arc<str>>,
}

/// What is wanted of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The port to check.
    pub port: u16,
    /// What a former leader had decided. Only looked at when the target is new.
    pub resumed: Option<Verdict>,
}

/// How the targets of a pool are checked.
#[derive(Clone, Debug)]
pub struct Definition {
    /// When, how often, and for how long an answer is waited for.
    pub settings: Settings,
    /// What is asked.
    pub kind: Kind,
    /// How many checks of the pool may run at the same time. Zero counts as one.
    pub max_concurrent: usize,
}

/// What is known of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What its checks say.
    pub verdict: Verdict,
    /// Since when they say so.
    pub since: Moment,
    /// Why the last check failed; `None` when it passed, and before the first has ended.
    pub failure: Option<Failure>,
}
