//! ConfigRollouts.

use std::collections::BTreeSet;

use mainstay_faults::{
    model::{
        kinds::Kind,
        object::{items, label},
        server::Server,
        store::Store,
    },
    play::{
        controller::Controller,
        explore::explore,
        fault::{Blow, Fault, Slow},
        oracle::{Oracle, Written},
        scenario::{Scenario, change, create, delete, node},
    },
    world::{Cluster, Life, Then},
};
use serde_json::{Value, json};

const ROLLOUT: &str = "/apis/mainstay.dev/v1alpha1/namespaces/ns/configrollouts/web";
const SOURCE: &str = "/api/v1/namespaces/ns/configmaps/web";

fn config(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"a": value}})
}

fn to(value: &str) -> impl Fn(&mut Server, &mut Cluster) + Send + Sync {
    change(SOURCE, json!({"data": {"a": value}}))
}

fn deployment(name: &str) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{
                "name": "web", "image": "web:1",
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "web", "key": "a"}}}],
            }]}},
        },
    })
}

fn stage(name: &str, targets: &[&str]) -> Value {
    let targets: Vec<_> = targets.iter().map(|name| json!({"kind": "Deployment", "name": name})).collect();
    json!({"name": name, "targets": targets, "soakSeconds": 10, "gate": {"deadlineSeconds": 120}})
}

fn rollout(stages: &[Value], besides: &Value) -> Value {
    let mut rollout = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "ConfigRollout", "metadata": {"name": "web"},
        "spec": {"mode": "Repoint", "sources": [{"kind": "ConfigMap", "name": "web"}], "takeOverFrom": ["user"], "stages": stages},
    });
    for (field, value) in besides.as_object().into_iter().flatten() {
        rollout["spec"][field] = value.clone();
    }
    rollout
}

/// A source is never deleted.
fn source_stays() -> Box<dyn Oracle> {
    Box::new(|written: &Written<'_>| {
        let stands = written.store.find(Kind::named("configmaps"), "ns", "web").is_some();
        (!stands).then(|| "source: the ConfigMap is gone".to_owned())
    })
}

/// What each container of a workload refers to is there, and is one revision.
fn whole() -> Box<dyn Oracle> {
    Box::new(|written: &Written<'_>| {
        written.store.all(Kind::named("deployments")).find_map(|deployment| {
            let used = used(deployment)?;
            let stands = written.store.find(Kind::named("configmaps"), "ns", &used).is_some();
            // A user who deletes the source has deleted it.
            (!stands && used != "web").then(|| {
                format!("whole: {} refers to {used}, which is not there", deployment["metadata"]["name"])
            })
        })
    })
}

/// What the first container reads.
fn used(deployment: &Value) -> Option<String> {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    Some(container["env"][0]["valueFrom"]["configMapKeyRef"]["name"].as_str()?.to_owned())
}

/// The second target gets only what the first had before.
fn in_order() -> Box<dyn Oracle> {
    let mut had = BTreeSet::new();
    Box::new(move |written: &Written<'_>| {
        let used = |name| written.store.find(Kind::named("deployments"), "ns", name).and_then(|it| used(it));
        let last = used("last")?;
        let is_early = last != "web" && !had.contains(&last);
        had.extend(used("web"));
        is_early.then(|| format!("stage: the second target refers to {last}, which the first never had"))
    })
}

/// Nothing is rolled back: the change is good.
fn none_taken_back() -> Box<dyn Oracle> {
    Box::new(|written: &Written<'_>| {
        let rollout = written.store.find(Kind::named("configrollouts"), "ns", "web")?;
        let mut conditions = items(&rollout["status"]["conditions"]);
        let failed = conditions.any(|it| it["type"] == "RolledBack" && it["status"] == "True");
        failed.then(|| "rollback: a good change was rolled back".to_owned())
    })
}

/// In the end each target has what the source says, whatever the number of its revision is.
struct Follows;

