//! The driver's one loop: waits for an event, lets the scheduler decide, runs the actions.

mod actions;
mod allocating;
mod cluster_side;
mod draining;
mod dropped;
mod executors;
mod master;
mod requests;
mod storing;

use crate::allocation::Allocation;
use crate::executors::{ExecutorEvent, ExecutorLink, Fetched};
use crate::master_watch::{self, MasterWatch};
use crate::output::Output;
use crate::results::Results;
use crate::scheduler::{Action, Event, Scheduler};
use crate::updates::Updates;
use crate::{Config, DriverError, End, Observer, Ports};
use cluster_side::{ClusterSide, join_cluster};
use offshoot_proto::abi::ResultOrder;
use offshoot_proto::cluster::ResourceRequest;
use offshoot_proto::executor::ToExecutor;
use offshoot_proto::id::{AttemptId, ExecutorId, JobId, Partition, SnapshotId};
use offshoot_proto::link::{FromSlot, MainEnd, SlotRole, SlotStart, ToSlot};
use offshoot_proto::scheduling::{PoolName, PoolNameError};
use offshoot_proto::settings::Settings;
use offshoot_sandbox::broker::Broker;
use offshoot_sandbox::link::LinkError;
use offshoot_sandbox::memory::memory_file;
use offshoot_sandbox::slots::{SlotConnection, Slots};
use offshoot_sandbox::snapshots::SnapshotStore;
use offshoot_store::RemoteFiles;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long the last words have to leave. The master has confirmed the end by then, and has
/// executors stopped; a connection that drains for longer serves nobody.
const FAREWELL: Duration = Duration::from_millis(5);

/// Events of executors that are handled before the scheduler's actions go out: a burst of reports
/// makes one batch of orders.
const BURST_MAX: usize = 64;

