//! ReplicaGroups.

use std::collections::BTreeMap;

use http::Method;
use mainstay_faults::{
    model::{
        kinds::Kind,
        object::{controller, is_terminating, is_true, uid},
        request::Reply,
        server::Server,
        store::key,
    },
    play::{
        controller::Controller,
        explore::explore,
        fault::{Blow, Fault},
        oracle::{Oracle, Written},
        scenario::{Scenario, change, create, node},
    },
    world::{Cluster, Life, Then},
};
use serde_json::{Value, json};

const GROUP: &str = "/apis/mainstay.dev/v1alpha1/namespaces/ns/replicagroups/web";

fn group(replicas: i32, besides: &Value) -> Value {
    let mut group = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template("web:1")},
    });
    for (field, value) in besides.as_object().into_iter().flatten() {
        group["spec"][field] = value.clone();
    }
    group
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}})
}

fn image(image: &str) -> impl Fn(&mut Server, &mut Cluster) + Send + Sync {
    change(GROUP, json!({"spec": {"template": template(image)}}))
}

fn replicas(replicas: i32) -> impl Fn(&mut Server, &mut Cluster) + Send + Sync {
    change(GROUP, json!({"spec": {"replicas": replicas}}))
}

/// Does this to one of the pods.
fn to_one(
    act: impl Fn(&mut Server, &Value) + Send + Sync,
) -> impl Fn(&mut Server, &mut Cluster) + Send + Sync {
    move |server, _| {
        let pod = server.store.all(Kind::named("pods")).find(|pod| !is_terminating(pod)).cloned();
        if let Some(pod) = pod {
            act(server, &pod);
        }
    }
}

fn fail(server: &mut Server, pod: &Value) {
    server.store.edit(Kind::named("pods"), &key(pod), |pod| {
        pod["status"]["phase"] = "Failed".into();
        pod["status"]["conditions"] = json!([]);
    });
}

fn standing<'a>(written: &'a Written<'_>) -> impl Iterator<Item = &'a Value> {
    written.store.all(Kind::named("pods")).map(|pod| &**pod).filter(|pod| !is_terminating(pod))
}

/// Never more pods of a group than this, but for those that have failed. Those of an earlier group of the same name are about to
/// be deleted by the garbage collector.
fn at_most(pods: usize) -> Box<dyn Oracle> {
    Box::new(move |written: &Written<'_>| {
        let mut groups = BTreeMap::<_, usize>::new();
        for pod in standing(written).filter(|pod| pod["status"]["phase"] != "Failed") {
            *groups.entry(controller(pod)).or_default() += 1;
        }
        let standing = groups.into_values().max().unwrap_or_default();
        (standing > pods).then(|| format!("pods: {standing} stand, at most {pods} may"))
    })
}

/// Once so many pods are ready, no fewer are, for as long as the group is wanted.
fn at_least(pods: usize) -> Box<dyn Oracle> {
    let (mut were_ready, mut last) = (false, None);
    Box::new(move |written: &Written<'_>| {
        let group = written.store.find(Kind::named("replicagroups"), "ns", "web");
        // With a group go its pods, and the next one of its name begins anew.
        let group_uid = group.map(|group| uid(group).to_owned());
        let is_own = |pod: &&Value| controller(pod) == group_uid.as_deref();
        let ready = standing(written).filter(is_own).filter(|pod| is_true(pod, "Ready")).count();
        were_ready &= group_uid == last;
        last = group_uid;
        were_ready |= ready >= pods;
        let is_wanted = group.is_some_and(|group| !is_terminating(group));
        (were_ready && is_wanted && ready < pods)
            .then(|| format!("available: {ready} are ready, {pods} were"))
    })
}

/// No template is taken back.
fn none_taken_back() -> Box<dyn Oracle> {
    Box::new(|written: &Written<'_>| {
        let group = written.store.find(Kind::named("replicagroups"), "ns", "web")?;
        let failed = group["status"]["failedRevision"].as_str()?;
        // Where no pod may ever be made, no template gets on.
        let none_is_made =
            written.refused.is_some_and(|sort| sort.starts_with("POST") && sort.contains("pods"));
        (!none_is_made).then(|| format!("rollback: {failed} was taken back, and is good"))
    })
}

