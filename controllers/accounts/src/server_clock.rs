//! The difference between the API server's clock and this process's.
//!
//! A token expires by the API server's clock. That clock is read from each token that is issued, and once at the start
//! from the header of an answer; in between the process's own monotonic clock continues it.

use std::sync::Arc;

use jiff::{Timestamp, fmt::rfc2822};
use kube::{Client, client::Body};
use mainstay_runtime::clock::Clock;
use parking_lot::Mutex;

/// The API server's clock, as far as it is known. Clones share it.
#[derive(Debug, Clone)]
pub struct ServerClock {
    clock: Clock,
    /// A time of the API server's clock, and when that was.
    known: Arc<Mutex<(Timestamp, mainstay_runtime::clock::Moment)>>,
}

impl ServerClock {
    /// Until something else is known, the clocks agree.
    pub fn new(clock: Clock) -> Self {
        let now = (Timestamp::now(), clock.now());
        Self { clock, known: Arc::new(Mutex::new(now)) }
    }

    /// The time of the API server's clock.
    pub fn now(&self) -> Timestamp {
        let (time, at) = *self.known.lock();
        time.checked_add(self.clock.now().saturating_sub(at)).unwrap_or(time)
    }

    /// The API server's clock shows this time now.
    pub fn set(&self, time: Timestamp) {
        *self.known.lock() = (time, self.clock.now());
    }

    /// Asks the API server for its time, by the head `Date` of an answer. Where that fails, what is known stays.
    pub async fn ask(&self, client: &Client) {
        let request = http::Request::get("/version").body(Body::empty());
        let Ok(request) = request else { return };
        match client.send(request).await {
            Ok(answer) => {
                let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
                let time = date.and_then(|date| rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
                if let Some(time) = time {
                    let before = self.now();
                    self.set(time);
                    tracing::info!(server = %time, here = %before, "the API server's clock");
                }
            }
            Err(error) => tracing::warn!(%error, "the API server's time is not known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_servers_time_goes_on_with_this_processs_clock() {
        let server_clock = ServerClock::new(Clock::start());
        let time: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        server_clock.set(time);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(server_clock.now().duration_since(time).as_secs(), 90);
    }
}
