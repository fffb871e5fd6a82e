//! The five controllers, each with its real wiring, explored on the model of the cluster.
//!
//! A violation prints a script. `MAINSTAY_FAULTS_REPLAY='<script>' cargo test --workspace --test play replay -- --nocapture`
//! plays that fault again and prints what happens.

mod accounts;
mod config_rollout;
mod endpoints;
mod mutations;
mod node_health;
mod replay;
mod replication;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
