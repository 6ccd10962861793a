//! Executors and workers that do what the scheduler says, late, and then crash.

use super::Random;
use crate::scheduler::{Action, Event};
use offshoot_proto::executor::{BlockState, CopyBlocks, KeptBlock};
use offshoot_proto::id::{
    AppId, AttemptId, ExecutorId, ExecutorNumber, NodeId, Partition, SnapshotId, StageRunId,
    WorkerId,
};
use offshoot_proto::outcome::{ResultPlace, TaskDone, TaskFailure, TaskOutcome, TaskReport};
use offshoot_proto::stage::{StageKind, StageRun};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The machines and what is on the wire.
#[derive(Default)]
pub(super) struct Cluster {
    executors: BTreeMap<ExecutorId, Executor>,
    /// By machine the shuffle blocks in its files, by executor those in its memory.
    blocks: BTreeMap<Holder, BTreeMap<Block, Content>>,
    /// What executors that are gone had said.
    late: VecDeque<Event>,
    said: Vec<Event>,
    added: u32,
    pub(super) tasks_run: BTreeMap<(NodeId, Partition), u32>,
    /// Executors to which nothing may be sent any more.
    retired: BTreeSet<ExecutorId>,
    /// Workers that have left.
    left: BTreeSet<WorkerId>,
    pub(super) snapshots_freed: BTreeSet<SnapshotId>,
    pub(super) rare: BTreeMap<&'static str, u64>,
}

type Holder = (WorkerId, Option<ExecutorId>);

type Block = (NodeId, Partition, AttemptId);

/// What a task computes.
#[derive(Clone, Copy)]
struct Content {
    /// Depends on the lineage only.
    value: u64,
    /// Depends on the snapshots of everything that it was computed from as well, so that mixing
    /// them does not go unnoticed.
    digest: u64,
}

struct Executor {
    worker: WorkerId,
    slots: usize,
    inbox: VecDeque<Action>,
    outbox: VecDeque<Event>,
    stages: BTreeMap<StageRunId, Arc<StageRun>>,
    queued: VecDeque<(AttemptId, Partition, Arc<StageRun>)>,
    running: Vec<(AttemptId, Partition, Arc<StageRun>)>,
    seen: BTreeSet<AttemptId>,
}

/// How often things go wrong, in a thousand.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) task: u64,
    pub(super) block: u64,
    pub(super) executor: u64,
    pub(super) worker: u64,
    pub(super) duplicate: u64,
    /// Executors are told to go, and to stay after all. What they have in memory goes with them.
    pub(super) retires: bool,
    /// Workers are to leave, and some do; some of them come back.
    pub(super) drains: bool,
}

/// What a task of a node computes from what it reads: anything that depends on all of it.
pub(super) fn value_of(node: NodeId, partition: Partition, read: impl Iterator<Item = u64>) -> u64 {
    let mut value = (u64::from(node.0) << 32) | u64::from(partition.0);
    for input in read {
        value = (value ^ input).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    }
    value
}

pub(super) fn any_worker(random: &mut Random) -> WorkerId {
    WorkerId(format!("w{}", random.below(4)))
}

fn uses_memory(kind: &StageKind) -> bool {
    matches!(kind, StageKind::Kept { level } if level.uses_memory())
}

// === impl Cluster ===

impl Cluster {
    pub(super) fn add_executor(&mut self, random: &mut Random) -> Event {
        self.add_executor_on(any_worker(random), random)
    }

    pub(super) fn add_executor_on(&mut self, worker: WorkerId, random: &mut Random) -> Event {
        let executor = ExecutorId { app: AppId(1), number: ExecutorNumber(self.added) };
        self.added += 1;
        let slots = 1 + random.below(3) as u32;
        self.blocks.entry((worker.clone(), None)).or_default();
        self.blocks.entry((worker.clone(), Some(executor))).or_default();
        let entry = Executor {
            worker: worker.clone(),
            slots: slots as usize,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            stages: BTreeMap::new(),
            queued: VecDeque::new(),
            running: Vec::new(),
            seen: BTreeSet::new(),
        };
        self.executors.insert(executor, entry);
        Event::ExecutorAdded {
            executor,
            address: ([127, 0, 0, 1], 4434).into(),
            worker,
            worker_address: ([127, 0, 0, 1], 4433).into(),
            slots,
        }
    }

    pub(super) fn executors(&self) -> usize {
        self.executors.len()
    }

    pub(super) fn is_here(&self, executor: ExecutorId) -> bool {
        self.executors.contains_key(&executor)
    }

