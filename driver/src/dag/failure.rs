//! What lost blocks, failed tasks and contradicting digests lead to.

use super::places::PlaceIndex;
use super::stage::{Phase, StageKey};
use super::{Action, Dag};
use crate::tasks::FailedAttempt;
use offshoot_proto::id::{AttemptId, NodeId, Partition, StageRunId, WorkerId};
use offshoot_proto::outcome::TaskFailure;
use std::collections::BTreeSet;
use std::fmt::Write as _;

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
        let TaskFailure::FetchFailed { writer, map, map_attempt, worker, reason } = &failure else {
            return;
        };
        let block = LostBlock { writer: *writer, map: *map, attempt: *map_attempt, worker, reason };
        let Some(key) = self.sets.get(&set).copied() else {
            return;
        };
        let Some(reader) = self.stages.get_mut(&key) else {
            return;
        };
        // A run that is suspended or was resumed since has been counted.
        let counts = matches!(reader.phase, Phase::Running { run: current, .. } if current == run);
        reader.fetch_failures += u32::from(counts);
        let failures = reader.fetch_failures;
        let is_input = reader.inputs.binary_search(writer).is_ok();
        let jobs = reader.jobs.clone();
        let lost = is_input && self.lose_block(&block, counts && failures >= DISTRUSTED_FROM);
        if counts && failures >= FETCH_FAILURES_MAX {
            let reason = self.fetch_message(key, set, partition, &block);
            self.fail_jobs(jobs, &reason, actions);
        }
        if lost {
            self.on_output_lost(*writer, actions);
        } else if counts && failures < FETCH_FAILURES_MAX {
            self.restart(key, actions);
        }
    }

    /// Removes an output if it is still the one that could not be read: a failure that comes late
    /// must not have a map run a second time.
    fn lose_block(&mut self, block: &LostBlock<'_>, all_of_worker: bool) -> bool {
        let place = self.places.index(block.worker);
        let Some(stage) = self.stages.get_mut(&StageKey::Shuffle(block.writer)) else {
            return false;
        };
        let lost = stage.outputs.lose(block.map, block.attempt);
        if let (true, true, Some(place)) = (lost, all_of_worker, place) {
            stage.outputs.lose_place(place);
        }
        lost
    }

    /// A run named a block that is not an input of it: the next run has the inputs again.
    fn restart(&mut self, key: StageKey, actions: &mut Vec<Action>) {
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

    fn fetch_message(
        &self,
        key: StageKey,
        set: StageRunId,
        partition: Partition,
        block: &LostBlock<'_>,
    ) -> String {
        let reader = self.stages.get(&key).map(|stage| stage.node);
        format!(
            "{} failed {FETCH_FAILURES_MAX} times in a row because shuffle blocks could not be \
             read; last, partition {partition} could not read what map partition {} of shuffle {} \
             (attempt {}) left on worker {}: {}. Check that worker's disk and network, or drain it",
            self.stage_text(reader, set),
            block.map,
            self.node_text(Some(block.writer)),
            block.attempt,
            block.worker,
            block.reason,
        )
    }

    pub(super) fn on_failed_for_good(
        &mut self,
        set: StageRunId,
        partition: Partition,
        failure: &TaskFailure,
        attempts: &[FailedAttempt],
        actions: &mut Vec<Action>,
    ) {
        let key = self.sets.get(&set).copied();
        let Some(stage) = key.and_then(|key| self.stages.get(&key)) else {
            return;
        };
        let mut reason = format!(
            "{}, partition {partition}, failed in {} attempts: {failure}",
            self.stage_text(Some(stage.node), set),
            attempts.len(),
        );
        for failed in attempts {
            let FailedAttempt { attempt, executor, worker, text } = failed;
            let text = text.lines().next().unwrap_or_default();
            // Writing to a string cannot fail.
            let _ = write!(reason, "\n  attempt {attempt} on {executor}, worker {worker}: {text}");
        }
        let jobs = stage.jobs.clone();
        self.fail_jobs(jobs, &reason, actions);
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
            "{}, partition {partition}: two attempts on the same memory gave different bytes, one \
             on worker {}, one on worker {}. Either one of these machines computes wrongly, or \
             the job was granted a real clock or real randomness and uses it",
            self.stage_text(Some(stage.node), stage.set().unwrap_or_default()),
            self.places.place(first).worker,
            self.places.place(second).worker,
        );
        let jobs = stage.jobs.clone();
        self.fail_jobs(jobs, &reason, actions);
    }

    fn stage_text(&self, node: Option<NodeId>, set: StageRunId) -> String {
        format!("stage {set} {}", self.node_text(node))
    }

    fn node_text(&self, node: Option<NodeId>) -> String {
        let spec = node.and_then(|node| self.graph.spec(node));
        spec.map(|spec| format!("`{}` ({})", spec.name, spec.source)).unwrap_or_default()
    }
}
