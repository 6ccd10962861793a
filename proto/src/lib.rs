//! The words that Offshoot's processes and guests exchange: ids, limits, messages, the guest ABI.
//!
//! ```text
//!   sdk (wasm32) ── abi ──► slot ── link ──► executor / driver ── wire ──► master, worker
//! ```
//!
//! Everything is plain data with serde; nothing here does I/O, reads a clock or allocates more
//! than a checked length. The crate builds for `wasm32-wasip1`, where only [`abi`] is used.
#![forbid(unsafe_code)]

pub mod abi;
pub mod block;
pub mod cluster;
pub mod executor;
pub mod explain;
pub mod frame;
pub mod grants;
pub mod hello;
pub mod id;
pub mod limits;
pub mod link;
pub mod outcome;
pub mod part;
mod raw_bytes;
pub mod scheduling;
pub mod settings;
pub mod snapshot;
pub mod stage;
pub mod store;
pub mod tenant;
pub mod waiting;
