//! Between the master and everybody else: workers, drivers and people's tools.

use crate::explain::{Explanation, StageWaits};
use crate::grants::Grants;
use crate::id::{AppId, Epoch, ExecutorId, ModuleHash, WorkerId};
use crate::settings::Settings;
use crate::store::StoreOptions;
use crate::tenant::{TenantOrder, TenantRow};
use crate::waiting::WaitReason;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What an application is: all that a worker needs to launch its executors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppSpec {
    /// What the user calls it.
    pub name: String,
    /// Its module.
    pub module: ModuleHash,
    /// Arguments of `main`, the program's name first.
    pub arguments: Vec<String>,
    /// What it may touch.
    pub grants: Grants,
    /// Its settings.
    pub settings: Settings,
    /// What it asks of the cluster.
    pub request: ResourceRequest,
    /// How its executors reach object stores. Never written to a disk, never told a guest.
    pub store: StoreOptions,
}

/// What an application asks of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceRequest {
    /// Cores of one executor; all free cores of a worker if unset.
    pub executor_cores: Option<u32>,
    /// Memory of one executor.
    pub executor_memory_bytes: u64,
    /// Cores of the whole application; what the master's operator has set if unset, or all that
    /// are free.
    pub total_cores: Option<u32>,
    /// Executors that it has at most; as many as fit if unset.
    pub executors_max: Option<u32>,
    /// Executors that it wants until it says otherwise ([`FromClient::Target`]); as many as it may
    /// have if unset.
    pub executors_wanted: Option<u32>,
}

/// From a worker, on its control connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The first frame.
    Register(WorkerInfo),
    /// Still here.
    Heartbeat,
    /// An executor listens.
    ExecutorReady {
        /// Which.
        executor: ExecutorId,
        /// Where its driver reaches it.
        address: SocketAddr,
    },
    /// An executor is gone; its cores and memory are free.
    ExecutorGone {
        /// Which.
        executor: ExecutorId,
        /// How it ended, for a person.
        reason: String,
    },
    /// Renew the worker's certificate.
    Renew {
        /// DER certificate signing request.
        signing_request: Vec<u8>,
    },
}

/// What a worker brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its id; must be that of its certificate.
    pub id: WorkerId,
    /// Where it serves shuffle blocks.
    pub address: SocketAddr,
    /// Cores that it gives, 1 to 4,096.
    pub cores: u32,
    /// Memory that it gives, at least 64 MiB.
    pub memory_bytes: u64,
    /// Executors that it still runs, after a lost connection.
    pub executors: Vec<HeldExecutor>,
}

/// An executor that a worker still runs when it registers: what the master must count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldExecutor {
    /// Its id.
    pub id: ExecutorId,
    /// Its cores.
    pub cores: u32,
    /// Its memory.
    pub memory_bytes: u64,
    /// Where its driver reaches it, once it listens.
    pub address: Option<SocketAddr>,
}

/// To a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// It belongs to the cluster.
    Registered {
        /// Orders with a lower epoch are refused.
        epoch: Epoch,
    },
    /// Still here.
    Heartbeat,
    /// Start an executor.
    Launch(Box<LaunchExecutor>),
    /// Stop an executor.
    Kill(ExecutorId),
    /// An application has ended: stop its executors and delete its files.
    Forget(AppId),
    /// Nothing is left to do here: end.
    Leave,
    /// The registration or the renewal is refused; the connection is closed after this frame.
    Refused {
        /// A sentence for the person.
        reason: String,
    },
    /// The answer to [`FromWorker::Renew`].
    Renewed {
        /// DER of the worker's new certificate.
        certificate: Vec<u8>,
    },
}

/// An order to start an executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchExecutor {
    /// Its id.
    pub executor: ExecutorId,
    /// Its cores: a slot for each `task-cores` of them.
    pub cores: u32,
    /// Its memory.
    pub memory_bytes: u64,
    /// Its application.
    pub app: AppSpec,
    /// The executor's credential (`offshoot-net`'s `Credential`, postcard), minted for this launch.
    pub credential: Vec<u8>,
}

/// From a driver or a person's tool, on a control connection with a tenant's certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromClient {
    /// Register an application. Sending the same key again returns the same application.
    Register {
        /// Chosen at random by the client.
        idempotency_key: u128,
        /// The application.
        app: Box<AppSpec>,
        /// DER certificate signing request for the driver's certificate.
        signing_request: Vec<u8>,
    },
    /// The driver is still here.
    Heartbeat,
    /// The application has ended.
    Finished {
        /// Whether `main` ended with 0.
        succeeded: bool,
    },
    /// The application wants so many executors from now on, those that it has included. Nothing is
    /// taken from it when it wants fewer: what it is done with it releases.
    Target {
        /// All that it wants.
        executors: u32,
    },
    /// The driver sends these executors nothing more: stop them. Nothing of the application is
    /// lost by that but what they keep in memory.
    Release {
        /// Which.
        executors: Vec<ExecutorId>,
    },
    /// The answer to [`ToClient::Explain`].
    Explained {
        /// The question's number.
        query: u64,
        /// The stages that are not complete.
        stages: StageWaits,
    },
    /// List workers.
    ListWorkers,
    /// List applications.
    ListApps,
    /// Say what an application waits for.
    Explain(AppId),
    /// For tenant `admin` only.
    Tenants(TenantOrder),
    /// Let a worker leave, for tenant `admin` only: nothing new is launched there, what runs there
    /// ends or goes elsewhere, and so does what was written there. Answered by [`ToClient::Done`].
    Drain {
        /// Which.
        worker: WorkerId,
        /// After so long it leaves in any case.
        within_millis: u64,
    },
    /// Nothing that the application needs is on this worker and nowhere else, and no executor of it
    /// runs there.
    Drained {
        /// A worker that the master said is draining.
        worker: WorkerId,
    },
}

