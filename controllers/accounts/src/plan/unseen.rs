//! Secrets that the watch does not show: it follows those of policies, by a label that anybody can remove.
//!
//! If no Secret of a name is seen, the name may be free, or not. If there are signs that it is not, the Secret is read
//! live, and the plan gets what was found: what works stays, its mark is restored, and nothing counts as deleted that
//! was not read.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    action::Action,
    planner::Planner,
    types::{Desired, Observed, Part, Unseen},
};

impl Observed {
    /// The names at which there may be a Secret although none is seen: where a create was `refused`, and those of which
    /// another Secret speaks.
    pub fn doubtful(&self, refused: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
        let outputs = self.handles.values().map(|handle| &handle.output);
        let handles = self.outputs.values().map(|output| &output.handle);
        let is_seen = |name: &Arc<str>| {
            self.copies.contains_key(name)
                || self.handles.contains_key(name)
                || self.outputs.contains_key(name)
                || self.invalid.contains_key(name)
        };
        refused.iter().chain(outputs).chain(handles).filter(|name| !is_seen(name)).cloned().collect()
    }
}

impl Planner<'_> {
    /// Whether a Secret can be made at a name at which none is seen. Where it is the policy's, its mark is put back.
    pub(super) fn is_free(&mut self, desired: &Desired, part: Part, name: &Arc<str>) -> bool {
        let Some(unseen) = self.observed.unseen.get(name) else { return true };
        let (reason, message) = match unseen {
            Unseen::Unmarked(made_as, uid) if *made_as == part => {
                self.mark(desired, part, name, uid);
                return false;
            }
            Unseen::Foreign(Some(policy)) if *policy != desired.policy => {
                ("Conflict", format!("Secret {name} {}", self.belongs_to(policy)))
            }
            Unseen::Unmarked(..) | Unseen::Foreign(None) => (
                "Conflict",
                format!(
                    "Secret {name} already exists and is not managed by a policy: delete it, or choose \
                     another name"
                ),
            ),
            Unseen::Going => ("Conflict", format!("Secret {name} is being deleted; waiting for that")),
            // Its mark is the policy's own: the watch is about to show it.
            Unseen::Unknown | Unseen::Foreign(Some(_)) => {
                ("Unknown", format!("it is not known yet whether Secret {name} exists; retrying"))
            }
        };
        self.problem(desired, reason, message);
        false
    }

    /// Whether the handle of a token is there. A token is revoked by the deletion of its handle, and by nothing less.
    pub(super) fn has_handle(&mut self, desired: &Desired, name: &Arc<str>) -> bool {
        match self.observed.unseen.get(name) {
            _ if self.observed.handles.contains_key(name) => true,
            Some(Unseen::Unmarked(Part::Handle, uid)) => {
                self.mark(desired, Part::Handle, name, uid);
                true
            }
            Some(Unseen::Unknown) => true,
            _ => false,
        }
    }

    /// Puts the policy's mark back on what another policy has not been given meanwhile.
    fn mark(&mut self, desired: &Desired, part: Part, name: &Arc<str>, uid: &str) {
        let is_marked = |action: &Action| matches!(action, Action::Mark(_, _, marked, _) if marked == name);
        if !self.plan.actions.iter().any(is_marked) {
            self.plan.repairs += 1;
            let (policy, name) = (Arc::clone(&desired.policy), Arc::clone(name));
            self.plan.actions.push(Action::Mark(policy, part, name, uid.into()));
        }
    }
}
