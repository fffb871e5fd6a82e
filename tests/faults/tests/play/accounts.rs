//! AccountPolicies.

use mainstay_faults::{
    model::{kinds::Kind, object::is_terminating, server::Server},
    play::{
        controller::Controller,
        explore::explore,
        fault::{Blow, Fault},
        oracle::{Oracle, Written},
        scenario::{Scenario, change, create, delete},
    },
    world::Cluster,
};
use serde_json::{Value, json};

const POLICY: &str = "/apis/mainstay.dev/v1alpha1/accountpolicies/pipelines";

fn namespace(name: &str, team: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}})
}

fn policy(besides: &Value) -> Value {
    let mut policy = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "AccountPolicy", "metadata": {"name": "pipelines"},
        "spec": {
            "namespaceSelector": {"matchLabels": {"team": "blue"}},
            "serviceAccounts": [{"name": "pipeline"}],
            "roleBindings": [{"name": "pipeline", "roleRef": {"kind": "ClusterRole", "name": "edit"},
                "serviceAccounts": ["pipeline"]}],
            "tokens": [{"name": "token", "serviceAccount": "pipeline", "ttl": "24h", "overlap": "5m"}],
        },
    });
    for (field, value) in besides.as_object().into_iter().flatten() {
        policy["spec"][field] = value.clone();
    }
    policy
}

/// No more tokens than this are asked for.
fn few_tokens(most: usize) -> Box<dyn Oracle> {
    let mut minted = 0;
    Box::new(move |written: &Written<'_>| {
        minted += usize::from(written.request.subresource == "token");
        (minted > most).then(|| format!("tokens: {minted} were asked for, at most {most} are due"))
    })
}

/// What a token is bound to stands for as long as its Secret, unless a user deletes it.
fn bound() -> Box<dyn Oracle> {
    Box::new(|written: &Written<'_>| {
        let stands = written.store.find(Kind::named("serviceaccounts"), "blue", "pipeline").is_some();
        let token = written.store.find(Kind::named("secrets"), "blue", "token");
        let is_given = token.is_some_and(|token| !is_terminating(token));
        (is_given && !stands).then(|| "account: a token stands without its account".to_owned())
    })
}

/// A binding names no role but this.
fn role() -> Box<dyn Oracle> {
    Box::new(|written: &Written<'_>| {
        let mut bindings = written.store.all(Kind::named("rolebindings"));
        let strange = bindings.find(|binding| binding["roleRef"]["name"] != "edit")?;
        Some(format!("rights: {} is given", strange["roleRef"]["name"]))
    })
}

/// A namespace that no policy selects gets no account.
fn selected() -> Box<dyn Oracle> {
    Box::new(|written: &Written<'_>| {
        let strange = written.store.find(Kind::named("serviceaccounts"), "red", "pipeline");
        strange.map(|_| "selected: an account stands where no policy selects".to_owned())
    })
}

fn played(name: &'static str, policy: Value) -> Scenario {
    let authority = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt", "namespace": "ns"},
        "data": {"ca.crt": "an authority"},
    });
    let edit = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "edit"}});
    let given = [namespace("blue", "blue"), namespace("red", "red"), authority, edit, policy];
    let mut scenario = Scenario::new(name, Controller::Accounts, given).about(POLICY);
    // A token is random in its time of issue, and the name of the Secret that it is bound to is drawn by lot.
    scenario.scrub = |object| {
        let metadata = &mut object["metadata"];
        if metadata["labels"]["mainstay.dev/account-part"] == "handle" {
            metadata["name"] = "handle".into();
            metadata["uid"] = Value::Null;
        }
        if let Some(annotations) = metadata["annotations"].as_object_mut() {
            annotations.retain(|key, _| !key.starts_with("mainstay.dev/handle"));
            if let Some(previous) = annotations.get_mut("mainstay.dev/previous-handle") {
                *previous = "handle".into();
            }
        }
        if object["kind"] == "Secret" && object["data"].is_object() {
            let keys: Vec<_> =
                object["data"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
            object["data"] = json!(keys);
        }
    };
    scenario
}

