//! Which tests may run at the same time, and how long each took.

use std::{env, fs::OpenOptions, io::Write, thread, time::Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::controller::Component;

/// So many tests work at the same time. The harness starts all of them, so that it is known here which ones wait.
const PLACES: usize = 8;

static TESTS: Mutex<Tests> = Mutex::new(Tests { waiting: Vec::new(), running: Vec::new(), last: 0 });

/// What a test needs of the cluster (first) and of each controller, in the order of [`Component`].
type Needs = [Need; 1 + Component::ALL.len()];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// No other test may disturb it.
    Undisturbed,
    /// No other test may need it.
    Alone,
}

fn agree(one: &Needs, other: &Needs) -> bool {
    one.iter().zip(other).all(|pair| {
        matches!(pair, (Need::Nothing, _) | (_, Need::Nothing) | (Need::Undisturbed, Need::Undisturbed))
    })
}

/// Tests that need a controller alone run first, so that those of all controllers do so at the same time; those that need
/// the cluster alone run last.
fn rank(needs: &Needs) -> u8 {
    match needs {
        [Need::Alone, ..] => 2,
        needs if needs.contains(&Need::Alone) => 0,
        _ => 1,
    }
}

struct Waiting {
    number: usize,
    needs: Needs,
    starts: oneshot::Sender<()>,
}

struct Tests {
    /// By rank, and among equals by their number.
    waiting: Vec<Waiting>,
    running: Vec<(usize, Needs)>,
    last: usize,
}

impl Tests {
    fn add(&mut self, needs: Needs) -> (usize, oneshot::Receiver<()>) {
        let (starts, started) = oneshot::channel();
        self.last += 1;
        let number = self.last;
        self.waiting.push(Waiting { number, needs, starts });
        self.waiting.sort_by_key(|waiting| (rank(&waiting.needs), waiting.number));
        self.start();
        (number, started)
    }

    fn end(&mut self, number: usize) {
        self.running.retain(|(running, _)| *running != number);
        self.start();
    }

    /// Starts whatever can run beside what runs. Nobody overtakes a test that they would hold up.
    fn start(&mut self) {
        let mut still: Vec<Waiting> = Vec::with_capacity(self.waiting.len());
        for next in std::mem::take(&mut self.waiting) {
            let agrees = self.running.iter().all(|(_, needs)| agree(needs, &next.needs))
                && still.iter().all(|before| agree(&before.needs, &next.needs));
            if !agrees || self.running.len() >= PLACES {
                still.push(next);
            } else if next.starts.send(()).is_ok() {
                self.running.push((next.number, next.needs));
            }
        }
        self.waiting = still;
    }
}

/// What a test holds for as long as it runs.
pub(crate) struct Hold {
    number: usize,
    name: String,
    since: Instant,
}

impl Hold {
    /// For a test that needs `uses` undisturbed.
    pub(crate) async fn shared(name: &str, uses: &[Component]) -> Self {
        Self::of(name, Need::Undisturbed, uses, Need::Undisturbed).await
    }

    /// For a test that disturbs `disturbs`, or that no other user of them may disturb.
    pub(crate) async fn alone(name: &str, disturbs: &[Component]) -> Self {
        Self::of(name, Need::Undisturbed, disturbs, Need::Alone).await
    }

    /// For a test that disturbs the cluster.
    pub(crate) async fn cluster(name: &str) -> Self {
        Self::of(name, Need::Alone, &[], Need::Nothing).await
    }

    async fn of(name: &str, cluster: Need, components: &[Component], need: Need) -> Self {
        let mut needs = [Need::Nothing; 1 + Component::ALL.len()];
        needs[0] = cluster;
        for component in components {
            needs[1 + *component as usize] = need;
        }
        let (number, started) = TESTS.lock().add(needs);
        started.await.expect("whoever waits is started at some time");
        // The test harness names the thread of a test after it.
        let name = thread::current().name().unwrap_or(name).to_owned();
        Self { number, name, since: Instant::now() }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        TESTS.lock().end(self.number);
        let Some(path) = env::var_os("MAINSTAY_E2E_SECONDS") else { return };
        let line = format!("{:7.1} s  {}\n", self.since.elapsed().as_secs_f64(), self.name);
        let file = OpenOptions::new().create(true).append(true).open(path);
        // Written at once: lines of tests that end at the same time do not mix.
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("cannot note how long the test took: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Need = Need::Nothing;
    const SOME: Need = Need::Undisturbed;
    const ALONE: Need = Need::Alone;

    fn needs(cluster: Need, first: Need, second: Need) -> Needs {
        [cluster, first, second, NONE, NONE, NONE]
    }

    fn running(tests: &Tests) -> Vec<usize> {
        tests.running.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn tests_run_together_that_do_not_disturb_each_other() {
        let mut tests = Tests { waiting: Vec::new(), running: Vec::new(), last: 0 };
        let wanted = [
            needs(SOME, SOME, NONE),
            needs(ALONE, NONE, NONE),
            needs(SOME, ALONE, NONE),
            needs(SOME, SOME, NONE),
            needs(SOME, NONE, ALONE),
        ];
        let _kept: Vec<_> = wanted.into_iter().map(|needs| tests.add(needs).1).collect();
        assert_eq!(running(&tests), [1, 5], "3 needs what 1 uses, and 4 does not overtake it");
        tests.end(1);
        assert_eq!(running(&tests), [5, 3]);
        tests.end(3);
        assert_eq!(running(&tests), [5, 4]);
        tests.end(4);
        assert_eq!(running(&tests), [5], "2 disturbs the cluster");
        tests.end(5);
        assert_eq!(running(&tests), [2]);
    }

    #[test]
    fn no_more_run_than_there_are_places() {
        let mut tests = Tests { waiting: Vec::new(), running: Vec::new(), last: 0 };
        let _kept: Vec<_> = (0..=PLACES).map(|_| tests.add(needs(SOME, SOME, NONE)).1).collect();
        assert_eq!(tests.running.len(), PLACES);
        tests.end(1);
        assert_eq!(running(&tests).last(), Some(&(PLACES + 1)));
    }
}
