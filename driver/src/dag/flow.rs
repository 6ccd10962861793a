//! How stages become active, start, wait, go on and end.

use super::outputs::Outputs;
use super::stage::{Phase, Stage, StageKey};
use super::{Action, Dag, ProgressState, StageProgress};
use offshoot_proto::abi::NodeKind;
use offshoot_proto::id::{JobId, NodeId, Partition, StageRunId};
use offshoot_proto::stage::{ShuffleInput, StageKind, StageRun};
use std::collections::{BTreeMap, BTreeSet};

// === impl Dag ===

impl Dag {
    /// A job needs a stage: joins it if it is active, else makes it and whatever it lacks active,
    /// and starts what can start.
    pub(super) fn activate(&mut self, key: StageKey, job: JobId, actions: &mut Vec<Action>) {
        let mut ready = BTreeSet::new();
        let mut stack = vec![key];
        while let Some(key) = stack.pop() {
            self.ensure_stage(key);
            let (Some(stage), Some(entry)) = (self.stages.get_mut(&key), self.jobs.get_mut(&job))
            else {
                continue;
            };
            if !stage.jobs.insert(job) {
                continue;
            }
            entry.stages.insert(key);
            if stage.phase != Phase::Idle {
                let on = stage.waits_on().map(|on| &*on);
                stack.extend(on.into_iter().flatten().copied().map(StageKey::Shuffle));
                continue;
            }
            let inputs = stage.inputs.clone();
            let on = self.read(key, inputs);
            if on.is_empty() {
                ready.insert(key);
            }
            stack.extend(on.iter().copied().map(StageKey::Shuffle));
            if let Some(stage) = self.stages.get_mut(&key) {
                stage.phase = Phase::Waiting { on };
            }
        }
        for key in ready {
            self.start(key, actions);
        }
    }

    /// Notes who reads these shuffles; returns those that are not complete.
    fn read(&mut self, reader: StageKey, writers: Vec<NodeId>) -> BTreeSet<NodeId> {
        let mut incomplete = BTreeSet::new();
        for writer in writers {
            let key = StageKey::Shuffle(writer);
            self.ensure_stage(key);
            if let Some(stage) = self.stages.get_mut(&key) {
                stage.readers.insert(reader);
                if !stage.outputs.is_complete() {
                    incomplete.insert(writer);
                }
            }
        }
        incomplete
    }

    fn ensure_stage(&mut self, key: StageKey) {
        let StageKey::Shuffle(node) = key else {
            return;
        };
        if self.stages.contains_key(&key) {
            return;
        }
        let Some(spec) = self.graph.spec(node) else {
            return;
        };
        let kind = match spec.kind {
            NodeKind::Records => return,
            NodeKind::ShuffleWrite { reducers } => StageKind::ShuffleWrite { reducers },
            NodeKind::Kept { level, .. } => StageKind::Kept { level },
        };
        let outputs = Outputs::new(spec.partitions, &[]);
        let inputs = self.graph.shuffles_of(node);
        self.stages.insert(key, Stage::new(node, kind, None, inputs, outputs));
    }

    /// Starts a stage whose inputs are complete, or goes on with it.
    pub(super) fn start(&mut self, key: StageKey, actions: &mut Vec<Action>) {
        let Some(stage) = self.stages.get_mut(&key) else {
            return;
        };
        let Some(job) = stage.jobs.first().copied() else {
            return;
        };
        debug_assert!(stage.waits_on().is_some_and(|on| on.is_empty()), "{key:?}");
        let snapshot = match stage.snapshot {
            Some(snapshot) => snapshot,
            None => {
                let snapshot = self.jobs[&job].snapshot;
                self.snapshots.hold(snapshot);
                stage.snapshot = Some(snapshot);
                snapshot
            }
        };
        let id = StageRunId(self.runs);
        self.runs += 1;
        let resumed = stage.set();
        let set = resumed.unwrap_or(id);
        stage.phase = Phase::Running { set, run: id };
        stage.runs_for = job;
        let stage = &self.stages[&key];
        let run = StageRun {
            id,
            job,
            snapshot,
            node: stage.node,
            kind: stage.kind.clone(),
            inputs: stage.inputs.iter().map(|w| self.input(*w)).collect(),
        };
        let places = run.inputs.iter().flat_map(|input| &input.places);
        let reads_from = places.filter_map(|p| self.places.index(&p.worker, p.executor)).collect();
        if let Some(stage) = self.stages.get_mut(&key) {
            stage.reads_from = reads_from;
        }
        match resumed {
            Some(stage) => actions.push(Action::Resume { stage, run }),
            None => {
                let stage = &self.stages[&key];
                let partitions = stage.outputs.missing();
                let inputs = stage.inputs.clone();
                let near = self.near(run.node, &inputs, &partitions);
                self.sets.insert(id, key);
                let pool = self.jobs.get(&job).map(|job| job.pool.clone()).unwrap_or_default();
                actions.push(Action::Submit { run, pool, partitions, near });
                self.progress(key, id, ProgressState::Started, actions);
            }
        }
    }

