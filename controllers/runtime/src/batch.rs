//! Reads the events of a busy watch in batches: the cost is waking up for each of them.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio::time::{sleep, timeout};

/// A stream without an event for this time has been read to its end for now. Between two available events only the
/// connection's task runs.
const DRAINED: Duration = Duration::from_millis(2);

/// The same events, the first at once. When all available events are passed on, the stream is not read for `rest`, so
/// an event may be late by this time. Nothing is lost: events that arrive meanwhile wait in the connection.
pub fn in_batches<S: Stream>(events: S, rest: Duration) -> impl Stream<Item = S::Item> {
    stream::unfold((Box::pin(events), false), move |(mut events, in_batch)| async move {
        if in_batch {
            match timeout(DRAINED, events.next()).await {
                Ok(event) => return Some((event?, (events, true))),
                Err(_) => sleep(rest).await,
            }
        }
        Some((events.next().await?, (events, true)))
    })
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_passed_on_at_once_and_the_rest_together() {
        let (sender, receiver) = mpsc::unbounded();
        let start = Instant::now();
        for (name, millis) in [("a", 5000), ("b", 5100), ("c", 5200), ("d", 7000)] {
            let sender = sender.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(millis)).await;
                sender.unbounded_send(name).unwrap();
            });
        }
        drop(sender);
        let seen = in_batches(receiver, Duration::from_millis(250)).map(|name| (name, start.elapsed()));
        let seen: Vec<_> = seen.map(|(name, after)| (name, after.as_millis())).collect().await;
        assert_eq!(seen, [("a", 5000), ("b", 5252), ("c", 5252), ("d", 7000)]);
    }
}
