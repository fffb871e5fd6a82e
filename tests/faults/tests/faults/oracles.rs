//! Each promise can be broken: with a defect built in, the same exploration finds it.

use mainstay_faults::{
    defect::Defect,
    explore::explore,
    scenario::{
        Act, Scenario,
        When::{Before, Settled},
        group, orphan, scale,
    },
};

async fn finds(defect: Defect, scenario: &Scenario, promises: &[&str]) {
    let report = explore(scenario, defect, promises).await;
    println!("{defect:?}: {:?} broken in {} runs", report.broken, report.runs);
    for promise in promises {
        assert!(report.broken.contains_key(*promise), "{promise} is never broken: {:?}", report.broken);
    }
}

fn scale_up() -> Scenario {
    Scenario { name: "3 pods", steps: vec![(Settled, |s| group(s, "a", "a", 3, "i"))], from: 0, exact: true }
}

#[tokio::test(start_paused = true)]
async fn pods_made_twice_are_found() {
    finds(Defect::NoGate, &scale_up(), &["double", "counts"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_goes_too_far_is_found() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| group(s, "a", "a", 4, "i")),
        (Settled, |s| scale(s, "a", 1)),
        (Before(5), |s| scale(s, "a", 4)),
    ];
    finds(Defect::StaleReads, &Scenario { name: "down and up", steps, from: 1, exact: false }, &["below"])
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_taken_from_another_is_found() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| {
            group(s, "a", "a", 1, "i");
            group(s, "b", "a", 1, "i");
        }),
        (Settled, |s| orphan(s, "o", "a")),
    ];
    finds(Defect::SecondController, &Scenario { name: "overlap", steps, from: 1, exact: true }, &["foreign"])
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_never_rests_is_found() {
    finds(Defect::DeafStatus, &scale_up(), &["restless", "outcome"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_status_that_claims_too_much_is_found() {
    finds(Defect::FutureGeneration, &scale_up(), &["unseen"]).await;
}
