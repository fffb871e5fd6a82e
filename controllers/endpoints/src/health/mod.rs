//! Whether one checked address is healthy, and when to check it again.
//!
//! A [`Record`] is pure: the time of a result and the jitter of the next check are parameters. It promises:
//!
//! - The verdict (healthy or failing) changes only after as many equal results in a row as the settings require. The
//!   one exception: the first success of a new address is enough, so that it is used soon.
//! - While the verdict may be about to change, and while it is failing, checks come at
//!   [`Settings::unhealthy_interval`].
//! - An address that fails again soon after it became healthy has to pass for longer each time before it is healthy
//!   again (see [`Record::needed`]): every change of a verdict is written to slices, and those go to every node.

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::time::Duration;

use mainstay_runtime::clock::Moment;

/// The first check of a new address comes within this time, or within the interval if that is shorter.
const FIRST_CHECK_WITHIN: Duration = Duration::from_secs(1);

/// By which part of the interval at most a check is moved, so that those of many addresses do not stay in step.
const JITTER: f64 = 0.1;

/// How often the number of successes to return is doubled at most: 16 times as many.
const MOST_DOUBLINGS: u32 = 4;

/// How an address is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time from one check to the next while results agree with the verdict. Above zero.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// From one check to the next, while the verdict is in doubt or unknown. Above zero.
    pub unhealthy_interval: Duration,
    /// Number of consecutive successes that make a failing address healthy. Zero counts as one.
    pub successes: u32,
    /// Number of consecutive failures that make an address fail. Zero counts as one.
    pub failures: u32,
    /// An address that fails within this time of its return is flapping. Zero: nothing is.
    pub flap_window: Duration,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough results yet.
    Unknown,
    /// It answers.
    Passing,
    /// It does not.
    Failing,
}

/// What the checks of one address have shown so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    verdict: Verdict,
    since: Moment,
    due: Moment,
    /// How many results in a row, up to now, speak against the verdict.
    doubt: u32,
    /// Whether a passing verdict followed a failing one.
    returned: bool,
    /// How many of the last returns were followed by a failure within the flap window.
    flaps: u32,
}

impl Record {
    /// An address of which nothing is known. It is checked at once; the `phase`, from 0 to 1, spreads many that are
    /// new at the same time over a second, or over an interval if that is shorter.
    pub fn new(now: Moment, settings: &Settings, phase: f64) -> Self {
        let within = settings.interval.min(FIRST_CHECK_WITHIN);
        Self::starting(Verdict::Unknown, now, within, phase)
    }

    /// An address whose verdict comes from a former leader: the verdict counts until checks change it, as if it were
    /// new. The `phase`, from 0 to 1, spreads the first checks of many over an interval.
    pub fn resumed(verdict: Verdict, now: Moment, settings: &Settings, phase: f64) -> Self {
        Self::starting(verdict, now, settings.interval, phase)
    }

    fn starting(verdict: Verdict, now: Moment, within: Duration, phase: f64) -> Self {
        let due = now.saturating_add(within.mul_f64(phase.clamp(0.0, 1.0)));
        Self { verdict, since: now, due, doubt: 0, returned: false, flaps: 0 }
    }

    /// What is known of the address.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Since when.
    pub fn since(&self) -> Moment {
        self.since
    }

    /// When to check it next.
    pub fn due(&self) -> Moment {
        self.due
    }

    /// Records the result of a check that ended `now` and sets the time of the next: an interval later, moved by up to
    /// a tenth of it by `jitter`, from -1 to 1. Returns whether the verdict changed.
    pub fn observe(&mut self, passed: bool, now: Moment, settings: &Settings, jitter: f64) -> bool {
        let steady = now.saturating_sub(self.since) >= settings.flap_window;
        if self.verdict == Verdict::Passing && steady {
            self.flaps = 0;
        }
        let (found, threshold) = match (passed, self.verdict) {
            (true, Verdict::Unknown) => (Verdict::Passing, 1),
            (true, _) => (Verdict::Passing, self.needed(settings)),
            (false, _) => (Verdict::Failing, settings.failures.max(1)),
        };
        self.doubt = if found == self.verdict { 0 } else { self.doubt.saturating_add(1) };
        let changed = self.doubt >= threshold;
        if changed {
            if self.verdict == Verdict::Passing && self.returned && !steady {
                self.flaps = MOST_DOUBLINGS.min(self.flaps + 1);
            }
            self.returned = self.verdict == Verdict::Failing;
            (self.verdict, self.since, self.doubt) = (found, now, 0);
        }
        let sure = self.verdict != Verdict::Unknown && self.doubt == 0;
        let interval = if sure { settings.interval } else { settings.unhealthy_interval };
        self.due = now.saturating_add(interval.mul_f64(1.0 + JITTER * jitter.clamp(-1.0, 1.0)));
        changed
    }

    /// How many successes in a row bring the address back when it fails: [`Settings::successes`], doubled for each
    /// return that was followed by a failing verdict within the flap window, up to 16 times as many. An address that
    /// passes for a flap window starts again.
    pub fn needed(&self, settings: &Settings) -> u32 {
        settings.successes.max(1).saturating_mul(1 << self.flaps)
    }
}
