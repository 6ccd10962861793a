//! The sandbox: compiles modules, keeps the driver's memory, forks tasks from it, runs them.
//!
//! ```text
//!   module ──prepare──► compile (child process, cached) ──► artifact
//!   owner  ──link──► slot process: engine + artifact + memory ──► main, or tasks one by one
//! ```
//!
//! A slot is a process with one thread, one socket pair and nothing else. What it says is as
//! untrusted as its guest. All `unsafe` of the project that is not a raw import lives here.
//!
//! Not here: what tasks are run and where (driver, host), and who may touch which file
//! (`host::broker`).

pub mod broker;
pub mod child;
pub mod compile;
pub mod data_chunk;
pub mod door;
pub mod engine;
mod fault;
mod imports;
pub mod link;
pub mod memory;
pub mod module;
pub mod shuffle;
mod slot;
pub mod slots;
pub mod snapshots;
pub mod wasi;

pub use slot::{SlotError, run as run_slot};
