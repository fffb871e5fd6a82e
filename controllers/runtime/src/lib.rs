//! What every Mainstay controller needs, and no domain rule.
//!
//! Data flows in one direction through a controller: API server → watch → [`index`] → the controller's `Observed`
//! value → its `Plan` → writes → API server. This crate holds the parts around the two domain modules:
//!
//! | module | what it promises |
//! |---|---|
//! | [`process`] | one process: flags, logs, client, probes, metrics, leadership, orderly shutdown |
//! | [`manager`] | what a controller is built with, and what it returns |
//! | [`leader`] | at most one writer at a time, judged by locally observed time |
//! | [`index`] | slim copies of watched objects, indexed, with the version that they have reached |
//! | [`decode`] | objects that a watch decodes one by one, so that one which cannot be decoded stops no other |
//! | [`undecoded`] | those that cannot be: remembered, counted, and told so |
//! | [`slim`] | watch types that never decode what no plan reads |
//! | [`key`] | names of objects |
//! | [`node`] | nodes as watches decode them, and where they are |
//! | [`labels`] | labels, kept once for all objects that have the same |
//! | [`reconcile`] | the loop: its keys in fair turns and with their memory, bounded concurrency, a timeout and panic isolation |
//! | [`outcome`] | what a reconcile is granted and has brought about, concern by concern: each has its own backoff |
//! | [`solo`] | the other loop: one reconcile over everything, and what makes the next one due |
//! | [`jobs`] | jobs under way, each apart from the others |
//! | [`places`] | fair shares of a limit: which of the keys that are due gets the next place |
//! | [`watch`] | the one way to fill a store: supervised, never deaf, never fooled |
//! | [`gate`] | no key is planned against a store that has not seen the key's own last writes |
//! | [`behind`] | a write at a version that the server has passed waits for the store |
//! | [`backoff`] | exponential delays with jitter, a key at a time |
//! | [`report`] | the status as it is written, not more often than it helps |
//! | [`request`] | requests that are given up in time and answered with no more than is read |
//! | [`writes`] | writes under one field manager, noted in the write gate |
//! | [`clock`] | the time of the process, that never goes back, and what its moments are on the wall |
//! | [`owner`] | which object controls another |
//! | [`names`] | names that are chosen before an object is created |
//! | [`failure`] | how a refused request is named in conditions, events and metrics |
//! | [`conditions`] | `metav1.Condition` lists that change only when something did |
//! | [`events`] | Kubernetes Events with a fixed set of reasons |
//! | [`metrics`] | Prometheus series under controller-runtime's names |

pub use k8s_openapi;
pub use kube;

pub mod backoff;
pub mod batch;
pub mod behind;
pub mod client;
pub mod clock;
mod concern;
pub mod conditions;
pub mod decode;
pub mod events;
pub mod failure;
pub mod flags;
pub mod gate;
mod heard;
pub mod index;
pub mod jobs;
pub mod key;
pub mod labels;
pub mod leader;
pub mod manager;
pub mod metrics;
pub mod names;
pub mod node;
pub mod outcome;
pub mod owner;
pub mod places;
pub mod process;
mod queue;
pub mod reconcile;
pub mod report;
pub mod request;
mod root;
pub mod serve;
pub mod slim;
pub mod solo;
mod supervise;
#[cfg(test)]
mod testing;
pub mod undecoded;
pub mod watch;
mod work;
pub mod writes;