    /// Nothing runs, waits or is on the wire.
    pub(super) fn is_quiet(&self) -> bool {
        let busy = |e: &Executor| {
            !(e.inbox.is_empty()
                && e.outbox.is_empty()
                && e.queued.is_empty()
                && e.running.is_empty())
        };
        self.late.is_empty() && !self.executors.values().any(busy)
    }

    /// Takes an action that is for an executor.
    pub(super) fn send(&mut self, action: Action) {
        let executor = match &action {
            Action::SendStage { executor, .. }
            | Action::DropStage { executor, .. }
            | Action::Run { executor, .. }
            | Action::Recall { executor, .. }
            | Action::Kill { executor, .. }
            | Action::Copy { executor, .. }
            | Action::DropResult { executor, .. } => *executor,
            other => panic!("{other:?} is not for an executor"),
        };
        if let Action::SendStage { stage, .. } = &action {
            assert!(!self.snapshots_freed.contains(&stage.snapshot), "{stage:?}");
        }
        let to_retired = self.retired.contains(&executor);
        // The driver drops this where it knows nobody.
        let is_dropped = matches!(action, Action::DropResult { .. });
        assert!(!to_retired || is_dropped, "{action:?} after its end");
        // What is sent to an executor that crashed unnoticed is lost.
        if let Some(executor) = self.executors.get_mut(&executor) {
            executor.inbox.push_back(action);
        }
    }

    /// Something happens somewhere; whatever the scheduler hears of it is returned.
    pub(super) fn step(&mut self, faults: Faults, random: &mut Random) -> Option<Event> {
        if random.per_mille(faults.executor) {
            return self.lose_executor(random);
        }
        if random.per_mille(faults.worker) {
            return Some(self.lose_worker(random));
        }
        if random.per_mille(faults.block) {
            self.lose_block(random);
        }
        if random.per_mille(faults.block) {
            self.evict(random);
        }
        if random.per_mille(faults.duplicate) && !self.said.is_empty() {
            let index = random.below(self.said.len() as u64) as usize;
            return Some(self.said[index].clone());
        }
        if random.below(8) == 0 && !self.late.is_empty() {
            self.count("late message");
            return self.late.pop_front();
        }
        if self.executors.is_empty() {
            return None;
        }
        let index = random.below(self.executors.len() as u64) as usize;
        let id = *self.executors.keys().nth(index)?;
        match random.below(4) {
            0 | 1 => self.receive(id),
            2 => self.run(id, faults, random),
            _ => return self.hear(id),
        }
        None
    }

    fn count(&mut self, what: &'static str) {
        *self.rare.entry(what).or_default() += 1;
    }

    fn hear(&mut self, id: ExecutorId) -> Option<Event> {
        let event = self.executors.get_mut(&id)?.outbox.pop_front()?;
        if self.said.len() < 64 {
            self.said.push(event.clone());
        }
        Some(event)
    }

    fn receive(&mut self, id: ExecutorId) {
        let executor = self.executors.get_mut(&id).expect("chosen from the map");
        let Some(action) = executor.inbox.pop_front() else {
            return;
        };
        match action {
            Action::SendStage { stage, .. } => {
                let known = executor.stages.insert(stage.id, stage);
                assert_eq!(known, None, "described twice");
            }
            Action::DropStage { stage, .. } => {
                assert!(executor.stages.remove(&stage).is_some(), "not described");
            }
            Action::Run { stage, tasks, .. } => {
                let run = &executor.stages[&stage];
                for (attempt, partition) in tasks {
                    assert!(executor.seen.insert(attempt), "{attempt} sent twice");
                    let task = (attempt, partition, run.clone());
                    executor.queued.push_back(task);
                }
            }
            Action::Recall { attempts, .. } => {
                let mut back = Vec::new();
                executor.queued.retain(|(attempt, ..)| {
                    let keep = !attempts.contains(attempt);
                    if !keep {
                        back.push(*attempt);
                    }
                    keep
                });
                let word = if back.is_empty() { "recall refused" } else { "recall answered" };
                executor.outbox.push_back(Event::Recalled { executor: id, attempts: back });
                self.count(word);
            }
            Action::Kill { attempts, .. } => {
                let mut killed = Vec::new();
                executor.running.retain(|(attempt, ..)| {
                    let keep = !attempts.contains(attempt);
                    if !keep {
                        killed.push(*attempt);
                    }
                    keep
                });
                let reports = killed.into_iter().map(|attempt| TaskReport {
                    attempt,
                    run_nanos: 1,
                    outcome: TaskOutcome::Failed(TaskFailure::Killed),
                });
                let reports = reports.collect();
                executor.outbox.push_back(Event::Reports { executor: id, reports });
            }
            Action::Copy { copy, .. } => self.copy(id, &copy),
            _ => {}
        }
    }

