//! Pools of which no spec can be followed: it cannot be used, and this process has seen no other.

use std::sync::Arc;

use mainstay_crds::EndpointPool;
use mainstay_runtime::{
    index::ObjectKey,
    outcome::{Outcomes, Turn},
};

use super::{CATCH_UP, Endpoints, pool::service_key};
use crate::{
    apply::{ApplyError, Job, SLICES},
    observe::{Observed, may_say},
    pack::Item,
    plan,
    watched::Endpoint,
};

impl Endpoints {
    /// Takes out of the slices what is forbidden, or not granted any more, and pods that have gone, and out of use pods that do not
    /// serve; all else stays as it is. Who gives and withdraws a permission does not depend on what the pool's owner makes of the
    /// pool.
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
        let slices = Observed::own_slices(pool, key, &self.stores);
        let service = self.stores.services.get(&service_key(pool));
        let publishes = service.is_some_and(|service| service.publish_not_ready);
        let mut lowered = std::mem::take(&mut self.memory.lock().entry(key.clone()).or_default().lowered);
        let view = self.view();
        let updates = plan::restricted(&slices, |endpoint| {
            let before = lowered.get(&endpoint.key()).copied().unwrap_or(endpoint.conditions);
            let conditions = may_say(key, endpoint, before, publishes, &view);
            match conditions {
                Some(conditions) if conditions != before => drop(lowered.insert(endpoint.key(), before)),
                _ => drop(lowered.remove(&endpoint.key())),
            }
            conditions.map(|conditions| Endpoint { conditions, ..endpoint.clone() })
        });
        self.memory.lock().entry(key.clone()).or_default().lowered = lowered;
        let applied = self.writer.restrict(&Job { pool, key, slices: &slices }, &updates).await;
        match applied.error {
            None => outcomes.end::<ApplyError>(SLICES, Ok(applied.stale.then_some(CATCH_UP))),
            Some(error) => self.failed(pool, &error, outcomes),
        }
    }
}
