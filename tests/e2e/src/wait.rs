//! Waiting on a condition, with a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Long enough for anything that works, on a busy machine too.
const DEADLINE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(100);

/// Asks until the answer is `Ok`, for 90 s.
///
/// # Panics
/// At the deadline, with `what` and the last `Err`.
pub async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    within(DEADLINE, what, ask).await
}

/// Asks until the answer is `Ok`, for as long as `limit`.
///
/// # Panics
/// At the deadline, with `what` and the last `Err`.
pub async fn within<T>(limit: Duration, what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + limit;
    loop {
        let seen = match ask().await {
            Ok(answer) => return answer,
            Err(seen) => seen,
        };
        assert!(Instant::now() < end, "not within {limit:?}: {what}; last seen: {seen}");
        sleep(PAUSE).await;
    }
}
