//! Gives each pod the node with the fewest pods that it may run on.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::timers::Timers;
use crate::model::{
    kinds::Kind,
    object::{is_terminating, items, name, uid},
    store::{Key, Store, key, now},
};

/// How long it takes to find a node.
const TAKES: Duration = Duration::from_millis(50);

pub(super) fn step(store: &mut Store, timers: &mut Timers) {
    let pods = Kind::named("pods");
    let is_waiting = |pod: &&Arc<Value>| pod["spec"]["nodeName"].is_null() && !is_terminating(pod);
    let waiting: Vec<Arc<Value>> = store.all(pods).filter(is_waiting).cloned().collect();
    for pod in waiting {
        if !timers.passed(uid(&pod), "schedule", TAKES) {
            continue;
        }
        let nodes = store.all(Kind::named("nodes")).filter(|node| fits(&pod, node));
        let load = |node: &str| store.all(pods).filter(|pod| pod["spec"]["nodeName"] == node).count();
        let chosen = nodes.map(|node| name(node)).min_by_key(|node| load(node)).map(str::to_owned);
        let Some(node) = chosen else { continue };
        place(store, &key(&pod), &node);
    }
}

fn place(store: &mut Store, pod: &Key, node: &str) {
    store.edit(Kind::named("pods"), pod, |pod| {
        pod["spec"]["nodeName"] = node.into();
        let condition =
            serde_json::json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now()});
        let mut conditions: Vec<_> = items(&pod["status"]["conditions"]).cloned().collect();
        conditions.push(condition);
        pod["status"]["conditions"] = conditions.into();
    });
}

fn fits(pod: &Value, node: &Value) -> bool {
    let tolerates = |taint: &Value| {
        items(&pod["spec"]["tolerations"]).any(|toleration| {
            let key = toleration["key"].is_null() || toleration["key"] == taint["key"];
            let effect = toleration["effect"].is_null() || toleration["effect"] == taint["effect"];
            key && effect
        })
    };
    let keeps_out = |taint: &&Value| taint["effect"] != "PreferNoSchedule" && !tolerates(taint);
    let labels = &node["metadata"]["labels"];
    let selected = pod["spec"]["nodeSelector"].as_object();
    node["spec"]["unschedulable"] != true
        && !items(&node["spec"]["taints"]).any(|taint| keeps_out(&taint))
        && selected.is_none_or(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value))
}
