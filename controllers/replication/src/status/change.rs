//! The messages about a rollout: what it is doing and what it waits for.

use std::time::Duration;

use kube::ResourceExt;
use mainstay_runtime::{conditions::NewCondition, outcome::Failure};

use super::seen::{Seen, hook_sentence};
use crate::{
    names::{ABORT, CONTINUE},
    observe::Assessment,
    plan::Strategy,
    revision,
    rollout::{Command, Decision, Failed, Phase},
};

/// The reason of `Ready` and `Progressing` where new pods have waited for room for too long.
const NO_ROOM: &str = "WaitingForRoom";

/// The node of a pod has prepared it in less, unless something is wrong.
const SETUP: Duration = Duration::from_secs(30);

/// When it can be told that pods are not prepared, if no event comes first.
pub(super) fn due(assessed: &Assessment) -> Option<Duration> {
    let target = &assessed.target;
    let unprepared = (target.unprepared > 0).then(|| SETUP.saturating_sub(target.unprepared_for));
    [unprepared, assessed.may_wait].into_iter().flatten().filter(|left| !left.is_zero()).min()
}

impl Seen<'_> {
    fn name(&self, hash: &str) -> String {
        revision::name(&self.group.name_any(), hash)
    }

    fn target(&self) -> String {
        self.name(&self.assessed.decision.target)
    }

    fn failed(&self) -> Option<&Failed> {
        self.assessed.decision.state.failed.as_ref()
    }

    /// Whether the group is rolled back, or is being rolled back.
    fn goes_back(&self) -> bool {
        let decision = &self.assessed.decision;
        self.failed().is_some_and(|failed| failed.revision != decision.target)
    }

    fn failure_sentence(&self, failed: &Failed) -> String {
        format!("{} has failed ({}): {}", self.name(&failed.revision), failed.reason, failed.message)
    }

    /// What blocks the update, or else the update itself.
    fn reason(&self, exchange: &'static str) -> &'static str {
        match (self.blocked, self.assessed.plan.hooks) {
            (Some(_), _) => "DisruptionBudget",
            (None, Some(_)) => "WaitingForPreDelete",
            (None, None) if self.lacks_room() => NO_ROOM,
            (None, None) => exchange,
        }
    }

    /// Whether new pods have waited for room for longer than a rollout may without getting on.
    fn lacks_room(&self) -> bool {
        self.assessed.may_wait.is_some_and(|left| left.is_zero())
    }

    /// How many pods have got there, and what is waited for.
    fn progress(&self) -> String {
        let (target, wanted) = (self.assessed.target, self.observed.policy.replicas);
        let done = format!(
            "{} of {wanted} pods are updated and {} of these are available",
            target.active, target.available
        );
        let starting = target.active - target.available;
        let others = self.others();
        if let Some(text) = self.blocked {
            format!("{done}; a PodDisruptionBudget blocks the rest: {text}")
        } else if let Some(hooks) = hook_sentence(&self.assessed.plan) {
            format!("{done}; {hooks}")
        } else if starting > 0 {
            format!(
                "{done}; waiting for {starting} to become available{}{}",
                self.waiting(),
                self.unprepared()
            )
        } else if others > 0 {
            format!("{done}; {others} old pods are left")
        } else {
            done
        }
    }

    /// That the pods follow `spec.rollbackTo` and not a template of another revision.
    fn beside_the_template(&self) -> String {
        let (decision, revisions) = (&self.assessed.decision, &self.observed.revisions);
        if decision.wanted == revisions.own || revisions.wanted == revisions.own {
            return String::new();
        }
        format!(
            "; they follow spec.rollbackTo, which names {}, and not spec.template, which is {}: remove \
             spec.rollbackTo to bring the template out",
            self.name(&decision.wanted),
            self.name(&revisions.own)
        )
    }

    /// How many pods are not of the target.
    fn others(&self) -> usize {
        self.assessed.plan.counts.active.saturating_sub(self.assessed.target.active)
    }

    /// That no pod is made of the target, and why, where no request has failed.
    fn not_stored(&self) -> String {
        let target = self.target();
        let why = if self.failures.is_empty() {
            "; one that a deleted group of this name has left is still to be removed by the garbage collector"
        } else {
            ""
        };
        format!(
            "no pod is created of {target} or updated to it before it is stored as a ControllerRevision{why}"
        )
    }

    /// Which commands have no effect as they cannot be read.
    fn unreadable(&self) -> String {
        let (settings, revisions) = (&self.observed.settings, &self.observed.revisions);
        let commands = [(CONTINUE, &settings.resume), (ABORT, &settings.abort)];
        let note = |(annotation, command): (&str, &Option<Command>)| {
            let text = self.group.annotations().get(annotation)?;
            let is_known = |command: &Command| {
                *command.revision == *self.assessed.decision.target || revisions.is_known(&command.revision)
            };
            let is_read = command.as_ref().is_some_and(is_known);
            (!is_read).then(|| {
                format!(
                    "; {annotation}={text} names no revision of this group, or no step, and has no effect"
                )
            })
        };
        commands.into_iter().filter_map(note).collect()
    }

    /// Which commands have no effect on this rollout, as they were given before it began.
    fn ignored(&self) -> String {
        let ignored = self.assessed.decision.state.rollout.as_ref().map(|rollout| &rollout.ignored);
        let values = ignored.map(|ignored| [(CONTINUE, &ignored.resume), (ABORT, &ignored.abort)]);
        let values = values.into_iter().flatten();
        let values = values.filter_map(|(annotation, text)| Some(format!("{annotation}={}", text.as_ref()?)));
        let values: Vec<_> = values.collect();
        if values.is_empty() {
            return self.unreadable();
        }
        format!(
            "; {} is from before this rollout and has no effect: to give the command again, append /again to its value{}",
            values.join(" and "),
            self.unreadable()
        )
    }

    /// The command that ends the pause of this step.
    fn resume(&self, step: usize) -> String {
        let (name, namespace) = (self.group.name_any(), self.group.namespace().unwrap_or_default());
        let command = format!("{}/{step}", self.target());
        let rollout = self.assessed.decision.state.rollout.as_ref();
        let ignored = rollout.and_then(|rollout| rollout.ignored.resume.as_deref());
        // The same value again would be no new command.
        let again = if ignored == Some(command.as_str()) { "/again" } else { "" };
        format!(
            "kubectl annotate replicagroup {name} --namespace {namespace} --overwrite {CONTINUE}={command}{again}"
        )
    }

    /// How many pods are not prepared by their nodes, once that has taken long.
    pub(super) fn unprepared(&self) -> String {
        let target = &self.assessed.target;
        if target.unprepared_for < SETUP { String::new() } else { format!("; {}", target.setup()) }
    }

    /// How many new pods wait for what is no failure.
    fn waiting(&self) -> String {
        match self.assessed.decision.waiting {
            0 => String::new(),
            waiting if self.lacks_room() => format!(
                ", of which {waiting} have waited for a scheduling gate or for room on a node for longer than \
                 spec.progressDeadlineSeconds: add nodes or, if spec.template asks for more than they have, change it"
            ),
            waiting => format!(", of which {waiting} wait for a scheduling gate or for room on a node"),
        }
    }

    /// That pods are replaced which the spec asks to change in place, and why.
    fn replaces(&self) -> String {
        if !self.assessed.none_may_be_unavailable || self.others() == 0 {
            return String::new();
        }
        format!(
            "; pods are replaced and not changed in place, because spec.update.maxUnavailable comes to 0 of {} and a pod is \
             unavailable while its containers restart",
            self.observed.policy.replicas
        )
    }

    /// What a stage means for the old pod of a group of one pod, which may have no canary.
    fn canary(&self) -> &'static str {
        let Decision { state, keep, .. } = &self.assessed.decision;
        let step = state.rollout.as_ref().and_then(|rollout| self.observed.settings.steps.get(rollout.step?));
        match (step.filter(|step| step.weight < 100), self.observed.policy.replicas, keep) {
            (Some(_), 1, Some(_)) => ", and the old pod stays beside it until the step is passed",
            (Some(_), 1, None) => {
                ", and no old pod stays beside it: for that spec.update.maxSurge must be 1 or more, and \
                 the change must not be applied in place"
            }
            _ => "",
        }
    }
}

