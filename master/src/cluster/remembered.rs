//! Workers that were to leave when the master was restarted.
//!
//! ```text
//!   start ─► awaited ─ registers ─► draining ─ after RECOVERY, as any other ─► Leave
//!               └──── RECOVERY ───► missing: shown as lost, forgotten
//! ```
//!
//! None of them leaves before the drivers of the life before can have registered again: until then
//! nobody knows whose files are there. A deadline that is over earlier is put off for so long. Nor
//! does one that is drained meanwhile, unless its own deadline is over.

use super::drain::{Drain, WITHIN_MAX};
use super::limits::RECOVERY;
use super::{Action, Cluster, Note};
use offshoot_proto::cluster::{WorkerRow, WorkerState};
use offshoot_proto::id::WorkerId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Who was to leave.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Those that have not registered yet, with their deadlines.
    awaited: BTreeMap<WorkerId, Duration>,
    /// Those that did not come back in time.
    missing: BTreeSet<WorkerId>,
    is_recovering: bool,
}

// === impl Remembered ===

impl Remembered {
    /// Whether drivers of the life before may still be on their way.
    pub(super) fn is_recovering(&self) -> bool {
        self.is_recovering
    }

    /// Somebody is to leave, in the first life of the master or a later one.
    pub(super) fn begin_drain(&mut self, is_later: bool, now: Duration) {
        self.is_recovering |= is_later && now < RECOVERY;
    }

    /// When that is over.
    pub(super) fn due(&self) -> Option<Duration> {
        self.is_recovering.then_some(RECOVERY)
    }

    /// A worker registers; it goes on leaving if it was to.
    pub(super) fn come_back(&mut self, id: &WorkerId) -> Option<Drain> {
        self.missing.remove(id);
        self.awaited.remove(id).map(Drain::inherited)
    }

    /// Whether a worker has not registered yet that was to leave.
    pub(super) fn awaits(&self, id: &WorkerId) -> bool {
        self.awaited.contains_key(id)
    }

    /// Whether a worker that was to leave has not come back in time.
    pub(super) fn misses(&self, id: &WorkerId) -> bool {
        self.missing.contains(id)
    }

    /// A worker that has not registered yet is to leave by another time.
    pub(super) fn set_deadline(&mut self, id: WorkerId, deadline: Duration) {
        self.awaited.insert(id, deadline.max(RECOVERY));
    }

    /// Those that have not registered yet, with their deadlines.
    pub(super) fn awaited(&self) -> impl Iterator<Item = (WorkerId, Duration)> {
        self.awaited.iter().map(|(id, deadline)| (id.clone(), *deadline))
    }

    /// What is shown of them. Nobody knows their address and their size.
    pub(super) fn rows(&self) -> impl Iterator<Item = WorkerRow> {
        let awaited = self.awaited.keys().map(|id| (id, WorkerState::Draining));
        let missing = self.missing.iter().map(|id| (id, WorkerState::Lost));
        awaited.chain(missing).map(|(id, state)| WorkerRow {
            id: id.clone(),
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            state,
            cores: 0,
            cores_used: 0,
            memory_bytes: 0,
            memory_used_bytes: 0,
        })
    }
}

// === impl Cluster ===

impl Cluster {
    /// Workers that were to leave before the master was restarted, and in how long from now each
    /// leaves in any case. A clock that was set meanwhile makes that no longer than an operator
    /// may.
    #[must_use]
    pub fn with_drains(mut self, drains: impl IntoIterator<Item = (WorkerId, Duration)>) -> Self {
        let deadline = |left: Duration| left.clamp(RECOVERY, WITHIN_MAX);
        let awaited = drains.into_iter().map(|(id, left)| (id, deadline(left)));
        self.remembered.awaited = awaited.collect();
        self.remembered.is_recovering = !self.remembered.awaited.is_empty();
        self
    }

    /// Who could come back has done so.
    pub(super) fn end_recovery(&mut self, out: &mut Vec<Action>) {
        if self.remembered.due().is_none_or(|due| due > self.now) {
            return;
        }
        self.remembered.is_recovering = false;
        let missing: Vec<_> = std::mem::take(&mut self.remembered.awaited).into_keys().collect();
        self.drains_changed |= !missing.is_empty();
        for worker in missing {
            out.push(Action::Note(Note::WorkerMissing { worker: worker.clone() }));
            self.remembered.missing.insert(worker);
        }
        self.leave_where_empty(out);
    }
}
