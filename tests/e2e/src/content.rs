//! What pods write into their volumes, and what later ones read there.

use std::collections::{BTreeMap, BTreeSet};

use http::{Request, header::CONTENT_TYPE};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::Value;

use crate::{group::Group, scenario::Scenario, wait::eventually};

/// Parts the fields of an upload; it does not occur in what the tests write.
const BOUNDARY: &str = "e2e-boundary";

/// A file in the volume of a pod of [`crate::pods::storing`].
#[derive(Clone, Debug)]
pub struct File {
    path: String,
    text: String,
}

impl File {
    /// Lets the pod write a file that says `text`; waits until its server answers.
    pub async fn write(scenario: &Scenario, pod: &Pod, text: &str) -> Self {
        let path = eventually(&format!("{} writes a file", pod.name_any()), async || {
            upload(scenario, &pod.name_any(), text).await
        })
        .await;
        Self { path, text: text.into() }
    }

    /// Asserts that the pod, which may be another than the one that wrote it, reads the file as it was written.
    ///
    /// # Panics
    /// With what it reads instead.
    pub async fn read(&self, scenario: &Scenario, pod: &Pod) {
        let read = self.look(scenario, pod).await;
        assert!(read.ends_with(&format!(": {}\n", self.text)), "not {:?}: {read}", self.text);
    }

    /// Asserts that there is no such file in the pod's volume.
    ///
    /// # Panics
    /// With what the pod reads there.
    pub async fn is_missing(&self, scenario: &Scenario, pod: &Pod) {
        let read = self.look(scenario, pod).await;
        assert!(read.contains("no such file"), "{} finds {:?}: {read}", pod.name_any(), self.path);
    }

    /// What the pod says of the file.
    async fn look(&self, scenario: &Scenario, pod: &Pod) -> String {
        let command = format!("exec {} -- /agnhost mounttest --file_content={}", pod.name_any(), self.path);
        // An exec through a busy kubelet may fail for its own sake; what it says of the file it says on either pipe.
        eventually(&format!("{} looks for {}", pod.name_any(), self.path), async || {
            let said = scenario.kubectl(&command);
            let words = said.stdout + &said.stderr;
            if words.contains(&self.path) { Ok(words) } else { Err(words) }
        })
        .await
    }
}

/// A file in the volume of each pod of a group, by slot.
#[derive(Clone, Debug)]
pub struct Files(BTreeMap<String, File>);

impl Files {
    /// Lets each pod write one that names its slot.
    pub async fn write(scenario: &Scenario, group: &Group) -> Self {
        let mut files = BTreeMap::new();
        for (slot, pod) in group.slots().await {
            let file = File::write(scenario, &pod, &format!("written in slot {slot}")).await;
            files.insert(slot, file);
        }
        Self(files)
    }

    /// The slots with a file.
    pub fn slots(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// Asserts that the group has pods in these slots and no others, and that each reads what was written there.
    ///
    /// # Panics
    /// With the slots that there are, or what is read instead.
    pub async fn are_read(&self, scenario: &Scenario, group: &Group) {
        let pods = group.slots().await;
        assert_eq!(pods.keys().cloned().collect::<BTreeSet<_>>(), self.slots(), "the slots of the pods");
        for (file, pod) in self.0.values().zip(pods.values()) {
            file.read(scenario, pod).await;
        }
    }
}

/// Path of the file that the pod's server makes of `text`.
async fn upload(scenario: &Scenario, pod: &str, text: &str) -> Result<String, String> {
    let url = format!("/api/v1/namespaces/{}/pods/{pod}:8080/proxy/upload", scenario.namespace);
    let body = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\r\n\
         {text}\r\n--{BOUNDARY}--\r\n"
    );
    let form = format!("multipart/form-data; boundary={BOUNDARY}");
    let request = Request::post(url).header(CONTENT_TYPE, form).body(body.into_bytes());
    let request = request.map_err(|error| error.to_string())?;
    let answer = scenario.client.request_text(request).await.map_err(|error| error.to_string())?;
    let json: Value = serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
    json["output"].as_str().map(Into::into).ok_or(answer)
}
