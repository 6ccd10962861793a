//! What the state machine wants done.

use super::{SessionId, Tenants};
use offshoot_proto::cluster::{AppSpec, AppState, LaunchExecutor, ToClient, ToWorker};
use offshoot_proto::id::{AppId, ExecutorId, WorkerId};
use offshoot_proto::settings::format_size;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a frame to a worker.
    ToWorker {
        /// Its connection.
        session: SessionId,
        /// The frame.
        message: ToWorker,
    },
    /// Send a frame to a client.
    ToClient {
        /// Its connection.
        session: SessionId,
        /// The frame.
        message: ToClient,
    },
    /// Mint a credential for the executor, put it into the order and send that to the worker.
    Launch {
        /// The worker's connection.
        session: SessionId,
        /// The order but for the credential.
        order: Order,
    },
    /// Sign the driver's certificate and answer [`ToClient::Registered`].
    Certify {
        /// The driver's connection.
        session: SessionId,
        /// Its application.
        app: AppId,
        /// DER certificate signing request, as it came.
        signing_request: Vec<u8>,
        /// The module is to be uploaded.
        wants_module: bool,
    },
    /// Sign the worker's next certificate and answer [`ToWorker::Renewed`].
    Renew {
        /// The worker's connection.
        session: SessionId,
        /// Which worker.
        worker: WorkerId,
        /// DER certificate signing request, as it came.
        signing_request: Vec<u8>,
    },
    /// Write the tenants down, then answer.
    SaveTenants {
        /// Who asked.
        session: SessionId,
        /// All of them.
        tenants: Tenants,
        /// Those before, for [`super::Event::TenantsUnsaved`].
        before: Tenants,
        /// A new one, for which a credential is to be made and answered
        /// [`ToClient::TenantAdded`]; otherwise the answer is [`ToClient::Done`].
        added: Option<String>,
    },
    /// Write down who is to leave, and with an order say [`super::Event::DrainSaved`] then. An
    /// order that cannot be written down is refused.
    SaveDrains {
        /// All of them, and in how long each leaves in any case.
        drains: BTreeMap<WorkerId, Duration>,
        /// What was asked for; none if somebody is to leave no more.
        order: Option<DrainOrder>,
    },
    /// Close the connection after the frames that were sent to it.
    Close {
        /// Which.
        session: SessionId,
    },
    /// Something that an operator wants to read in the log.
    Note(Note),
}

/// An executor that is to be launched.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Its id.
    pub executor: ExecutorId,
    /// Its cores.
    pub cores: u32,
    /// Its memory.
    pub memory_bytes: u64,
    /// Its application.
    pub app: Arc<AppSpec>,
}

/// A worker that is to leave, once that is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainOrder {
    /// Who asked.
    pub session: SessionId,
    /// Which.
    pub worker: WorkerId,
    /// How long it may take.
    pub within: Duration,
}

/// What happened to the cluster, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A worker can be given work.
    WorkerRegistered {
        /// Which.
        worker: WorkerId,
        /// Its cores.
        cores: u32,
        /// Its memory.
        memory_bytes: u64,
    },
    /// A worker's lease ran out.
    WorkerLost {
        /// Which.
        worker: WorkerId,
        /// How many executors went with it.
        executors: usize,
    },
    /// A worker is to leave.
    WorkerDrains {
        /// Which.
        worker: WorkerId,
        /// How long it may take.
        within: Duration,
    },
    /// A worker has been let go.
    WorkerLeft {
        /// Which.
        worker: WorkerId,
    },
    /// A worker that was to leave before the master was restarted has not come back.
    WorkerMissing {
        /// Which.
        worker: WorkerId,
    },
    /// An application was registered.
    AppRegistered {
        /// Which.
        app: AppId,
        /// Whose.
        tenant: String,
    },
    /// An application has ended.
    AppEnded {
        /// Which.
        app: AppId,
        /// How.
        state: AppState,
    },
}

// === impl Order ===

impl Order {
    /// The order with the credential that was made for it.
    pub fn with(self, credential: Vec<u8>) -> LaunchExecutor {
        let Self { executor, cores, memory_bytes, app } = self;
        LaunchExecutor { executor, cores, memory_bytes, app: (*app).clone(), credential }
    }
}

// === impl Note ===

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkerRegistered { worker, cores, memory_bytes } => {
                let memory = format_size(*memory_bytes);
                write!(f, "worker {worker} registered: {cores} cores, {memory}")
            }
            Self::WorkerLost { worker, executors } => {
                write!(f, "worker {worker} lost, and {executors} executors with it")
            }
            Self::WorkerDrains { worker, within } => {
                write!(f, "worker {worker} is to leave within {} s", within.as_secs_f64())
            }
            Self::WorkerLeft { worker } => write!(f, "worker {worker} has been let go"),
            Self::WorkerMissing { worker } => write!(
                f,
                "worker {worker}, which was to leave, has not come back since the master was \
                 restarted: it counts as lost"
            ),
            Self::AppRegistered { app, tenant } => {
                write!(f, "application {app} of tenant {tenant} registered")
            }
            Self::AppEnded { app, state } => write!(f, "application {app} ended: {state:?}"),
        }
    }
}
