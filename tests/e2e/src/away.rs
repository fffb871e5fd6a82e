//! An object of the chart's that is taken away for a while.

use serde_json::Value;

use crate::command::{kubectl, run};

/// What the chart has made and a test has deleted. It is there again, as the chart makes it, when this is dropped.
pub struct Away(Value);

impl Away {
    /// Deletes the object that these words of kubectl name.
    ///
    /// # Panics
    /// When there is none.
    pub fn take(object: &str) -> Self {
        let json = kubectl(&format!("get {object} --output=json")).succeeded();
        let mut made: Value = serde_json::from_str(&json).expect("kubectl prints JSON");
        let metadata = made["metadata"].as_object_mut().expect("it has metadata");
        metadata.retain(|key, _| ["name", "namespace", "labels", "annotations"].contains(&key.as_str()));
        // Nobody but the controller knows whom to trust.
        for webhook in made.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
            webhook["clientConfig"].as_object_mut().expect("it has a client").remove("caBundle");
        }
        kubectl(&format!("delete {object}")).succeeded();
        Self(made)
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let made = run("kubectl", &["create", "--filename=-"], &self.0.to_string());
        assert!(made.ok || std::thread::panicking(), "{}", made.stderr);
    }
}
