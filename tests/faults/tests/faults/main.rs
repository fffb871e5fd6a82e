//! The fault tests: one program, so that it is linked once.

mod oracles;
mod replication;
mod unsure;
