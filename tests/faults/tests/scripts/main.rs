//! Plays the scripts that hold the model to the real API server on the model alone.

use mainstay_faults::scripts::{Player, all, model};

#[tokio::test(start_paused = true)]
async fn the_model_answers_each_request_with_the_status_that_the_script_names() {
    let mut wrong = Vec::new();
    for script in all() {
        let mut player = Player::new(model("ns"), "ns");
        for step in &script.steps {
            let answer = player.ask(step).await.unwrap_or_else(|error| panic!("{}: {error}", step.line()));
            if answer.code != step.code {
                wrong.push(format!(
                    "{}: {}: {} and not {}",
                    script.name,
                    step.line(),
                    answer.code,
                    step.code
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
