//! What the master says.

use super::{ClusterSide, Core};
use crate::master_link::MasterEvent;
use crate::{DriverError, allocation, master_watch};
use offshoot_proto::cluster::{FromClient, ToClient};
use offshoot_proto::waiting::WaitReason;
use std::time::Duration;

pub(super) async fn next_of(cluster: &mut Option<ClusterSide>) -> Option<MasterEvent> {
    match cluster {
        Some(cluster) => match cluster.master.events.recv().await {
            Some(frame) => Some(frame),
            // The link has given up; what runs goes on without it.
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

// === impl Core ===

impl Core {
    pub(super) async fn on_master(
        &mut self,
        event: Option<MasterEvent>,
    ) -> Result<(), DriverError> {
        let Some(event) = event else { return Ok(()) };
        let frame = match event {
            MasterEvent::Frame(frame) => frame,
            MasterEvent::Lost(reason) => {
                self.watch_master(master_watch::Event::Lost(reason));
                return Ok(());
            }
            MasterEvent::Back(identity) => {
                if let Some(cluster) = &mut self.cluster {
                    cluster.become_known_as(identity).await?;
                    let app = cluster.master.app;
                    self.tell_allocation(allocation::Event::Master(app));
                }
                // It says again what it wants back, and was perhaps never asked for cores.
                self.tell_allocation(allocation::Event::GiveBack(Vec::new()));
                self.answer_parallelism();
                self.draining.master_is_back();
                self.watch_master(master_watch::Event::Back);
                return Ok(());
            }
        };
        match frame {
            ToClient::ExecutorAdded(info) => self.on_executor_granted(info),
            ToClient::GiveBack { executors } => {
                self.tell_allocation(allocation::Event::GiveBack(executors));
            }
            ToClient::Draining { worker, left_millis } => {
                self.on_draining(worker, Duration::from_millis(left_millis));
            }
            ToClient::Workers(rows) => self.on_workers(&rows),
            ToClient::ExecutorGone { executor, reason } => self.lose(executor, &reason),
            ToClient::Waiting(reason) => return self.on_waiting(reason),
            ToClient::Apps(rows) => {
                let app = self.cluster.as_ref().map(|cluster| cluster.master.app);
                let cores = rows.iter().find(|row| Some(row.id) == app).map_or(0, |row| row.cores);
                self.on_cores(cores);
            }
            ToClient::Explain { query } => {
                if let Some(cluster) = &self.cluster {
                    let stages = self.scheduler.explain(self.now());
                    cluster.master.send(FromClient::Explained { query, stages });
                }
            }
            ToClient::Refused { reason } => return Err(DriverError::Refused(reason)),
            _ => {}
        }
        Ok(())
    }

    /// The application has no executor; the end of it, where none can ever come.
    fn on_waiting(&mut self, reason: WaitReason) -> Result<(), DriverError> {
        match reason {
            WaitReason::TooLarge(too_large) if !self.may_wait => {
                Err(DriverError::TooLarge(too_large))
            }
            reason => {
                self.observer.waiting(&reason);
                Ok(())
            }
        }
    }
}
