//! When a rollout is complete, by the owner's own word.

use crate::side::Side;
use serde_json::Value;

/// The end of a rollout.
pub(super) struct Goal {
    /// Whose word it is.
    pub side: Side,
    /// The generation that asked for it.
    pub generation: i64,
    /// How many pods the owner has.
    pub pods: u64,
    /// A ReplicaGroup's revision before.
    pub before: Option<String>,
}

impl Goal {
    /// Whether `status` says that all pods are of the new template and available, that there are no other pods,
    /// and that the rollout has ended.
    pub(super) fn is_reached(&self, status: &Value) -> bool {
        let count = |field: &str| status[field].as_u64().unwrap_or_default();
        let all = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"];
        status["observedGeneration"].as_i64().is_some_and(|observed| observed >= self.generation)
            && all.into_iter().all(|field| count(field) == self.pods)
            && if self.side == Side::Mainstay {
                self.group_is_done(status)
            } else {
                deployment_is_done(status)
            }
    }

    fn group_is_done(&self, status: &Value) -> bool {
        let current = revision(status);
        status["rollout"].is_null()
            && current.is_some()
            && current != self.before
            && status["updateRevision"] == status["currentRevision"]
            && has(status, "Progressing", Some("RolloutComplete"))
            && has(status, "Ready", None)
    }
}

fn deployment_is_done(status: &Value) -> bool {
    has(status, "Progressing", Some("NewReplicaSetAvailable")) && has(status, "Available", None)
}

/// The revision that a ReplicaGroup would go back to.
pub(super) fn revision(status: &Value) -> Option<String> {
    status["currentRevision"].as_str().map(str::to_owned)
}

fn has(status: &Value, kind: &str, reason: Option<&str>) -> bool {
    status["conditions"].as_array().into_iter().flatten().any(|condition| {
        condition["type"] == kind
            && condition["status"] == "True"
            && reason.is_none_or(|reason| condition["reason"] == reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn goal(side: Side) -> Goal {
        Goal { side, generation: 2, pods: 9, before: (side == Side::Mainstay).then(|| "a-1".into()) }
    }

    fn counts(reasons: [(&str, &str); 2]) -> Value {
        let conditions =
            reasons.map(|(kind, reason)| json!({"type": kind, "status": "True", "reason": reason}));
        json!({
            "observedGeneration": 2,
            "replicas": 9,
            "updatedReplicas": 9,
            "readyReplicas": 9,
            "availableReplicas": 9,
            "conditions": conditions,
        })
    }

    fn group() -> Value {
        let mut status = counts([("Ready", "AllAvailable"), ("Progressing", "RolloutComplete")]);
        status["currentRevision"] = "a-2".into();
        status["updateRevision"] = "a-2".into();
        status
    }

    fn deployment() -> Value {
        counts([("Available", "MinimumReplicasAvailable"), ("Progressing", "NewReplicaSetAvailable")])
    }

    /// Each change of a complete status makes it incomplete.
    fn incomplete(goal: &Goal, status: &Value, changes: &[(&str, Value)]) {
        assert!(goal.is_reached(status), "{status}");
        for (path, value) in changes {
            let mut other = status.clone();
            match other.pointer_mut(path) {
                Some(field) => *field = value.clone(),
                None => other[&path[1..]] = value.clone(),
            }
            assert!(!goal.is_reached(&other), "{path}: {other}");
        }
        assert!(!goal.is_reached(&Value::Null));
    }

    #[test]
    fn a_deployment_is_complete_when_it_says_so_of_the_new_generation() {
        incomplete(
            &goal(Side::AloneLifted),
            &deployment(),
            &[
                ("/observedGeneration", json!(1)),
                ("/replicas", json!(10)),
                ("/updatedReplicas", json!(8)),
                ("/availableReplicas", json!(8)),
                ("/conditions/1/reason", json!("ReplicaSetUpdated")),
                ("/conditions/0/status", json!("False")),
            ],
        );
    }

    #[test]
    fn a_group_is_complete_when_it_is_at_rest_at_another_revision() {
        incomplete(
            &goal(Side::Mainstay),
            &group(),
            &[
                ("/observedGeneration", json!(1)),
                ("/replicas", json!(10)),
                ("/updatedReplicas", json!(8)),
                ("/rollout", json!({"revision": "a-2"})),
                ("/currentRevision", json!("a-1")),
                ("/updateRevision", json!("a-3")),
                ("/conditions/0/status", json!("False")),
                ("/conditions/1/reason", json!("RollingOut")),
            ],
        );
        let mut back = group();
        back["currentRevision"] = "a-1".into();
        back["updateRevision"] = "a-1".into();
        assert!(!goal(Side::Mainstay).is_reached(&back), "a rollback is no rollout");
    }
}
