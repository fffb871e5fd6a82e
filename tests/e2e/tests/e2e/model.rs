//! The model of the API server on which the fault tests run the controllers answers as the real one.

use std::time::{Duration, Instant};

use kube::{Client, Config};
use mainstay_e2e::{Scenario, kubectl, run};
use mainstay_faults::scripts::{Answer, Player, Step, all, definition, differences, model};
use tokio::time::sleep;

/// Other components of the cluster have done their part within this time.
const SETTLED: Duration = Duration::from_secs(20);

/// The kind of the scripts that is neither the cluster's nor ours. Dropping it deletes it.
struct Definition;

impl Definition {
    fn create() -> Self {
        // One of an earlier run may not be gone yet.
        kubectl("delete crd repairs.repair.example.com --ignore-not-found --timeout=60s").succeeded();
        run("kubectl", &["create", "--filename=-"], &definition().to_string()).succeeded();
        kubectl("wait --for=condition=Established crd/repairs.repair.example.com --timeout=60s").succeeded();
        Self
    }
}

impl Drop for Definition {
    fn drop(&mut self) {
        kubectl("delete crd repairs.repair.example.com --wait=false");
    }
}

async fn ask(player: &mut Player, step: &Step) -> Answer {
    player.ask(step).await.unwrap_or_else(|error| panic!("{}: {error}", step.line()))
}

/// What the real server answers; once it agrees with the model, where it takes its time.
async fn settled(player: &mut Player, step: &Step, expected: &Answer) -> Answer {
    let (before, end) = (player.clone(), Instant::now() + SETTLED);
    loop {
        let answer = ask(player, step).await;
        if !step.settles || answer == *expected || Instant::now() > end {
            return answer;
        }
        sleep(Duration::from_millis(200)).await;
        player.clone_from(&before);
    }
}

#[tokio::test]
async fn the_model_answers_as_the_api_server_does() {
    let scenario = Scenario::without_controllers("model").await;
    let _definition = Definition::create();
    // It must show every answer, also one that asks to come back later.
    let mut config = Config::infer().await.expect("KUBECONFIG names a cluster");
    config.default_retry = false;
    let client = Client::try_from(config).expect("a valid kubeconfig");
    let mut found = Vec::new();
    for script in all() {
        let own = scenario.beside("model").await;
        let mut modelled = Player::new(model(&own.namespace), &own.namespace);
        let mut real = Player::new(client.clone(), &own.namespace);
        for step in &script.steps {
            let expected = ask(&mut modelled, step).await;
            let answer = settled(&mut real, step, &expected).await;
            let mut differ = differences("", &expected.body, &answer.body);
            if expected.code != answer.code || answer.code != step.code {
                differ.push(format!(
                    "the model says {}, the server {}, the script {}",
                    expected.code, answer.code, step.code
                ));
            }
            if !differ.is_empty() {
                found.push(format!("{}: {}\n    {}", script.name, step.line(), differ.join("\n    ")));
            }
        }
    }
    assert!(found.is_empty(), "{} answers differ:\n{}", found.len(), found.join("\n"));
}
