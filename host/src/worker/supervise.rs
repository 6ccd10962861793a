//! One task for each executor: starts it, passes on what it is told, and says how it ended.

use super::node::Event;
use super::shell::Shared;
use crate::launch::{ExecutorStart, Launched};
use offshoot_proto::cluster::LaunchExecutor;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What an executor's task is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// End it in order.
    Stop,
    /// End it at once.
    Kill,
}

/// Runs until the executor is gone, and tells `events` so.
pub(super) async fn run(
    shared: Arc<Shared>,
    order: LaunchExecutor,
    commands: mpsc::UnboundedReceiver<Command>,
    events: mpsc::Sender<Event>,
) {
    let executor = order.executor;
    let how = match start(&shared, order).await {
        Ok(launched) => {
            let ready = |address| Event::ExecutorReady { executor, address };
            watch(launched, commands, &events, ready).await
        }
        Err(reason) => reason,
    };
    // The events end only with the worker.
    let _ = events.send(Event::ExecutorEnded { executor, how }).await;
}

async fn start(shared: &Shared, order: LaunchExecutor) -> Result<Box<dyn Launched>, String> {
    let module = order.app.module;
    let found = shared.ports.modules.lookup(module).await;
    let artifact = found
        .map_err(|error| error.to_string())?
        .ok_or_else(|| format!("module {module} has left the cache; it is compiled again"))?;
    let directory = &shared.directory;
    let app_directory = directory.make_app(order.executor.app).map_err(|error| {
        let path = directory.app(order.executor.app);
        format!("cannot make {}: {error}", path.display())
    })?;
    let start = ExecutorStart {
        launch: order,
        worker: shared.id.clone(),
        worker_address: shared.address,
        listen: shared.config.listen.ip(),
        ports: shared.config.executor_ports,
        advertise: shared.config.advertise,
        app_directory,
    };
    let launched = shared.ports.launch.launch(start, artifact).await;
    launched.map_err(|error| format!("cannot start its process: {error}"))
}

/// Returns how it ended.
async fn watch(
    mut launched: Box<dyn Launched>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    events: &mpsc::Sender<Event>,
    ready: impl Fn(std::net::SocketAddr) -> Event,
) -> String {
    let listening = loop {
        tokio::select! {
            biased;
            command = commands.recv() => apply(&mut *launched, command),
            listening = launched.ready() => break listening,
        }
    };
    let failure = match listening {
        Ok(address) => {
            let _ = events.send(ready(address)).await;
            None
        }
        Err(reason) => {
            launched.kill();
            Some(reason)
        }
    };
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => apply(&mut *launched, command),
            how = launched.ended() => return failure.unwrap_or(how),
        }
    }
}

fn apply(launched: &mut dyn Launched, command: Option<Command>) {
    match command {
        Some(Command::Stop) => launched.stop(),
        // Nobody is left who could say so.
        Some(Command::Kill) | None => launched.kill(),
    }
}
