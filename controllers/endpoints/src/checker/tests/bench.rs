//! A checker whose checks answer as a test says.

use std::{net::IpAddr, time::Duration};

use mainstay_probe::{Failure, Kind};
use mainstay_runtime::clock::Moment;
use prometheus::Registry;
use tokio::time::sleep;

use super::*;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// How long a check takes that is answered.
pub(super) const TOOK: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(super) struct World {
    /// How addresses answer that do not pass: with this failure, or until the timeout not at all.
    failing: HashMap<SocketAddr, Option<Failure>>,
    /// The beginnings of checks.
    asked: Vec<(Moment, SocketAddr)>,
    pub(super) under_way: Vec<SocketAddr>,
    /// Those that were asked while they were under way already.
    twice: Vec<SocketAddr>,
    /// The most checks that were under way at once.
    pub(super) most: usize,
    pub(super) changed: Vec<(Moment, ObjectKey)>,
}

pub(super) struct Bench {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) checker: Arc<Checker>,
    registry: Registry,
    pub(super) clock: Clock,
}

impl Bench {
    /// A checker that runs until the test ends.
    pub(super) fn new(limit: usize) -> Self {
        let (world, clock, registry) = (Arc::<Mutex<World>>::default(), Clock::start(), Registry::new());
        let ask = {
            let world = Arc::clone(&world);
            move |check: Arc<Check>, address| answer(Arc::clone(&world), clock, check, address).boxed()
        };
        let changed = {
            let world = Arc::clone(&world);
            move |pool: &ObjectKey| world.lock().changed.push((clock.now(), pool.clone()))
        };
        let checker = Arc::new(Checker::new(ask, limit, CheckMetrics::new(&registry), clock, changed));
        let running = Arc::clone(&checker);
        tokio::spawn(async move { running.run(&Beat::new("checks"), CancellationToken::new()).await });
        Self { world, checker, registry, clock }
    }

    pub(super) fn fail(&self, host: u16, port: u16) {
        self.world.lock().failing.insert(SocketAddr::new(address(host), port), Some(Failure::Refused));
    }

    pub(super) fn hang(&self, host: u16, port: u16) {
        self.world.lock().failing.insert(SocketAddr::new(address(host), port), None);
    }

    pub(super) fn pass(&self, host: u16, port: u16) {
        self.world.lock().failing.remove(&SocketAddr::new(address(host), port));
    }

    pub(super) fn state(&self, pool: &ObjectKey, host: u16) -> Option<State> {
        self.checker.states(pool).remove(&target(host))
    }

    pub(super) fn verdict(&self, pool: &ObjectKey, host: u16) -> Option<Verdict> {
        self.state(pool, host).map(|state| state.verdict)
    }

    /// When checks of this port began.
    pub(super) fn asked(&self, port: u16) -> Vec<Moment> {
        let world = self.world.lock();
        world.asked.iter().filter(|(_, address)| address.port() == port).map(|(began, _)| *began).collect()
    }

    pub(super) fn changes(&self) -> usize {
        self.world.lock().changed.len()
    }

    /// The value of the series, which is a counter or a gauge, with these labels.
    pub(super) fn value(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name)?;
        let found = family.get_metric().iter().find(|metric| {
            let values: Vec<&str> = metric.get_label().iter().map(|label| label.value()).collect();
            values == labels
        })?;
        Some(found.get_counter().get_value() + found.get_gauge().get_value())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.world.lock().twice, [], "one check of an address at a time");
        }
    }
}

async fn answer(world: Arc<Mutex<World>>, clock: Clock, check: Arc<Check>, address: SocketAddr) -> Outcome {
    {
        let mut world = world.lock();
        if world.under_way.contains(&address) {
            world.twice.push(address);
        }
        world.asked.push((clock.now(), address));
        world.under_way.push(address);
        world.most = world.most.max(world.under_way.len());
    }
    let answer = world.lock().failing.get(&address).cloned();
    let (took, result) = match answer {
        None => (TOOK, Ok(())),
        Some(Some(failure)) => (TOOK, Err(failure)),
        Some(None) => (check.timeout, Err(Failure::TimedOut)),
    };
    sleep(took).await;
    world.lock().under_way.retain(|other| *other != address);
    Outcome { took, result }
}

pub(super) fn address(host: u16) -> IpAddr {
    let [high, low] = host.to_be_bytes();
    IpAddr::from([10, 0, high, low])
}

pub(super) fn target(host: u16) -> Target {
    Target { set: "set".into(), address: address(host), pod: None }
}

pub(super) fn pool(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

/// Every 10 s, every 2 s while in doubt; two successes or three failures in a row; a timeout of 3 s.
pub(super) fn definition() -> Definition {
    let settings = Settings {
        interval: SECOND * 10,
        timeout: SECOND * 3,
        unhealthy_interval: SECOND * 2,
        successes: 2,
        failures: 3,
        flap_window: Duration::ZERO,
    };
    Definition { settings, kind: Kind::Tcp, max_concurrent: 50 }
}

pub(super) fn wanted(hosts: impl IntoIterator<Item = u16>, port: u16) -> HashMap<Target, Wanted> {
    hosts.into_iter().map(|host| (target(host), Wanted { port, resumed: None })).collect()
}

pub(super) fn resumed(
    hosts: impl IntoIterator<Item = u16>,
    port: u16,
    verdict: Verdict,
) -> HashMap<Target, Wanted> {
    let wanted = Wanted { port, resumed: Some(verdict) };
    hosts.into_iter().map(|host| (target(host), wanted)).collect()
}
