//! The scheduler against a cluster in which everything goes wrong, then heals: seeded, in steps.
//!
//! After every step the machines' invariants hold. In the end every job has ended, each result was
//! given exactly once and is right, no attempt, snapshot or shuffle is left.
#![allow(clippy::unwrap_used)]

use super::{Action, Event, JobSubmission, Scheduler};
use cluster::{Cluster, Faults, any_worker, value_of};
use offshoot_proto::abi::{
    Dependency, JobSpec, NarrowMap, NodeKind, NodeSpec, ResultOrder, StorageLevel,
};
use offshoot_proto::explain::TaskWait;
use offshoot_proto::id::{AttemptId, ExecutorId, JobId, NodeId, Partition, SnapshotId, WorkerId};
use offshoot_proto::outcome::{ResultPlace, TaskDone};
use offshoot_proto::scheduling::{PoolName, PoolSettings, Scheduling, SharingMode};
use offshoot_proto::stage::StageKind;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod cluster;
mod seeds;

/// Steps in which things go wrong.
const STEPS_WITH_FAULTS: u32 = 600;
/// Steps after which a healed cluster must have ended every job.
const STEPS_TO_END: u32 = 60_000;

/// Good enough to explore, and the same everywhere (Knuth's MMIX constants).
pub(super) struct Random(u64);

#[derive(Default)]
struct World {
    cluster: Cluster,
    nodes: Vec<NodeSpec>,
    alive: BTreeSet<NodeId>,
    jobs: BTreeMap<JobId, Job>,
    dropped_shuffles: BTreeSet<NodeId>,
    failed: u32,
    finished: u32,
}

struct Job {
    node: NodeId,
    wanted: BTreeSet<Partition>,
    results: BTreeMap<Partition, (ExecutorId, AttemptId, TaskDone)>,
    state: JobState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobState {
    Running,
    Finished,
    Failed,
    Dropped,
}

// === impl Random ===

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * u128::from(limit)) >> 64) as u64
    }

    pub(super) fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }
}

// === impl World ===

impl World {
    /// Adds an operation on random nodes that are there, as a guest would.
    fn add_node(&mut self, random: &mut Random, scheduler: &mut Scheduler) {
        let records =
            |node: &&NodeSpec| node.kind == NodeKind::Records && self.alive.contains(&node.id);
        let candidates = self.nodes.iter().filter(records).collect::<Vec<_>>();
        let pick = |random: &mut Random| {
            let index = random.below(candidates.len() as u64) as usize;
            (candidates[index].id, candidates[index].partitions)
        };
        let narrow = |parent, map| Dependency::Narrow { parent, map };
        let mut added = Vec::new();
        match if candidates.is_empty() { 0 } else { random.below(7) } {
            0 => added.push((1 + random.below(6) as u32, NodeKind::Records, vec![])),
            1 | 2 => {
                let (parent, partitions) = pick(random);
                let dependency = narrow(parent, NarrowMap::OneToOne);
                added.push((partitions, NodeKind::Records, vec![dependency]));
            }
            3 => {
                let ((a, size_a), (b, size_b)) = (pick(random), pick(random));
                let dependencies = vec![
                    narrow(a, NarrowMap::Range { start: 0 }),
                    narrow(b, NarrowMap::Range { start: size_a }),
                ];
                added.push((size_a + size_b, NodeKind::Records, dependencies));
            }
            4 => {
                let (parent, partitions) = pick(random);
                let levels =
                    [StorageLevel::Memory, StorageLevel::MemoryAndDisk, StorageLevel::Disk];
                let kind = match random.below(4) {
                    0 => NodeKind::ShuffleWrite { reducers: 1 },
                    level => NodeKind::Kept {
                        level: levels[level as usize - 1],
                        replicas: 1 + random.below(2) as u32,
                    },
                };
                let dependency = narrow(parent, NarrowMap::OneToOne);
                let writer = NodeId(self.nodes.len() as u32);
                added.push((partitions, kind, vec![dependency]));
                let dependency = Dependency::Blocks { writer };
                added.push((partitions, NodeKind::Records, vec![dependency]));
            }
            _ => {
                let (parent, partitions) = pick(random);
                let reducers = 1 + random.below(4) as u32;
                let kind = NodeKind::ShuffleWrite { reducers };
                let dependency = narrow(parent, NarrowMap::OneToOne);
                let writer = NodeId(self.nodes.len() as u32);
                added.push((partitions, kind, vec![dependency]));
                let dependency = Dependency::Shuffle { writer };
                added.push((reducers, NodeKind::Records, vec![dependency]));
            }
        }
        for (partitions, kind, dependencies) in added {
            let id = NodeId(self.nodes.len() as u32);
            let spec = NodeSpec {
                id,
                name: format!("node {id}"),
                source: format!("job.rs:{id}"),
                partitions,
                kind,
                dependencies,
            };
            scheduler.register(spec.clone()).unwrap();
            self.nodes.push(spec);
            self.alive.insert(id);
        }
    }

