//! Waiting on a condition, with a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Long enough for anything that works, on a busy machine too.
const DEADLINE: Duration = Duration::from_secs(90);
/// Between two questions: what comes soon is seen soon, and what takes long is asked for less often. The API server spends
/// most of its time on such questions.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];

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
    let [mut pause, longest] = PAUSES;
    loop {
        let seen = match ask().await {
            Ok(answer) => return answer,
            Err(seen) => seen,
        };
        assert!(Instant::now() < end, "not within {limit:?}: {what}; last seen: {seen}");
        sleep(pause).await;
        pause = longest.min(pause.mul_f32(1.3));
    }
}