    /// Where the output of a complete shuffle is.
    fn input(&self, writer: NodeId) -> ShuffleInput {
        let outputs = &self.stages[&StageKey::Shuffle(writer)].outputs;
        let mut indices = BTreeMap::new();
        let (mut places, mut copies) = (Vec::new(), Vec::new());
        let mut index_of = |place| {
            *indices.entry(place).or_insert_with(|| {
                places.push(self.places.place(place).clone());
                places.len() as u32 - 1
            })
        };
        let mut maps = Vec::with_capacity(outputs.total() as usize);
        for (map, output) in (0..).map(Partition).zip(outputs.complete()) {
            maps.push((index_of(output.place), output.attempt));
            copies.extend(output.copy.map(|copy| (map, index_of(copy))));
        }
        ShuffleInput { writer, places, maps, copies }
    }

    /// Every partition of a stage is there.
    pub(super) fn on_complete(&mut self, key: StageKey, actions: &mut Vec<Action>) {
        self.stop(key, actions);
        let Some(stage) = self.stages.get_mut(&key) else {
            return;
        };
        stage.fetch_failures = 0;
        stage.was_complete = true;
        let readers = stage.readers.clone();
        self.release_inputs(key, actions);
        match key {
            StageKey::Shuffle(node) => {
                self.copy(node, actions);
                for reader in readers {
                    let stage = self.stages.get_mut(&reader);
                    let on = stage.and_then(|stage| stage.waits_on());
                    if on.is_some_and(|on| on.remove(&node) && on.is_empty()) {
                        self.start(reader, actions);
                    }
                }
            }
            StageKey::Result(id) => {
                actions.push(Action::JobFinished(id));
                if self.jobs.get(&id).is_some_and(|job| !job.holds_results) {
                    self.end_job(id, actions);
                }
            }
        }
    }

    /// A complete shuffle has lost output: whoever reads it waits until it is computed again.
    pub(super) fn on_output_lost(&mut self, writer: NodeId, actions: &mut Vec<Action>) {
        let key = StageKey::Shuffle(writer);
        let readers = self.stages.get(&key).map(|stage| stage.readers.clone());
        for reader in readers.into_iter().flatten() {
            let Some(stage) = self.stages.get_mut(&reader) else {
                continue;
            };
            if let Phase::Running { set, .. } = stage.phase {
                let on = BTreeSet::new();
                stage.phase = Phase::Suspended { set, on };
                actions.push(Action::Suspend(set));
            }
            if let Some(on) = stage.waits_on() {
                on.insert(writer);
            }
            for job in stage.jobs.clone() {
                self.activate(key, job, actions);
            }
        }
    }

    /// Makes stages idle that no job needs, and then what only they needed.
    pub(super) fn deactivate(&mut self, keys: Vec<StageKey>, actions: &mut Vec<Action>) {
        for key in keys {
            self.cancel(key, actions);
            self.release_inputs(key, actions);
        }
    }

    fn cancel(&mut self, key: StageKey, actions: &mut Vec<Action>) {
        let set = self.stages.get(&key).and_then(Stage::set);
        if let Some(set) = set {
            actions.push(Action::Cancel(set));
        }
        self.stop(key, actions);
        self.forget_if_unused(key, actions);
    }

    /// A stage does not read its inputs any more: those that are active for nobody else stop.
    fn release_inputs(&mut self, key: StageKey, actions: &mut Vec<Action>) {
        let mut stack = vec![key];
        while let Some(reader) = stack.pop() {
            let inputs = self.stages.get(&reader).map(|stage| stage.inputs.clone());
            for writer in inputs.into_iter().flatten() {
                let key = StageKey::Shuffle(writer);
                let Some(stage) = self.stages.get_mut(&key) else {
                    continue;
                };
                let was_read = stage.readers.remove(&reader);
                if was_read && stage.readers.is_empty() && stage.phase != Phase::Idle {
                    self.cancel(key, actions);
                    stack.push(key);
                }
            }
        }
    }

