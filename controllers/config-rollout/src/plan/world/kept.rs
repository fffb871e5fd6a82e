//! What is noted before a plan is remembered, and whether a status keeps it all.

use mainstay_crds::ConfigRollout;
use mainstay_runtime::outcome::Failures;
use serde_json::json;

use super::{Plan, StageSettings, State, World};
use crate::{
    record,
    status::{self, StatusInput},
};

impl World {
    /// As `evidence` notes what the pods showed before a change that is judged.
    pub(super) fn note_restarts(&self, plan: &mut Plan) {
        for (key, _) in plan.state.judged_moves(&plan.moves) {
            let remembered = plan.state.targets.get_mut(key).unwrap();
            remembered.restarts_before = self.targets[self.place(key)].restarts;
        }
    }

    /// A status keeps all that a plan remembers.
    pub(super) fn assert_kept(&self, plan: &Plan) {
        let read = self.read(plan);
        assert!(read.remembers(&plan.state), "{:?} is read as {read:?}", plan.state);
    }

    /// What another process reads from the status.
    pub(super) fn read(&self, plan: &Plan) -> State {
        let stage = |stage: &StageSettings| json!({"name": &*stage.name, "targets": []});
        let stages: Vec<_> = self.settings.stages.iter().map(stage).collect();
        let rollout: ConfigRollout = serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "ConfigRollout", "metadata": {"name": "web"},
            "spec": {"sources": [], "stages": stages},
        }))
        .unwrap();
        let (observed, failures) = (self.observe(), Failures::default());
        let told = StatusInput {
            rollout: &rollout,
            observed: &observed,
            findings: &self.findings,
            plan,
            failures: &failures,
        };
        let status = status::told(&told, self.now);
        record::read(&rollout, &status)
    }
}
