//! Jobs that are under way, each apart from the others: one that panics ends alone.

use std::panic::AssertUnwindSafe;

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};

/// The jobs that are under way, each with what it is known by. They go on while the [next](Self::next) end is waited for;
/// dropping this ends them at once.
#[derive(Debug)]
pub struct Jobs<'a, K, T>(FuturesUnordered<BoxFuture<'a, (K, Option<T>)>>);

impl<K, T> Default for Jobs<'_, K, T> {
    fn default() -> Self {
        Self(FuturesUnordered::new())
    }
}

impl<'a, K: Send + 'a, T: Send + 'a> Jobs<'a, K, T> {
    /// Begins a job.
    pub fn start(&mut self, key: K, job: impl Future<Output = T> + Send + 'a) {
        // What a job leaves half done is found out by the next look, as after a lost answer.
        let job = AssertUnwindSafe(job).catch_unwind();
        self.0.push(job.map(|found| (key, found.ok())).boxed());
    }

    /// The next job that ends; never when none is under way. `None` in place of what it has found: it panicked. No end is lost
    /// when the future is dropped.
    pub async fn next(&mut self) -> (K, Option<T>) {
        let Some((key, found)) = self.0.next().await else { return std::future::pending().await };
        if found.is_none() {
            tracing::error!("a job panicked; only what it was about is affected");
        }
        (key, found)
    }

    /// Waits until none is under way.
    pub async fn finish(&mut self) {
        while self.0.next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn jobs_end_in_any_order_and_a_panic_is_the_end_of_one() {
        let mut jobs = Jobs::default();
        let after = |seconds| sleep(Duration::from_secs(seconds));
        jobs.start("slow", after(3).map(|()| 1));
        jobs.start("broken", after(2).map(|()| panic!("a bug that one key meets")));
        jobs.start("quick", after(1).map(|()| 2));
        assert_eq!(jobs.next().await, ("quick", Some(2)));
        assert_eq!(jobs.next().await, ("broken", None));
        jobs.start("broken", after(2).map(|()| 3));
        assert_eq!(jobs.next().await, ("slow", Some(1)));
        assert_eq!(jobs.next().await, ("broken", Some(3)));
        assert_eq!(jobs.next().now_or_never(), None, "none is under way");
    }

    #[tokio::test(start_paused = true)]
    async fn those_under_way_are_waited_for_at_the_end() {
        let (mut jobs, began) = (Jobs::default(), Instant::now());
        (1..=3).for_each(|seconds| jobs.start(seconds, sleep(Duration::from_secs(seconds))));
        jobs.finish().await;
        assert_eq!(began.elapsed(), Duration::from_secs(3));
    }
}
