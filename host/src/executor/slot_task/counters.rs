//! What an executor says at its end.

use std::sync::atomic::AtomicU64;

/// What all slots have done: every attempt that came to an end in a slot was a fork of its own.
#[derive(Debug, Default)]
pub(in crate::executor) struct Counters {
    pub(in crate::executor) forks: AtomicU64,
    pub(in crate::executor) attempts: AtomicU64,
    /// Bytes of committed map outputs, compressed.
    pub(in crate::executor) shuffled: AtomicU64,
    /// Bytes of spilled runs.
    pub(in crate::executor) spilled: AtomicU64,
}
