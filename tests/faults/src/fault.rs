//! What may go wrong in a run, and how stale the controller's view is meanwhile.

use crate::kind::Kind;

/// The one thing that goes wrong in a run. Requests are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing does.
    None,
    /// A request has another outcome than it should.
    Answer {
        /// Which request.
        at: usize,
        /// Whether the server carries it out all the same.
        applied: bool,
        /// What the controller is told.
        answer: Answer,
    },
    /// The reconcile is cut off while a write is under way.
    Crash {
        /// Which write.
        at: usize,
        /// Whether the server carries it out all the same, and those that were sent with it.
        applied: bool,
        /// Who goes on.
        then: Then,
    },
}

/// What the controller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A failure of this HTTP status.
    Code(u16),
    /// The connection breaks.
    Lost,
    /// Nothing, so that it has to give up by itself.
    Silence,
}

/// Who goes on after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The same process: only the reconcile was ended.
    SameProcess,
    /// A new process, with fresh lists.
    Restart,
    /// A standby, whose watches are so many changes behind.
    Takeover(usize),
}

/// How the watches follow the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// At once, also during a reconcile.
    Live,
    /// Between reconciles.
    Prompt,
    /// One change between two reconciles.
    OneByOne,
    /// So many changes behind in one kind, as long as anything else happens.
    Late(Kind, usize),
    /// Between reconciles, everything twice.
    Twice,
    /// A change, then a new list, in turn.
    Relists,
    /// By lists that take several reconciles to arrive.
    SlowLists,
}

/// Every view that is explored.
pub const VIEWS: [View; 9] = [
    View::Live,
    View::Prompt,
    View::OneByOne,
    View::Late(Kind::Pod, 3),
    View::Late(Kind::Pod, usize::MAX),
    View::Late(Kind::Group, usize::MAX),
    View::Twice,
    View::Relists,
    View::SlowLists,
];

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// It reads.
    Read,
    /// It writes a pod.
    Pod,
    /// It writes the status of a group.
    Status,
}

/// Every fault in a run of these requests. Of a status nothing is kept but that it could not be written, so fewer
/// answers make a difference.
pub fn all(requests: &[Sort]) -> Vec<Fault> {
    use Answer::{Code, Lost, Silence};
    let to_pods = [
        (false, Code(409)),
        (false, Code(422)),
        (false, Code(429)),
        (false, Code(500)),
        (true, Code(500)),
        (true, Code(504)),
        (false, Lost),
        (true, Lost),
        (false, Silence),
        (true, Silence),
    ];
    let to_status = [(false, Code(409)), (false, Code(500)), (true, Lost)];
    let mut faults = vec![Fault::None];
    for (at, sort) in requests.iter().enumerate() {
        let answers = if *sort == Sort::Status { &to_status[..] } else { &to_pods };
        faults.extend(answers.iter().map(|&(applied, answer)| Fault::Answer { at, applied, answer }));
    }
    let after_pods =
        [Then::SameProcess, Then::Restart, Then::Takeover(1), Then::Takeover(3), Then::Takeover(usize::MAX)];
    let after_status = [Then::SameProcess, Then::Takeover(3)];
    for (at, sort) in requests.iter().filter(|sort| **sort != Sort::Read).enumerate() {
        let successors = if *sort == Sort::Status { &after_status[..] } else { &after_pods };
        for applied in [false, true] {
            faults.extend(successors.iter().map(|&then| Fault::Crash { at, applied, then }));
        }
    }
    faults
}
