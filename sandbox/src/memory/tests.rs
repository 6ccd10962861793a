//! Memories against models of them.
#![allow(clippy::unwrap_used)]

mod driver;
mod tasks;
