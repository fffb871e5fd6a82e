//! A client that asks a Service without a break.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Request;
use kube::Client;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use crate::{pods, scenario::Scenario, wait::eventually};

/// Name of the pod that asks.
pub const CLIENT: &str = "client";

/// Enough requests to meet every moment of a change, and few enough to leave the machine to the rest.
const PAUSE: Duration = Duration::from_millis(20);

/// So many answers in a row are looked at.
const LAST: usize = 10;

/// Requests under way until this is dropped or ended.
pub struct Traffic {
    log: Arc<Mutex<Answers>>,
    stop: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
struct Answers {
    /// Who answered those that were.
    by: Vec<String>,
    /// What became of the others.
    failures: Vec<String>,
}

/// Whether the last answers are all of this pod.
fn are_all(last: &[String], pod: &str) -> bool {
    last.len() == LAST && last.iter().all(|who| *who == pod)
}

impl Traffic {
    /// Makes a Service for the pods of the group `app`, a pod that asks it from inside the cluster, and waits for the
    /// first answer.
    ///
    /// # Panics
    /// When something cannot be made.
    pub async fn start(scenario: &Scenario, app: &str) -> Self {
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": app},
            "spec": {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": 8080}]},
        });
        scenario.kubectl_create(&service, &[]).succeeded();
        client(scenario).await;
        Self::through(scenario, app).await
    }

    /// Has the pod of [`client`] ask a Service that is there, and waits for the first answer.
    ///
    /// # Panics
    /// When there is no such Service.
    pub async fn through(scenario: &Scenario, service: &str) -> Self {
        let address = cluster_ip(scenario, service);
        eventually("the Service answers", async || dial(scenario, CLIENT, &address).await).await;

        let (log, stop) = (Arc::new(Mutex::new(Answers::default())), Arc::new(AtomicBool::new(false)));
        let asks = {
            let (client, namespace) = (scenario.client.clone(), scenario.namespace.clone());
            let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
            async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = ask(&client, &namespace, CLIENT, &address).await;
                    note(&log, answer);
                    sleep(PAUSE).await;
                }
            }
        };
        Self { log, stop, task: Some(tokio::spawn(asks)) }
    }

    /// Waits until only this pod answers: the last ten requests in a row.
    pub async fn only(&self, pod: &str) {
        self.wait(&format!("only {pod} answers"), |last| are_all(last, pod)).await;
    }

    /// Whether only this pod has answered last; otherwise who has.
    ///
    /// # Errors
    /// Who has, for people.
    pub fn is_only(&self, pod: &str) -> Result<(), String> {
        let answers = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let last = &answers.by[answers.by.len().saturating_sub(LAST)..];
        if are_all(last, pod) { Ok(()) } else { Err(format!("{last:?} answered last")) }
    }

    /// Waits until this pod answers again.
    pub async fn also(&self, pod: &str) {
        self.wait(&format!("{pod} answers"), |last| last.iter().any(|who| *who == pod)).await;
    }

    async fn wait(&self, what: &str, holds: impl Fn(&[String]) -> bool) {
        let begun = self.log.lock().unwrap_or_else(PoisonError::into_inner).by.len();
        eventually(what, async || {
            let answers = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let new = &answers.by[begun.max(answers.by.len().saturating_sub(LAST))..];
            if holds(new) { Ok(()) } else { Err(format!("{new:?} answered last")) }
        })
        .await;
    }

    /// How many requests have been answered, and what became of the others.
    pub fn counts(&self) -> (usize, Vec<String>) {
        let answers = self.log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (answers.by.len(), answers.failures)
    }

    /// Asserts that all requests so far have been answered, and returns how many there were.
    ///
    /// # Panics
    /// With what became of the others.
    pub fn unbroken(&self) -> usize {
        let (answered, failures) = self.counts();
        assert!(failures.is_empty(), "{answered} answered, {failures:?}");
        answered
    }

    /// Sends no more, waits for the last answer, and asserts that none has failed.
    ///
    /// # Panics
    /// With what became of those that did.
    pub async fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.take() {
            task.await.expect("the client does not panic");
        }
        self.unbroken()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Makes the pod that asks, and waits until it can.
///
/// # Panics
/// When it does not come up.
pub async fn client(scenario: &Scenario) {
    scenario.orphan(CLIENT, CLIENT, pods::web()).await;
    scenario.kubectl(&format!("wait --for=condition=Ready pod/{CLIENT} --timeout=60s")).succeeded();
}

/// The address of a Service.
///
/// # Panics
/// When there is no such Service.
pub fn cluster_ip(scenario: &Scenario, service: &str) -> String {
    scenario.kubectl(&format!("get service {service} --output=jsonpath={{.spec.clusterIP}}")).succeeded()
}

fn note(log: &Mutex<Answers>, answer: Result<String, String>) {
    let mut answers = log.lock().unwrap_or_else(PoisonError::into_inner);
    match answer {
        Ok(who) => answers.by.push(who),
        Err(failure) => {
            let number = answers.by.len() + answers.failures.len();
            answers.failures.push(format!("request {number}: {failure}"));
        }
    }
}

/// Asks port 80 of `address` for the name of whoever answers, once, from inside the pod `from` of [`pods::web`].
///
/// # Errors
/// What was answered instead.
pub async fn dial(scenario: &Scenario, from: &str, address: &str) -> Result<String, String> {
    ask(&scenario.client, &scenario.namespace, from, address).await
}

async fn ask(client: &Client, namespace: &str, from: &str, address: &str) -> Result<String, String> {
    let url = format!(
        "/api/v1/namespaces/{namespace}/pods/{from}:8080/proxy/dial\
         ?host={address}&port=80&protocol=http&request=hostname&tries=1"
    );
    let request = Request::get(url).body(Vec::new()).map_err(|error| error.to_string())?;
    let text = client.request_text(request).await.map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
    answer["responses"][0].as_str().map(Into::into).ok_or(text)
}
