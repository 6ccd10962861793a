//! The executor's one loop: it waits for an event, lets [`Dispatch`] decide, runs the actions.

use super::copies::Copies;
use super::dispatch::{Action, Dispatch, Event};
use super::driver_link::{self, FromDriver, Served, ToDriver};
use super::fetch::Fetcher;
use super::files::AppFiles;
use super::kept::Kept;
use super::receive::Snapshots;
use super::slot_task::{self, Counters, SlotCommand, SlotContext, SlotEvent};
use super::{DRIVER_DIALS_WITHIN, DRIVER_LEASE, ExecutorError, HEARTBEAT, Ports};
use crate::launch::ExecutorStart;
use crate::shuffle_service::ShuffleService;
use offshoot_net::Endpoint;
use offshoot_proto::executor::{Door, FromExecutor, ToExecutor};
use offshoot_proto::id::StageRunId;
use offshoot_proto::link::{SlotStage, ToSlot};
use offshoot_proto::outcome::{StagedPart, TaskDone, TaskOutcome, TaskReport};
use offshoot_proto::stage::{StageKind, StageRun};
use offshoot_sandbox::broker::Broker;
use offshoot_sandbox::door::DoorListener;
use offshoot_store::RemoteFiles;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Results that the driver has not fetched yet, by attempt.
pub(super) type HeldResults = Arc<Mutex<BTreeMap<offshoot_proto::id::AttemptId, Arc<Vec<u8>>>>>;

/// The executor's state.
pub(super) struct Core {
    dispatch: Dispatch,
    stages: BTreeMap<StageRunId, Arc<StageRun>>,
    snapshots: Snapshots,
    slots: Vec<mpsc::UnboundedSender<SlotCommand>>,
    context: Arc<SlotContext>,
    start: Arc<ExecutorStart>,
    endpoint: Arc<Endpoint>,
    from_slots: mpsc::UnboundedReceiver<(usize, SlotEvent)>,
    held: HeldResults,
    kept: Arc<Kept>,
    copies: Copies,
    service: Arc<ShuffleService<Arc<Kept>>>,
    actions: Vec<Action>,
    heard: Instant,
    /// Whether a driver on this machine may come through a door.
    local: bool,
    door: Option<Door>,
    driver: Option<ToDriver>,
    /// Whether the driver was told of an upload, for which it answers once it has heard of it.
    uploaded: bool,
    end: Option<Result<(), ExecutorError>>,
}

/// What the driver has to hear before the executor may go.
pub(super) struct LastWords(Option<ToDriver>);

// === impl LastWords ===

impl LastWords {
    /// Waits until it has, or is gone.
    pub(super) async fn heard(self) {
        if let Some(driver) = self.0 {
            driver.closed().await;
        }
    }
}

// === impl Core ===

impl Core {
    pub(super) fn new(
        start: ExecutorStart,
        code: OwnedFd,
        description: OwnedFd,
        ports: Ports,
        endpoint: Arc<Endpoint>,
        (files, remote): (AppFiles, RemoteFiles),
    ) -> Self {
        let start = Arc::new(start);
        let held = HeldResults::default();
        let (events, from_slots) = mpsc::unbounded_channel();
        let kept = Kept::start(start.launch.memory_bytes, files.clone(), events.clone());
        let service = Arc::new(ShuffleService::new(kept.clone()));
        let context = Arc::new(SlotContext {
            kept: kept.clone(),
            start: start.clone(),
            code,
            description,
            slots: ports.slots,
            broker: Broker::for_tasks(&start.launch.app.grants),
            files,
            remote,
            fetcher: Fetcher::new(endpoint.clone()),
            held: held.clone(),
            counters: Counters::default(),
            events,
        });
        let copies = Copies::start(start.launch.executor.app, context.clone());
        let mut actions = Vec::new();
        let count = slot_count(&start);
        let slots = (0..count).map(|slot| slot_task::start(slot, context.clone())).collect();
        Self {
            dispatch: Dispatch::new(count, &mut actions),
            stages: BTreeMap::new(),
            snapshots: Snapshots::default(),
            slots,
            context,
            start,
            endpoint,
            from_slots,
            held,
            kept,
            copies,
            service,
            actions,
            heard: Instant::now(),
            local: ports.network.has_local_sockets(),
            door: None,
            driver: None,
            uploaded: false,
            end: None,
        }
    }

    /// Runs until there is a reason to end; whatever that is, says what was done.
    pub(super) async fn run(
        mut self,
        shutdown: oneshot::Receiver<()>,
    ) -> (Result<(), ExecutorError>, LastWords) {
        let end = self.live(shutdown).await;
        self.log_counters();
        (end, self.last_words())
    }