    fn submit(&mut self, random: &mut Random, scheduler: &mut Scheduler, out: &mut Vec<Action>) {
        let records = self
            .nodes
            .iter()
            .filter(|node| node.kind == NodeKind::Records && self.alive.contains(&node.id));
        let records = records.collect::<Vec<_>>();
        if records.is_empty() {
            return;
        }
        let node = records[random.below(records.len() as u64) as usize];
        let all = (0..node.partitions).map(Partition);
        let partitions = match random.below(3) {
            0 => all.clone().filter(|_| random.below(2) == 0).collect(),
            _ => Vec::new(),
        };
        let job = JobId(self.jobs.len() as u32);
        let wanted = if partitions.is_empty() {
            all.collect()
        } else {
            partitions.iter().copied().collect()
        };
        let entry =
            Job { node: node.id, wanted, results: BTreeMap::new(), state: JobState::Running };
        let submission = JobSubmission {
            job,
            spec: JobSpec {
                node: node.id,
                partitions,
                order: ResultOrder::Arrival,
                output: None,
                name: "collect".to_owned(),
                source: "job.rs:1".to_owned(),
            },
            // Every job has a snapshot of its own.
            snapshot: SnapshotId(job.0 + 1),
            kind: StageKind::Result,
            pool: PoolName::new(["a", "b", "default"][random.below(3) as usize]).unwrap(),
        };
        self.jobs.insert(job, entry);
        scheduler.submit(Duration::ZERO, submission, out).unwrap();
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::JobResult { job, partition, executor, attempt, done } => {
                    let job = self.jobs.get_mut(&job).unwrap();
                    assert_eq!(job.state, JobState::Running, "a result of an ended job");
                    assert!(job.wanted.contains(&partition));
                    let twice = job.results.insert(partition, (executor, attempt, done));
                    assert_eq!(twice, None, "partition {partition} twice");
                }
                Action::JobFinished(job) => {
                    let job = self.jobs.get_mut(&job).unwrap();
                    assert_eq!(job.state, JobState::Running);
                    assert!(job.results.keys().eq(&job.wanted), "not all results");
                    job.state = JobState::Finished;
                    self.finished += 1;
                }
                Action::JobFailed { job, message } => {
                    assert!(message.contains("node"), "{message}");
                    assert!(!message.contains("different bytes"), "{message}");
                    let job = self.jobs.get_mut(&job).unwrap();
                    assert_eq!(job.state, JobState::Running, "{message}");
                    job.state = JobState::Failed;
                    self.failed += 1;
                }
                Action::FreeSnapshot(snapshot) => {
                    let new = self.cluster.snapshots_freed.insert(snapshot);
                    assert!(new, "snapshot {snapshot} freed twice");
                }
                Action::DropShuffle { node } => {
                    self.dropped_shuffles.insert(node);
                }
                Action::StageProgress(progress) => assert!(progress.done <= progress.total),
                Action::Retired(executor) => self.cluster.retire(executor),
                Action::Drained(worker) => self.cluster.drain(&worker),
                Action::MachineSuspected { attempts, .. } => assert!(attempts.len() > 1),
                other => self.cluster.send(other),
            }
        }
    }

    /// A held result of a job that somebody waits for, whose executor is gone.
    fn find_lost_result(&self) -> Option<(JobId, Partition)> {
        let alive = self
            .jobs
            .iter()
            .filter(|(_, job)| matches!(job.state, JobState::Running | JobState::Finished));
        let results = alive.flat_map(|(id, job)| job.results.iter().map(move |r| (*id, r)));
        let mut lost = results.filter(|(_, (_, (executor, _, done)))| {
            matches!(done.result, ResultPlace::Held { .. }) && !self.cluster.is_here(*executor)
        });
        lost.next().map(|(id, (partition, _))| (id, *partition))
    }

    /// It is noticed when it is fetched.
    fn lose_result(&mut self) -> Option<Event> {
        let (id, partition) = self.find_lost_result()?;
        let job = self.jobs.get_mut(&id)?;
        let (_, attempt, _) = job.results.remove(&partition)?;
        if job.state == JobState::Finished {
            job.state = JobState::Running;
            self.finished -= 1;
        }
        Some(Event::ResultLost { job: id, partition, attempt })
    }

    /// What the job must have computed, by the definition of its lineage.
    fn check_results(&self) {
        let mut memo = BTreeMap::new();
        for job in self.jobs.values().filter(|job| job.state == JobState::Finished) {
            for (partition, (_, _, done)) in &job.results {
                let expected = self.expect(job.node, *partition, &mut memo);
                match &done.result {
                    ResultPlace::Inline(bytes) => assert_eq!(bytes[..], expected.to_le_bytes()),
                    ResultPlace::Held { length } => assert_eq!(*length, expected),
                }
            }
        }
    }

    fn expect(
        &self,
        node: NodeId,
        partition: Partition,
        memo: &mut BTreeMap<(NodeId, Partition), u64>,
    ) -> u64 {
        if let Some(value) = memo.get(&(node, partition)) {
            return *value;
        }
        let mut writers = BTreeSet::new();
        let mut stack = vec![node];
        while let Some(node) = stack.pop() {
            for dependency in &self.nodes[node.0 as usize].dependencies {
                match dependency {
                    Dependency::Narrow { parent, .. } => stack.push(*parent),
                    Dependency::Shuffle { writer } | Dependency::Blocks { writer } => {
                        writers.insert(*writer);
                    }
                }
            }
        }
        let mut read = Vec::new();
        for writer in writers {
            for map in 0..self.nodes[writer.0 as usize].partitions {
                read.push(self.expect(writer, Partition(map), memo));
            }
        }
        let value = value_of(node, partition, read.into_iter());
        memo.insert((node, partition), value);
        value
    }
}

