//! Which tests may run at the same time, and how long each took.

use std::{env, fs::OpenOptions, io::Write, thread, time::Instant};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::controller::Component;

/// Read by every test; written by one that disturbs the cluster.
static CLUSTER: RwLock<()> = RwLock::const_new(());

/// In the order of [`Component`]: read by a test that uses the controller, written by one that disturbs it.
static CONTROLLERS: [RwLock<()>; Component::ALL.len()] =
    [const { RwLock::const_new(()) }; Component::ALL.len()];

#[expect(dead_code, reason = "held for as long as the test runs")]
enum Guard {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// What a test holds for as long as it runs. All tests take the locks in one order, so none waits in a circle.
pub(crate) struct Hold {
    _guards: Vec<Guard>,
    name: String,
    since: Instant,
}

impl Hold {
    /// For a test that needs `uses` undisturbed.
    pub(crate) async fn shared(name: &str, uses: &[Component]) -> Self {
        let mut guards = vec![Guard::Shared(CLUSTER.read().await)];
        for lock in locks(uses) {
            guards.push(Guard::Shared(lock.read().await));
        }
        Self::of(name, guards)
    }

    /// For a test that disturbs `disturbs`, or that no other user of them may disturb.
    pub(crate) async fn alone(name: &str, disturbs: &[Component]) -> Self {
        let mut guards = vec![Guard::Shared(CLUSTER.read().await)];
        for lock in locks(disturbs) {
            guards.push(Guard::Alone(lock.write().await));
        }
        Self::of(name, guards)
    }

    /// For a test that disturbs the cluster.
    pub(crate) async fn cluster(name: &str) -> Self {
        Self::of(name, vec![Guard::Alone(CLUSTER.write().await)])
    }

    fn of(name: &str, guards: Vec<Guard>) -> Self {
        // The test harness names the thread of a test after it.
        let name = thread::current().name().unwrap_or(name).to_owned();
        Self { _guards: guards, name, since: Instant::now() }
    }
}

fn locks(components: &[Component]) -> impl Iterator<Item = &'static RwLock<()>> {
    let mut components = components.to_vec();
    components.sort_unstable();
    components.dedup();
    components.into_iter().map(|component| &CONTROLLERS[component as usize])
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(path) = env::var_os("MAINSTAY_E2E_SECONDS") else { return };
        let line = format!("{:7.1} s  {}\n", self.since.elapsed().as_secs_f64(), self.name);
        let file = OpenOptions::new().create(true).append(true).open(path);
        // Written at once: lines of tests that end at the same time do not mix.
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("cannot note how long the test took: {error}");
        }
    }
}
