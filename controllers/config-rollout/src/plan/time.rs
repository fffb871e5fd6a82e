//! Spans of time.

use std::time::Duration;

use jiff::Timestamp;
use mainstay_runtime::conditions::second;

/// How long after `from` it is at `to`; nothing when it is not later.
pub(super) fn since(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// The next full second.
pub(super) fn next_second(time: Timestamp) -> Timestamp {
    let floor = second(time);
    if floor == time { time } else { floor.checked_add(Duration::from_secs(1)).unwrap_or(time) }
}