/// Pods that are missing of a revision whose template is lost.
pub(super) fn lost_revision(seen: &Seen<'_>) -> Option<Failure> {
    let is_lost = |hash: &str| !hash.is_empty() && !seen.observed.revisions.is_known(hash);
    let lost = seen.assessed.plan.create.iter().find(|creation| is_lost(&creation.revision))?;
    let message = format!(
        "the pods of {name} that are missing ({}) cannot be created, because there is no ControllerRevision {name} \
         any more: restore it, or end what keeps pods of this revision (spec.paused, or a failed spec.template), so \
         that others take their place",
        lost.count,
        name = seen.name(&lost.revision)
    );
    Some(Failure { reason: "RevisionLost", stalled: true, message })
}

/// A failure that lasts until the template changes.
pub(super) fn lasting_failure(seen: &Seen<'_>) -> Option<Failure> {
    let failed = seen.failed().filter(|_| !seen.goes_back())?;
    let message = format!("{}; correct spec.template", seen.failure_sentence(failed));
    Some(Failure { reason: failed.reason.as_str(), stalled: true, message })
}

/// The failure of a rollout whose pods are rolled back: they run, and what the spec asks for does not.
pub(super) fn rolled_back_failure(seen: &Seen<'_>) -> Option<Failure> {
    let is_back = seen.assessed.decision.phase != Phase::RollingBack;
    let failed = seen.failed().filter(|_| seen.goes_back() && is_back)?;
    let (target, others) = (seen.target(), seen.others());
    let pods = match seen.assessed.decision.phase {
        _ if others == 0 => format!("the pods are of {target}"),
        Phase::WaitingForDeletion => {
            format!("{others} pods are not of {target} and stay until they are deleted by hand")
        }
        _ => format!("{others} pods are not of {target} yet"),
    };
    let message =
        format!("{pods}, because {}; change spec.template to try again", seen.failure_sentence(failed));
    Some(Failure { reason: failed.reason.as_str(), stalled: true, message })
}