    /// Tells the driver what slots have reported. Nobody works for them when this is gone.
    fn last_words(&mut self) -> LastWords {
        while let Ok((slot, event)) = self.from_slots.try_recv() {
            self.on_slot(slot, event);
        }
        self.run_actions();
        let driver = self.driver.take().filter(|driver| driver.send(None).is_ok());
        LastWords(driver.filter(|_| self.uploaded))
    }

    async fn live(&mut self, mut shutdown: oneshot::Receiver<()>) -> Result<(), ExecutorError> {
        let door = self.local.then(DoorListener::open).transpose();
        let door = door.unwrap_or_else(|error| {
            tracing::warn!(%error, "no socket for a driver on this machine");
            None
        });
        self.door = door.as_ref().map(|listener| listener.door().clone());
        let mut from_driver = driver_link::listen(
            self.endpoint.clone(),
            self.start.launch.executor.app,
            Served { held: self.held.clone(), blocks: self.service.clone() },
            door,
        );
        self.heard = Instant::now() + DRIVER_DIALS_WITHIN - DRIVER_LEASE;
        let mut beat = tokio::time::interval(HEARTBEAT);
        loop {
            self.run_actions();
            if let Some(end) = self.end.take() {
                return end;
            }
            tokio::select! {
                biased;
                _ = &mut shutdown => return Ok(()),
                Some((slot, event)) = self.from_slots.recv() => self.on_slot(slot, event),
                event = from_driver.recv() => match event {
                    Some(event) => self.on_driver(event),
                    None => return Ok(()),
                },
                _ = beat.tick() => self.on_beat(),
            }
        }
    }

    fn log_counters(&self) {
        let executor = self.start.launch.executor;
        let Counters { forks, attempts, shuffled, spilled } = &self.context.counters;
        let [forks, attempts, shuffled, spilled] =
            [forks, attempts, shuffled, spilled].map(|counter| counter.load(Relaxed));
        let most = self.context.files.disk().most();
        tracing::info!("executor {executor} ends: {forks} forks for {attempts} attempts");
        tracing::info!(
            "executor {executor} wrote {shuffled} bytes of shuffle data and {spilled} of runs, at \
             most {most} at once"
        );
    }

    fn handle(&mut self, event: Event) {
        self.dispatch.handle(event, &mut self.actions);
    }

    fn on_beat(&mut self) {
        let silence = self.heard.elapsed();
        if silence >= DRIVER_LEASE {
            tracing::warn!(executor = %self.start.launch.executor, ?silence, "the driver is gone");
            self.end = Some(Ok(()));
        }
        self.tell(FromExecutor::Heartbeat);
    }

    fn tell(&self, frame: FromExecutor) {
        if let Some(driver) = &self.driver {
            // A driver that has gone is noticed by its silence.
            let _ = driver.send(Some(frame));
        }
    }

    fn on_slot(&mut self, slot: usize, event: SlotEvent) {
        match event {
            SlotEvent::Ready => self.handle(Event::SlotReady(slot)),
            SlotEvent::Reports(reports) => {
                self.uploaded |= reports.iter().any(is_of_upload);
                self.handle(Event::Reports { slot, reports });
            }
            SlotEvent::Kept(blocks) => self.tell(FromExecutor::Kept(blocks)),
            SlotEvent::Lost(how) => self.handle(Event::SlotLost { slot, how }),
        }
    }

    fn on_driver(&mut self, event: FromDriver) {
        self.heard = self.heard.max(Instant::now());
        match event {
            FromDriver::Connected(sender) => {
                self.heard = Instant::now();
                self.driver = Some(sender);
                self.tell(FromExecutor::Ready {
                    executor: self.start.launch.executor,
                    worker: self.start.worker.clone(),
                    slots: slot_count(&self.start) as u32,
                    door: self.door.clone(),
                });
            }
            FromDriver::Frame(frame) => self.on_frame(frame),
            FromDriver::Snapshot(header, after, pages) => {
                let added = self.snapshots.add(header, after, pages);
                self.on_snapshots(added);
            }
            FromDriver::Gone(reason) => {
                tracing::info!(executor = %self.start.launch.executor, reason, "driver gone");
                self.end = Some(Ok(()));
            }
        }
    }

    fn on_snapshots(
        &mut self,
        added: Result<
            Vec<offshoot_proto::id::SnapshotId>,
            offshoot_sandbox::snapshots::SnapshotError,
        >,
    ) {
        match added {
            Ok(ready) => {
                self.kept.set_snapshots(self.snapshots.bytes());
                for id in ready {
                    self.handle(Event::SnapshotReady(id));
                }
            }
            Err(error) => self.end = Some(Err(ExecutorError::Slots(error.to_string()))),
        }
    }

