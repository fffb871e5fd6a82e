//! The API server, etcd and leaders are killed in turn.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use mainstay_cluster::Cluster;
use mainstay_e2e::{Component, Controller};
use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use crate::world::{World, insist};

const EVERY: Duration = Duration::from_secs(20);
/// A Lease that nobody holds for this long is no leader's to be killed; the next one's turn comes.
const LEADER: Duration = Duration::from_secs(30);

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Victim {
    ApiServer,
    Etcd,
    Leader(Component),
}

impl Victim {
    /// Name among people.
    pub(crate) fn name(self) -> String {
        match self {
            Self::ApiServer => "kube-apiserver".into(),
            Self::Etcd => "etcd".into(),
            Self::Leader(component) => format!("leader of {}", component.name()),
        }
    }

    /// The one whose turn it is.
    fn of_turn(turn: usize) -> Self {
        match turn % 3 {
            0 => Self::ApiServer,
            1 => Self::Etcd,
            _ => Self::Leader(Component::ALL[turn / 3 % Component::ALL.len()]),
        }
    }

    async fn kill(self, world: &World) -> Result<Instant, String> {
        let name = match self {
            Self::ApiServer => "kube-apiserver",
            Self::Etcd => "etcd",
            Self::Leader(component) => {
                let controller = Controller::new(world.client.clone(), component);
                let leader = timeout(LEADER, insist(async || controller.holder().await)).await;
                let leader = leader.map_err(|_| format!("no pod leads {}", component.name()))?;
                let (victim, now) = (controller.victim(&leader).await, Instant::now());
                victim.kill().await;
                return Ok(now);
            }
        };
        let cluster = Cluster::open().map_err(|error| error.to_string())?;
        let killed = spawn_blocking(move || {
            let now = Instant::now();
            cluster.kill(name)?;
            cluster.start(name, &[])?;
            Ok::<_, mainstay_cluster::Error>(now)
        });
        killed.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

/// What was killed, and when.
#[derive(Default)]
pub(crate) struct Kills {
    pub(crate) done: Vec<(Victim, Instant)>,
    pub(crate) failed: Vec<String>,
}

/// Kills until `end`.
pub(crate) async fn kill(world: &World, end: Instant) -> Kills {
    let mut kills = Kills::default();
    let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0.. {
        ticks.tick().await;
        if Instant::now() >= end {
            break;
        }
        let victim = Victim::of_turn(turn);
        // What the tests' library cannot do, it says by a panic.
        let killed = AssertUnwindSafe(victim.kill(world)).catch_unwind().await;
        match killed.unwrap_or_else(|_| Err("see above".to_owned())) {
            Ok(at) => {
                eprintln!("killed: {}", victim.name());
                kills.done.push((victim, at));
            }
            Err(error) => {
                eprintln!("not killed: {}: {error}", victim.name());
                kills.failed.push(format!("{}: {error}", victim.name()));
            }
        }
    }
    kills
}
