//! Reads the workspace's sources as text, so that tests can hold them to the rules of CONTRIBUTING.md: which file imports
//! which, how long each is, and in which words it speaks to people. Nothing is compiled.

mod cycles;
mod imports;
mod modules;
mod prose;
mod words;

pub use cycles::cycles;
pub use imports::imports;
pub use modules::{Crate, crates, files, root, rust_files};
pub use prose::prose;
pub use words::{Avoided, avoided};
