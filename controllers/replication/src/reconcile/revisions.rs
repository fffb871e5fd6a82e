//! The revisions of a group, before its pods.

use mainstay_crds::ReplicaGroup;
use mainstay_runtime::{
    failure::RequestError,
    outcome::{Outcomes, Turn},
};

use super::{RECHECK, Replication};
use crate::{
    apply::{ApplyError, NUMBERING, PRUNING, REVISIONS},
    observe::{Assessment, Observed},
};

impl Replication {
    /// Keeps the template as a revision. Returns whether it is kept: without that nothing is brought to it, as nothing could
    /// be rolled back to it later, while pods of other revisions are replaced and scaled as before. One that is kept need not
    /// wait for its number, which is for people.
    pub(super) async fn keep_revision(
        &self,
        group: &ReplicaGroup,
        observed: &Observed,
        turn: &Turn,
        outcomes: &mut Outcomes,
    ) -> bool {
        let stands = observed.revisions.stands().is_some();
        if stands && turn.held(NUMBERING).is_none() {
            outcomes.note(NUMBERING, self.writer.renew_revision(group, observed).await);
        }
        if turn.held(REVISIONS).is_some() && !stands {
            return false;
        }
        let kept = self.writer.keep_revision(group, observed).await;
        // In a namespace that is being deleted nothing new is made, and what is there is still to be seen to.
        let goes = |error: &ApplyError| matches!(error.request(), RequestError::NamespaceTerminating(_));
        let goes = kept.as_ref().is_err_and(goes);
        let kept = outcomes.note(REVISIONS, kept);
        if kept == Some(false) {
            outcomes.again(Some(RECHECK));
        }
        goes || kept.unwrap_or_default()
    }

    /// Deletes the revisions that are kept no longer.
    pub(super) async fn prune_revisions(&self, assessed: &Assessment, turn: &Turn, outcomes: &mut Outcomes) {
        if turn.held(PRUNING).is_none() {
            outcomes.note(PRUNING, self.writer.prune_revisions(&assessed.prune).await);
        }
    }
}
