//! What the state machine is told, and what it wants done.

use offshoot_proto::cluster::{FromWorker, LaunchExecutor, ToWorker};
use offshoot_proto::id::{AppId, Epoch, ExecutorId, ModuleHash};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// One connection to the master, counted from 1. What is said of an earlier one is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// What the machine is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The master has welcomed this worker.
    Connected {
        /// Which connection.
        session: SessionId,
    },
    /// There is no connection, or none any more.
    Disconnected {
        /// Which one.
        session: SessionId,
        /// Why, for a person.
        reason: String,
        /// Whether the same would happen again: the master is another one or does not want this
        /// worker.
        hopeless: bool,
    },
    /// A frame of the master.
    FromMaster {
        /// Over which connection.
        session: SessionId,
        /// The frame.
        message: ToWorker,
    },
    /// A module is in the cache, or cannot be had.
    Prepared {
        /// Which.
        module: ModuleHash,
        /// Why not, for a person.
        outcome: Result<(), String>,
    },
    /// An executor listens.
    ExecutorReady {
        /// Which.
        executor: ExecutorId,
        /// Where.
        address: SocketAddr,
    },
    /// An executor is gone or could not be started. Nothing of it is left.
    ExecutorEnded {
        /// Which.
        executor: ExecutorId,
        /// How it ended, for a person.
        how: String,
    },
    /// The endpoint shows a new certificate.
    CertificateInstalled {
        /// When to renew that one.
        renew_in: Duration,
    },
    /// The worker is to stop.
    Stop,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Dial the master; answered by [`Event::Connected`] or [`Event::Disconnected`].
    Connect {
        /// What to call the connection.
        session: SessionId,
    },
    /// Give the connection up. Nothing is expected of it any more.
    Disconnect,
    /// Send a frame over the connection.
    Send(FromWorker),
    /// Bring a module into the cache; answered by [`Event::Prepared`].
    Prepare {
        /// Which.
        module: ModuleHash,
    },
    /// Start an executor whose module is in the cache; answered by [`Event::ExecutorEnded`] at
    /// last.
    Launch(Box<LaunchExecutor>),
    /// Ask an executor to end.
    StopExecutor(ExecutorId),
    /// End an executor at once.
    KillExecutor(ExecutorId),
    /// Make a key and ask the master to certify it.
    Renew,
    /// Use the certificate for the last key from now on.
    Install {
        /// DER of it.
        certificate: Vec<u8>,
    },
    /// Delete the directories of all applications: none of them is known here.
    Sweep,
    /// Delete the directory of an application that has ended.
    Delete(AppId),
    /// The worker has ended.
    Exit {
        /// Why it had to, if it was not told to.
        error: Option<String>,
    },
    /// Something that an operator wants to read in the log.
    Note(Note),
}

/// What happened to the worker, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The master lets it go: nothing is left to do here.
    Drained,
    /// The master takes this worker.
    Registered {
        /// The master's life.
        epoch: Epoch,
        /// Executors that have gone on meanwhile.
        executors: usize,
    },
    /// The master is not there.
    MasterLost {
        /// Why.
        reason: String,
        /// When it is dialled next.
        retry_in: Duration,
        /// Executors that go on.
        executors: usize,
    },
    /// An order was not followed.
    LaunchRefused {
        /// Which executor.
        executor: ExecutorId,
        /// Why.
        reason: String,
    },
    /// An executor listens.
    ExecutorReady {
        /// Which.
        executor: ExecutorId,
        /// Where.
        address: SocketAddr,
    },
    /// An executor is gone.
    ExecutorGone {
        /// Which.
        executor: ExecutorId,
        /// How.
        reason: String,
    },
    /// The certificate was not renewed; it is tried again.
    RenewalRefused {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drained => f.write_str("drained: the master lets this worker go"),
            Self::Registered { epoch, executors } => {
                write!(f, "registered with the master (epoch {epoch}), {executors} executors")
            }
            Self::MasterLost { reason, retry_in, executors } => write!(
                f,
                "no master: {reason}; dialling again in {:.1} s, {executors} executors go on",
                retry_in.as_secs_f64()
            ),
            Self::LaunchRefused { executor, reason } => {
                write!(f, "executor {executor} is not launched: {reason}")
            }
            Self::ExecutorReady { executor, address } => {
                write!(f, "executor {executor} listens on {address}")
            }
            Self::ExecutorGone { executor, reason } => {
                write!(f, "executor {executor} is gone: {reason}")
            }
            Self::RenewalRefused { reason } => {
                write!(f, "the certificate was not renewed: {reason}")
            }
        }
    }
}