/// Runs one seed; returns the world when everything has ended.
fn simulate(seed: u64, faults: Faults, drops: bool) -> World {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut world = World::default();
    let mut scheduler = Scheduler::new(4, &scheduling(seed));
    let mut now = Duration::ZERO;
    let mut steps = 0;
    loop {
        steps += 1;
        now += Duration::from_millis(1);
        assert!(steps < STEPS_WITH_FAULTS + STEPS_TO_END, "seed {seed} never ends");
        let faulty = steps < STEPS_WITH_FAULTS;
        let mut out = Vec::new();
        let event = match random.below(40) {
            0 if faulty || world.cluster.executors() == 0 => {
                let added = (world.cluster.executors() < 6)
                    .then(|| world.cluster.add_executor(&mut random));
                if let Some(Event::ExecutorAdded { worker, .. }) = &added
                    && world.cluster.comes_back(worker)
                {
                    scheduler.handle(now, Event::WorkerStays(worker.clone()), &mut out);
                }
                added
            }
            7 if faulty && faults.drains => {
                let worker = any_worker(&mut random);
                // One stays, or nobody could copy anything.
                (worker.0 != "w0").then_some(Event::WorkerLeaves(worker))
            }
            8 if faults.drains => {
                let worker = any_worker(&mut random);
                let is_empty = !world.cluster.is_anybody_on(&worker);
                // Executors that retire and are not kept any more lose what they have in memory.
                (is_empty || faults.executor > 0).then_some(Event::WorkerStays(worker))
            }
            9 if !faulty && faults.drains => {
                let worker = WorkerId("w0".to_owned());
                let is_empty = !world.cluster.is_anybody_on(&worker);
                is_empty.then(|| world.cluster.add_executor_on(worker, &mut random))
            }
            1 if faulty => {
                world.add_node(&mut random, &mut scheduler);
                None
            }
            2 if faulty && world.jobs.len() < 12 => {
                world.submit(&mut random, &mut scheduler, &mut out);
                None
            }
            3 if faulty && drops => drop_something(&mut world, &mut random),
            4 => world.lose_result(),
            5 if faulty && drops => {
                let snapshot = SnapshotId(1 + random.below(12) as u32);
                scheduler.reclaim(now, snapshot, &mut out);
                None
            }
            6 if faulty && faults.retires => {
                world.cluster.pick(&mut random).map(|executor| match random.below(3) {
                    0 | 1 => Event::Retire(executor),
                    _ => Event::Unretire(executor),
                })
            }
            _ => {
                let faults = if faulty { faults } else { Faults::default() };
                world.cluster.step(faults, &mut random)
            }
        };
        if let Some(event) = event {
            scheduler.handle(now, event, &mut out);
        } else if scheduler.next_timeout().is_some_and(|due| due <= now) {
            scheduler.handle_timeout(now, &mut out);
        }
        scheduler.tasks.check();
        scheduler.dag.check();
        if steps % 16 == 0 {
            check_explanation(&scheduler, now, &mut world.cluster.rare);
        }
        world.act(out);
        let running = |job: &Job| job.state == JobState::Running;
        if !faulty
            && !world.jobs.values().any(running)
            && world.cluster.is_quiet()
            && world.find_lost_result().is_none()
        {
            break;
        }
    }
    world.check_results();
    end(&mut world, &mut scheduler, now);
    world
}