impl Oracle for Follows {
    fn wrote(&mut self, _: &Written<'_>) -> Option<String> {
        None
    }

    fn ended(&mut self, store: &Store) -> Option<String> {
        let (maps, rollouts) = (Kind::named("configmaps"), Kind::named("configrollouts"));
        store.find(rollouts, "ns", "web")?;
        let source = store.find(maps, "ns", "web")?;
        store.all(Kind::named("deployments")).find_map(|target| {
            let used = store.find(maps, "ns", &used(target)?)?;
            let name = &target["metadata"]["name"];
            let (has, wanted) = (&used["data"]["a"], &source["data"]["a"]);
            (has != wanted).then(|| format!("follows: {name} has {has} in the end, and the source {wanted}"))
        })
    }
}

/// Which changes were rolled out together, and as which revision, is left open where a process or a watch missed one of them;
/// so is what a target was like before that somebody has recreated.
fn unnumbered(object: &mut Value) {
    let named = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let is_revision = ["web-", "key-"].iter().any(|prefix| named.starts_with(prefix));
    match object["kind"].as_str() {
        Some("Pod") => *object = Value::Null,
        Some("ConfigMap" | "Secret") if is_revision => *object = Value::Null,
        Some("Deployment") => {
            let container = &mut object["spec"]["template"]["spec"]["containers"][0];
            container["env"] = Value::Null;
            container["envFrom"] = Value::Null;
        }
        Some("ConfigRollout") => {
            let heads = items(&object["status"]["conditions"]).map(|condition| {
                json!({"type": condition["type"], "status": condition["status"], "reason": condition["reason"]})
            });
            object["status"] = heads.collect();
        }
        _ => {}
    }
}

fn misses_changes(fault: &Fault) -> bool {
    match fault {
        Fault::At(_, blow) => {
            matches!(blow, Blow::CrashBefore | Blow::Hung(_) | Blow::Code(_) | Blow::Recreated | Blow::Rival)
        }
        Fault::Watch(_, plural, slow, _) => plural == "deployments" && *slow == Slow::Deaf,
        _ => false,
    }
}

fn played(name: &'static str, deployments: &[&str], rollout: Value) -> Scenario {
    let mut given = vec![node("a"), node("b"), config("1")];
    given.extend(deployments.iter().map(|name| deployment(name)));
    given.push(rollout);
    let mut scenario = Scenario::new(name, Controller::ConfigRollout, given).about(ROLLOUT);
    scenario.open = (misses_changes, unnumbered);
    // Versions count all writes, also of others. The ReplicaSets are the Deployments' own history.
    scenario.scrub = |object| {
        if object["kind"] == "ReplicaSet" {
            *object = Value::Null;
            return;
        }
        if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
            annotations.remove("mainstay.dev/source-resource-version");
        }
    };
    scenario
}

/// Whether a target has what is about to be taken back, when the rollout goes, is left open.
fn ends_on_the_way(mut scenario: Scenario) -> Scenario {
    scenario.open = (
        |fault| misses_changes(fault) || matches!(fault, Fault::Deleted(_)),
        |object| {
            unnumbered(object);
            if object["kind"] == "Deployment" {
                object["status"] = Value::Null;
            }
        },
    );
    scenario.watched(|| vec![source_stays(), whole(), in_order()])
}

fn good(scenario: Scenario) -> Scenario {
    scenario.watched(|| vec![source_stays(), whole(), in_order(), none_taken_back(), Box::new(Follows)])
}