/// The part of `Ready` that is about a rollout; `None` if no rollout in progress keeps the group from being ready.
pub(super) fn readiness(seen: &Seen<'_>) -> Option<(bool, &'static str, String)> {
    let decision = &seen.assessed.decision;
    let target = seen.target();
    let is_first = decision.state.current.is_none();
    let (stored, counts) = (seen.observed.revisions.stored, seen.assessed.plan.counts);
    let wanted = seen.observed.policy.replicas;
    let (reason, message) = match decision.phase {
        Phase::Complete | Phase::PartitionReached | Phase::WaitingForDeletion | Phase::Failed => return None,
        Phase::Rolling if is_first && !stored && counts.active < wanted => {
            ("TemplateNotStored", seen.not_stored())
        }
        Phase::Rolling if is_first => return None,
        Phase::Rolling => {
            let message = format!(
                "updating the pods to {target}: {}{}{}{}",
                seen.progress(),
                seen.canary(),
                seen.replaces(),
                seen.ignored()
            );
            (seen.reason("RollingOut"), message)
        }
        Phase::RollingBack => {
            let failure = seen.failed().map(|failed| seen.failure_sentence(failed)).unwrap_or_default();
            (seen.reason("RollingBack"), format!("{failure}; rolling back to {target}: {}", seen.progress()))
        }
        Phase::StepPaused { step, of, weight, until } => {
            let next = match until {
                Some(until) => format!("continues at {}", until.strftime("%FT%TZ")),
                None => format!("continues after `{}`", seen.resume(step)),
            };
            (
                "StepPaused",
                format!(
                    "step {step} of {of} ({weight} %) is reached: {} of {} pods are updated to {target}{}; \
                     the rollout {next}{}",
                    seen.assessed.target.active,
                    wanted,
                    seen.canary(),
                    seen.ignored()
                ),
            )
        }
        Phase::Paused if !stored => ("TemplateNotStored", seen.not_stored()),
        Phase::Paused => {
            ("Paused", format!("spec.paused pauses the rollout of {target}: {}", seen.progress()))
        }
    };
    Some((false, reason, message))
}

