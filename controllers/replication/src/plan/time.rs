//! Times, and how pods depend on them.

use std::time::Duration;

use jiff::Timestamp;

use super::types::Pod;

/// Whether `pod` has been ready for long enough.
pub(super) fn is_available(pod: &Pod<'_>, min_ready: Duration, now: Timestamp) -> bool {
    until_available(pod, min_ready, now).is_some_and(|wait| wait.is_zero())
}

/// How long until `pod` counts as available, given that it stays ready; zero when it is, `None` when it is
/// not even ready.
pub(super) fn until_available(pod: &Pod<'_>, min_ready: Duration, now: Timestamp) -> Option<Duration> {
    let ready_since = pod.ready_since.filter(|_| !pod.is_drained())?;
    if min_ready.is_zero() {
        return Some(Duration::ZERO);
    }
    // Of the two spans one is zero: a time in the future, from a clock that is ahead, lengthens the wait.
    Some(min_ready.saturating_add(elapsed(now, ready_since)).saturating_sub(elapsed(ready_since, now)))
}

/// The time from `start` to `end`; zero when `end` comes first.
pub(super) fn elapsed(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

/// The shorter of two waits, either of which may not be.
pub(super) fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}