    fn on_frame(&mut self, frame: ToExecutor) {
        match frame {
            ToExecutor::Heartbeat => {}
            ToExecutor::Snapshot { header, after, difference, pages } => {
                let added = self.snapshots.add_inline(header, after, difference, pages);
                self.on_snapshots(added);
            }
            ToExecutor::DropSnapshot(id) => {
                self.snapshots.drop_snapshot(id);
                self.kept.set_snapshots(self.snapshots.bytes());
            }
            ToExecutor::Stage(stage) => {
                let (id, snapshot) = (stage.id, stage.snapshot);
                let stage = Arc::new(stage);
                self.kept.note_writer(&stage);
                self.stages.insert(id, stage);
                self.note_readers();
                self.handle(Event::Stage { id, snapshot });
            }
            ToExecutor::DropStage(id) => {
                self.stages.remove(&id);
                self.note_readers();
                self.handle(Event::DropStage(id));
            }
            ToExecutor::Run { stage, tasks } => self.handle(Event::Run { stage, tasks }),
            ToExecutor::Recall(attempts) => self.handle(Event::Recall(attempts)),
            ToExecutor::Kill(attempts) => self.handle(Event::Kill(attempts)),
            ToExecutor::DropResults(attempts) => {
                let mut held = self.held.lock().expect("no holder of the lock panics");
                for attempt in attempts {
                    held.remove(&attempt);
                }
            }
            ToExecutor::DropShuffle(node) => self.kept.drop_dataset(node),
            ToExecutor::Copy(copy) => self.copies.order(&self.kept, copy),
            ToExecutor::Stop => self.end = Some(Ok(())),
        }
    }

    /// Blocks of what stages here read do not make room for others.
    fn note_readers(&self) {
        let inputs = self.stages.values().flat_map(|stage| &stage.inputs);
        self.kept.set_readers(inputs.map(|input| input.writer).collect());
    }

    fn run_actions(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::StartSlot(slot) => self.command(slot, SlotCommand::Start),
                Action::KillSlot(slot) => self.command(slot, SlotCommand::Kill),
                Action::SendStage { slot, stage } => {
                    if let Some(stage) = self.stages.get(&stage).cloned() {
                        let frame = ToSlot::Stage(slot_stage(&stage));
                        self.command(slot, SlotCommand::Stage(stage, frame));
                    }
                }
                Action::DropStage { slot, stage } => {
                    self.command(slot, SlotCommand::DropStage(stage));
                }
                Action::Fork { slot, from, to } => match self.snapshots.image(from, to) {
                    Ok((image, descriptors)) => {
                        let frame = ToSlot::Fork(image);
                        self.command(slot, SlotCommand::Frame(frame, descriptors));
                    }
                    Err(error) => {
                        self.end = Some(Err(ExecutorError::Slots(error.to_string())));
                    }
                },
                Action::Run { slot, stage, tasks } => {
                    self.command(slot, SlotCommand::Run(stage, tasks));
                }
                Action::Report(reports) => self.tell(FromExecutor::Reports(reports)),
                Action::Recalled(attempts) => self.tell(FromExecutor::Recalled(attempts)),
                Action::GiveUp(reason) => self.end = Some(Err(ExecutorError::Slots(reason))),
            }
        }
    }

    fn command(&self, slot: usize, command: SlotCommand) {
        // A slot's task lives as long as this sender.
        let _ = self.slots[slot].send(command);
    }
}

/// One for each task that it runs at once. A master that gives an executor fewer cores than a task
/// has would otherwise have started one that does nothing.
fn slot_count(start: &ExecutorStart) -> usize {
    start.launch.app.settings.slots(start.launch.cores).max(1) as usize
}

fn is_of_upload(report: &TaskReport) -> bool {
    matches!(
        &report.outcome,
        TaskOutcome::Done(TaskDone { staged: Some(StagedPart { upload: Some(_), .. }), .. })
    )
}

fn slot_stage(stage: &StageRun) -> SlotStage {
    SlotStage {
        id: stage.id,
        snapshot: stage.snapshot,
        node: stage.node,
        reducers: match stage.kind {
            StageKind::ShuffleWrite { reducers } => Some(reducers),
            StageKind::Kept { .. } => Some(1),
            StageKind::Result | StageKind::Output { .. } => None,
        },
        packed: !matches!(stage.kind, StageKind::Kept { level } if level.uses_memory()),
        output: matches!(stage.kind, StageKind::Output { .. }),
    }
}