/// Takes out what is known of an earlier token.
fn without_previous(object: &mut Value) {
    if object["metadata"]["labels"]["mainstay.dev/account-part"] == "handle" {
        *object = Value::Null;
    } else if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.retain(|key, _| !key.starts_with("mainstay.dev/previous"));
    }
}

fn kept(scenario: Scenario) -> Scenario {
    scenario.watched(|| vec![few_tokens(4), bound(), role(), selected()])
}

fn spec(spec: Value) -> impl Fn(&mut Server, &mut Cluster) + Send + Sync {
    change(POLICY, json!({"spec": spec}))
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let plain = || policy(&json!({}));
    let mut annotated = kept(
        played("an account gets an annotation and loses it", plain())
            .at(
                60,
                spec(
                    json!({"serviceAccounts": [{"name": "pipeline", "annotations": {"example.com/a": "b"}}]}),
                ),
            )
            .at(90, spec(json!({"serviceAccounts": [{"name": "pipeline"}]}))),
    );
    // An account that a user has recreated keeps what the user gave it, and has a token of its own after the one before.
    annotated.open = (
        |fault| matches!(fault, Fault::At(_, Blow::Recreated)),
        |object| match object["kind"].as_str() {
            Some("ServiceAccount") => object["metadata"]["annotations"] = Value::Null,
            Some("Secret") if object["metadata"]["labels"]["mainstay.dev/account-part"] == "handle" => {
                *object = Value::Null
            }
            Some("Secret") => {
                if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
                    annotations.retain(|key, _| !key.contains("/previous-"));
                }
            }
            _ => {}
        },
    );
    let team =
        |team: &str| change("/api/v1/namespaces/blue", json!({"metadata": {"labels": {"team": team}}}));
    let copies = json!({"serviceAccounts": [{"name": "pipeline", "imagePullSecrets": [
        {"name": "pull", "copyFrom": {"namespace": "default", "name": "registry"}}]}]});
    let registry = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "registry", "namespace": "default", "annotations": {"mainstay.dev/copy-to": "*"}},
        "data": {".dockerconfigjson": "e30="},
    });
    let mut copied = played("a Secret is copied", policy(&copies));
    copied.given.insert(0, registry);
    let mut second = policy(&json!({"tokens": [], "roleBindings": []}));
    second["metadata"]["name"] = "others".into();
    let mut deleted = played("a user deletes the account", plain())
        .at(60, delete("/api/v1/namespaces/blue/serviceaccounts/pipeline"))
        .watched(|| vec![few_tokens(4), role(), selected()]);
    // An account that is made after that was never deleted, and its token is the first.
    deleted.open = (|fault| matches!(fault, Fault::Watch(..)), without_previous);
    vec![
        kept(played("one namespace", plain())),
        kept(played("a namespace comes", plain()).at(60, create(namespace("green", "blue")))),
        kept(played("a namespace is selected no more", plain()).at(60, team("red"))),
        kept(played("a namespace is selected again", plain()).at(60, team("red")).at(62, team("blue"))),
        kept(played("a token is taken back", plain()).at(60, spec(json!({"tokens": []})))),
        kept(played("a right is taken back", plain()).at(60, spec(json!({"roleBindings": []})))),
        annotated,
        kept(played("two policies", plain()).at(60, create(second))),
        kept(
            played("a user deletes the binding", plain())
                .at(60, delete("/apis/rbac.authorization.k8s.io/v1/namespaces/blue/rolebindings/pipeline")),
        ),
        kept(
            played("a user deletes the token", plain())
                .at(60, delete("/api/v1/namespaces/blue/secrets/token")),
        ),
        deleted,
        kept(copied),
        kept(
            played("nothing is deleted with the policy", policy(&json!({"deletionPolicy": "Orphan"})))
                .at(60, team("red")),
        ),
        kept(played("a user changes the token's labels", plain()).at(
            60,
            change("/api/v1/namespaces/blue/secrets/token", json!({"metadata": {"labels": {"mine": "yes"}}})),
        )),
    ]
}

#[test]
fn whatever_happens_the_namespace_has_its_account_in_the_end() {
    explore("accounts", &scenarios());
}
