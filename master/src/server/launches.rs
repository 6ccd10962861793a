//! Executors that wait for their credential: to make one takes longer than to decide on hundreds.
//!
//! A pass may give thousands of executors at once. Their credentials are made a few at a time,
//! between what peers say, so that nobody waits for an answer until the last one is made. Whether
//! an executor is still wanted is asked when its turn has come.

use crate::cluster::{Order, SessionId};
use std::collections::VecDeque;

/// Credentials that are made before peers are listened to again: some milliseconds.
const LAUNCHES_MAX: usize = 32;

/// Launches in the order in which they were decided on.
#[derive(Default)]
pub(super) struct Launches {
    queue: VecDeque<(SessionId, Order)>,
}

// === impl Launches ===

impl Launches {
    pub(super) fn push(&mut self, session: SessionId, order: Order) {
        self.queue.push_back((session, order));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Those whose turn it is.
    pub(super) fn next(&mut self) -> Vec<(SessionId, Order)> {
        let count = self.queue.len().min(LAUNCHES_MAX);
        self.queue.drain(..count).collect()
    }
}
