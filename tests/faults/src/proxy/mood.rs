//! How a proxy behaves, and what it is told.

use std::{str::FromStr, time::Duration};

use mainstay_runtime::flags::duration;

/// How a proxy behaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Mood {
    /// It passes everything on.
    #[default]
    Honest,
    /// Connections take bytes and give none, as when the other side has lost its power: those that exist, for good, and
    /// new ones.
    Silent,
    /// All bytes are passed on this much later, in both directions.
    Delay(Duration),
    /// Connections are cut: those that exist, and new ones.
    Reset,
    /// Lists show the cluster as it was at this resourceVersion, and watches deliver nothing: an API server that has fallen
    /// behind. Requests for one object and writes are passed on. The API server knows the past of about five minutes.
    Stale(String),
}

impl FromStr for Mood {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            ["honest"] => Ok(Self::Honest),
            ["silent"] => Ok(Self::Silent),
            ["reset"] => Ok(Self::Reset),
            ["delay", time] => duration(time).map(Self::Delay),
            ["stale", version] if version.parse::<u64>().is_ok() => Ok(Self::Stale(version.to_owned())),
            _ => Err(format!(
                "{text:?} is not a behaviour: write honest, silent, reset, delay DURATION or stale RESOURCEVERSION"
            )),
        }
    }
}

/// The behaviour, and what happened to the connections so far.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) mood: Mood,
    /// How often it became silent: a connection from before is silent for good.
    silences: usize,
    /// How often it cut connections.
    resets: usize,
}

/// What is wrong with a connection for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Silent,
    Reset,
}

impl State {
    pub(super) fn enter(&mut self, mood: Mood) {
        self.silences += usize::from(mood == Mood::Silent);
        self.resets += usize::from(mood == Mood::Reset);
        self.mood = mood;
    }

    /// What is wrong by now with a connection that began when the state was `then`.
    pub(super) fn fault_since(&self, then: &Self) -> Option<Fault> {
        if self.mood == Mood::Reset || self.resets > then.resets {
            Some(Fault::Reset)
        } else if self.mood == Mood::Silent || self.silences > then.silences {
            Some(Fault::Silent)
        } else {
            None
        }
    }

    pub(super) fn delay(&self) -> Option<Duration> {
        if let Mood::Delay(delay) = self.mood { Some(delay) } else { None }
    }

    pub(super) fn stale_at(&self) -> Option<&str> {
        if let Mood::Stale(version) = &self.mood { Some(version) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_writes_is_understood_or_answered_with_what_there_is() {
        assert_eq!("honest".parse(), Ok(Mood::Honest));
        assert_eq!(" silent\n".parse(), Ok(Mood::Silent));
        assert_eq!("reset".parse(), Ok(Mood::Reset));
        assert_eq!("delay 250ms".parse(), Ok(Mood::Delay(Duration::from_millis(250))));
        assert_eq!("stale 4711".parse(), Ok(Mood::Stale("4711".into())));
        for wrong in ["", "loud", "delay", "delay soon", "stale", "stale new"] {
            assert!(wrong.parse::<Mood>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_fault_stays_with_the_connections_that_it_met() {
        let mut state = State::default();
        let before = state.clone();
        state.enter(Mood::Silent);
        assert_eq!(state.fault_since(&state), Some(Fault::Silent), "a new connection");
        state.enter(Mood::Honest);
        assert_eq!(state.fault_since(&before), Some(Fault::Silent));
        assert_eq!(state.fault_since(&state), None, "a new connection");
        state.enter(Mood::Reset);
        state.enter(Mood::Delay(Duration::ZERO));
        assert_eq!(state.fault_since(&before), Some(Fault::Reset));
        assert_eq!(state.fault_since(&state), None, "a new connection");
    }
}