    /// Makes a stage idle; whoever calls has cancelled its set or knows that it is complete.
    fn stop(&mut self, key: StageKey, actions: &mut Vec<Action>) {
        let Some(stage) = self.stages.get(&key) else {
            return;
        };
        if let Some(set) = stage.set() {
            self.progress(key, set, ProgressState::Ended, actions);
            self.sets.remove(&set);
        }
        let Some(stage) = self.stages.get_mut(&key) else {
            return;
        };
        stage.phase = Phase::Idle;
        stage.moved = false;
        for job in std::mem::take(&mut stage.jobs) {
            if let Some(job) = self.jobs.get_mut(&job) {
                job.stages.remove(&key);
            }
        }
    }

    /// Unbinds an idle shuffle from its snapshot if nothing was ever computed from it there and
    /// none of its output is left.
    fn forget_if_unused(&mut self, key: StageKey, actions: &mut Vec<Action>) {
        let StageKey::Shuffle(node) = key else {
            return;
        };
        let stage = self.stages.get(&key);
        if stage.is_some_and(|stage| !stage.was_complete && stage.outputs.done() == 0) {
            self.forget_output(node, actions);
        }
    }

    /// Forgets what an idle shuffle computed, and in which snapshot.
    pub(super) fn forget_output(&mut self, node: NodeId, actions: &mut Vec<Action>) {
        self.forget_copies(node);
        let Some(stage) = self.stages.get_mut(&StageKey::Shuffle(node)) else {
            return;
        };
        debug_assert_eq!(stage.phase, Phase::Idle);
        stage.outputs = Outputs::new(stage.outputs.total(), &[]);
        stage.was_complete = false;
        stage.fetch_failures = 0;
        if let Some(snapshot) = stage.snapshot.take() {
            self.snapshots.release(snapshot, actions);
        }
    }

    /// Reports how far a stage is.
    pub(super) fn progress(
        &self,
        key: StageKey,
        set: StageRunId,
        state: ProgressState,
        actions: &mut Vec<Action>,
    ) {
        let Some(stage) = self.stages.get(&key) else {
            return;
        };
        let spec = self.graph.spec(stage.node);
        actions.push(Action::Progress(StageProgress {
            stage: set,
            job: stage.runs_for,
            name: spec.map(|spec| spec.name.clone()).unwrap_or_default(),
            source: spec.map(|spec| spec.source.clone()).unwrap_or_default(),
            done: stage.outputs.done(),
            total: stage.outputs.total(),
            state,
        }));
    }

    /// Panics if the graph of stages contradicts itself.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn check(&self) {
        for (key, stage) in &self.stages {
            let idle = stage.phase == Phase::Idle;
            assert_eq!(idle, stage.jobs.is_empty(), "{key:?} is needed if active");
            if let StageKey::Shuffle(_) = key {
                assert!(idle || !stage.readers.is_empty(), "{key:?} is read");
            }
            if let Some(set) = stage.set() {
                assert_eq!(self.sets.get(&set), Some(key), "{key:?} has its set");
            }
            for job in &stage.jobs {
                assert!(self.jobs[job].stages.contains(key), "{key:?} of job {job}");
            }
            let incomplete = |writer: &&NodeId| {
                let input = self.stages.get(&StageKey::Shuffle(**writer));
                !input.is_some_and(|input| input.outputs.is_complete())
            };
            let lacks = stage.inputs.iter().filter(incomplete).collect::<BTreeSet<_>>();
            match &stage.phase {
                Phase::Idle => {}
                Phase::Running { .. } => assert!(lacks.is_empty(), "{key:?} runs, lacks {lacks:?}"),
                Phase::Waiting { on } | Phase::Suspended { on, .. } => {
                    assert!(on.iter().eq(lacks.iter().copied()), "{key:?} waits for {on:?}");
                    let inputs = on.iter().map(|w| &self.stages[&StageKey::Shuffle(*w)]);
                    assert!(inputs.clone().count() > 0, "{key:?} waits for nothing");
                    for input in inputs {
                        assert_ne!(input.phase, Phase::Idle, "{key:?} waits for idle {input:?}");
                    }
                }
            }
        }
        for (set, key) in &self.sets {
            assert_eq!(self.stages[key].set(), Some(*set), "set {set}");
        }
    }
}
