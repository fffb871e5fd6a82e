//! Plays again what a violation printed.

use mainstay_faults::play::explore::replay;

#[test]
fn replay_what_a_script_says() {
    let Ok(script) = std::env::var("MAINSTAY_FAULTS_REPLAY") else { return };
    let scenarios = [
        crate::replication::scenarios(),
        crate::endpoints::scenarios(),
        crate::node_health::scenarios(),
        crate::config_rollout::scenarios(),
        crate::accounts::scenarios(),
    ];
    let (clean, run, broken) =
        replay(&script, &scenarios.concat()).expect("a script of one of the scenarios");
    println!("undisturbed:\n{}\n\n{script}:\n{}", clean.join("\n"), run.join("\n"));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
