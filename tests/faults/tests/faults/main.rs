//! The fault tests: one program, so that it is linked once.

mod oracles;
mod replication;
mod unsure;

/// The runs allocate more than they compute.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
