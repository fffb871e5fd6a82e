//! Kubernetes Events with a fixed set of reasons.
//!
//! Publishing never delays or fails a reconcile: an event that cannot be written is logged and dropped.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;

/// Events wait for the server in a queue of this length, so that a zone of a large cluster may die at once; more are
/// dropped.
const QUEUE: usize = 4096;
/// The server refuses a longer note (events.k8s.io/v1: less than 1 kB).
const NOTE_LIMIT: usize = 1000;

/// Publishes events in the background, repeated warnings as a series.
#[derive(Debug, Clone)]
pub struct Events {
    queue: mpsc::Sender<(Event, ObjectReference)>,
}

/// How an event is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing to do.
    Normal,
    /// A user should look at it.
    Warning,
}

impl Events {
    /// Starts the publisher of `controller`, running as `instance`. It ends when the last clone is dropped.
    pub fn start(client: Client, controller: &str, instance: &str) -> Self {
        let (queue, mut events) = mpsc::channel::<(Event, ObjectReference)>(QUEUE);
        let reporter = Reporter { controller: controller.into(), instance: Some(instance.into()) };
        let series = Recorder::new(client.clone(), reporter.clone());
        tokio::spawn(async move {
            while let Some((event, regarding)) = events.recv().await {
                // A recorder keeps the first note of a series. That serves warnings, which repeat; what was done
                // is told anew each time.
                let single = Recorder::new(client.clone(), reporter.clone());
                let recorder = if event.type_ == EventType::Warning { &series } else { &single };
                let published = recorder.publish(&event, &regarding);
                match tokio::time::timeout(Duration::from_secs(10), published).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(reason = event.reason, %error, "could not publish an event")
                    }
                    Err(_) => tracing::warn!(reason = event.reason, "could not publish an event in 10 s"),
                }
            }
        });
        Self { queue }
    }

    /// Publishes that `reason` happened to `regarding` while the controller did `action`.
    pub fn publish(
        &self,
        regarding: ObjectReference,
        kind: Kind,
        reason: &'static str,
        action: &str,
        note: &str,
    ) {
        let type_ = match kind {
            Kind::Normal => EventType::Normal,
            Kind::Warning => EventType::Warning,
        };
        let note = note.chars().scan(0, |bytes, letter| {
            *bytes += letter.len_utf8();
            (*bytes <= NOTE_LIMIT).then_some(letter)
        });
        let event = Event {
            type_,
            reason: reason.into(),
            note: Some(note.collect()),
            action: action.into(),
            secondary: None,
        };
        if self.queue.try_send((event, regarding)).is_err() {
            tracing::warn!(reason, "too many events wait to be sent to the API server; one is dropped");
        }
    }
}