/// The driver's state.
pub(crate) struct Core {
    slot: Box<dyn SlotConnection>,
    /// Slots end with who made them.
    _slots: Arc<dyn Slots>,
    observer: Box<dyn Observer>,
    broker: Broker,
    settings: Settings,
    request: ResourceRequest,
    scheduler: Scheduler,
    actions: Vec<Action>,
    cluster: Option<ClusterSide>,
    master_watch: MasterWatch,
    /// How many executors are wanted, if there is a cluster.
    allocation: Option<Allocation>,
    allocating: allocating::Allocating,
    executors: BTreeMap<ExecutorId, ExecutorLink>,
    executor_events: mpsc::UnboundedReceiver<(ExecutorId, ExecutorEvent)>,
    executor_sender: mpsc::UnboundedSender<(ExecutorId, ExecutorEvent)>,
    fetches: mpsc::UnboundedReceiver<(JobId, Partition, AttemptId, Fetched)>,
    fetch_sender: mpsc::UnboundedSender<(JobId, Partition, AttemptId, Fetched)>,
    snapshots: Option<SnapshotStore>,
    /// The memory file of `main`, until the first snapshot.
    memory: Option<OwnedFd>,
    snapshot_live: u32,
    jobs: BTreeMap<JobId, Job>,
    /// Of the jobs that are submitted from now on, or why that is none.
    pool: Result<PoolName, PoolNameError>,
    updates: Updates,
    next_job: u32,
    /// Why a node was not registered. The guest does not wait for an answer; the next job has it.
    graph_error: Option<String>,
    waiting: Option<Waiting>,
    /// An application that asks for too much waits if it was told to, or has had executors: the
    /// worker that had them may come back.
    may_wait: bool,
    outputs: u32,
    storing: storing::Storing,
    dropped: dropped::Dropped,
    draining: draining::Draining,
    origin: Instant,
    end: Option<End>,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A job that the guest has not dropped.
pub(crate) struct Job {
    results: Results,
    output: Option<JobOutput>,
    state: JobState,
}

/// Where what a job writes is committed.
pub(crate) enum JobOutput {
    /// In a directory.
    Local(Output),
    /// In an object store.
    Remote(offshoot_store::Output),
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobState {
    /// Its tasks run.
    Running,
    /// Every partition is ready.
    Finished,
    /// It cannot be finished: a code of the ABI and why.
    Failed(i32, String),
}

/// What the guest stands still for.
pub(crate) enum Waiting {
    /// Results of a job.
    Results { job: JobId, capacity: usize },
    /// A place among the live snapshots.
    Snapshot(Box<requests::Submission>),
    /// To know the application's cores.
    Parallelism,
    /// A listing of a store.
    Listing,
    /// Its output's place in a store, before the job is submitted.
    Output,
}

/// Runs an application to its end.
pub async fn run(config: Config, ports: Ports) -> Result<End, DriverError> {
    let mut core = Core::start(config, ports).await?;
    let living = async move {
        let result = core.live().await;
        core.farewell(matches!(result, Ok(End::Exit(0)))).await;
        result
    };
    offshoot_net::run_as_task(living).await
}

// === impl Job ===

impl Job {
    /// A job that never ran.
    fn failed(code: i32, message: String) -> Self {
        let results = Results::new(ResultOrder::Partition, vec![], 0);
        Self { results, output: None, state: JobState::Failed(code, message) }
    }
}

// === impl Core ===

impl Core {
    async fn start(config: Config, mut ports: Ports) -> Result<Self, DriverError> {
        let broker = Broker::new(&config.grants);
        let stores = ports.stores.clone();
        let remote = RemoteFiles::new(stores, &config.grants, config.store.clone());
        let owner = config.cluster.as_ref().map_or(0, |cluster| cluster.idempotency_key);
        let memory = memory_file("driver memory").map_err(|e| DriverError::Slot(e.to_string()))?;
        let name = match &config.cluster {
            Some(_) => format!("{}/driver", config.name),
            None => config.name.clone(),
        };
        let (slot, cluster) = tokio::join!(
            start_slot(&config, &ports, &broker, &memory, name),
            join_cluster(&config, &ports),
        );
        let (slot, cluster) = (slot?, cluster?);
        if let Some(cluster) = &cluster {
            ports.observer.registered(cluster.master.app);
        }
        let allocation = cluster
            .as_ref()
            .map(|cluster| Allocation::new(&config.settings, &config.request, cluster.master.app));
        let (executor_sender, executor_events) = mpsc::unbounded_channel();
        let (fetch_sender, fetches) = mpsc::unbounded_channel();
        Ok(Self {
            slot,
            _slots: ports.slots,
            observer: ports.observer,
            broker,
            scheduler: Scheduler::new(
                config.settings.task_max_failures,
                &config.settings.scheduling,
            ),
            pool: Ok(PoolName::default()),
            updates: Updates::new(config.settings.max_result_bytes),
            settings: config.settings,
            request: config.request,
            actions: Vec::new(),
            cluster,
            master_watch: MasterWatch::default(),
            allocation,
            allocating: Default::default(),
            executors: BTreeMap::new(),
            executor_events,
            executor_sender,
            fetches,
            fetch_sender,
            snapshots: None,
            memory: Some(memory),
            snapshot_live: 0,
            jobs: BTreeMap::new(),
            next_job: 0,
            graph_error: None,
            waiting: None,
            may_wait: config.wait,
            outputs: 0,
            storing: storing::Storing::new(remote, owner),
            dropped: dropped::Dropped::default(),
            draining: draining::Draining::default(),
            origin: Instant::now(),
            end: None,
            stop: ports.stop,
        })
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    async fn live(&mut self) -> Result<End, DriverError> {
        loop {
            self.run_actions()?;
            self.allocate();
            while !self.actions.is_empty() {
                self.run_actions()?;
                self.allocate();
            }
            if let Some(end) = self.end.take() {
                return Ok(end);
            }
            self.watch_master(master_watch::Event::Executors(self.executors.len()));
            let allocation = self.allocation.as_ref().and_then(Allocation::next_timeout);
            let due = [
                self.scheduler.next_timeout(),
                self.master_watch.next_timeout(),
                allocation,
                self.draining.next_timeout(),
            ];
            let timeout = due.into_iter().flatten().min().map(|due| self.origin + due);
            tokio::select! {
                biased;
                () = &mut self.stop => return Err(DriverError::Stopped),
                frame = self.slot.receive(), if self.hears() => self.on_slot(frame).await?,
                Some((id, event)) = self.executor_events.recv() => {
                    self.on_executor(id, event);
                    for _ in 1..BURST_MAX {
                        let Ok((id, event)) = self.executor_events.try_recv() else { break };
                        self.on_executor(id, event);
                    }
                }
                Some((job, partition, attempt, fetched)) = self.fetches.recv() => {
                    self.on_fetched(job, partition, attempt, fetched)?;
                }
                event = self.storing.next() => self.on_store(event)?,
                frame = master::next_of(&mut self.cluster) => self.on_master(frame).await?,
                () = sleep_until(timeout) => {
                    let now = self.now();
                    self.scheduler.handle_timeout(now, &mut self.actions);
                    self.end_drains();
                }
            }
        }
    }

    /// Whether the guest may say more: a job that waits for its snapshot's place, or its output's,
    /// holds up the rest.
    fn hears(&self) -> bool {
        !matches!(self.waiting, Some(Waiting::Snapshot(_) | Waiting::Output))
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        self.scheduler.handle(now, event, &mut self.actions);
    }

    async fn on_slot(
        &mut self,
        frame: Result<(FromSlot, Vec<OwnedFd>), LinkError>,
    ) -> Result<(), DriverError> {
        match frame {
            Ok((FromSlot::Ready, _)) => {}
            Ok((FromSlot::Output { stream, bytes }, _)) => self.observer.output(stream, &bytes),
            Ok((FromSlot::Request(request), descriptors)) => {
                self.on_request(request, descriptors)?;
            }
            Ok((FromSlot::MainEnded(MainEnd::Exit { code }), _)) => {
                self.end = Some(End::Exit(code));
            }
            Ok((FromSlot::MainEnded(MainEnd::Failed(failure)), _)) => {
                self.end = Some(End::Failed(failure));
            }
            Ok((FromSlot::Reports(_) | FromSlot::ResultPiece(_), _)) => {
                return Err(DriverError::Slot("main's slot reported tasks".to_owned()));
            }
            Err(error) => {
                self.slot.kill();
                let how = self.slot.ended().await;
                return Err(DriverError::Slot(format!("{error}; {how}")));
            }
        }
        Ok(())
    }

    fn watch_master(&mut self, event: master_watch::Event) {
        let now = self.now();
        if let Some(notice) = self.master_watch.handle(now, event) {
            self.observer.notice(&notice.to_string());
        }
    }

    /// Sends an executor a snapshot that it is to run tasks of, and on the way to it every other
    /// live one that it lacks: each follows the one before it.
    fn send_snapshots(&mut self, executor: ExecutorId, wanted: SnapshotId) {
        let Some(store) = &self.snapshots else { return };
        let Some(link) = self.executors.get_mut(&executor) else { return };
        if link.snapshot.is_none() {
            link.pass_base(store);
        }
        let after = link.snapshot;
        for id in store.live().filter(|id| Some(*id) > after && *id <= wanted) {
            if let Err(error) = link.send_snapshot(store, id) {
                tracing::error!(%executor, %error, "a snapshot could not be read");
            }
        }
    }

    async fn farewell(&mut self, succeeded: bool) {
        for link in self.executors.values() {
            link.send(ToExecutor::Stop);
        }
        self.slot.kill();
        self.finish_storing().await;
        let links = std::mem::take(&mut self.executors);
        if let Some(ClusterSide { master, endpoint, .. }) = self.cluster.take() {
            master.finish(succeeded).await;
            drop(links);
            let _ =
                tokio::time::timeout(FAREWELL, endpoint.close("the application has ended")).await;
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn start_slot(
    config: &Config,
    ports: &Ports,
    broker: &Broker,
    memory: &OwnedFd,
    name: String,
) -> Result<Box<dyn SlotConnection>, DriverError> {
    let failed = |error: &dyn std::fmt::Display| DriverError::Slot(error.to_string());
    let mut slot = ports.slots.start(name).await.map_err(|error| failed(&error))?;
    let frame = ToSlot::Start(SlotStart {
        role: SlotRole::Driver,
        arguments: config.arguments.clone(),
        environment: config.grants.environment.clone(),
        preopens: broker.preopens(),
        memory_bytes_max: config.driver_memory_bytes,
        result_bytes_max: config.settings.max_result_bytes,
        disk_bytes_max: u64::MAX,
    });
    let artifact = &config.artifact;
    let copies = || -> std::io::Result<Vec<OwnedFd>> {
        let (code, info) = (artifact.code.try_clone()?, artifact.description.try_clone()?);
        Ok(vec![code.into(), info.into(), memory.try_clone()?])
    };
    let descriptors = copies().map_err(|error| failed(&error))?;
    slot.send(&frame, descriptors).map_err(|error| failed(&error))?;
    Ok(slot)
}