/// From now on, pods of templates that are not there yet crash.
fn new_ones_crash(server: &mut Server, cluster: &mut Cluster) {
    let hash = |object: &Value| label(object, "pod-template-hash").map(str::to_owned);
    let sets = server.store.all(Kind::named("replicasets"));
    let known: BTreeSet<_> = sets.filter_map(|set| hash(set)).collect();
    cluster.life = Box::new(move |pod| {
        let is_known = hash(pod).is_some_and(|hash| known.contains(&hash));
        let then = if is_known { Life::default().then } else { Then::Crashes };
        Life { then, ..Life::default() }
    });
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let none = json!({});
    let one = || rollout(&[stage("all", &["web"])], &none);
    let two = || rollout(&[stage("first", &["web"]), stage("last", &["last"])], &none);
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "data": {"b": "MQ=="}});
    let mut both = deployment("web");
    both["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "key"}}]);
    let sources =
        json!({"sources": [{"kind": "ConfigMap", "name": "web"}, {"kind": "Secret", "name": "key"}]});
    let mut pair = played("a ConfigMap and a Secret", &[], rollout(&[stage("all", &["web"])], &sources));
    pair.given.splice(3..3, [secret, both]);
    // Of the plainest one nothing is left open but what a recreated target was like before.
    let mut first = played("one change", &["web"], one()).at(120, to("2"));
    first.open = (
        |fault| matches!(fault, Fault::At(_, Blow::Recreated)),
        |object| {
            if object["kind"] == "ConfigRollout" {
                object["status"]["targets"] = Value::Null;
            }
        },
    );
    let web = "/apis/apps/v1/namespaces/ns/deployments/web";
    let patch = |path, patch: Value| change(path, patch);
    vec![
        good(first),
        good(played("two changes, one after the other", &["web"], one()).at(120, to("2")).at(125, to("3"))),
        good(played("a change is taken back at once", &["web"], one()).at(120, to("2")).at(122, to("1"))),
        good(played("two stages", &["web", "last"], two()).at(120, to("2"))),
        good(
            played("a second change between two stages", &["web", "last"], two())
                .at(120, to("2"))
                .at(128, to("3")),
        ),
        good(
            played(
                "two targets of a stage",
                &["web", "last"],
                rollout(&[stage("all", &["web", "last"])], &none),
            )
            .at(120, to("2")),
        )
        .watched(|| vec![source_stays(), whole(), none_taken_back()]),
        good(
            pair.at(120, to("2"))
                .at(180, patch("/api/v1/namespaces/ns/secrets/key", json!({"data": {"b": "Mg=="}}))),
        ),
        ends_on_the_way(played("a bad change", &["web"], one()).at(119, new_ones_crash).at(120, to("2"))),
        ends_on_the_way(
            played("a bad change stops at the first stage", &["web", "last"], two())
                .at(119, new_ones_crash)
                .at(120, to("2")),
        ),
        good(
            played("paused, with a change, and resumed", &["web"], one())
                .at(110, patch(ROLLOUT, json!({"spec": {"paused": true}})))
                .at(120, to("2"))
                .at(180, patch(ROLLOUT, json!({"spec": {"paused": false}}))),
        ),
        good(
            played(
                "three changes and a short history",
                &["web"],
                rollout(&[stage("all", &["web"])], &json!({"historyLimit": 1})),
            )
            .at(120, to("2"))
            .at(240, to("3"))
            .at(360, to("4")),
        ),
        good(
            played("a target comes later", &["web"], two())
                .at(120, to("2"))
                .at(200, create(deployment("last"))),
        ),
        played("the source goes and comes back", &["web"], one())
            .at(120, delete(SOURCE))
            .at(180, create(config("2")))
            .watched(|| vec![whole(), none_taken_back()]),
        good(played("a user changes the image of a target", &["web"], one()).at(120, to("2")).at(
            124,
            |server, _| {
                let (kind, place) = (Kind::named("deployments"), ("ns".to_owned(), "web".to_owned()));
                server.store.edit(kind, &place, |web| {
                    web["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2".into();
                });
            },
        )),
        good(
            played("a target is scaled to nothing and up again", &["web"], one())
                .at(100, patch(web, json!({"spec": {"replicas": 0}})))
                .at(120, to("2"))
                .at(180, patch(web, json!({"spec": {"replicas": 2}}))),
        ),
    ]
}

#[test]
fn whatever_happens_the_change_is_rolled_out_in_the_end() {
    explore("config-rollout", &scenarios());
}
