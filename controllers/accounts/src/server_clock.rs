//! The difference between the API server's clock and this process's.
//!
//! A token expires by the API server's clock. That clock is read from each token that is issued, and once at the start
//! from the header of an answer; in between the process's own monotonic clock continues it.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use kube::{Client, client::Body};
use mainstay_runtime::clock::Clock;
use parking_lot::Mutex;

/// How often the API server is asked for its time: the process's own clock stands still while its machine is suspended.
const EVERY: Duration = Duration::from_secs(60);
/// The time in an answer is in whole seconds, and old by as long as the answer took.
const INEXACT: SignedDuration = SignedDuration::from_secs(5);

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

    /// Asks the API server for its time, at once and again and again: a standby may have begun to lead hours after it
    /// started. Calls `jumped` where it is another than was known: what is due by it was expected at another time.
    pub async fn follow(&self, client: &Client, jumped: impl Fn()) {
        loop {
            if self.ask(client).await {
                jumped();
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Asks the API server for its time, by the head `Date` of an answer. Where that fails, what is known stays. Returns whether
    /// it is another than was known.
    pub async fn ask(&self, client: &Client) -> bool {
        let request = http::Request::get("/version").body(Body::empty());
        let Ok(request) = request else { return false };
        match client.send(request).await {
            Ok(answer) => {
                let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
                let time = date.and_then(|date| rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
                let before = self.now();
                let Some(time) = time.filter(|time| before.duration_since(*time).abs() > INEXACT) else {
                    return false;
                };
                self.set(time);
                tracing::info!(server = %time, here = %before, "the API server's clock");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the API server's time is not known");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_stood_still_is_put_right_within_a_minute() {
        let date = Arc::new(Mutex::new("Tue, 01 Jan 2030 00:00:00 GMT"));
        let said = Arc::clone(&date);
        let server = tower::service_fn(move |_: http::Request<Body>| {
            let answer =
                http::Response::builder().header(http::header::DATE, *said.lock()).body(Body::empty());
            std::future::ready(Ok::<_, std::io::Error>(answer.unwrap()))
        });
        let (client, server_clock) = (Client::new(server, "default"), ServerClock::new(Clock::start()));
        assert!(server_clock.ask(&client).await);
        let known: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(server_clock.now(), known);
        // The machine is suspended for two hours.
        *date.lock() = "Tue, 01 Jan 2030 02:00:00 GMT";
        let jumps = Mutex::new(0);
        let begins = server_clock.follow(&client, || *jumps.lock() += 1);
        tokio::time::timeout(Duration::from_secs(1), begins).await.unwrap_err();
        assert_eq!(*jumps.lock(), 1, "a process that begins to lead asks at once");
        let follows = server_clock.follow(&client, || *jumps.lock() += 1);
        tokio::time::timeout(Duration::from_secs(61), follows).await.unwrap_err();
        assert_eq!((*jumps.lock(), server_clock.now().duration_since(known).as_hours()), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn the_servers_time_goes_on_with_this_processs_clock() {
        let server_clock = ServerClock::new(Clock::start());
        let time: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        server_clock.set(time);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(server_clock.now().duration_since(time).as_secs(), 90);
    }
}
