//! Defects that are built in on purpose, to show that the promises which they break are really checked.

/// A defect of the controller, or of what it relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// None: every promise is kept.
    None,
    /// The controller forgets its own writes before each reconcile and compares its pods with its own stores alone, as
    /// one without a write gate would.
    NoGate,
    /// The controller reads its group from its own stores before it deletes.
    StaleReads,
    /// No status is ever stored.
    DeafStatus,
    /// The server lets a controller take another's pod.
    SecondController,
    /// The controller takes a generation for the next one.
    FutureGeneration,
}
