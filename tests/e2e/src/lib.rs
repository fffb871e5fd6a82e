//! What the end-to-end tests share. The tests themselves lie in `tests/e2e`, one file a theme.
//!
//! They see what a user sees: they install the charts with Helm, write objects through the API server and read
//! what the controllers make of them. Nothing is stood in for, except that nodes may be fake (see
//! [`FakeNodes`]). A test waits on conditions, never for a time, and says at its deadline what it saw last;
//! deadlines are generous, because no test asserts speed.
//!
//! The cluster is the local one of `tests/cluster`, or the one that KUBECONFIG names. On the latter, tests that
//! need fake nodes, Prometheus or volumes say that they are skipped.
//!
//! | environment variable | meaning |
//! |---|---|
//! | `MAINSTAY_IMAGE_FILE` | the image to load into the local cluster, as `make image` writes it |
//! | `MAINSTAY_E2E_VALUES` | further values for the chart, say the image's place in a registry |
//! | `MAINSTAY_E2E_SECONDS` | a file to which each test adds how many seconds it took |
//! | `MAINSTAY_E2E_SEED` | the seed of what is random, as a test that failed has printed it |

mod accounts;
mod authority;
mod away;
mod clock;
mod command;
mod config;
mod connection;
mod content;
mod controller;
mod event;
mod group;
mod health;
mod hold;
mod last;
mod leak;
mod local;
mod metrics;
mod moments;
mod nodes;
mod object;
mod outside;
pub mod pods;
mod pool;
mod pre_delete;
mod record;
mod rollout;
mod scenario;
mod setup;
mod stopped;
mod traffic;
mod volumes;
mod wait;

pub use accounts::{Accounts, AccountsDraft, account_policy, rewrite_as, value as secret_value, who};
pub use authority::Authority;
pub use away::Away;
pub use clock::FakeClock;
pub use command::{Finished, helm, kubectl, root, run};
pub use config::{Config, RolloutDraft, config_rollout, deployment, reader, stage};
pub use connection::Connection;
pub use content::{File, Files};
pub use controller::{Component, Controller, NAME, NAMESPACE, rolled_out};
pub use group::{Draft, Group, condition, group, reason};
pub use health::{Health, PolicyDraft, Stand, policy};
pub use leak::is_nowhere;
pub use local::{is_local, local};
pub use metrics::Metrics;
pub use moments::Moment;
pub use nodes::{FakeNodes, is_ready as is_ready_node};
pub use object::{DraftOf, Kind, Made};
pub use outside::Outside;
pub use pool::{DRAINING, OUT, Pool, PoolDraft, STANDBY, USED, pool};
pub use pre_delete::{FINALIZER, is_told, told_at};
pub use record::Recorder;
pub use rollout::{Counts, Revision, counts, version};
pub use scenario::Scenario;
pub use setup::{install, kinds_release, release, values};
pub use stopped::Stopped;
pub use traffic::{CLIENT, Traffic, client, cluster_ip, dial};
pub use volumes::{Volumes, slot, unbound_claim};
pub use wait::{eventually, within};
