//! The executor: one application's slots on one machine, as its driver commands them.
//!
//! ```text
//!   driver ══ control ══► core ──► dispatch (pure) ──► slot tasks ──► slot processes
//!          ══ data ═════► snapshots in, large results out
//!                         slot tasks ──► files, shuffle fetches from workers
//! ```
//!
//! Everything here is trusted; what slots say is not. An executor accepts its own driver and
//! nobody else, dials the workers that hold shuffle output, and ends when its driver is silent for
//! its lease, when it is told to stop, or when its worker goes away.

mod copies;
mod core;
mod disk;
pub mod dispatch;
mod driver_link;
mod fetch;
mod files;
mod flat;
mod granted;
mod kept;
mod receive;
mod slot_task;
mod writers;

use crate::launch::ExecutorStart;
use offshoot_net::{BindError, Endpoint, Network};
use offshoot_sandbox::slots::Slots;
use offshoot_store::{RemoteFiles, Stores};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long an executor waits for its driver to dial.
const DRIVER_DIALS_WITHIN: Duration = Duration::from_secs(30);

/// A driver that is silent for so long is gone.
const DRIVER_LEASE: Duration = Duration::from_secs(4);

/// How long the end of an executor waits for its last words to leave. Its cores are free only
/// when the process is gone, and peers need no more than to see it go.
const FAREWELL: Duration = Duration::from_millis(5);

/// How long the end of an executor waits for stores to forget what it has uploaded for nobody, and
/// for its driver to hear of what it has uploaded for somebody. Less
/// than its worker waits before it kills it.
const ABORTS_WITHIN: Duration = Duration::from_secs(2);

/// How often the executor says that it is here.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// What an executor reaches the world by.
#[derive(Clone)]
pub struct Ports {
    /// Sockets.
    pub network: Arc<dyn Network>,
    /// Slot processes.
    pub slots: Arc<dyn Slots>,
    /// Object stores.
    pub stores: Arc<dyn Stores>,
}

/// Why an executor ended, other than as it should.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// Its credential is not one.
    #[error("the credential of this executor cannot be read: {0}")]
    Credential(String),
    /// No port to listen on.
    #[error("executor {executor} cannot listen on {ip}, ports {first} to {last}: {source}")]
    Bind {
        /// Who.
        executor: String,
        /// Interface.
        ip: IpAddr,
        /// First port tried.
        first: u16,
        /// Last port tried.
        last: u16,
        /// The last failure.
        source: BindError,
    },
    /// Its own address is not known.
    #[error("the address that this executor listens on is not known: {0}")]
    Address(std::io::Error),
    /// Its directory cannot be made.
    #[error("the directory {path} of this executor cannot be made: {error}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// The system's word.
        error: std::io::Error,
    },
    /// Its slots do not start.
    #[error("{0}")]
    Slots(String),
}

/// Runs an executor until it has nothing more to do. `ready` is told where it listens; when
/// `shutdown` is dropped or sent to, it ends.
pub async fn run(
    start: ExecutorStart,
    code: OwnedFd,
    description: OwnedFd,
    ports: Ports,
    ready: oneshot::Sender<SocketAddr>,
    shutdown: oneshot::Receiver<()>,
) -> Result<(), ExecutorError> {
    let files = files::AppFiles::create(&start)?;
    let endpoint = Arc::new(bind(&start, &ports).await?);
    let local = endpoint.local_address().map_err(ExecutorError::Address)?;
    let address = SocketAddr::new(start.advertise.unwrap_or(local.ip()), local.port());
    let app = &start.launch.app;
    let remote = RemoteFiles::new(ports.stores.clone(), &app.grants, app.store.clone());
    let files = (files, remote.clone());
    let core = core::Core::new(start, code, description, ports, endpoint.clone(), files);
    let _ = ready.send(address);
    let (result, last_words) = offshoot_net::run_as_task(core.run(shutdown)).await;
    let told = async { tokio::join!(remote.abort_all(), last_words.heard()) };
    let _ = tokio::time::timeout(ABORTS_WITHIN, told).await;
    // A driver that is gone does not answer; nobody waits for it.
    let closing = endpoint.close("the executor has ended");
    let _ = tokio::time::timeout(FAREWELL, closing).await;
    result
}

async fn bind(start: &ExecutorStart, ports: &Ports) -> Result<Endpoint, ExecutorError> {
    let credential: offshoot_net::Credential =
        offshoot_proto::frame::from_bytes(&start.launch.credential)
            .map_err(|error| ExecutorError::Credential(error.to_string()))?;
    let (first, last) = start.ports.unwrap_or((0, 0));
    let mut port = first;
    loop {
        let address = SocketAddr::new(start.listen, port);
        let bound = Endpoint::bind(
            &*ports.network,
            address,
            credential.clone(),
            offshoot_net::Accepts::Members,
        );
        match bound.await {
            Ok(endpoint) => return Ok(endpoint),
            Err(source) if port == last => {
                let executor = start.launch.executor.to_string();
                return Err(ExecutorError::Bind {
                    executor,
                    ip: start.listen,
                    first,
                    last,
                    source,
                });
            }
            Err(_) => port += 1,
        }
    }
}
