//! Installs what is tested, once a run.

use std::{
    env, fs,
    path::Path,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    command::{helm, kubectl, run},
    controller::{Component, NAMESPACE, rolled_out},
    local::local,
};

static VALUES: LazyLock<Value> = LazyLock::new(|| {
    // The chart has this one off by default.
    let mut values = json!({
        "image": {"repository": "localhost/mainstay"},
        "controllers": {"accounts": {"enabled": true}},
    });
    let Some(cluster) = local() else { return values };
    let file = env::var("MAINSTAY_IMAGE_FILE")
        .expect("MAINSTAY_IMAGE_FILE names no image to test: run these tests by `make e2e`");
    cluster.load_image(Path::new(&file)).unwrap_or_else(|error| panic!("{error}"));
    let image = fs::read(&file).unwrap_or_else(|error| panic!("cannot read {file}: {error}"));
    let digest = format!("{:.16x}", Sha256::digest(image));
    // The tag is the same for every build, so it is this that makes the Deployment run the new one.
    for component in Component::ALL {
        values["controllers"][values_key(component.name())]["podAnnotations"] =
            json!({"e2e.mainstay.dev/image": digest});
    }
    values
});

/// The key of a component under `controllers` of the chart's values.
fn values_key(component: &str) -> String {
    let mut words = component.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |key, word| {
        let (initial, rest) = word.split_at(1);
        key + &initial.to_uppercase() + rest
    })
}

static KINDS: LazyLock<()> = LazyLock::new(kinds_release);

static INSTALLED: LazyLock<()> = LazyLock::new(|| {
    install_kinds();
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    run("kubectl", &["apply", "--filename=-"], &namespace.to_string()).succeeded();
    release(&values());
});

/// Loads the image and installs both charts, the first time it is called.
pub fn install() {
    *INSTALLED
}

/// Installs the chart of the kinds, the first time it is called.
pub(crate) fn install_kinds() {
    *KINDS
}

/// The values that the release under test is installed with.
pub fn values() -> Value {
    VALUES.clone()
}

/// Installs or upgrades the chart of the kinds, and waits until the API server serves them.
pub fn kinds_release() {
    helm(&["upgrade", "--install", "mainstay-crds", "charts/mainstay-crds"], "").succeeded();
    let kinds = [
        "replicagroups",
        "endpointpools",
        "endpointgrants",
        "nodehealthpolicies",
        "configrollouts",
        "accountpolicies",
    ]
    .map(|kind| format!("crd/{kind}.mainstay.dev"));
    let established =
        || kubectl(&format!("wait --for=condition=Established {} --timeout=60s", kinds.join(" ")));
    // kubectl gives a kind up that has no conditions at all yet.
    let end = Instant::now() + Duration::from_secs(60);
    while !established().ok && Instant::now() < end {
        thread::sleep(Duration::from_millis(100));
    }
    established().succeeded();
}

/// Installs or upgrades the chart of the controllers, and waits until all of its pods are the new ones.
pub fn release(values: &Value) {
    let namespace = format!("--namespace={NAMESPACE}");
    let mut words = vec![
        "upgrade",
        "--install",
        "mainstay",
        "charts/mainstay",
        &namespace,
        "--values=-",
        "--reset-values",
    ];
    let further = env::var("MAINSTAY_E2E_VALUES").map(|file| format!("--values={file}"));
    words.extend(further.as_deref());
    helm(&words, &values.to_string()).succeeded();
    for component in Component::ALL {
        rolled_out(&format!("mainstay-{}", component.name())).succeeded();
    }
}