/// To a driver or a person's tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToClient {
    /// The answer to [`FromClient::Register`].
    Registered {
        /// The application's id.
        app: AppId,
        /// DER of the driver's certificate.
        certificate: Vec<u8>,
        /// The module is not known; upload it before anything can be launched.
        wants_module: bool,
    },
    /// The request is refused; the connection is closed after this frame.
    Refused {
        /// A sentence for the person.
        reason: String,
    },
    /// Still here.
    Heartbeat,
    /// An executor listens.
    ExecutorAdded(ExecutorInfo),
    /// An executor is gone.
    ExecutorGone {
        /// Which.
        executor: ExecutorId,
        /// Why, for a person.
        reason: String,
    },
    /// What the application waits for; sent again when it changes.
    Waiting(WaitReason),
    /// The application has more than its share, or a worker is to leave: these executors are to be
    /// given back when the tasks that run on them have ended. The list replaces the one before;
    /// empty, nothing is to be given back. The driver may release others of the same size instead.
    GiveBack {
        /// Which.
        executors: Vec<ExecutorId>,
    },
    /// A worker is to leave: have what it wrote for the application copied elsewhere, then say
    /// [`FromClient::Drained`]. Its executors stand in [`ToClient::GiveBack`], too. Said again when
    /// the connection is new.
    Draining {
        /// Which.
        worker: WorkerId,
        /// After so long it leaves in any case.
        left_millis: u64,
    },
    /// What do your tasks wait for? Answered by [`FromClient::Explained`].
    Explain {
        /// Names the question in its answer.
        query: u64,
    },
    /// The answer to [`FromClient::Explain`].
    Explanation(Box<Explanation>),
    /// The answer to [`TenantOrder::List`].
    Tenants(Vec<TenantRow>),
    /// The answer to [`TenantOrder::Add`]: the tenant's credential (`offshoot-net`'s `Credential`,
    /// postcard). Nobody keeps a copy.
    TenantAdded {
        /// With its private key.
        credential: Vec<u8>,
    },
    /// An order was carried out.
    Done,
    /// The answer to [`FromClient::ListWorkers`].
    Workers(Vec<WorkerRow>),
    /// The answer to [`FromClient::ListApps`].
    Apps(Vec<AppRow>),
}

/// An executor that a driver may dial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorInfo {
    /// Its id.
    pub id: ExecutorId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its cores.
    pub cores: u32,
    /// Its worker.
    pub worker: WorkerId,
    /// Where its worker serves shuffle blocks.
    pub worker_address: SocketAddr,
}

/// A row of `offshoot workers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// Its id.
    pub id: WorkerId,
    /// Where it listens.
    pub address: SocketAddr,
    /// `alive`, `draining` or `lost`.
    pub state: WorkerState,
    /// Cores that it gives.
    pub cores: u32,
    /// Cores that are granted.
    pub cores_used: u32,
    /// Memory that it gives.
    pub memory_bytes: u64,
    /// Memory that is granted.
    pub memory_used_bytes: u64,
}

/// Whether a worker can be given work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// It can.
    Alive,
    /// It is given none, and leaves when what it has is elsewhere.
    Draining,
    /// Its lease ran out.
    Lost,
}

/// A row of `offshoot apps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRow {
    /// Its id.
    pub id: AppId,
    /// What its user calls it.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// Its state.
    pub state: AppState,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted: u64,
    /// Cores that it holds.
    pub cores: u32,
    /// Its executors.
    pub executors: Vec<ExecutorRow>,
}

/// The life of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppState {
    /// It has no executor yet.
    Waiting,
    /// It has executors.
    Running,
    /// `main` ended with 0.
    Finished,
    /// `main` ended otherwise.
    Failed,
    /// Its driver was lost.
    Lost,
}

/// An executor in a row of `offshoot apps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorRow {
    /// Its id.
    pub id: ExecutorId,
    /// Its worker.
    pub worker: WorkerId,
    /// Its cores.
    pub cores: u32,
    /// Its state.
    pub state: ExecutorState,
}

/// The life of an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutorState {
    /// Ordered, not listening yet.
    Launching,
    /// Listening.
    Running,
    /// Told to stop; its cores are still taken.
    Stopping,
}

/// The first frame of a stream on a data connection to the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModuleRequest {
    /// The module follows as raw bytes; answered by [`ModuleReply`].
    Put {
        /// Its hash.
        hash: ModuleHash,
        /// Its length.
        length: u64,
    },
    /// Send the module; answered by [`ModuleReply`] and raw bytes.
    Get {
        /// Its hash.
        hash: ModuleHash,
    },
}

/// The answer to a [`ModuleRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModuleReply {
    /// Stored, or follows with this length.
    Ok {
        /// Its length.
        length: u64,
    },
    /// Not stored, or not known.
    Refused {
        /// A sentence.
        reason: String,
    },
}
