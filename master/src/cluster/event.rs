//! What the state machine is told.

use super::{DrainOrder, SessionId, Tenants};
use offshoot_proto::cluster::{FromClient, FromWorker};
use offshoot_proto::id::{AppId, ExecutorId, ModuleHash, WorkerId};

/// What the machine is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A frame of a worker.
    FromWorker {
        /// Its connection.
        session: SessionId,
        /// Who its certificate says it is.
        identity: WorkerId,
        /// The frame.
        message: FromWorker,
    },
    /// A frame of a driver or of a person's tool.
    FromClient {
        /// Its connection.
        session: SessionId,
        /// Whose certificate it holds.
        tenant: String,
        /// The frame.
        message: FromClient,
    },
    /// A connection is gone.
    Closed {
        /// Which.
        session: SessionId,
    },
    /// A module has been uploaded.
    ModuleStored {
        /// Its hash.
        hash: ModuleHash,
    },
    /// The tenants could not be written down: these hold.
    TenantsUnsaved {
        /// Those of before.
        tenants: Tenants,
    },
    /// An order of [`super::Action::SaveDrains`] is written down: no restart forgets it.
    DrainSaved(DrainOrder),
    /// An executor was not launched: its order could not be completed or delivered.
    LaunchFailed {
        /// Which.
        executor: ExecutorId,
        /// Why, for a person.
        reason: String,
    },
    /// A driver's certificate was not issued.
    CertificateRefused {
        /// The driver's connection.
        session: SessionId,
        /// Its application.
        app: AppId,
        /// Why, for a person.
        reason: String,
    },
}