fn played(name: &'static str, group: Value) -> Scenario {
    let mut scenario =
        Scenario::new(name, Controller::Replication, [node("a"), node("b"), group]).about(GROUP);
    // On which nodes pods are follows from their names, which are drawn.
    scenario.scrub = |object| {
        if object["kind"] == "Pod" {
            object["spec"]["nodeName"] = Value::Null;
        }
    };
    // A group that was made again has not been at another revision before.
    scenario.open = (
        |fault| matches!(fault, Fault::At(_, Blow::Recreated)),
        |object| {
            if let Some(status) = object["status"].as_object_mut() {
                status.remove("previousRevision");
            }
        },
    );
    scenario
}

/// With promises that hold where no pod fails.
fn kept(scenario: Scenario, least: usize, most: usize) -> Scenario {
    scenario.watched(move || vec![at_least(least), at_most(most), none_taken_back()])
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let plain = |replicas| group(replicas, &json!({}));
    let update = |update: Value| group(3, &json!({"update": update}));
    let orphan = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-orphan", "labels": {"app": "web"}},
        "spec": template("web:1")["spec"],
    });
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}},
    });
    let mut adopts = played("a pod that nobody owns is adopted", plain(3));
    adopts.given.insert(0, orphan);
    let mut guarded =
        played("a new image under a budget", update(json!({"maxSurge": 0, "maxUnavailable": 1})));
    guarded.given.insert(0, budget);
    let no_image = |_: &mut Server, cluster: &mut Cluster| {
        cluster.life = Box::new(|pod| match pod["spec"]["containers"][0]["image"].as_str() {
            Some("web:bad") => Life { then: Then::NoImage, ..Life::default() },
            _ => Life::default(),
        });
    };
    let full = |server: &mut Server, _: &mut Cluster| {
        server.admission.push(Box::new(|_, request, _| {
            let is_meant = request.method == Method::POST && request.is_of("pods");
            is_meant.then(|| Reply::failure(403, "Forbidden", "exceeded quota: compute, requested: pods=1"))
        }));
    };
    vec![
        kept(played("three pods", plain(3)), 3, 3),
        kept(played("three pods, then five", plain(3)).at(60, replicas(5)), 3, 5),
        kept(played("five pods, then two", plain(5)).at(60, replicas(2)), 2, 5),
        kept(
            played("up, down and up again", plain(3))
                .at(60, replicas(5))
                .at(61, replicas(2))
                .at(62, replicas(4)),
            2,
            5,
        ),
        kept(played("a new image", plain(3)).at(60, image("web:2")), 3, 4),
        kept(
            played("a new image, one down at a time", update(json!({"maxSurge": 0, "maxUnavailable": 1})))
                .at(60, image("web:2")),
            2,
            3,
        ),
        kept(
            played("a new image, all at once", update(json!({"type": "Recreate"}))).at(60, image("web:2")),
            0,
            3,
        ),
        kept(
            played("a new image in place", update(json!({"inPlace": "IfPossible"}))).at(60, image("web:2")),
            0,
            4,
        ),
        kept(guarded.at(60, image("web:2")), 2, 3),
        kept(
            played("two new images, one after the other", plain(3))
                .at(60, image("web:2"))
                .at(63, image("web:3")),
            3,
            4,
        ),
        played("a bad image", plain(3))
            .at(1, no_image)
            .at(60, image("web:bad"))
            .watched(|| vec![at_least(3), at_most(4)]),
        played("a bad image that is repaired", plain(3))
            .at(1, no_image)
            .at(60, image("web:bad"))
            .at(75, image("web:2"))
            .watched(|| vec![at_least(3), at_most(4)]),
        played("a pod fails", plain(3)).at(60, to_one(fail)).watched(|| vec![at_most(3), none_taken_back()]),
        played("a pod is deleted", plain(3))
            .at(60, to_one(|server, pod| server.store.delete(Kind::named("pods"), &key(pod), None)))
            .watched(|| vec![at_most(3), none_taken_back()]),
        kept(adopts, 3, 3),
        kept(
            played("a quota for two minutes", plain(3))
                .at(60, full)
                .at(61, replicas(5))
                .at(180, |server, _| server.admission.clear()),
            3,
            5,
        ),
        kept(
            played("paused, with a new image, and resumed", plain(3))
                .at(60, change(GROUP, json!({"spec": {"paused": true}})))
                .at(61, image("web:2"))
                .at(120, create(node("c")))
                .at(121, change(GROUP, json!({"spec": {"paused": false}}))),
            3,
            4,
        ),
    ]
}

#[test]
fn whatever_happens_the_group_has_its_pods_in_the_end() {
    explore("replication", &scenarios());
}
