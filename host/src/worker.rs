//! The worker: one daemon a machine. Launches executors for its master, keeps what map tasks wrote
//! after the executors are gone, and serves it.
//!
//! ```text
//!               ┌──────────────── shell ────────────────┐
//!   master ◄═══►│ session ─┐                  ┌► session│
//!               │          ├ Event ► node ► Action      ├─► launch ─► executors
//!   executors ─►│ peers    │ (decides, pure)  └► supervise
//!               │   └► shuffle service          modules │
//!               └───────────────────────────────────────┘
//! ```
//!
//! Executors outlive a lost master, not their worker. Everything runs on one thread, which must
//! live for as long as the worker: processes that a thread starts end with it.

mod directory;
mod modules;
pub mod node;
mod peers;
mod ports;
mod session;
mod shell;
mod supervise;
#[cfg(test)]
mod tests;

pub use directory::DirectoryError;
pub use modules::{PrepareModule, ThreadedModules};
pub use node::Timing;
pub use ports::{Clock, Ports, SystemClock};

use directory::WorkDirectory;
use node::Node;
use offshoot_net::{Accepts, BindError, Credential, Endpoint, Role};
use offshoot_proto::cluster::WorkerInfo;
use offshoot_proto::id::WorkerId;
use offshoot_proto::settings::format_size;
use shell::{Shared, Shell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Cores of one worker at most, as the master accepts them.
pub const CORES_MAX: u32 = 4096;

/// Memory of one worker at least, as the master accepts it: one small executor.
pub const MEMORY_BYTES_MIN: u64 = 64 << 20;

/// Memory of one worker at most, as the master accepts it.
pub const MEMORY_BYTES_MAX: u64 = 1 << 50;

/// What an operator sets.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Where the master listens.
    pub master: SocketAddr,
    /// Who this worker is: what joining the cluster gave it.
    pub credential: Credential,
    /// Where renewed credentials are kept, if they are to outlive this process.
    pub credential_file: Option<PathBuf>,
    /// Where to listen; port 0 for any. If the address is unspecified, the master tells others the
    /// one that it sees.
    pub listen: SocketAddr,
    /// The address that others reach this worker and its executors by, if not that of `listen`.
    pub advertise: Option<IpAddr>,
    /// Cores that this worker gives.
    pub cores: u32,
    /// Memory that this worker gives.
    pub memory_bytes: u64,
    /// Where files are kept. Files of an earlier worker's applications are deleted.
    pub directory: PathBuf,
    /// The ports that executors listen on, first and last; any if unset.
    pub executor_ports: Option<(u16, u16)>,
    /// How long things may take.
    pub timing: Timing,
}

/// A running worker. Dropping it stops the worker, after its executors.
#[derive(Debug)]
pub struct Worker {
    id: WorkerId,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    registered: watch::Receiver<bool>,
    task: JoinHandle<Result<(), String>>,
    outcome: Option<Result<(), WorkerEnded>>,
}

/// Why a worker did not start.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A number is out of its range.
    #[error("{setting} is {value}; it must be from {min} to {max}")]
    OutOfRange {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// The least value.
        min: String,
        /// The greatest value.
        max: String,
    },
    /// The range of ports is none.
    #[error("executor ports {first} to {last}: name a first port, not 0, and a last one after it")]
    Ports {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
    /// Others cannot reach anybody there.
    #[error("cannot advertise {address}: name an address that others can reach")]
    Advertise {
        /// The address.
        address: IpAddr,
    },
    /// The credential is somebody else's.
    #[error("the credential is that of {role}; join the cluster with a worker's token first")]
    NotAWorker {
        /// Whose it is.
        role: Role,
    },
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// It cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The address that was bound is not known.
    #[error("cannot read the address that was bound: {0}")]
    Address(#[from] io::Error),
}

/// Why a worker ended without being told to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the worker has ended: {reason}")]
pub struct WorkerEnded {
    /// A sentence for the person.
    pub reason: String,
}

/// Starts a worker. It dials its master until that answers, and keeps doing so. Must run inside a
/// single-threaded tokio runtime.
pub async fn serve(config: WorkerConfig, ports: Ports) -> Result<Worker, ServeError> {
    let id = validate(&config)?;
    let directory = WorkDirectory::open(&config.directory)?;
    let credential = config.credential.clone();
    let accepts = Accepts::Members;
    let endpoint = Endpoint::bind(&*ports.network, config.listen, credential, accepts).await?;
    let local = endpoint.local_address()?;
    let address = SocketAddr::new(config.advertise.unwrap_or(local.ip()), local.port());
    let offer = WorkerInfo {
        id: id.clone(),
        address,
        cores: config.cores,
        memory_bytes: config.memory_bytes,
        executors: vec![],
    };
    let (timing, seed) = (config.timing, ports.seed);
    let shared = Shared::new(config, id.clone(), address, endpoint, directory, ports);
    let node = Node::new(offer, timing, shared.renew_in(), seed);
    let (stop, stopped) = oneshot::channel();
    tracing::info!("worker {id} listens on {local}");
    let (registered_in, registered) = watch::channel(false);
    let shell = Shell::new(Arc::new(shared), node, registered_in);
    Ok(Worker {
        id,
        address: local,
        stop: Some(stop),
        registered,
        task: tokio::spawn(shell.run(stopped)),
        outcome: None,
    })
}

/// Checks what needs no system to be checked. Returns who the worker is.
fn validate(config: &WorkerConfig) -> Result<WorkerId, ServeError> {
    let Role::Worker(id) = config.credential.role() else {
        let role = config.credential.role().clone();
        return Err(ServeError::NotAWorker { role });
    };
    if !(1..=CORES_MAX).contains(&config.cores) {
        return Err(ServeError::OutOfRange {
            setting: "cores",
            value: config.cores.to_string(),
            min: "1".to_owned(),
            max: CORES_MAX.to_string(),
        });
    }
    if !(MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&config.memory_bytes) {
        return Err(ServeError::OutOfRange {
            setting: "memory",
            value: format_size(config.memory_bytes),
            min: format_size(MEMORY_BYTES_MIN),
            max: format_size(MEMORY_BYTES_MAX),
        });
    }
    if let Some((first, last)) = config.executor_ports
        && (first == 0 || first > last)
    {
        return Err(ServeError::Ports { first, last });
    }
    match config.advertise {
        Some(address) if address.is_unspecified() || address.is_multicast() => {
            Err(ServeError::Advertise { address })
        }
        _ => Ok(id.clone()),
    }
}

// === impl Worker ===

impl Worker {
    /// Who it is.
    pub fn id(&self) -> &WorkerId {
        &self.id
    }

    /// Where it listens, with the port that was chosen.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the master has accepted the registration; for ever if it never does.
    pub async fn registered(&mut self) {
        if self.registered.wait_for(|registered| *registered).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until the worker has ended by itself: because of a master that does not want it.
    pub async fn ended(&mut self) -> Result<(), WorkerEnded> {
        if let Some(outcome) = &self.outcome {
            return outcome.clone();
        }
        let ended = match (&mut self.task).await {
            Ok(ended) => ended,
            Err(error) => Err(error.to_string()),
        };
        let outcome = ended.map_err(|reason| WorkerEnded { reason });
        self.outcome.insert(outcome).clone()
    }

    /// Stops the worker: first its executors, in order or by force, then itself.
    pub async fn shutdown(mut self) -> Result<(), WorkerEnded> {
        drop(self.stop.take());
        self.ended().await
    }
}
