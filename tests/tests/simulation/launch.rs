//! Executors of a simulation: a task on their worker's host, with a network that can be killed.

use crate::network::{ProcessEnd, SimNetwork};
use crate::slots::InPlaceSlots;
use crate::store::SimStore;
use offshoot_host::executor::{self, ExecutorError};
use offshoot_host::launch::{ExecutorStart, Launch, Launched};
use offshoot_sandbox::compile::Artifact;
use offshoot_sandbox::slots::PortFuture;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Starts executors on one machine.
#[derive(Debug)]
pub(crate) struct SimLaunch {
    pub(crate) network: SimNetwork,
    pub(crate) slots: Arc<InPlaceSlots>,
    pub(crate) store: SimStore,
}

struct SimExecutor {
    ready: Option<oneshot::Receiver<SocketAddr>>,
    stop: Option<oneshot::Sender<()>>,
    process: ProcessEnd,
    task: JoinHandle<Result<(), ExecutorError>>,
    how: Option<String>,
}

// === impl SimLaunch ===

impl Launch for SimLaunch {
    fn launch(
        &self,
        start: ExecutorStart,
        artifact: Artifact,
    ) -> PortFuture<'_, io::Result<Box<dyn Launched>>> {
        Box::pin(async move {
            let (network, process) = self.network.process();
            let slots = self.slots.clone();
            let stores = Arc::new(self.store.clone());
            let ports = executor::Ports { network: Arc::new(network), slots, stores };
            let (ready_sender, ready) = oneshot::channel();
            let (stop, stopped) = oneshot::channel();
            let (code, description) = (artifact.code.into(), artifact.description.into());
            let running = executor::run(start, code, description, ports, ready_sender, stopped);
            let task = tokio::spawn(running);
            let (ready, stop) = (Some(ready), Some(stop));
            let launched = SimExecutor { ready, stop, process, task, how: None };
            Ok(Box::new(launched) as Box<dyn Launched>)
        })
    }
}

// === impl SimExecutor ===

impl SimExecutor {
    async fn wait(&mut self) -> String {
        if let Some(how) = &self.how {
            return how.clone();
        }
        let how = match (&mut self.task).await {
            Ok(Ok(())) => "the executor ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => format!("the executor was ended: {error}"),
        };
        self.how.insert(how).clone()
    }
}

impl Launched for SimExecutor {
    fn ready(&mut self) -> PortFuture<'_, Result<SocketAddr, String>> {
        Box::pin(async move {
            let listening = match &mut self.ready {
                Some(ready) => ready.await.ok(),
                None => None,
            };
            self.ready = None;
            match listening {
                Some(address) => Ok(address),
                None => Err(self.wait().await),
            }
        })
    }

    fn stop(&mut self) {
        self.stop = None;
    }

    fn kill(&mut self) {
        self.process.kill();
        self.task.abort();
    }

    fn ended(&mut self) -> PortFuture<'_, String> {
        Box::pin(self.wait())
    }
}

impl Drop for SimExecutor {
    fn drop(&mut self) {
        self.kill();
    }
}
