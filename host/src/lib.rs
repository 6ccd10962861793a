//! What runs on the machines of a cluster: the worker daemon, the executors that it launches, and
//! the files that both keep for applications.
//!
//! ```text
//!   master ═══ worker ──launch──► executor ──► slots (sandbox)
//!                │ serves               │ opens, for guests
//!          shuffle_service            sandbox::broker
//! ```
#![forbid(unsafe_code)]

pub mod executor;
pub mod launch;
pub mod memory;
pub mod shuffle_service;
pub mod worker;
