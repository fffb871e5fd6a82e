//! The rules, and how the sources are read.

mod reader;
mod rules;
mod words;
