//! What the server fills in where an object says nothing.

use serde_json::{Map, Value, json};

use super::{
    kinds::Kind,
    object::{map, name},
    schema,
};

/// Fills in the defaults of the object's kind, which belong to whoever writes it.
pub(super) fn set(kind: Kind, object: &mut Value) {
    if let Some(schema) = schema::of(kind) {
        return schema::fill(schema, object);
    }
    if kind.is_custom() {
        return;
    }
    // Of the server's own kinds, what is empty is left out; but for these, which every object has.
    let own = object.as_object_mut().expect("an object is a map");
    own.retain(|field, value| {
        let is_kept = ["spec", "status", "endpoints", "rules", "metadata"].contains(&&**field);
        is_kept
            || !value.as_object().is_some_and(Map::is_empty) && !value.as_array().is_some_and(Vec::is_empty)
    });
    match kind.row().plural {
        "pods" => pod(map(object, "spec")),
        "services" => service(object),
        "endpointslices" => {
            let lists = [("endpoints", "conditions", json!({})), ("ports", "protocol", json!("TCP"))];
            for (list, field, value) in lists {
                for item in object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                    defaulted(item, &[(field, value.clone())]);
                }
            }
        }
        "namespaces" => {
            let label = json!(name(object));
            let metadata = map(object, "metadata");
            let labels = metadata.entry("labels").or_insert_with(|| json!({}));
            defaulted(labels, &[("kubernetes.io/metadata.name", label)]);
        }
        "secrets" => {
            let secret = object.as_object_mut().expect("an object is a map");
            // What is written as text is stored as data.
            if let Some(Value::Object(texts)) = secret.remove("stringData") {
                use base64::{Engine, prelude::BASE64_STANDARD};
                let data = map(object, "data");
                for (key, text) in texts {
                    data.insert(key, BASE64_STANDARD.encode(text.as_str().unwrap_or_default()).into());
                }
            }
            defaulted(object, &[("type", json!("Opaque"))]);
        }
        _ => {}
    }
}

/// Fills in what the server gives an object while it stores it, which belongs to no one.
pub(super) fn allocate(kind: Kind, object: &mut Value) {
    match kind.row().plural {
        "pods" => admitted(object),
        "namespaces" => {
            defaulted(&mut object["status"], &[("phase", json!("Active"))]);
            defaulted(&mut object["spec"], &[("finalizers", json!(["kubernetes"]))]);
        }
        "services" => addresses(object),
        _ => {}
    }
}

/// Sets what is missing.
fn defaulted(object: &mut Value, values: &[(&str, Value)]) {
    if object.is_null() {
        *object = json!({});
    }
    for (field, value) in values {
        if object[*field].is_null() {
            object[*field] = value.clone();
        }
    }
}

fn pod(spec: &mut Map<String, Value>) {
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
        ("enableServiceLinks", json!(true)),
    ] {
        spec.entry(field).or_insert(value);
    }
    for container in spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
        let image = container["image"].as_str().unwrap_or_default();
        let tag = image.rsplit('/').next().and_then(|name| name.split_once(':'));
        let pulled = if tag.is_none_or(|(_, tag)| tag == "latest") { "Always" } else { "IfNotPresent" };
        defaulted(
            container,
            &[
                ("imagePullPolicy", json!(pulled)),
                ("resources", json!({})),
                ("terminationMessagePath", json!("/dev/termination-log")),
                ("terminationMessagePolicy", json!("File")),
            ],
        );
    }
}

/// What the API server's own admission sets.
fn admitted(pod: &mut Value) {
    defaulted(&mut pod["status"], &[("phase", json!("Pending")), ("qosClass", json!("BestEffort"))]);
    let spec = &mut pod["spec"];
    defaulted(spec, &[("serviceAccountName", json!("default"))]);
    let account = spec["serviceAccountName"].clone();
    let tolerated = |key: &str| json!({"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": 300});
    let tolerations = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(tolerated);
    let values = [
        ("serviceAccount", account),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
        ("priority", json!(0)),
        ("tolerations", json!(tolerations)),
    ];
    defaulted(spec, &values);
}

fn service(object: &mut Value) {
    defaulted(&mut object["spec"], &[("type", json!("ClusterIP")), ("sessionAffinity", json!("None"))]);
    let spec = map(object, "spec");
    if spec["type"] != "ExternalName" {
        spec.entry("internalTrafficPolicy").or_insert_with(|| json!("Cluster"));
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let number = port["port"].clone();
        defaulted(port, &[("protocol", json!("TCP")), ("targetPort", number)]);
    }
}

fn addresses(object: &mut Value) {
    let number: u64 = name(object).bytes().map(u64::from).sum();
    defaulted(&mut object["status"], &[("loadBalancer", json!({}))]);
    let spec = &mut object["spec"];
    if spec["type"] == "ExternalName" {
        return;
    }
    defaulted(spec, &[("clusterIP", json!(format!("10.96.0.{}", number % 250 + 2)))]);
    let address = spec["clusterIP"].clone();
    // Whoever publishes the endpoints of a Service without a selector and an address may publish those of both families.
    let is_open = address == "None" && spec["selector"].is_null();
    let (families, policy) = if is_open {
        (json!(["IPv4", "IPv6"]), "RequireDualStack")
    } else {
        (json!(["IPv4"]), "SingleStack")
    };
    defaulted(
        spec,
        &[("clusterIPs", json!([address])), ("ipFamilies", families), ("ipFamilyPolicy", json!(policy))],
    );
}
