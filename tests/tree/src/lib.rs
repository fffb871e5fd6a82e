//! Reads the workspace's Rust sources as text, so that tests can hold them to the rules of CONTRIBUTING.md: which file
//! imports which, and how long each is. Nothing is compiled.

mod cycles;
mod imports;
mod modules;

pub use cycles::cycles;
pub use imports::imports;
pub use modules::{Crate, crates, root, rust_files};
