//! What is lost, and what it costs.

use super::*;

#[test]
fn a_lost_worker_costs_nothing_until_its_output_is_needed_then_only_that_in_its_snapshot() {
    let mut env = Env::reducing();
    env.done(1, 0, 0, 12);
    env.done(1, 1, 0, 13);
    assert_eq!(env.lose_worker(0), []);
    assert_eq!(
        env.submit(5, READER, []),
        [submitted(map_run(2, 5, 1), [0])],
        "in snapshot 1, though job 5 has snapshot 6"
    );
    let places = vec![place(1)];
    assert_eq!(
        env.done(2, 0, 1, 20),
        [submitted(reduce_run(3, 5, [(0, 20), (0, 11)], places), [0, 1])]
    );
}

#[test]
fn a_worker_lost_under_a_reader_suspends_it_and_it_goes_on_with_what_it_has() {
    let mut env = Env::reducing();
    assert_eq!(env.done(1, 0, 0, 12), [result(0, 0, 12)]);
    assert_eq!(env.lose_worker(1), [suspended(1), submitted(map_run(2, 0, 1), [1])]);
    assert_eq!(env.done(2, 1, 1, 20), [], "its executor is lost as well");
    assert_eq!(
        env.done(2, 1, 0, 21),
        [resumed(1, reduce_run(3, 0, [(0, 10), (0, 21)], vec![place(0)]))]
    );
    assert_eq!(env.done(1, 1, 0, 14), [result(0, 1, 14), Action::JobFinished(JobId(0))]);
}

#[test]
fn a_map_that_loses_output_while_it_runs_runs_the_lost_part_again() {
    let mut env = Env::with_shuffle();
    env.submit(0, READER, []);
    env.done(0, 0, 0, 10);
    assert_eq!(env.lose_worker(0), []);
    assert_eq!(env.done(0, 1, 1, 11), []);
    assert_eq!(env.finish(0), [submitted(map_run(1, 0, 1), [0])]);
}

#[test]
fn a_fetch_failure_reruns_that_map_and_late_ones_rerun_nothing() {
    let mut env = Env::reducing();
    assert_eq!(
        env.fetch_failed((1, 1), (0, 10, 0)),
        [suspended(1), submitted(map_run(2, 0, 1), [0])]
    );
    assert_eq!(env.fetch_failed((1, 1), (0, 10, 0)), [], "the same block");
    let run = reduce_run(3, 0, [(0, 20), (0, 11)], vec![place(1)]);
    assert_eq!(env.done(2, 0, 1, 20), [resumed(1, run)]);
    assert_eq!(env.finish(2), []);
    assert_eq!(env.fetch_failed((1, 1), (0, 10, 0)), [], "attempt 10 was replaced by attempt 20");
}

#[test]
fn the_second_failure_in_a_row_distrusts_everything_on_that_worker() {
    let mut env = Env::with_shuffle();
    env.submit(0, READER, []);
    env.done(0, 0, 0, 10);
    env.done(0, 1, 0, 11);
    env.finish(0);
    assert_eq!(
        env.fetch_failed((1, 1), (0, 10, 0)),
        [suspended(1), submitted(map_run(2, 0, 1), [0])]
    );
    env.done(2, 0, 0, 20);
    env.finish(2);
    assert_eq!(
        env.fetch_failed((1, 3), (1, 11, 0)),
        [suspended(1), submitted(map_run(4, 0, 1), [0, 1])]
    );
}

#[test]
fn four_fetch_failures_in_a_row_fail_the_job_naming_block_and_worker() {
    let mut env = Env::reducing();
    let mut attempt = 10;
    let (mut reduce, mut map) = (1, 2);
    for _ in 0..3 {
        env.fetch_failed((1, reduce), (0, attempt, 0));
        attempt += 10;
        env.done(map, 0, 0, attempt);
        env.finish(map);
        (reduce, map) = (map + 1, map + 2);
    }
    let actions = env.fetch_failed((1, reduce), (0, attempt, 0));
    assert_eq!(
        failed_message(&actions),
        "job 0 `collect` (job.rs:99), stage 1 `op2` (job.rs:2) failed 4 times in a row because \
         shuffle blocks could not be read; last, partition 0 could not read what map partition 0 \
         of shuffle `op1` (job.rs:1) (attempt 40) left on worker w0: no such block. Check that \
         worker's disk and network, or drain it"
    );
    assert_eq!(actions[1..], [Action::Cancel(StageRunId(1))]);
}

#[test]
fn fetch_failures_that_are_not_in_a_row_do_not_fail_the_job() {
    let mut env = Env::with_shuffle();
    env.register(node(3, 2, write(2), vec![narrow(2)]));
    env.register(node(4, 2, NodeKind::Records, vec![shuffle(3)]));
    env.submit(0, NodeId(4), []);
    env.done(0, 0, 0, 10);
    env.done(0, 1, 0, 11);
    env.finish(0);
    let (mut attempt, mut next) = (10, 1);
    for round in 0..6 {
        // The second shuffle is computed after one failure, then lost.
        let stage = next;
        let actions = env.fetch_failed((stage, stage), (0, attempt, 0));
        assert_eq!(actions[0], suspended(stage), "round {round}");
        attempt += 10;
        env.done(next + 1, 0, 0, attempt);
        env.finish(next + 1);
        env.done(stage, 0, 1, attempt + 1);
        let actions = env.done(stage, 1, 1, attempt + 2);
        let started = match &actions[0] {
            Action::Submit { run, .. } | Action::Resume { run, .. } => run,
            other => panic!("{other:?}"),
        };
        assert_eq!(started.node, NodeId(4), "the second shuffle is complete");
        env.finish(stage);
        let actions = env.lose_worker(1);
        env.add_executor(1);
        let [Action::Suspend(_), Action::Submit { run, .. }] = &actions[..] else {
            panic!("{actions:?}");
        };
        next = run.id.0;
    }
}

