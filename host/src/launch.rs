//! How a worker starts executors and watches them.
//!
//! ```text
//!   worker ── ExecutorStart, code, description ──► executor
//!          ◄── Ready { address } or Failed { reason } ──
//!          ── closes the channel: stop ──►
//! ```
//!
//! [`Launch`] is a port: a process each here ([`ProcessLaunch`]), a host of its own under
//! simulation. An executor whose worker is gone sees its channel close, and ends.

mod child;
mod path_bytes;
mod process;
#[cfg(test)]
pub(crate) mod test_support;

pub use child::{ExecutorMainError, executor_main};
pub use process::ProcessLaunch;

use offshoot_proto::cluster::LaunchExecutor;
use offshoot_proto::id::WorkerId;
use offshoot_sandbox::compile::Artifact;
use offshoot_sandbox::slots::PortFuture;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// What a worker tells an executor when it launches it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutorStart {
    /// The master's order.
    pub launch: LaunchExecutor,
    /// The worker that launches it.
    pub worker: WorkerId,
    /// Where that serves shuffle blocks.
    pub worker_address: SocketAddr,
    /// The interface to listen on.
    pub listen: IpAddr,
    /// The ports to choose from, first and last; any if unset.
    pub ports: Option<(u16, u16)>,
    /// The address that others reach it by, if not that of `listen`.
    pub advertise: Option<IpAddr>,
    /// Where it keeps files: `shuffle/` and `spill/`.
    #[serde(with = "path_bytes")]
    pub app_directory: PathBuf,
}

/// Starts executors.
pub trait Launch: Send + Sync {
    /// Starts one with the module that it is to run. It has not begun to listen when this returns.
    fn launch(
        &self,
        start: ExecutorStart,
        artifact: Artifact,
    ) -> PortFuture<'_, io::Result<Box<dyn Launched>>>;
}

/// An executor that has been started. Dropping it kills it.
pub trait Launched: Send {
    /// Waits until it listens, and says where; or why it never will. Cancelling loses nothing.
    fn ready(&mut self) -> PortFuture<'_, Result<SocketAddr, String>>;

    /// Asks it to end in order.
    fn stop(&mut self);

    /// Ends it at once, whatever it does.
    fn kill(&mut self);

    /// Waits until it has ended; how it did, for a person. Cancelling loses nothing.
    fn ended(&mut self) -> PortFuture<'_, String>;
}

/// What a process says to the worker that launched it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum ExecutorReport {
    /// It listens.
    Ready { address: SocketAddr },
    /// It has ended, or could not begin.
    Failed { reason: String },
}
