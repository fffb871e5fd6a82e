//! Pools whose spec is not followed: it cannot be used, or something holds them back in their deletion.

use std::sync::Arc;

use mainstay_crds::EndpointPool;
use mainstay_runtime::{
    index::ObjectKey,
    outcome::{Outcomes, Turn},
};

use super::{CATCH_UP, Endpoints};
use crate::{
    apply::{ApplyError, Job, SLICES},
    observe::{Observed, may_stay},
    plan,
};

impl Endpoints {
    /// Takes out of the slices what is forbidden, or not granted any more, and pods that have gone; all else stays as it is. Who
    /// gives and withdraws a permission does not depend on what the pool's owner makes of the pool.
    pub(super) async fn restrict(
        &self,
        pool: &Arc<EndpointPool>,
        key: &ObjectKey,
        turn: &Turn,
        outcomes: &mut Outcomes,
    ) {
        self.interests.reach(key, Observed::standing(key, &self.stores));
        if !self.may_write(pool, key, turn, outcomes).await {
            return;
        }
        let mut slices = Observed::slices(key, &self.stores);
        if pool.metadata.deletion_timestamp.is_some() {
            // One without its owner was orphaned, and is not to be deleted with it.
            let uid = pool.metadata.uid.as_deref();
            slices.retain(|slice| slice.owner.as_ref().map(|(_, owner)| &**owner) == uid);
        }
        let view = self.view();
        let updates = plan::restricted(&slices, |endpoint| may_stay(key, endpoint, &view));
        let applied = self.writer.restrict(&Job { pool, key, slices: &slices }, &updates).await;
        match applied.error {
            None => outcomes.end::<ApplyError>(SLICES, Ok(applied.stale.then_some(CATCH_UP))),
            Some(error) => self.failed(pool, &error, outcomes),
        }
    }
}