    fn run(&mut self, id: ExecutorId, faults: Faults, random: &mut Random) {
        let executor = self.executors.get_mut(&id).expect("chosen from the map");
        while executor.running.len() < executor.slots {
            let Some(task) = executor.queued.pop_front() else {
                break;
            };
            executor.running.push(task);
        }
        let mut reports = Vec::new();
        let ends = random.below(executor.running.len() as u64 + 1);
        let ending = executor.running.drain(..ends as usize).collect::<Vec<_>>();
        let worker = executor.worker.clone();
        for (attempt, partition, run) in ending {
            let here = (worker.clone(), Some(id));
            let outcome = self.compute(here, attempt, partition, &run, faults, random);
            reports.push(TaskReport { attempt, run_nanos: 1 << (10 + random.below(16)), outcome });
        }
        if let (Some(executor), false) = (self.executors.get_mut(&id), reports.is_empty()) {
            executor.outbox.push_back(Event::Reports { executor: id, reports });
        }
    }

    fn compute(
        &mut self,
        (worker, executor): Holder,
        attempt: AttemptId,
        partition: Partition,
        run: &StageRun,
        faults: Faults,
        random: &mut Random,
    ) -> TaskOutcome {
        if random.per_mille(faults.task) {
            let message = format!("fault {}", random.below(1000));
            return TaskOutcome::Failed(match random.below(3) {
                0 => TaskFailure::Panic { message },
                1 => TaskFailure::Host { message },
                _ => TaskFailure::SlotCrashed { message },
            });
        }
        let read = match self.read(run) {
            Ok(read) => read,
            Err(failure) => {
                self.count("fetch failure");
                return TaskOutcome::Failed(failure);
            }
        };
        *self.tasks_run.entry((run.node, partition)).or_default() += 1;
        let value = value_of(run.node, partition, read.iter().map(|c| c.value));
        let origin = NodeId(run.snapshot.0);
        let digest = value_of(origin, partition, read.iter().map(|c| c.digest));
        let mut done = TaskDone { digest: digest as u32, ..TaskDone::default() };
        match run.kind {
            StageKind::ShuffleWrite { .. } | StageKind::Kept { .. } => {
                // Memory may be short.
                done.in_memory = uses_memory(&run.kind) && random.below(4) > 0;
                let block = (run.node, partition, attempt);
                let holder = (worker, executor.filter(|_| done.in_memory));
                let blocks = self.blocks.entry(holder).or_default();
                blocks.insert(block, Content { value, digest });
            }
            _ if random.below(4) == 0 => {
                done.result = ResultPlace::Held { length: value };
            }
            _ => done.result = ResultPlace::Inline(value.to_le_bytes().to_vec()),
        }
        TaskOutcome::Done(done)
    }

    fn read(&self, run: &StageRun) -> Result<Vec<Content>, TaskFailure> {
        let mut contents = Vec::new();
        for input in &run.inputs {
            for (map, (place, map_attempt)) in (0..).zip(&input.maps) {
                let place = &input.places[*place as usize];
                let block = (input.writer, Partition(map), *map_attempt);
                let blocks = self.blocks.get(&(place.worker.clone(), place.executor));
                let Some(content) = blocks.and_then(|blocks| blocks.get(&block)) else {
                    return Err(TaskFailure::FetchFailed {
                        writer: input.writer,
                        map: Partition(map),
                        map_attempt: *map_attempt,
                        worker: place.worker.clone(),
                        executor: place.executor,
                        reason: "no such block".to_owned(),
                    });
                };
                contents.push(*content);
            }
        }
        Ok(contents)
    }

    /// Any executor.
    pub(super) fn pick(&self, random: &mut Random) -> Option<ExecutorId> {
        let index = random.below(self.executors.len() as u64 + 1) as usize;
        self.executors.keys().nth(index).copied()
    }

    /// It was told to go and runs nothing: what it has in memory goes, unless it is gone already.
    pub(super) fn retire(&mut self, id: ExecutorId) {
        assert!(self.retired.insert(id), "{id} twice");
        let Some(executor) = self.executors.remove(&id) else {
            return;
        };
        assert!(executor.queued.is_empty() && executor.running.is_empty(), "{id} still runs tasks");
        let starts = |action: &Action| matches!(action, Action::Run { .. });
        assert!(!executor.inbox.iter().any(starts), "{id} is to run tasks");
        self.blocks.remove(&(executor.worker, Some(id)));
        self.count("retired");
    }

