//! The replication controller under every fault, in every scenario.

use mainstay_faults::{
    defect::Defect,
    explore::explore,
    kind::Kind,
    scenario::{
        Act, Scenario,
        When::{Before, Refused, Settled},
        edit_pod, first_pod, group, orphan, scale,
    },
    server::{BAD_IMAGE, Server, controller, finalizers, name, ready, uid},
};
use serde_json::json;

async fn holds(scenario: Scenario) {
    let report = explore(&scenario, Defect::None, &[]).await;
    println!("{}: {} runs, {} faults a view", scenario.name, report.runs, report.faults);
    let stories: Vec<_> = report.stories.into_values().collect();
    assert!(report.broken.is_empty(), "{:?}\n\n{}", report.broken, stories.join("\n\n"));
}

#[tokio::test(start_paused = true)]
async fn scale_up() {
    let steps =
        vec![(Settled, (|s| group(s, "a", "a", 0, "i")) as fn(&mut _)), (Settled, |s| scale(s, "a", 5))];
    holds(Scenario { name: "0 to 5", steps, from: 1, exact: true }).await;
}

#[tokio::test(start_paused = true)]
async fn scale_down() {
    let steps =
        vec![(Settled, (|s| group(s, "a", "a", 5, "i")) as fn(&mut _)), (Settled, |s| scale(s, "a", 2))];
    holds(Scenario { name: "5 to 2", steps, from: 1, exact: true }).await;
}

#[tokio::test(start_paused = true)]
async fn deletion_from_outside() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| group(s, "a", "a", 3, "i")),
        (Settled, |s| {
            let pod = first_pod(s, |pod| controller(pod).is_some()).expect("three pods");
            s.delete(Kind::Pod, &pod);
        }),
    ];
    holds(Scenario { name: "one of 3 deleted", steps, from: 1, exact: true }).await;
}

#[tokio::test(start_paused = true)]
async fn adoption() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| {
            orphan(s, "o1", "a");
            orphan(s, "o2", "a");
            orphan(s, "foreign", "b");
        }),
        (Settled, |s| group(s, "a", "a", 3, "i")),
    ];
    holds(Scenario { name: "adoption", steps, from: 1, exact: true }).await;
}

#[tokio::test(start_paused = true)]
async fn adoption_beyond_what_is_wanted() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| group(s, "a", "a", 2, "i")),
        (Settled, |s| {
            orphan(s, "o1", "a");
            orphan(s, "o2", "a");
        }),
    ];
    holds(Scenario { name: "too many orphans", steps, from: 1, exact: true }).await;
}

#[tokio::test(start_paused = true)]
async fn release() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| group(s, "a", "a", 3, "i")),
        (Settled, |s| {
            edit_pod(s, |pod| controller(pod).is_some(), |pod| pod["metadata"]["labels"]["app"] = "x".into())
        }),
    ];
    holds(Scenario { name: "release", steps, from: 1, exact: true }).await;
}

#[tokio::test(start_paused = true)]
async fn overlapping_selectors() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| {
            group(s, "a", "a", 2, "i");
            group(s, "b", "a", 2, "i");
        }),
        (Settled, |s| {
            orphan(s, "o1", "a");
            orphan(s, "o2", "a");
        }),
    ];
    holds(Scenario { name: "overlap", steps, from: 1, exact: true }).await;
}

#[tokio::test(start_paused = true)]
async fn a_template_is_refused_then_fixed() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| group(s, "a", "a", 3, BAD_IMAGE)),
        (Refused(2), |s| {
            s.edit(Kind::Group, "a", |group| {
                group["spec"]["template"]["spec"]["containers"][0]["image"] = "good".into()
            });
        }),
    ];
    holds(Scenario { name: "refused template", steps, from: 0, exact: true }).await;
}

fn image(server: &mut Server, image: &str) {
    server.edit(Kind::Group, "a", |group| {
        group["spec"]["template"]["spec"]["containers"][0]["image"] = image.into()
    });
}

#[tokio::test(start_paused = true)]
async fn the_template_changes() {
    let steps: Vec<(_, Act)> = vec![(Settled, |s| group(s, "a", "a", 4, "i")), (Settled, |s| image(s, "j"))];
    holds(Scenario { name: "template", steps, from: 1, exact: false }).await;
}

#[tokio::test(start_paused = true)]
async fn the_template_changes_again_in_the_middle_and_back() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| group(s, "a", "a", 3, "i")),
        (Settled, |s| image(s, "j")),
        (Before(6), |s| image(s, "k")),
        (Settled, |s| image(s, "i")),
    ];
    holds(Scenario { name: "template, thrice", steps, from: 1, exact: false }).await;
}

/// What a budget guards are the pods that are ready: it does not keep out the template that puts the others right.
#[tokio::test(start_paused = true)]
async fn a_template_that_repairs_broken_pods_comes_in_whatever_a_budget_says() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| {
            s.budget = Some(2);
            group(s, "a", "a", 3, "i");
        }),
        (Settled, |s| {
            s.broken_image = Some("i");
            image(s, "j");
        }),
    ];
    holds(Scenario { name: "repair under a budget", steps, from: 1, exact: false }).await;
}

