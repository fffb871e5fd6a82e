//! The output of a plan.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::why::Why;

/// What to do. Pods are named by their index in the planner's input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Pods to adopt, before anything else: they count as active and may be among the victims.
    pub adopt: Vec<usize>,
    /// Pods whose adoption was refused, to be asked for again. They do not count; where it succeeds, the plan is to be made
    /// again.
    pub adopt_again: Vec<usize>,
    /// Pods to let go: they lose the controller reference and their hook, and live on.
    pub release: Vec<usize>,
    /// How many pods to create now, of which revision.
    pub create: Vec<Creation>,
    /// Pods that go, in this order. Stopping half-way and planning again deletes the same pods.
    pub delete: Vec<Victim>,
    /// The target revision of the group, if pods are updated.
    pub target: Option<Arc<str>>,
    /// Pods whose readiness gate is to be opened.
    pub open: Vec<usize>,
    /// Pods that were to go and need not any more, as their hooks' owners are to be told.
    pub cancel: Vec<usize>,
    /// Pods whose hook has taken too long, so that it is not waited for any longer.
    pub time_out: Vec<usize>,
    /// How many hooks are waited for, and until when the first.
    pub hooks: Option<(usize, Timestamp)>,
    /// How many free sets of volume claims to delete.
    pub discard: usize,
    /// The pods as they are before the plan is carried out.
    pub counts: Counts,
    /// Why fewer pods are created than are missing; `None` when nothing is held back.
    pub wait: Option<Wait>,
    /// When to plan again though nothing happens: the next pod becomes available or a pause of creation ends.
    /// Until then time alone changes neither counts nor creations.
    pub recheck_in: Option<Duration>,
}

impl Plan {
    /// There is nothing to write to any pod.
    pub fn is_empty(&self) -> bool {
        let Self {
            adopt,
            adopt_again,
            release,
            create,
            delete,
            open,
            cancel,
            time_out,
            discard,
            target: _,
            hooks: _,
            counts: _,
            wait: _,
            recheck_in: _,
        } = self;
        [adopt, adopt_again, release, open, cancel, time_out].iter().all(|pods| pods.is_empty())
            && create.is_empty()
            && delete.is_empty()
            && *discard == 0
    }

    /// How many pods to create, of whatever revision.
    pub fn creations(&self) -> usize {
        self.create.iter().map(|creation| creation.count).fold(0, usize::saturating_add)
    }
}

/// Pods to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// Of this revision; empty for a group that knows none.
    pub revision: Arc<str>,
    /// The number.
    pub count: usize,
}

/// The pods of a group, those to be adopted included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Neither ended nor terminating.
    pub active: usize,
    /// Active and ready.
    pub ready: usize,
    /// Active and ready for the policy's `min_ready`.
    pub available: usize,
    /// Terminating, not ended yet.
    pub terminating: usize,
    /// Active and carrying every label of the template.
    pub fully_labeled: usize,
}

/// Why creation is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// This many replacements wait for terminating pods to end; the others, if any, are created.
    Terminating(usize),
    /// This many pods wait for the volume claims of terminating pods.
    Volumes(usize),
    /// This many pods of other revisions have not ended yet, and no new pod may run beside them.
    OldPods(usize),
    /// Pods of a revision failed one after the other; until then none of it is created.
    Backoff {
        /// The revision; empty for a group that knows none.
        revision: Arc<str>,
        /// When creation goes on.
        until: Timestamp,
    },
}

/// A pod that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Victim {
    /// Its index in the planner's input.
    pub pod: usize,
    /// The rule that chose it.
    pub why: Why,
    /// How it goes.
    pub how: How,
    /// What is done with it now.
    pub step: Step,
}

/// How a pod goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is deleted, whatever a PodDisruptionBudget says.
    Delete,
    /// It is evicted, which a PodDisruptionBudget may refuse for now.
    Evict,
    /// It goes on running, as a pod of the target revision.
    InPlace,
}

/// What is done with a pod that goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Step {
    /// It goes now.
    #[default]
    Go,
    /// The owner of its hook is told.
    TellHook,
    /// Its hook is not done.
    AwaitHook,
    /// Its readiness gate is closed, so that it is taken out of service.
    CloseGate,
    /// Its node has not seen yet that the gate is closed.
    AwaitNode,
}
