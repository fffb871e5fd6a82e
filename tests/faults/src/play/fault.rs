//! What goes wrong in a run: one thing, most often at one request.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::watch::Lag;

/// The one thing that goes wrong in a run. Requests are counted from 0; watches, Leases of leadership and Events are none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Fault {
    /// Nothing does.
    #[default]
    None,
    /// This happens to one request.
    At(usize, Blow),
    /// From a request on, every write like it is refused with 403.
    Refused(usize),
    /// Before this request a user deletes what the scenario is about.
    Deleted(usize),
    /// From a request on and for this many seconds, the watches of this plural name lag.
    Watch(usize, String, Slow, u64),
    /// Lists that allow it are this many versions behind.
    Behind(u64),
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blow {
    /// The process ends before the server gets the request. A new one starts.
    CrashBefore,
    /// The process ends after the server has carried it out.
    CrashAfter,
    /// The server carries it out, and the answer is lost.
    AnswerLost,
    /// The request is lost.
    RequestLost,
    /// The server refuses it with this code.
    Code(u16),
    /// The server carries it out and answers this code all the same.
    DoneBut(u16),
    /// There is no answer, whether the server has carried it out or not.
    Hung(bool),
    /// The object that it names was deleted and recreated just before.
    Recreated,
    /// Someone deletes the Lease of leadership, and a second process starts.
    Rival,
    /// The process is told to end, and a second one waits to take over.
    Handover,
}

/// How a watch lags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Slow {
    /// It shows each change this many seconds later.
    Late(u64),
    /// It shows nothing.
    Deaf,
    /// It breaks, each time that it begins.
    Cut,
    /// It is told 410, each time that it begins.
    Gone,
}

impl Slow {
    /// As the model does it.
    pub(super) fn lag(self) -> Lag {
        match self {
            Self::Late(seconds) => Lag::Late(Duration::from_secs(seconds)),
            Self::Deaf => Lag::Deaf,
            Self::Cut => Lag::Cut,
            Self::Gone => Lag::Gone,
        }
    }
}

/// What happens to writes.
pub(super) const TO_WRITES: [Blow; 16] = [
    Blow::CrashBefore,
    Blow::CrashAfter,
    Blow::AnswerLost,
    Blow::RequestLost,
    Blow::Code(409),
    Blow::Code(410),
    Blow::Code(429),
    Blow::Code(500),
    Blow::Code(504),
    Blow::DoneBut(500),
    Blow::DoneBut(504),
    Blow::Hung(false),
    Blow::Hung(true),
    Blow::Recreated,
    Blow::Rival,
    Blow::Handover,
];

/// What happens to reads: whether one was carried out makes no difference.
pub(super) const TO_READS: [Blow; 9] = [
    Blow::CrashBefore,
    Blow::AnswerLost,
    Blow::Code(410),
    Blow::Code(429),
    Blow::Code(500),
    Blow::Hung(true),
    Blow::Recreated,
    Blow::Rival,
    Blow::Handover,
];

/// What happens to watches, and for how many seconds.
pub(super) const TO_WATCHES: [(Slow, u64); 5] =
    [(Slow::Late(3), 60), (Slow::Late(20), 60), (Slow::Deaf, 100), (Slow::Cut, 20), (Slow::Gone, 20)];
