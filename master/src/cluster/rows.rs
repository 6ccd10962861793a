//! What `offshoot workers` and `offshoot apps` show.

use super::{Cluster, Link};
use offshoot_proto::cluster::{AppRow, AppState, ExecutorRow, WorkerRow, WorkerState};
use offshoot_proto::frame;
use offshoot_proto::id::AppId;
use offshoot_proto::limits::CONTROL_FRAME_BYTES_MAX;
use serde::Serialize;
use std::time::Duration;

/// The tenant that sees the applications of all tenants.
pub const ADMIN: &str = "admin";

/// Bytes of all rows of one answer: they fit one control frame with room for its tag and length.
const ROWS_BYTES_MAX: usize = CONTROL_FRAME_BYTES_MAX - 64;

// === impl Cluster ===

impl Cluster {
    /// All workers by id, lost ones too.
    pub fn worker_rows(&self) -> Vec<WorkerRow> {
        let known = self.workers.iter().map(|(_, worker)| WorkerRow {
            id: worker.id.clone(),
            address: worker.address,
            state: match worker.link {
                Link::Alive { .. } if worker.drain.is_some() => WorkerState::Draining,
                Link::Alive { .. } => WorkerState::Alive,
                Link::Lost { .. } => WorkerState::Lost,
            },
            cores: worker.cores,
            cores_used: worker.cores_used,
            memory_bytes: worker.memory_bytes,
            memory_used_bytes: worker.memory_used_bytes,
        });
        let mut rows: Vec<_> = known.chain(self.remembered.rows()).collect();
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        fitting(rows.into_iter())
    }

    /// The applications that `tenant` may see by id, ended ones too; the newest, if not all fit.
    pub fn app_rows(&self, tenant: &str) -> Vec<AppRow> {
        let may_see = |owner: &str| tenant == ADMIN || owner == tenant;
        let ended = self.ended.iter().filter(|app| may_see(&app.tenant));
        let ended = ended.map(|app| {
            self.app_row(app.id, &app.name, &app.tenant, app.submitted, Some(app.state))
        });
        let live = self.apps.iter().filter(|(_, app)| may_see(&app.tenant));
        let live = live
            .map(|(id, app)| self.app_row(*id, &app.spec.name, &app.tenant, app.submitted, None));
        let mut rows: Vec<AppRow> = ended.chain(live).collect();
        rows.sort_by_key(|row| row.id);
        let mut rows = fitting(rows.into_iter().rev());
        rows.reverse();
        rows
    }

    fn app_row(
        &self,
        id: AppId,
        name: &str,
        tenant: &str,
        submitted: Duration,
        ended: Option<AppState>,
    ) -> AppRow {
        let executors = self.executors_of(id).map(|(id, executor)| ExecutorRow {
            id,
            worker: self.name(executor.worker),
            cores: executor.cores,
            state: executor.life.state(),
        });
        let executors: Vec<ExecutorRow> = executors.collect();
        let live = self.executors_of(id).any(|(_, executor)| executor.life.is_live());
        let state = if live { AppState::Running } else { AppState::Waiting };
        let since_start = u64::try_from(submitted.as_millis()).unwrap_or(u64::MAX);
        AppRow {
            id,
            name: name.to_owned(),
            tenant: tenant.to_owned(),
            state: ended.unwrap_or(state),
            submitted: self.origin.unix_millis.saturating_add(since_start),
            cores: executors.iter().map(|executor| executor.cores).sum(),
            executors,
        }
    }
}

/// The first rows that together fit one frame.
pub(super) fn fitting<T: Serialize>(rows: impl Iterator<Item = T>) -> Vec<T> {
    let mut left = ROWS_BYTES_MAX;
    let fits = |row: &T| {
        let bytes = frame::to_bytes(row).len();
        let fits = bytes <= left;
        left = left.saturating_sub(bytes);
        fits
    };
    rows.take_while(fits).collect()
}
