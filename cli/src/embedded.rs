//! A cluster for one job: master and worker in this process, executors and slots beneath it.
//!
//! The same code as in a cluster of many machines, the same frames and the same sandbox; only
//! nobody has to start it, and its directory goes with it.

use crate::commands::worker::{all_cores, most_memory};
use crate::failure::Failure;
use offshoot_driver::Cluster;
use offshoot_host::worker::{self, Worker, WorkerConfig};
use offshoot_master::ports::{Ports, SystemClock};
use offshoot_master::server::{self, Config, Master};
use offshoot_master::state::State;
use offshoot_net::{Credential, Role, Validity};
use offshoot_proto::id::WorkerId;
use offshoot_sandbox::compile::ModuleCache;
use std::net::Ipv4Addr;
use std::time::SystemTime;
use tempfile::TempDir;

/// Cluster of one process.
pub(crate) struct Embedded {
    worker: Worker,
    master: Master,
    // Last: what the others keep in it is gone by then.
    _directory: TempDir,
}

// === impl Embedded ===

impl Embedded {
    /// Starts it, with all of this machine's cores.
    pub(crate) async fn start(cache: ModuleCache) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("offshoot-").tempdir();
        let directory =
            directory.map_err(|error| Failure::local(format!("a directory: {error}")))?;
        let state = State::open(&directory.path().join("master"), &SystemClock);
        let state = state.map_err(Failure::local)?;
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        let config = Config { listen, leases: Default::default(), policy: Default::default() };
        let served = server::serve(state, config, Ports::system()).await;
        let master = served.map_err(Failure::local)?;
        let role = Role::Worker(WorkerId("worker-local".to_owned()));
        let credential = master.authority().mint(&role, Validity::of_node(SystemTime::now()));
        let config = WorkerConfig {
            master: master.local_address(),
            credential: credential.map_err(Failure::local)?,
            credential_file: None,
            listen,
            advertise: None,
            cores: all_cores(),
            memory_bytes: most_memory(),
            directory: directory.path().join("worker"),
            executor_ports: None,
            timing: Default::default(),
        };
        let ports = offshoot_host::worker::Ports::system(cache, "warn");
        let worker = worker::serve(config, ports).await.map_err(Failure::local)?;
        Ok(Self { worker, master, _directory: directory })
    }

    /// How its job reaches it.
    pub(crate) fn cluster(&self, idempotency_key: u128) -> Result<Cluster, Failure> {
        let path = self._directory.path().join("master/admin.credential");
        let credential = Credential::load(&path).map_err(Failure::local)?;
        Ok(Cluster { master: self.master.local_address(), credential, idempotency_key })
    }

    /// Stops it, executors first.
    pub(crate) async fn shutdown(self) {
        if let Err(error) = self.worker.shutdown().await {
            tracing::warn!(%error, "stopping the worker");
        }
        self.master.shutdown().await;
    }
}
