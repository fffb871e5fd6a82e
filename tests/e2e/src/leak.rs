//! Whether what is in a Secret is anywhere else.

use std::fmt::Write;

use k8s_openapi::ByteString;
use serde_json::json;
use sha2::{Digest, Sha256, Sha512};

use crate::{
    command::kubectl,
    controller::{Component, Controller, NAMESPACE},
    scenario::Scenario,
};

/// A value as it could be written down: as it is, in base64, and as the hashes that others use, in hex and base64.
fn forms(value: &str) -> Vec<String> {
    let base64 = |bytes: &[u8]| json!(ByteString(bytes.to_vec())).as_str().unwrap_or_default().to_owned();
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    let mut forms = vec![value.to_owned(), base64(value.as_bytes())];
    for hash in [Sha256::digest(value).to_vec(), Sha512::digest(value).to_vec()] {
        // What is shortened begins alike.
        forms.push(hex(&hash[..8]));
        forms.push(base64(&hash)[..12].to_owned());
    }
    forms
}

/// Looks at the objects of these kinds in the namespace, at `more`, at the metadata of its Secrets, and at the logs and
/// metrics of all controllers.
///
/// # Panics
/// When one of the values is there in any form, or when one of the words in `said`, which show that it was looked at all,
/// is not.
pub async fn is_nowhere(scenario: &Scenario, kinds: &str, more: &str, said: &[&str], values: &[&str]) {
    let mut seen = more.to_owned();
    seen += &scenario.kubectl(&format!("get {kinds} --output=yaml --show-managed-fields")).succeeded();
    seen += &scenario.kubectl("get secrets --output=jsonpath={.items[*].metadata}").succeeded();
    for component in Component::ALL {
        let controller = Controller::new(scenario.client.clone(), component);
        for pod in controller.pod_names().await {
            seen += &kubectl(&format!("logs {pod} --namespace={NAMESPACE}")).succeeded();
            seen += &controller.get(&pod, 8080, "metrics").await.expect("/metrics answers");
        }
    }
    for word in said {
        assert!(seen.contains(word), "nothing that says {word:?} was looked at");
    }
    for value in values {
        for form in forms(value) {
            let place = seen.find(&form).map(|at| seen[..at].lines().last().unwrap_or_default());
            assert_eq!(
                place,
                None,
                "a value of a Secret, as one of {} forms, follows this",
                forms(value).len()
            );
        }
    }
}
