//! AccountPolicies.

use mainstay_faults::{
    model::kinds::Kind,
    play::{
        controller::Controller,
        explore::explore,
        fault::COMMON,
        oracle::{Oracle, Written},
        scenario::Scenario,
    },
};
use serde_json::{Value, json};

fn given() -> [Value; 4] {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "blue", "labels": {"team": "blue"}}});
    let authority = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt", "namespace": "ns"},
        "data": {"ca.crt": "an authority"},
    });
    let edit = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "edit"}});
    let policy = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "AccountPolicy", "metadata": {"name": "pipelines"},
        "spec": {
            "namespaceSelector": {"matchLabels": {"team": "blue"}},
            "serviceAccounts": [{"name": "pipeline"}],
            "roleBindings": [{"name": "pipeline", "roleRef": {"kind": "ClusterRole", "name": "edit"},
                "serviceAccounts": ["pipeline"]}],
            "tokens": [{"name": "token", "serviceAccount": "pipeline", "ttl": "24h", "overlap": "5m"}],
        },
    });
    [namespace, authority, edit, policy]
}

/// No more tokens than this are asked for.
fn few_tokens() -> Box<dyn Oracle> {
    let mut minted = 0;
    Box::new(move |written: &Written<'_>| {
        minted += usize::from(written.request.subresource == "token");
        (minted > 4).then(|| format!("tokens: {minted} were asked for"))
    })
}

/// What a token is bound to stands for as long as its Secret.
fn bound() -> Box<dyn Oracle> {
    Box::new(|written: &Written<'_>| {
        let stands = written.store.find(Kind::named("serviceaccounts"), "blue", "pipeline").is_some();
        let is_given = written.store.find(Kind::named("secrets"), "blue", "token").is_some();
        (is_given && !stands).then(|| "account: a token stands without its account".to_owned())
    })
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut one = Scenario::new("one namespace", Controller::Accounts, given());
    // A token is random in its time of issue, and the name of the Secret that it is bound to is drawn by lot.
    one.scrub = |object| {
        let metadata = &mut object["metadata"];
        if metadata["labels"]["mainstay.dev/account-part"] == "handle" {
            metadata["name"] = "handle".into();
            metadata["uid"] = Value::Null;
        }
        if let Some(annotations) = metadata["annotations"].as_object_mut() {
            annotations.retain(|key, _| !key.starts_with("mainstay.dev/handle"));
        }
        if object["kind"] == "Secret" && object["data"].is_object() {
            let keys: Vec<_> =
                object["data"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
            object["data"] = json!(keys);
        }
    };
    vec![one.watched(|| vec![few_tokens(), bound()])]
}

#[test]
fn whatever_happens_to_a_request_the_namespace_has_its_account_in_the_end() {
    for scenario in scenarios() {
        let report = explore(&scenario, &COMMON);
        println!("{}: {} requests, {} runs", scenario.name, report.requests, report.runs);
        assert!(report.requests > 5, "the controller does something");
        report.assert_kept();
    }
}