    /// Nothing keeps a worker that was to leave: it does.
    pub(super) fn drain(&mut self, worker: &WorkerId) {
        assert!(!self.is_anybody_on(worker), "an executor is on {worker}");
        let blocks = self.blocks.extract_if(.., |(holder, _), _| holder == worker);
        let had = blocks.map(|(_, blocks)| blocks.len()).sum::<usize>();
        self.left.insert(worker.clone());
        self.count("drained");
        if had > 0 {
            self.count("drained of output");
        }
    }

    pub(super) fn is_anybody_on(&self, worker: &WorkerId) -> bool {
        self.executors.values().any(|executor| executor.worker == *worker)
    }

    /// An executor was started there; whether it had left.
    pub(super) fn comes_back(&mut self, worker: &WorkerId) -> bool {
        self.left.remove(worker)
    }

    fn lose_executor(&mut self, random: &mut Random) -> Option<Event> {
        if self.executors.is_empty() {
            return None;
        }
        let index = random.below(self.executors.len() as u64) as usize;
        let id = *self.executors.keys().nth(index)?;
        let lost = self.executors.remove(&id)?;
        self.blocks.remove(&(lost.worker, Some(id)));
        self.late.extend(lost.outbox);
        self.count("executor lost");
        Some(Event::ExecutorLost(id))
    }

    fn lose_worker(&mut self, random: &mut Random) -> Event {
        let worker = any_worker(random);
        self.blocks.retain(|(holder, _), _| *holder != worker);
        let (lost, kept) = std::mem::take(&mut self.executors)
            .into_iter()
            .partition(|(_, executor)| executor.worker == worker);
        self.executors = kept;
        let lost: BTreeMap<_, Executor> = lost;
        self.late.extend(lost.into_values().flat_map(|e| e.outbox));
        self.count("worker lost");
        Event::WorkerLost(worker)
    }

    fn copy(&mut self, id: ExecutorId, copy: &CopyBlocks) {
        let from = (copy.from.worker.clone(), copy.from.executor);
        let executor = self.executors.get_mut(&id).expect("chosen from the map");
        let in_memory = copy.level.uses_memory().then_some(id);
        let mut said = Vec::new();
        for (map, attempt) in copy.blocks.iter().copied() {
            let block = (copy.writer, map, attempt);
            let content = self.blocks.get(&from).and_then(|blocks| blocks.get(&block)).copied();
            let state = match (content, in_memory) {
                (None, _) => BlockState::Gone,
                (Some(_), Some(_)) => BlockState::InMemory,
                (Some(_), None) => BlockState::OnDisk,
            };
            if let Some(content) = content {
                let here = (executor.worker.clone(), in_memory);
                self.blocks.entry(here).or_default().insert(block, content);
                *self.rare.entry("copy").or_default() += 1;
            }
            said.push(KeptBlock { writer: copy.writer, map, attempt, state });
        }
        executor.outbox.push_back(Event::Kept { executor: id, blocks: said });
    }

    /// An executor drops a block, or moves it to a file.
    fn evict(&mut self, random: &mut Random) {
        let with_blocks = self.blocks.iter_mut().filter(|((_, e), b)| e.is_some() && !b.is_empty());
        let Some(((worker, Some(id)), blocks)) = with_blocks.last() else {
            return;
        };
        let (worker, id) = (worker.clone(), *id);
        let Some((block, content)) = blocks.pop_first() else {
            return;
        };
        let state = match random.below(2) {
            0 => BlockState::Gone,
            _ => {
                self.blocks.entry((worker, None)).or_default().insert(block, content);
                BlockState::OnDisk
            }
        };
        let (writer, map, attempt) = block;
        let blocks = vec![KeptBlock { writer, map, attempt, state }];
        if let Some(executor) = self.executors.get_mut(&id) {
            executor.outbox.push_back(Event::Kept { executor: id, blocks });
        }
        self.count("evicted");
    }

    fn lose_block(&mut self, random: &mut Random) {
        let all = self.blocks.values().map(|blocks| blocks.len() as u64).sum();
        if all == 0 {
            return;
        }
        let mut index = random.below(all) as usize;
        for blocks in self.blocks.values_mut() {
            if let Some(block) = blocks.keys().nth(index).copied() {
                blocks.remove(&block);
                return;
            }
            index -= blocks.len();
        }
    }
}
