//! The driver: runs a job's `main`, cuts its jobs into stages and its stages into tasks.
//!
//! ```text
//!            ┌── slot: main ──requests──► core ──► scheduler (dag + tasks, pure)
//!   submit ──┤                             │
//!            └── observer ◄── progress ────┼──► master link: register, executors come and go
//!                                          └──► executor links: snapshots, tasks, results
//! ```
//!
//! The driver dials out, to the master and to executors, and is dialled by nobody. Decisions are
//! in [`dag`], [`tasks`] and [`scheduler`]; the rest of the crate waits, calls them and acts.
#![forbid(unsafe_code)]

mod allocation;
mod core;
pub mod dag;
mod executors;
mod master_link;
mod master_watch;
pub mod output;
mod results;
pub mod scheduler;
pub mod tasks;
mod updates;

use offshoot_net::{Credential, Network};
use offshoot_proto::cluster::ResourceRequest;
use offshoot_proto::grants::Grants;
use offshoot_proto::id::{AppId, ModuleHash};
use offshoot_proto::outcome::TaskFailure;
use offshoot_proto::settings::Settings;
use offshoot_proto::store::StoreOptions;
use offshoot_proto::waiting::{TooLarge, WaitReason};
use offshoot_sandbox::compile::Artifact;
use offshoot_sandbox::slots::Slots;
use offshoot_store::Stores;
use scheduler::StageProgress;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use crate::core::run;
pub use crate::tasks::telling::one_line;

/// What is to be run.
pub struct Config {
    /// Where the cluster is; none for a job without tasks.
    pub cluster: Option<Cluster>,
    /// What the user calls the application.
    pub name: String,
    /// The module as submitted, for a master that does not know it.
    pub module: Vec<u8>,
    /// Its hash.
    pub hash: ModuleHash,
    /// The module as compiled on this machine.
    pub artifact: Artifact,
    /// Arguments of `main`, the program's name first.
    pub arguments: Vec<String>,
    /// What it may touch.
    pub grants: Grants,
    /// Its settings.
    pub settings: Settings,
    /// What it asks of the cluster.
    pub request: ResourceRequest,
    /// Whether it waits for a worker that is large enough, when none is.
    pub wait: bool,
    /// How it reaches object stores.
    pub store: StoreOptions,
    /// Bytes that `main`'s memory may have.
    pub driver_memory_bytes: u64,
}

/// How to reach the cluster.
pub struct Cluster {
    /// The master.
    pub master: SocketAddr,
    /// The tenant's credential.
    pub credential: Credential,
    /// Random; the same for every try to submit this application.
    pub idempotency_key: u128,
}

/// What the driver reaches the world by.
pub struct Ports {
    /// Sockets.
    pub network: Arc<dyn Network>,
    /// Slot processes, for `main`.
    pub slots: Arc<dyn Slots>,
    /// Object stores.
    pub stores: Arc<dyn Stores>,
    /// Who watches.
    pub observer: Box<dyn Observer>,
    /// Ends the application when it resolves: a person's Ctrl-C.
    pub stop: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Who is told what happens, in order. Must not block for long.
pub trait Observer: Send {
    /// The guest wrote to standard output (1) or error (2).
    fn output(&mut self, stream: u8, bytes: &[u8]);
    /// The master has taken the application.
    fn registered(&mut self, _app: AppId) {}
    /// The application waits for the cluster.
    fn waiting(&mut self, _reason: &WaitReason) {}
    /// A stage has started, gone on or ended.
    fn progress(&mut self, _progress: &StageProgress) {}
    /// So long after the start, this many executors are wanted and so many can be given tasks:
    /// with dynamic allocation, whenever that changes.
    fn executors(&mut self, _at: Duration, _wanted: u32, _running: u32) {}
    /// Something that a person should know and that ends nothing.
    fn notice(&mut self, _text: &str) {}
}

/// How an application ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// `main` returned or called `exit`.
    Exit(i32),
    /// `main` panicked, trapped or ran out of memory.
    Failed(TaskFailure),
}

/// Why an application could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The master cannot be reached or is not what it should be.
    #[error("the master at {address}: {reason}")]
    Master {
        /// Where.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// The master will not take the application.
    #[error("the master refused the application: {0}")]
    Refused(String),
    /// No worker of the cluster can ever serve the request.
    #[error("{0}")]
    TooLarge(TooLarge),
    /// This machine cannot run `main`.
    #[error("running main: {0}")]
    Slot(String),
    /// Somebody stopped it.
    #[error("stopped")]
    Stopped,
    /// A key or an endpoint cannot be made.
    #[error("{0}")]
    Local(String),
}