/// What `Ready` adds when all pods are available.
pub(super) fn addition(seen: &Seen<'_>) -> String {
    let (target, updated) = (seen.target(), seen.assessed.target.active);
    match seen.assessed.decision.phase {
        Phase::PartitionReached => {
            format!(", {updated} of them updated to {target}, as spec.update.partition says")
        }
        Phase::WaitingForDeletion => {
            format!(", {updated} of them updated to {target}; the others are updated when they are deleted")
        }
        _ => seen.beside_the_template(),
    }
}

/// `Available`, `Progressing` and `RolledBack`.
pub(super) fn verdicts(seen: &Seen<'_>) -> [NewCondition; 3] {
    [available(seen), progressing(seen), rolled_back(seen)]
}

fn available(seen: &Seen<'_>) -> NewCondition {
    let wanted = seen.observed.policy.replicas;
    let least = match seen.observed.settings.strategy {
        Strategy::Rolling { unavailable, .. } => wanted.saturating_sub(unavailable),
        Strategy::Recreate | Strategy::OnDelete => wanted,
    };
    let available = seen.assessed.plan.counts.available;
    let status = available >= least;
    let reason = if status { "MinimumPodsAvailable" } else { "MinimumPodsUnavailable" };
    let message = format!("{available} pods are available, at least {least} are required");
    NewCondition { kind: "Available", status, reason, message }
}

fn progressing(seen: &Seen<'_>) -> NewCondition {
    let target = seen.target();
    let verdict = |status, reason, message| NewCondition { kind: "Progressing", status, reason, message };
    let phase = seen.assessed.decision.phase;
    if let Some(failed) = seen.failed().filter(|_| phase != Phase::RollingBack) {
        return verdict(false, failed.reason.as_str(), seen.failure_sentence(failed));
    }
    let (reason, message) = match phase {
        Phase::Complete => ("RolloutComplete", format!("all pods are updated to {target}")),
        Phase::Rolling if seen.lacks_room() => return verdict(false, NO_ROOM, seen.progress()),
        Phase::Rolling | Phase::Failed => ("RollingOut", format!("updating the pods to {target}")),
        Phase::RollingBack => ("RollingBack", format!("rolling back to {target}")),
        Phase::StepPaused { step, .. } => {
            ("StepPaused", format!("step {step} of the rollout of {target} is reached"))
        }
        Phase::PartitionReached => {
            ("PartitionReached", format!("as many pods are updated to {target} as the partition allows"))
        }
        Phase::WaitingForDeletion => {
            ("WaitingForDeletion", format!("pods are updated to {target} when they are deleted"))
        }
        // Then it is not the spec that pauses it.
        Phase::Paused if !seen.observed.revisions.stored => ("TemplateNotStored", seen.not_stored()),
        Phase::Paused => ("Paused", format!("spec.paused pauses the rollout of {target}")),
    };
    verdict(true, reason, message)
}

fn rolled_back(seen: &Seen<'_>) -> NewCondition {
    match seen.failed().filter(|_| seen.goes_back()) {
        Some(failed) => {
            let message = format!("{}; rollback to {}", seen.failure_sentence(failed), seen.target());
            NewCondition { kind: "RolledBack", status: true, reason: failed.reason.as_str(), message }
        }
        None => NewCondition { kind: "RolledBack", status: false, reason: "None", message: String::new() },
    }
}
