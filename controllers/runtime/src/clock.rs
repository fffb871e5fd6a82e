//! The time of the process: a monotonic clock, and its moments as wall-clock time.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// A point in time: how long after the start of the process, on a clock that never goes back.
pub type Moment = Duration;

/// Tells the time since it was started. Made once a process, so that all moments compare.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    wall: Timestamp,
}

impl Clock {
    /// A clock that is at zero now.
    pub fn start() -> Self {
        Self { start: Instant::now(), wall: Timestamp::now() }
    }

    /// How long ago it was started. Follows tokio's clock, so tests can pause it.
    pub fn now(&self) -> Moment {
        self.start.elapsed()
    }

    /// What the wall clock showed at the start, and `moment` later. Equal moments give equal times, whatever
    /// became of the wall clock since.
    pub fn timestamp(&self, moment: Moment) -> Timestamp {
        self.wall.checked_add(moment).unwrap_or(Timestamp::MAX)
    }

    /// Ends at `moment`; at once when it has passed, and never when there is none.
    pub async fn until(&self, moment: Option<Moment>) {
        match moment {
            Some(moment) => tokio::time::sleep(moment.saturating_sub(self.now())).await,
            None => std::future::pending::<()>().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn equal_moments_are_equal_times_and_later_ones_are_later_by_as_much() {
        let clock = Clock::start();
        let before = clock.now();
        let shown = clock.timestamp(before);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now() - before, Duration::from_secs(90));
        assert_eq!(clock.timestamp(before), shown);
        assert_eq!(clock.timestamp(clock.now()).duration_since(shown).as_secs(), 90);
        assert_eq!(clock.timestamp(Duration::MAX), Timestamp::MAX);
    }
}
