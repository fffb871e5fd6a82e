//! What a person sees while a command works, and how Ctrl-C reaches it.

use crate::error::{Error, Result};
use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Lets Ctrl-C, SIGTERM and SIGHUP end waits with [`Error::Interrupted`] in place of ending the process,
/// so that what was started can be stopped.
pub fn catch_interrupts() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, INTERRUPTED.clone()).expect("these signals can be caught");
    }
}

/// Fails once the command has been interrupted.
pub(crate) fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// Lets the waits of a clean-up run although the command has been interrupted; the next interrupt ends them.
pub(crate) fn forgive_interrupt() {
    INTERRUPTED.store(false, Ordering::Relaxed);
}

/// Asks `done` every 50 ms until it is true; false when `deadline` passed first.
pub(crate) fn wait_until(deadline: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<bool> {
    let start = Instant::now();
    while !done()? {
        check_interrupt()?;
        if start.elapsed() > deadline {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(true)
}

/// Prints one line a step, with the time since the command began.
pub struct Progress {
    start: Instant,
    quiet: bool,
}

impl Progress {
    /// Starts the clock; lines go to stderr.
    pub fn new() -> Self {
        Self { start: Instant::now(), quiet: false }
    }

    /// Prints nothing: for callers that are programs.
    pub fn quiet() -> Self {
        Self { start: Instant::now(), quiet: true }
    }

    /// Tells of a step that is done.
    pub fn say(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            eprintln!("[{:6.1}s] {text}", self.start.elapsed().as_secs_f64());
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