/// While a budget refuses, what asks no budget goes on, and the refused eviction waits its time.
#[tokio::test(start_paused = true)]
async fn a_budget_holds_a_change_until_it_is_relaxed() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| {
            s.budget = Some(9);
            group(s, "a", "a", 3, "i");
        }),
        (Settled, |s| image(s, "j")),
        (Refused(1), |s| {
            let pod = first_pod(s, |pod| controller(pod).is_some()).expect("four pods");
            s.delete(Kind::Pod, &pod);
        }),
        (Refused(3), |s| s.budget = Some(2)),
    ];
    holds(Scenario { name: "budget, relaxed", steps, from: 1, exact: false }).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_is_deleted_while_its_pods_are_made() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| orphan(s, "foreign", "b")),
        (Settled, |s| group(s, "a", "a", 5, "i")),
        (Before(4), |s| s.delete(Kind::Group, "a")),
    ];
    holds(Scenario { name: "deleted in the middle", steps, from: 1, exact: false }).await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_refuses_then_is_raised() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| {
            s.quota = Some(2);
            group(s, "a", "a", 4, "i");
        }),
        (Refused(2), |s| s.quota = None),
    ];
    holds(Scenario { name: "quota", steps, from: 0, exact: true }).await;
}

#[tokio::test(start_paused = true)]
async fn the_spec_changes_while_pods_are_made() {
    let steps: Vec<(_, Act)> =
        vec![(Settled, |s| group(s, "a", "a", 5, "i")), (Before(3), |s| scale(s, "a", 3))];
    holds(Scenario { name: "less while being made", steps, from: 0, exact: false }).await;
}

#[tokio::test(start_paused = true)]
async fn the_spec_changes_while_pods_are_deleted() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| group(s, "a", "a", 6, "i")),
        (Settled, |s| scale(s, "a", 1)),
        (Before(8), |s| scale(s, "a", 6)),
    ];
    holds(Scenario { name: "more while being deleted", steps, from: 1, exact: false }).await;
}

/// The first to go is not the first to go any more by the time that a lost delete is tried again.
#[tokio::test(start_paused = true)]
async fn readiness_changes_while_pods_are_deleted() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| group(s, "a", "a", 4, "i")),
        (Settled, |s| scale(s, "a", 3)),
        (Before(5), |s| {
            let last = s.all(Kind::Pod).map(uid).max().expect("four pods").to_owned();
            edit_pod(s, |pod| uid(pod) == last, |pod| pod["status"]["conditions"] = json!([ready("False")]));
        }),
    ];
    holds(Scenario { name: "unready in the middle", steps, from: 1, exact: true }).await;
}

/// A group whose pods have volume claims and a hook.
fn with_all(server: &mut Server, replicas: i32) {
    group(server, "a", "a", replicas, "i");
    server.edit(Kind::Group, "a", |group| {
        group["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {}}]);
        group["spec"]["volumeClaims"] = json!({"retention": {"whenScaled": "Delete"}});
        group["spec"]["lifecycle"] = json!({"preDelete": {"finalizer": "example.com/x"}});
    });
}

#[tokio::test(start_paused = true)]
async fn pods_with_claims_and_hooks_come_and_go() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| with_all(s, 2)),
        (Settled, |s| {
            let pod = first_pod(s, |pod| controller(pod).is_some()).expect("two pods");
            s.delete(Kind::Pod, &pod);
        }),
        (Settled, |s| scale(s, "a", 1)),
    ];
    holds(Scenario { name: "claims and hooks", steps, from: 0, exact: true }).await;
}

#[tokio::test(start_paused = true)]
async fn the_template_of_pods_with_claims_and_hooks_changes() {
    let steps: Vec<(_, Act)> = vec![(Settled, |s| with_all(s, 2)), (Settled, |s| image(s, "j"))];
    holds(Scenario { name: "claims, hooks and a template", steps, from: 1, exact: false }).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_pods_have_hooks_is_deleted() {
    let steps: Vec<(_, Act)> = vec![(Settled, |s| with_all(s, 2)), (Settled, |s| s.delete(Kind::Group, "a"))];
    holds(Scenario { name: "hooks and the end", steps, from: 1, exact: false }).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_is_deleted_of_which_a_pod_has_failed_with_its_hook() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| with_all(s, 2)),
        (Settled, |s| {
            edit_pod(s, |pod| controller(pod).is_some(), |pod| pod["status"] = json!({"phase": "Failed"}))
        }),
        (Settled, |s| s.delete(Kind::Group, "a")),
    ];
    holds(Scenario { name: "a failed pod with a hook", steps, from: 2, exact: false }).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_is_deleted_just_after_a_pod_was_taken_aside() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| with_all(s, 2)),
        (Settled, |s| {
            edit_pod(s, |pod| controller(pod).is_some(), |pod| pod["metadata"]["labels"]["app"] = "x".into());
            s.delete(Kind::Group, "a");
        }),
    ];
    holds(Scenario { name: "taken aside, then the end", steps, from: 1, exact: false }).await;
}

/// The garbage collector orphans a pod as well that the group does not select any more, and may be quicker than the group.
#[tokio::test(start_paused = true)]
async fn a_group_leaves_its_pods_just_after_one_was_taken_aside() {
    let steps: Vec<(_, Act)> = vec![
        (Settled, |s| with_all(s, 2)),
        (Settled, |s| {
            edit_pod(s, |pod| controller(pod).is_some(), |pod| pod["metadata"]["labels"]["app"] = "x".into());
            s.delete(Kind::Group, "a");
            for pod in s.all(Kind::Pod).map(|pod| name(pod).to_owned()).collect::<Vec<_>>() {
                s.edit(Kind::Pod, &pod, |pod| pod["metadata"]["ownerReferences"] = json!([]));
            }
        }),
        (Settled, |s| {
            let held = s.all(Kind::Pod).filter(|pod| !finalizers(pod).is_empty());
            assert_eq!((s.all(Kind::Group).count(), held.count()), (0, 0));
        }),
    ];
    holds(Scenario { name: "taken aside, then orphaned", steps, from: 1, exact: false }).await;
}
