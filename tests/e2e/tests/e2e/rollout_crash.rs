//! The controller dies in the middle of rollouts.

use std::{env, time::Duration};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use mainstay_e2e::{
    Component::Replication, FakeNodes, NAME, NAMESPACE, Recorder, Scenario, eventually, group, kubectl,
};
use tokio::time::sleep;

const PODS: usize = 40;

/// A rollout of so many pods takes longer than this.
const LATEST_MILLISECONDS: u64 = 1500;

/// Numbers that look random and follow from a seed (splitmix64, Steele et al. 2014).
struct Random(u64);

impl Random {
    /// Seeded by `MAINSTAY_E2E_SEED`, or by the time; says by what, so that a failure can be repeated.
    fn new() -> Self {
        let given = env::var("MAINSTAY_E2E_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(Timestamp::now().subsec_nanosecond().unsigned_abs()));
        eprintln!("MAINSTAY_E2E_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[tokio::test]
async fn whenever_the_controller_dies_a_rollout_ends_within_its_bounds() {
    let scenario = Scenario::alone("crash", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a", "zone-b", "zone-c"]).await else { return };
    let controller = scenario.controller();
    let draft = group("crashed", nodes.pod()).replicas(PODS).rolling("10%", "10%").version("0");
    let crashed = scenario.create(&draft).await;
    crashed.completes("0").await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    let mut random = Random::new();
    // The last time by force, which leaves the Lease to run out; before that as an upgrade does.
    const ROUNDS: usize = 4;
    for round in 1..=ROUNDS {
        let leader = controller.leader().await;
        let victim = controller.victim(&leader).await;
        crashed.change(&round.to_string()).await;
        // The time itself is what is tried.
        let moment = random.below(LATEST_MILLISECONDS);
        sleep(Duration::from_millis(moment)).await;
        if round < ROUNDS {
            kubectl(&format!("delete pod {leader} --namespace={NAMESPACE} --wait=false")).succeeded();
        } else {
            victim.kill().await;
        }
        let there = record.moments().pop().map(|moment| moment.active);
        eprintln!("round {round}: {leader} died after {moment} ms, with {there:?}");
        crashed.completes(&round.to_string()).await;
    }
    record.stays_within(PODS * 9 / 10..=PODS * 11 / 10).await;
    assert_eq!(record.uids().len(), PODS * (ROUNDS + 1), "pods were doubled");
    let numbers: Vec<_> = crashed.revisions().await.iter().map(|revision| revision.number).collect();
    assert_eq!(numbers, (1..).take(ROUNDS + 1).collect::<Vec<i64>>(), "revisions were doubled");
    eventually("the controller has both its pods again", async || {
        let rollout = format!("rollout status deployment/{NAME} --namespace={NAMESPACE} --timeout=5s");
        let finished = kubectl(&rollout);
        finished.ok.then_some(()).ok_or(finished.stderr)
    })
    .await;
}