/// Every third seed shares fairly, and every second waits for near slots.
fn scheduling(seed: u64) -> Scheduling {
    let mut scheduling = Scheduling::default();
    if seed.is_multiple_of(3) {
        let fair = PoolSettings { mode: SharingMode::Fair, weight: 2, min_share: 1 };
        scheduling.mode = SharingMode::Fair;
        scheduling.pools.insert(PoolName::new("a").unwrap(), fair);
    }
    scheduling.locality_wait = Duration::from_millis(50 * (seed % 2));
    scheduling
}

/// What is explained is what is there, for each task one reason.
fn check_explanation(scheduler: &Scheduler, now: Duration, rare: &mut BTreeMap<&'static str, u64>) {
    let explained = scheduler.explain(now);
    assert_eq!(explained.more, 0);
    let running = explained.stages.iter().map(|stage| stage.running as usize).sum::<usize>();
    assert!(running <= scheduler.attempts_in_flight(), "some are of stages that are gone");
    for stage in &explained.stages {
        assert!(stage.pending.iter().all(|pending| pending.tasks > 0), "{stage:?}");
        let waits =
            stage.pending.iter().any(|pending| matches!(pending.reason, TaskWait::Parents { .. }));
        assert!(stage.stage.is_some() || waits, "{stage:?} has not started for no reason");
        for pending in &stage.pending {
            let reason = match pending.reason {
                TaskWait::Parents { .. } => "waits for stages",
                TaskWait::NoExecutors => "waits for executors",
                TaskWait::SlotsBusy { .. } => "waits for slots",
                TaskWait::Locality { .. } => "waits for near slots",
                TaskWait::Excluded { .. } => "failed where slots are",
                TaskWait::Retiring => "never here",
            };
            *rare.entry(reason).or_default() += 1;
        }
    }
}

fn drop_something(world: &mut World, random: &mut Random) -> Option<Event> {
    if random.below(3) > 0 {
        let index = random.below(world.alive.len() as u64 + 1) as usize;
        let node = *world.alive.iter().nth(index)?;
        world.alive.remove(&node);
        return Some(Event::NodeDropped(node));
    }
    let id = JobId(random.below(world.jobs.len() as u64 + 1) as u32);
    let job = world.jobs.get_mut(&id)?;
    if matches!(job.state, JobState::Running | JobState::Finished) {
        if job.state == JobState::Finished {
            world.finished -= 1;
        }
        job.state = JobState::Dropped;
    }
    Some(Event::JobDropped(id))
}

/// The guest ends: nothing may be left.
fn end(world: &mut World, scheduler: &mut Scheduler, now: Duration) {
    let mut out = Vec::new();
    for job in world.jobs.keys() {
        scheduler.handle(now, Event::JobDropped(*job), &mut out);
    }
    for node in &world.alive {
        scheduler.handle(now, Event::NodeDropped(*node), &mut out);
    }
    world.act(out);
    assert_eq!(scheduler.attempts_in_flight(), 0, "attempts left");
    assert_eq!(scheduler.jobs_alive(), 0, "jobs left");
    assert!(scheduler.runs.is_empty() && scheduler.sets.is_empty(), "runs left");
    let freed = world.cluster.snapshots_freed.iter().map(|s| s.0);
    assert!(freed.eq(1..=world.jobs.len() as u32), "snapshots left");
}