#[test]
fn different_bytes_from_two_attempts_fail_the_job_naming_both_workers() {
    let mut env = Env::reducing();
    env.lose_worker(1);
    env.add_executor(1);
    let other = TaskDone { digest: 7, ..TaskDone::default() };
    let actions = env.report(2, 1, 0, 20, other);
    let message = failed_message(&actions);
    assert!(
        message.contains("partition 1") && message.contains("w1") && message.contains("w0"),
        "{message}"
    );
}

#[test]
fn what_a_partition_says_is_heard_once_however_often_it_is_computed() {
    let says = |text: &[u8]| TaskDone { updates: text.to_vec(), ..TaskDone::default() };
    let heard = |actions: &[Action]| {
        let updates = actions.iter().filter(|action| matches!(action, Action::Updates(_)));
        updates.count()
    };
    let mut env = Env::with_shuffle();
    env.submit(0, READER, []);
    assert_eq!(heard(&env.report(0, 0, 0, 10, says(b"one"))), 1);
    assert_eq!(heard(&env.report(0, 0, 1, 11, says(b"one"))), 0, "a second attempt");
    assert_eq!(heard(&env.report(0, 1, 1, 12, says(b"two"))), 1, "a map stage");
    env.finish(0);
    env.lose_worker(1);
    env.add_executor(1);
    assert_eq!(heard(&env.report(2, 1, 0, 20, says(b"two"))), 0, "computed again");
}

#[test]
fn a_held_result_that_is_lost_is_computed_again() {
    let held = || TaskDone { result: ResultPlace::Held { length: 1 }, ..TaskDone::default() };
    let mut env = Env::new();
    env.register(node(0, 2, NodeKind::Records, vec![]));
    env.submit(0, SOURCE, []);
    env.report(0, 0, 0, 10, held());
    let last = env.report(0, 1, 1, 11, held());
    assert_eq!(last[1..], [Action::JobFinished(JobId(0))], "it stays");
    env.finish(0);
    let lost = |attempt| Event::ResultLost {
        job: JobId(0),
        partition: Partition(1),
        attempt: AttemptId(attempt),
    };
    assert_eq!(env.handle(lost(9)), [], "not the accepted attempt");
    let actions = env.handle(lost(11));
    assert!(
        matches!(&actions[..], [Action::Submit { partitions: p, .. }] if *p == partitions([1]))
    );
    assert_eq!(env.done(1, 1, 0, 12), [result(0, 1, 12), Action::JobFinished(JobId(0))]);
    assert_eq!(env.handle(Event::JobDropped(JobId(0))), [Action::FreeSnapshot(SnapshotId(1))]);
}

#[test]
fn a_snapshot_can_be_reclaimed_unless_it_is_needed_and_its_shuffles_are_then_computed_whole() {
    let mut env = Env::reducing();
    let mut actions = Vec::new();
    assert!(!env.dag.reclaim(SnapshotId(1), &mut actions), "job 0 runs");
    env.done(1, 0, 0, 12);
    env.done(1, 1, 0, 13);
    assert_eq!(actions, []);
    assert!(env.dag.reclaim(SnapshotId(1), &mut actions));
    assert_eq!(actions, [Action::FreeSnapshot(SnapshotId(1)), Action::DropShuffle(WRITER)]);
    assert_eq!(env.submit(1, READER, []), [submitted(map_run(2, 1, 2), [0, 1])]);
}

#[test]
fn what_was_computed_from_a_reclaimed_snapshot_is_computed_whole_as_well() {
    let mut env = Env::with_shuffle();
    env.register(node(3, 2, write(2), vec![narrow(2)]));
    env.register(node(4, 2, NodeKind::Records, vec![shuffle(3)]));
    env.submit(0, READER, []);
    env.done(0, 0, 0, 10);
    env.done(0, 1, 0, 11);
    env.handle(Event::JobDropped(JobId(0)));
    env.submit(1, NodeId(4), []);
    env.done(2, 0, 0, 12);
    env.done(2, 1, 0, 13);
    env.handle(Event::JobDropped(JobId(1)));
    let mut actions = Vec::new();
    assert!(env.dag.reclaim(SnapshotId(1), &mut actions));
    assert_eq!(
        actions,
        [
            Action::FreeSnapshot(SnapshotId(1)),
            Action::DropShuffle(WRITER),
            Action::FreeSnapshot(SnapshotId(2)),
            Action::DropShuffle(NodeId(3)),
        ],
        "the second shuffle was made in snapshot 2, of output made in snapshot 1"
    );
}

#[test]
fn a_shuffle_that_was_read_keeps_its_snapshot_when_all_its_output_is_lost() {
    let mut env = Env::with_shuffle();
    env.register(node(3, 2, write(2), vec![narrow(2)]));
    env.register(node(4, 2, NodeKind::Records, vec![shuffle(3)]));
    env.submit(0, NodeId(4), []);
    env.done(0, 0, 0, 10);
    env.done(0, 1, 0, 11);
    env.finish(0);
    env.done(1, 0, 1, 12);
    env.lose_worker(0);
    env.handle(Event::JobDropped(JobId(0)));
    assert_eq!(
        env.submit(1, NodeId(4), []),
        [submitted(map_run(3, 1, 1), [0, 1])],
        "map 0 of the second shuffle was computed from what snapshot 1 gives"
    );
}
