//! A controller whose clock a test sets.

use std::{fs, path::PathBuf, time::Duration};

use k8s_openapi::{ByteString, jiff::Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{
    command::{Finished, kubectl, run},
    controller::{Controller, NAMESPACE, rolled_out},
    wait::within,
};

/// Name of the ConfigMap that brings the library, and of the volumes.
const NAME: &str = "e2e-clock";
/// The annotation of a pod by which its clock is set.
const AHEAD: &str = "e2e.mainstay.dev/clock-ahead";
/// Until a pod's kubelet shows it a changed annotation, and the controller renews its Lease.
const LONG: Duration = Duration::from_secs(180);

/// The wall clock of a controller. libfaketime moves it, and leaves the monotonic clock alone, which is what happens
/// when the clock of a machine is set. While this lives the controller's pods are others than those that were
/// installed.
pub struct FakeClock<'a>(&'a Controller);

impl<'a> FakeClock<'a> {
    /// Makes the controller's pods anew, with a clock that is right for now and can be set.
    ///
    /// # Panics
    /// When the library is not there, or the pods do not become ready.
    pub async fn install(controller: &'a Controller) -> Self {
        let bytes = fs::read(library()).expect("the library can be read");
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE},
            "binaryData": {"libfaketime.so": ByteString(bytes)},
        });
        run("kubectl", &["create", "--filename=-"], &map.to_string()).succeeded();
        let clock = Self(controller);
        let ahead = json!({
            "path": "ahead", "fieldRef": {"fieldPath": format!("metadata.annotations['{AHEAD}']")},
        });
        let variables = [
            ("LD_PRELOAD", "/clock/library/libfaketime.so"),
            ("FAKETIME_TIMESTAMP_FILE", "/clock/ahead/ahead"),
            ("FAKETIME_CACHE_DURATION", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| json!({"name": name, "value": value}));
        let mount = |volume: &str| json!({"name": format!("{NAME}-{volume}"), "mountPath": format!("/clock/{volume}")});
        let container = json!({
            "name": "controller", "env": variables, "volumeMounts": [mount("library"), mount("ahead")],
        });
        let volumes = json!([
            {"name": format!("{NAME}-library"), "configMap": {"name": NAME}},
            {"name": format!("{NAME}-ahead"), "downwardAPI": {"items": [ahead]}},
        ]);
        let patch = json!({"spec": {"template": {
            "metadata": {"annotations": {AHEAD: "+0"}},
            "spec": {"containers": [container], "volumes": volumes},
        }}});
        clock.kubectl(&format!("patch {} --patch={patch}", clock.deployment())).succeeded();
        rolled_out(&controller.name()).succeeded();
        clock
    }

    fn kubectl(&self, line: &str) -> Finished {
        kubectl(&format!("--namespace={NAMESPACE} {line}"))
    }

    fn deployment(&self) -> String {
        format!("deployment/{}", self.0.name())
    }

    /// Sets the clock so far ahead of all others, and waits until the Lease is renewed under it.
    ///
    /// # Panics
    /// When it is not.
    pub async fn set(&self, ahead: Duration) {
        let patch = json!({"metadata": {"annotations": {AHEAD: format!("+{}", ahead.as_secs())}}});
        for pod in self.0.pod_names().await {
            let patched = self.0.pods().patch(&pod, &PatchParams::default(), &Patch::Merge(&patch)).await;
            patched.expect("the pod is patched");
        }
        within(LONG, &format!("the Lease is renewed {ahead:?} ahead"), async || {
            let lease = self.0.leases().get(&self.0.name()).await.map_err(|error| error.to_string())?;
            let renewed = lease.spec.and_then(|spec| spec.renew_time).ok_or("it never was")?.0;
            let off = renewed.duration_since(Timestamp::now() + ahead);
            (off.unsigned_abs() < Duration::from_secs(60)).then_some(()).ok_or_else(|| renewed.to_string())
        })
        .await;
    }
}

impl Drop for FakeClock<'_> {
    fn drop(&mut self) {
        self.kubectl(&format!("rollout undo {}", self.deployment()));
        rolled_out(&self.0.name());
        self.kubectl(&format!("delete configmap {NAME}"));
    }
}

/// Debian's libfaketime, which fits the image of the local cluster: that has the C library of this machine.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten();
    let libraries = folders.filter_map(|folder| Some(folder.ok()?.path().join("faketime/libfaketime.so.1")));
    libraries.into_iter().find(|path| path.exists()).expect("the Debian package libfaketime is installed")
}
