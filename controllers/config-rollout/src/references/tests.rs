use super::*;

fn spec() -> Value {
    json!({
        "containers": [{
            "name": "app",
            "env": [
                {"name": "PLAIN", "value": "x"},
                {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "web", "key": "mode"}}},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "t", "optional": true}}},
            ],
            "envFrom": [{"prefix": "A_", "configMapRef": {"name": "web"}}, {"secretRef": {"name": "other"}}],
        }],
        "initContainers": [{
            "name": "init",
            "env": [{"name": "M", "valueFrom": {"configMapKeyRef": {"name": "web", "key": "mode"}}}],
        }],
        "volumes": [
            {"name": "data", "emptyDir": {}},
            {"name": "files", "configMap": {"name": "web", "items": [{"key": "a.conf", "path": "a"}]}},
            {"name": "certs", "secret": {"secretName": "keys", "defaultMode": 256}},
            {"name": "all", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}},
                {"secret": {"name": "keys"}},
                {"configMap": {"name": "web", "optional": true}},
            ]}},
        ],
        "imagePullSecrets": [{"name": "pull"}],
        "someNewField": {"configMap": {"name": "web"}},
    })
}

#[test]
fn every_place_is_found_with_the_keys_that_it_uses() {
    let spec = spec();
    let found = find(&spec);
    let named = |keys: &[&str]| Keys::Named(keys.iter().map(|key| (*key).to_owned()).collect());
    let seen: Vec<_> = found
        .iter()
        .map(|reference| (reference.name.as_str(), reference.keys.clone(), reference.optional))
        .collect();
    let expected = [
        ("web", named(&["mode"]), false),
        ("keys", named(&["t"]), true),
        ("web", Keys::All, false),
        ("other", Keys::All, false),
        ("web", named(&["mode"]), false),
        ("web", named(&["a.conf"]), false),
        ("keys", Keys::All, false),
        ("keys", Keys::All, false),
        ("web", Keys::All, true),
        ("pull", Keys::All, false),
    ];
    assert_eq!(seen, expected);
    for reference in &found {
        let name = spec.pointer(&reference.pointer());
        assert_eq!(name, Some(&json!(reference.name)), "{}", reference.pointer());
    }
}

#[test]
fn a_move_says_no_more_than_the_merge_rules_ask_for() {
    let rename = |kind, name: &str| {
        let moved = kind == SourceKind::ConfigMap && name == "web" || name == "pull";
        moved.then(|| format!("{name}-7"))
    };
    let body = Value::Object(apply_body(&spec(), rename).unwrap());
    let expected = json!({
        "containers": [{
            "name": "app",
            "env": [{"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "web-7", "key": "mode"}}}],
            "envFrom": [{"prefix": "A_", "configMapRef": {"name": "web-7"}}, {"secretRef": {"name": "other"}}],
        }],
        "initContainers": [{
            "name": "init",
            "env": [{"name": "M", "valueFrom": {"configMapKeyRef": {"name": "web-7", "key": "mode"}}}],
        }],
        "volumes": [
            {"name": "files", "configMap": {"name": "web-7"}},
            {"name": "all", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}},
                {"secret": {"name": "keys"}},
                {"configMap": {"name": "web-7", "optional": true}},
            ]}},
        ],
        "imagePullSecrets": [{"name": "pull-7"}],
    });
    assert_eq!(body, expected);
}

#[test]
fn a_spec_without_references_says_nothing() {
    assert_eq!(apply_body(&spec(), |_, _| None), None);
    assert_eq!(find(&json!({"containers": [{"name": "app"}], "volumes": null})), []);
}
