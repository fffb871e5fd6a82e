//! Crashes, lost answers and stale reads, explored exhaustively.
//!
//! Each controller runs as the program runs it, with its own watches, queue, gates and Lease; only its connection leads to a
//! [`model`] of the API server in the same thread. The [`world`] around it schedules and runs pods, renews Leases and collects
//! garbage. [`play`] plays scenarios. Time is tokio's paused clock, so a minute costs nothing but what happens in it, and the
//! crate `mainstay-still` gives each run the same random numbers, hash maps and wall clock. One thing is left to chance: which
//! of two tasks that are due at the same moment goes first. So a script plays the same fault at the request of the same number
//! again, and nearly always, but not by promise, the same run.
//!
//! # How to write a scenario
//! In `tests/play/<controller>.rs`, in the list that `scenarios()` returns:
//!
//! ```ignore
//! Scenario::new("three pods, then five", Controller::Replication, [node("a"), node("b"), group(3)])
//!     .at(60, change("/apis/mainstay.dev/v1alpha1/namespaces/ns/replicagroups/web", json!({"spec": {"replicas": 5}})))
//!     .at(120, |_, cluster| cluster.life = Box::new(|_| Life { then: Then::Crashes, ..Life::default() }))
//!     .watched(|| vec![at_most(5)])
//! ```
//!
//! What is given is there when the controller starts, 20 seconds after its own creation, in the namespace `ns` where it names
//! none. The steps are closures over the server and the cluster, a number of seconds after the start;
//! [`create`](play::scenario::create), [`change`](play::scenario::change), [`delete`](play::scenario::delete) and
//! [`silence`](play::scenario::silence) are the usual ones. A rule that refuses writes (a quota, a policy) is pushed
//! to [`Server::admission`](model::server::Server::admission). The run ends when no request was made for three minutes.
//! Requests that never end in a settled cluster are named by [`Scenario::background`](play::scenario::Scenario::background);
//! what may differ between good ends is taken out by [`Scenario::scrub`](play::scenario::Scenario::scrub).
//!
//! # How to write a fault
//! A [`Fault`](play::fault::Fault) is a value. What happens to one request is a variant of [`Blow`](play::fault::Blow) and one
//! arm in `play/gate.rs`; what happens to watches is a [`Slow`](play::fault::Slow). `explore` plays scenarios with what
//! `play/faults.rs` lists: each blow at each request, each kind of write refused for good, each watch lagging in each way,
//! and what the scenario is [`about`](play::scenario::Scenario::about) deleted at each request. Requests are counted over all
//! processes of a run; watches, the Leases of leadership and Events are not counted.
//!
//! # How to write an oracle
//! An oracle is a closure over [`Written`](play::oracle::Written), or an [`Oracle`](play::oracle::Oracle) where it also looks at
//! the end. It is created for each run, sees each write that the server accepted together with all objects after it, and
//! returns in words what is broken; the first word names the promise. Every run is held, besides, against the undisturbed one:
//! the same end but for what [`Scenario::open`](play::scenario::Scenario::open) leaves open after some faults, no more than
//! [`Scenario::more`](play::scenario::Scenario::more) requests beyond it, and silence. Each oracle has a row in
//! `tests/play/mutations.rs`: a defect by which the same runs break its promise.
//!
//! # What is known to be broken
//! is marked in [`Scenario::known`](play::scenario::Scenario::known), by name and with the fault that shows it, and listed in
//! `docs/reliability.md`. When that fault breaks nothing any more, the exploration fails until the mark is taken away.
//!
//! # A failure
//! prints a script for each run that broke a promise. The test `replay` of `tests/play` plays it again.
//!
//! # Is the model right?
//! [`scripts`] are requests that the model and a real API server must answer alike.
//!
//! # A real cluster
//! [`proxy`] stands between a controller and the API server and misbehaves as it is told.
//!
//! # The suite of before
//! A [`run::Run`] plays a [`scenario`] of replication alone, with a wiring of its own, against a small [`server`], in views that
//! are stale in many ways; the [`ledger`] checks its promises. Its scenarios move to [`play`].

pub mod defect;
pub mod explore;
pub mod fault;
pub mod kind;
pub mod ledger;
pub mod model;
pub mod part;
pub mod play;
pub mod process;
pub mod proxy;
pub mod run;
pub mod scenario;
pub mod scripts;
pub mod server;
pub mod wire;
pub mod world;
