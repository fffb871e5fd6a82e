//! A loop of its own, beside [`reconcile`](crate::reconcile): for what is not decided for one object at a time. One reconcile looks
//! at everything, begins [jobs](crate::jobs), and the next one sees what they have found.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Moment};

/// A reconcile comes at least this often, so that a stuck loop is told from one that has nothing to do.
const AT_LEAST: Duration = Duration::from_secs(10);
/// A loop that has not passed for this long is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// What a loop does.
pub trait Solo: Send {
    /// One reconcile, which waits for nothing. Returns when time alone makes another one worthwhile.
    fn pass(&mut self) -> Option<Moment>;

    /// Takes in what the next job has found. Never ends while none is under way, and may be dropped before its end.
    fn take_in(&mut self) -> impl Future<Output = ()> + Send;
}

/// When a loop last passed. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Beat {
    name: &'static str,
    /// `None`: it does not run.
    last: Arc<Mutex<Option<Instant>>>,
}

impl Beat {
    /// That of a loop which does not run yet. Where `/healthz` is to see it: [`Manager::beat`](crate::manager::Manager::beat).
    pub fn new(name: &'static str) -> Self {
        Self { name, last: Arc::default() }
    }

    /// Whether the loop makes progress or does not run, or a sentence that says which has not passed for too long.
    pub(crate) fn live(&self) -> Result<(), String> {
        let since = self.last.lock().map(|last| last.elapsed());
        match since.filter(|since| *since > STUCK) {
            None => Ok(()),
            Some(_) => Err(format!("no pass of the loop {} has ended for {STUCK:?}", self.name)),
        }
    }
}

/// Passes when `wake` says so, when a job has ended and when a reconcile has asked for it, at least `pace` apart, until `shutdown`.
pub async fn run(
    solo: &mut impl Solo,
    pace: Duration,
    wake: &Notify,
    beat: &Beat,
    clock: &Clock,
    shutdown: &CancellationToken,
) {
    while !shutdown.is_cancelled() {
        let due = solo.pass();
        *beat.last.lock() = Some(Instant::now());
        let now = clock.now();
        let (earliest, latest) = (now + pace, now + AT_LEAST);
        let mut due = due.unwrap_or(latest).clamp(earliest, latest);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = clock.until(Some(due)) => break,
                () = wake.notified() => due = earliest,
                () = solo.take_in() => due = earliest,
            }
            if clock.now() >= due {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;
    use crate::jobs::Jobs;

    const SECOND: Duration = Duration::from_secs(1);

    /// Notes when it passes, and how many jobs have ended by then.
    struct Counted {
        clock: Clock,
        passes: Arc<Mutex<Vec<(Duration, usize)>>>,
        jobs: Jobs<'static, (), ()>,
        ended: usize,
        due: Option<Moment>,
    }

    impl Solo for Counted {
        fn pass(&mut self) -> Option<Moment> {
            self.passes.lock().push((self.clock.now(), self.ended));
            self.due.take()
        }

        async fn take_in(&mut self) {
            self.jobs.next().await;
            self.ended += 1;
        }
    }

    fn counted() -> Counted {
        let (clock, jobs) = (Clock::start(), Jobs::default());
        Counted { clock, passes: Arc::default(), jobs, ended: 0, due: None }
    }

    /// When it passes within `long`, while `during` goes on.
    async fn passes(
        mut solo: Counted,
        long: Duration,
        wake: &Notify,
        during: impl Future<Output = ()>,
    ) -> Vec<(u64, usize)> {
        let (clock, shutdown, seen) = (solo.clock, CancellationToken::new(), Arc::clone(&solo.passes));
        let beat = Beat::new("test");
        let running = run(&mut solo, SECOND, wake, &beat, &clock, &shutdown);
        let over = async {
            tokio::join!(sleep(long), during);
            shutdown.cancel();
        };
        tokio::join!(running, over);
        let seen = seen.lock();
        seen.iter().map(|(at, ended)| (u64::try_from(at.as_millis()).unwrap(), *ended)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn it_passes_now_and_then_though_nothing_is_due() {
        let seen = passes(counted(), SECOND * 25, &Notify::new(), async {}).await;
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert!(seen[1].0 >= 10_000 && seen[2].0 < 21_000, "{seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_passes_when_it_has_asked_for_it_and_when_it_is_woken_a_pace_apart() {
        let wake = Notify::new();
        let wakes = async {
            sleep(SECOND * 5).await;
            wake.notify_one();
            sleep(SECOND / 100).await;
            wake.notify_one();
        };
        let seen = passes(Counted { due: Some(SECOND * 3), ..counted() }, SECOND * 8, &wake, wakes).await;
        let seconds: Vec<_> = seen.iter().map(|(at, _)| at / 1000).collect();
        assert_eq!(seconds, [0, 3, 5, 6], "{seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_job_has_found_makes_it_pass_and_many_make_it_pass_once() {
        let mut solo = counted();
        for number in 0..100 {
            solo.jobs.start((), sleep(SECOND * 3 + Duration::from_millis(number)));
        }
        let seen = passes(solo, SECOND * 8, &Notify::new(), async {}).await;
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert_eq!((seen[1].0 / 1000, seen[2].0 / 1000, seen[2].1), (3, 4, 100), "{seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_passes_no_more_is_stuck_and_one_that_has_never_passed_is_not() {
        let (mut solo, wake, beat) = (counted(), Notify::new(), Beat::new("test"));
        sleep(SECOND * 100).await;
        assert_eq!(beat.live(), Ok(()), "a standby");
        {
            let (clock, shutdown) = (solo.clock, CancellationToken::new());
            let running = run(&mut solo, SECOND, &wake, &beat, &clock, &shutdown);
            tokio::select! {
                () = running => {}
                () = sleep(SECOND * 300) => {}
            }
        }
        assert_eq!(beat.live(), Ok(()), "nothing was due, and it passed");
        tokio::select! {
            () = pending() => {}
            () = sleep(STUCK + SECOND) => {}
        }
        assert!(beat.live().is_err_and(|words| words.contains("test")));
    }
}
