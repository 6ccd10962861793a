//! Executors that wait for their credential: to make one takes longer than to decide on hundreds.
//!
//! A pass may give thousands of executors at once. Their credentials are made a few at a time,
//! between what peers say, so that nobody waits for an answer until the last one is made; and one
//! for each application in turn, so that a small one does not wait for a large one. Whether an
//! executor is still wanted is asked when its turn has come.

use crate::cluster::{Order, SessionId};
use offshoot_proto::id::AppId;
use std::collections::{BTreeMap, VecDeque};

#[cfg(test)]
mod tests;

/// Credentials that are made before peers are listened to again: some milliseconds.
const LAUNCHES_MAX: usize = 32;

/// Launches: those of each application in the order in which they were decided on.
#[derive(Default)]
pub(super) struct Launches {
    queues: BTreeMap<AppId, VecDeque<(SessionId, Order)>>,
    /// The applications that have a queue, each once; whose turn is next first.
    turns: VecDeque<AppId>,
}

// === impl Launches ===

impl Launches {
    pub(super) fn push(&mut self, session: SessionId, order: Order) {
        let app = order.executor.app;
        let queue = self.queues.entry(app).or_default();
        if queue.is_empty() {
            self.turns.push_back(app);
        }
        queue.push_back((session, order));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Those whose turn it is.
    pub(super) fn next(&mut self) -> Vec<(SessionId, Order)> {
        std::iter::from_fn(|| self.next_one()).take(LAUNCHES_MAX).collect()
    }

    fn next_one(&mut self) -> Option<(SessionId, Order)> {
        let app = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&app)?;
        let launch = queue.pop_front();
        match queue.is_empty() {
            true => drop(self.queues.remove(&app)),
            false => self.turns.push_back(app),
        }
        launch
    }
}
