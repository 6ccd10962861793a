//! What lost blocks, failed tasks and contradicting digests lead to.

use super::outputs::Loss;
use super::places::PlaceIndex;
use super::stage::{Phase, StageKey};
use super::{Action, Dag};
use crate::tasks::{FailedAttempt, telling};
use offshoot_proto::id::{AttemptId, ExecutorId, NodeId, Partition, StageRunId, WorkerId};
use offshoot_proto::outcome::TaskFailure;
use std::collections::BTreeSet;

/// Runs of one stage in a row that may end because a block could not be read
/// (`spark.stage.maxConsecutiveAttempts`).
const FETCH_FAILURES_MAX: u32 = 4;

/// From this failed run in a row on, a machine that fails to serve one block of a shuffle is taken
/// to have lost all blocks of it: found out one by one they would use up the runs.
const DISTRUSTED_FROM: u32 = 2;

/// A block that could not be read.
struct LostBlock<'a> {
    writer: NodeId,
    map: Partition,
    attempt: AttemptId,
    worker: &'a WorkerId,
    executor: Option<ExecutorId>,
    reason: &'a str,
}

// === impl Dag ===

impl Dag {
    pub(super) fn on_fetch_failed(
        &mut self,
        set: StageRunId,
        run: StageRunId,
        partition: Partition,
        failure: TaskFailure,
        actions: &mut Vec<Action>,
    ) {
        let TaskFailure::FetchFailed { writer, map, map_attempt, worker, executor, reason } =
            &failure
        else {
            return;
        };
        let (map, attempt, executor) = (*map, *map_attempt, *executor);
        let block = LostBlock { writer: *writer, map, attempt, worker, executor, reason };
        let Some(key) = self.sets.get(&set).copied() else {
            return;
        };
        let Some(reader) = self.stages.get_mut(&key) else {
            return;
        };
        // A run that is suspended or was resumed since has been counted.
        let current = matches!(reader.phase, Phase::Running { run: newest, .. } if newest == run);
        let is_input = reader.inputs.binary_search(writer).is_ok();
        let (node, jobs) = (reader.node, reader.jobs.clone());
        let failures = reader.fetch_failures + u32::from(current);
        let lost = is_input && self.lose_block(&block, current && failures >= DISTRUSTED_FROM);
        // Who reads where a worker has left is told of the copy, and nothing is the matter.
        let place = self.places.index(worker, executor);
        let has_left =
            is_input && !lost && place.is_some_and(|place| self.places.is_leaving(place));
        if current && has_left {
            return self.restart(key, actions);
        }
        if let Some(reader) = self.stages.get_mut(&key) {
            reader.fetch_failures = failures;
        }
        if current && failures >= FETCH_FAILURES_MAX {
            let reason = self.fetch_message(partition, &block);
            self.fail_jobs(jobs, (node, set), &reason, actions);
        }
        if lost {
            self.on_output_lost(*writer, actions);
        } else if current && failures < FETCH_FAILURES_MAX {
            self.restart(key, actions);
        }
    }

    /// Removes an output if it is still the one that could not be read: a failure that comes late
    /// must not have a map run a second time. Whether something must be computed again: not if
    /// there is a second copy.
    fn lose_block(&mut self, block: &LostBlock<'_>, all_of_place: bool) -> bool {
        let place = self.places.index(block.worker, block.executor);
        self.moves.look_again();
        let stage = self.stages.get_mut(&StageKey::Shuffle(block.writer));
        let (Some(place), Some(stage)) = (place, stage) else {
            return false;
        };
        let loss = stage.outputs.lose_at(block.map, block.attempt, place);
        let more = all_of_place && loss != Loss::Nothing && stage.outputs.lose_place(place) > 0;
        loss == Loss::Output || more
    }

    /// A run named a block that is not an input of it: the next run has the inputs again.
    pub(super) fn restart(&mut self, key: StageKey, actions: &mut Vec<Action>) {
        let Some(stage) = self.stages.get_mut(&key) else {
            return;
        };
        if let Some(set) = stage.set() {
            let on = BTreeSet::new();
            stage.phase = Phase::Suspended { set, on };
            actions.push(Action::Suspend(set));
            self.start(key, actions);
        }
    }

    fn fetch_message(&self, partition: Partition, block: &LostBlock<'_>) -> String {
        format!(
            " failed {FETCH_FAILURES_MAX} times in a row because shuffle blocks could not be \
             read; last, partition {partition} could not read what map partition {} of shuffle {} \
             (attempt {}) left on worker {}: {}. Check that worker's disk and network, or drain it",
            block.map,
            self.node_text(block.writer),
            block.attempt,
            block.worker,
            telling::one_line(block.reason),
        )
    }

    pub(super) fn on_failed_for_good(
        &mut self,
        set: StageRunId,
        partition: Partition,
        attempts: &[FailedAttempt],
        actions: &mut Vec<Action>,
    ) {
        let key = self.sets.get(&set).copied();
        let Some(stage) = key.and_then(|key| self.stages.get(&key)) else {
            return;
        };
        let (node, jobs) = (stage.node, stage.jobs.clone());
        let told = telling::describe(attempts);
        self.fail_jobs(jobs, (node, set), &format!(", partition {partition}: {told}"), actions);
    }

    pub(super) fn on_digests_differ(
        &mut self,
        key: StageKey,
        partition: Partition,
        first: PlaceIndex,
        second: PlaceIndex,
        actions: &mut Vec<Action>,
    ) {
        let Some(stage) = self.stages.get(&key) else {
            return;
        };
        let reason = format!(
            ", partition {partition}: two attempts on the same memory gave different bytes, one \
             on worker {}, one on worker {}. Either one of these machines computes wrongly, or \
             the job was granted a real clock or real randomness and uses it",
            self.places.place(first).worker,
            self.places.place(second).worker,
        );
        let what = (stage.node, stage.set().unwrap_or_default());
        let jobs = stage.jobs.clone();
        self.fail_jobs(jobs, what, &reason, actions);
    }

    /// Operation and source line of a node.
    pub(super) fn node_text(&self, node: NodeId) -> String {
        let spec = self.graph.spec(node);
        spec.map(|spec| label(&spec.name, &spec.source)).unwrap_or_default()
    }
}

/// An operation and its source line, as a person knows them.
pub(super) fn label(name: &str, source: &str) -> String {
    telling::one_line(&format!("`{name}` ({source})"))
}
