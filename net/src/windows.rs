//! The budget of receive windows that bounds what unread bulk data can make a process hold.
//!
//! A connection's window is memory that a peer may fill at will. Every data connection that brings
//! bulk takes a lease; one by which an executor asks for blocks brings none to the side that serves
//! it. A lease is at most an eighth of what is left, so the first few connections are wide and
//! later ones narrower, but all keep the same shape: the connection's window is
//! [`STREAMS_PER_WINDOW`] stream windows, and one stream fewer is ever open, so streams whose
//! readers have stopped never use up the connection's window.

use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of receive windows over all data connections of a process.
pub const RECEIVE_WINDOWS_BYTES_MAX: u64 = 256 << 20;

/// Window of one data connection at most: 32 MiB carries 2.5 Gbit/s over 100 ms.
const CONNECTION_WINDOW_BYTES_MAX: u64 = 32 << 20;

/// Window of one data connection at least: 1 MiB carries 8 Gbit/s over the 1 ms of a local network.
const CONNECTION_WINDOW_BYTES_MIN: u64 = 1 << 20;

/// Stream windows that fit into a connection's window.
pub(crate) const STREAMS_PER_WINDOW: u64 = 8;

/// What is left of the process's receive windows.
#[derive(Debug)]
pub(crate) struct WindowBudget {
    total: u64,
    left: Mutex<u64>,
}

/// The window of one data connection; returned to the budget when dropped.
#[derive(Debug)]
pub(crate) struct WindowLease {
    budget: Arc<WindowBudget>,
    bytes: u64,
}

/// The windows that a data connection may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowSize(u64);

// === impl WindowBudget ===

impl WindowBudget {
    /// A budget of `bytes`.
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { total: bytes, left: Mutex::new(bytes) })
    }

    /// Bytes of the whole budget.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that no connection has.
    pub(crate) fn left(&self) -> u64 {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The size that the next connection should have, without reserving it; `None` if not even the
    /// smallest is left.
    pub(crate) fn next_size(&self) -> Option<WindowSize> {
        let left = self.left();
        if left < CONNECTION_WINDOW_BYTES_MIN {
            return None;
        }
        let share = left / 8;
        let rounded = if share == 0 { 0 } else { 1 << share.ilog2() };
        Some(WindowSize(rounded.clamp(CONNECTION_WINDOW_BYTES_MIN, CONNECTION_WINDOW_BYTES_MAX)))
    }

    /// Reserves `size`, if that much is still left.
    pub(crate) fn lease(self: &Arc<Self>, size: WindowSize) -> Option<WindowLease> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.checked_sub(size.0)?;
        Some(WindowLease { budget: self.clone(), bytes: size.0 })
    }
}

// === impl WindowLease ===

impl WindowLease {
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for WindowLease {
    fn drop(&mut self) {
        *self.budget.left.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
    }
}

// === impl WindowSize ===

impl WindowSize {
    pub(crate) const MIN: Self = Self(CONNECTION_WINDOW_BYTES_MIN);

    pub(crate) fn connection_bytes(self) -> u64 {
        self.0
    }

    pub(crate) fn stream_bytes(self) -> u64 {
        self.0 / STREAMS_PER_WINDOW
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn take_all(budget: &Arc<WindowBudget>) -> Vec<WindowLease> {
        let next = || budget.lease(budget.next_size()?);
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn early_leases_are_wide_and_later_ones_narrow_within_the_budget() {
        let budget = WindowBudget::new(RECEIVE_WINDOWS_BYTES_MAX);
        let leases = take_all(&budget);
        let sizes: Vec<u64> = leases.iter().map(WindowLease::bytes).collect();
        assert_eq!(sizes[0], 32 << 20);
        assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<u64>(), RECEIVE_WINDOWS_BYTES_MAX - budget.left());
        assert!(budget.left() < 1 << 20);
        assert!(leases.len() >= 40, "only {} connections fit", leases.len());
    }

    #[test]
    fn a_dropped_lease_is_whole_again() {
        let budget = WindowBudget::new(RECEIVE_WINDOWS_BYTES_MAX);
        drop(take_all(&budget));
        assert_eq!(budget.left(), budget.total());
        assert_eq!(budget.next_size(), Some(WindowSize(CONNECTION_WINDOW_BYTES_MAX)));
    }

    #[test]
    fn a_size_that_is_no_longer_left_is_not_leased() {
        let budget = WindowBudget::new(1 << 20);
        let size = budget.next_size().unwrap();
        let held = budget.lease(size);
        assert!(held.is_some() && budget.lease(size).is_none());
        assert_eq!(budget.next_size(), None);
    }
}
