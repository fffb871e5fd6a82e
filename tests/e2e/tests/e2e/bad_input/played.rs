//! Changes that are admitted, written while the controllers run.

use std::time::Duration;

use futures::future::join_all;
use mainstay_cases::Case;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::subject::{Subject, WORKERS, all};

/// How long writing may go on, where not all changes are written.
const TIME: Duration = Duration::from_secs(30);
/// A status must be about the new spec before this.
const ANSWERED: Duration = Duration::from_secs(20);
/// All must be as before until then, once the change is taken back: containers may have to start again.
const RESTORED: Duration = Duration::from_secs(60);

/// Writes the changes, each into one of some objects, and takes each back before the next. Returns what was wrong.
pub(crate) async fn play(subject: &Subject, mut cases: Vec<Case>) -> Vec<String> {
    cases.retain(|case| !subject.only_asked.iter().any(|path| case.is_below(path)));
    // To take the whole spec away is no change of a field.
    cases.retain(|case| case.path() != "/spec");
    let count = cases.len();
    let queue = Mutex::new(cases);
    let faults = Mutex::new(Vec::new());
    let begun = Instant::now();
    let (ended, until) = watch::channel(false);
    let work = async {
        let workers = (0..WORKERS).map(|number| worker(subject, number, begun, &queue, &faults));
        join_all(workers).await;
        ended.send_replace(true);
    };
    let (longest, ()) = tokio::join!(good(subject, until, &faults), work);
    let left = queue.into_inner().len();
    eprintln!(
        "{}: wrote {} of {count} changes in {:.0?}; the good one was answered within {longest:.1?}",
        subject.kind,
        count - left,
        begun.elapsed(),
    );
    faults.into_inner()
}

/// Changes one object, until there is nothing left or the time is over.
async fn worker(
    subject: &Subject,
    number: usize,
    begun: Instant,
    queue: &Mutex<Vec<Case>>,
    faults: &Mutex<Vec<String>>,
) {
    let object = subject.object(number);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    subject.create(&object).await;
    let before = match settles(subject, name).await {
        Ok(before) => before,
        Err(seen) => return faults.lock().push(format!("{name} is not at rest to begin with: {seen}")),
    };
    while all() || begun.elapsed() < TIME {
        let Some(case) = queue.lock().pop() else { break };
        let changed = case.of(&subject.named(subject.base_for(&case), number));
        let said = match subject.set(name, &changed["spec"]).await {
            // What may not be changed is refused here, and not where it is new.
            Err(message) if case.is_named_by(&message) => continue,
            Err(message) => {
                faults.lock().push(format!("{}: the refusal does not name it: {message}", case.what));
                continue;
            }
            Ok(_) => subject.answers(name, ANSWERED, has_reasons).await,
        };
        if let Err(seen) = said {
            faults.lock().push(format!("{}: not answered within {ANSWERED:?}: {seen}", case.what));
        }
        if let Err(message) = subject.set(name, &object["spec"]).await {
            faults.lock().push(format!("{}: cannot be taken back: {message}", case.what));
            return;
        }
        if let Err(seen) = subject.answers(name, RESTORED, |status| rest(status) == before).await {
            faults
                .lock()
                .push(format!("{}: taken back, and it is not as before ({before}): {seen}", case.what));
            return;
        }
    }
    subject.delete(name).await;
}

/// Waits until the object is at rest, and what it has created is counted too; returns that state.
async fn settles(subject: &Subject, name: &str) -> Result<Value, String> {
    let mut before = Value::Null;
    loop {
        let object = subject.answers(name, RESTORED, is_at_rest).await?;
        let now = rest(&object["status"]);
        if now == before {
            return Ok(now);
        }
        before = now;
        sleep(Duration::from_secs(2)).await;
    }
}

/// Changes the good object all the while, and a last time at the end. Returns the longest time to an answer.
async fn good(subject: &Subject, mut until: watch::Receiver<bool>, faults: &Mutex<Vec<String>>) -> Duration {
    let mut object = subject.object(WORKERS);
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    subject.create(&object).await;
    let (field, values) = &subject.toggled;
    let mut longest = Duration::ZERO;
    for turn in 0.. {
        let is_last = *until.borrow_and_update();
        object["spec"][field] = values[turn % 2].clone();
        let since = Instant::now();
        subject.set(&name, &object["spec"]).await.expect("the good object is admitted");
        if let Err(seen) = subject.answers(&name, ANSWERED, has_reasons).await {
            faults.lock().push(format!("the good {name} is not answered within {ANSWERED:?}: {seen}"));
        }
        longest = longest.max(since.elapsed());
        if is_last {
            break;
        }
        drop(tokio::time::timeout(Duration::from_secs(1), until.changed()).await);
        sleep(Duration::from_millis(10)).await;
    }
    subject.delete(&name).await;
    longest
}

/// Whether each condition says why it is so, in a word, and the one that people look at in a sentence.
fn has_reasons(status: &Value) -> bool {
    let has = |condition: &Value, field: &str| condition[field].as_str().is_some_and(|text| !text.is_empty());
    let is_told = |condition: &Value| {
        condition["type"] == "Ready" || condition["type"] == "Stalled" && condition["status"] == "True"
    };
    let says =
        |condition: &Value| has(condition, "reason") && (!is_told(condition) || has(condition, "message"));
    let conditions = conditions(status);
    !conditions.is_empty() && conditions.iter().all(says)
}

fn conditions(status: &Value) -> &[Value] {
    status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether the controller has done what it can: nothing is in progress.
fn is_at_rest(status: &Value) -> bool {
    let has = |kind: &str, value: &str| {
        conditions(status).iter().any(|condition| condition["type"] == kind && condition["status"] == value)
    };
    !has("Reconciling", "True") && has("Ready", "True")
}

/// What of a status has to be as before: the conditions, and all numbers and names, but no times and no sentences.
fn rest(status: &Value) -> Value {
    const KEPT: [&str; 9] = [
        "replicas",
        "readyReplicas",
        "availableReplicas",
        "updatedReplicas",
        "updateRevision",
        "tier",
        "members",
        "nodes",
        "namespaces",
    ];
    let conditions: Vec<_> = conditions(status)
        .iter()
        .map(|condition| json!([condition["type"], condition["status"], condition["reason"]]))
        .collect();
    let kept: Value = KEPT.iter().map(|field| ((*field).to_owned(), status[field].clone())).collect();
    json!({"conditions": conditions, "counts": kept})
}
