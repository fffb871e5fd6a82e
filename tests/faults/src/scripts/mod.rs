//! Requests that the [`model`](crate::model) and a real API server must answer alike.
//!
//! A [`Script`] is a list of requests. The test `model` of `tests/e2e` sends each to both and compares the answers; the test
//! `scripts` of this crate sends it to the model alone and checks the HTTP statuses. Where they differ, the model is wrong.
//!
//! In paths and bodies, `{ns}` is the namespace, and `{name}` what an earlier step [`kept`](step::Step::keeps). A request that
//! writes has the field manager `script` unless its path names another. An answer is compared without what no two servers
//! share, see [`normal`].
//!
//! | module | what its scripts hold the model to |
//! |---|---|
//! | [`objects`] | create, get, list, replace, delete; versions and preconditions |
//! | [`patches`] | merge, strategic merge and JSON patches; status and generation |
//! | [`apply`] | server-side apply and `managedFields` |
//! | [`deletion`] | finalizers and how deletions propagate |
//! | [`lists`] | selectors, pages, metadata alone, watches |
//! | [`pods`] | deletion with a grace period, eviction |
//! | [`special`] | tokens, reviews, defaults of the project's kinds |

mod apply;
mod deletion;
mod lists;
mod normal;
mod objects;
mod patches;
mod player;
mod pods;
mod script;
mod special;
mod step;

use serde_json::{Value, json};

pub use normal::differences;
pub use player::{Answer, Player, model};
pub use script::Script;
pub use step::Step;

use crate::model::schema::repair;

/// What a real server must know besides the project's kinds: the CustomResourceDefinition of the model's `Repair`.
pub fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "repairs.repair.example.com"},
        "spec": {
            "group": "repair.example.com", "scope": "Namespaced",
            "names": {"kind": "Repair", "plural": "repairs", "singular": "repair"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": repair()}}],
        },
    })
}

/// Every script.
pub fn all() -> Vec<Script> {
    let parts = [
        objects::scripts(),
        patches::scripts(),
        apply::scripts(),
        deletion::scripts(),
        lists::scripts(),
        pods::scripts(),
        special::scripts(),
    ];
    parts.into_iter().flatten().collect()
}
