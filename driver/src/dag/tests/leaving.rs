//! Workers that are to leave: what is copied, by whom, and what the end of them costs.

use super::*;
use offshoot_proto::abi::StorageLevel;
use offshoot_proto::executor::{BlockState, CopyBlocks, KeptBlock};

fn leaves(env: &mut Env, number: u32) -> Vec<Action> {
    env.handle(Event::WorkerLeaves(place(number).worker))
}

/// An executor says what became of a block.
fn tell(env: &mut Env, by: u32, map: u32, attempt: u64, state: BlockState) -> Vec<Action> {
    let (map, attempt) = (Partition(map), AttemptId(attempt));
    let blocks = vec![KeptBlock { writer: WRITER, map, attempt, state }];
    env.handle(Event::Kept { executor: executor(by), blocks })
}

/// An order to copy outputs of the shuffle, which has two reducers.
fn copy<const N: usize>(by: u32, from: ShufflePlace, blocks: [(u32, u64); N]) -> Action {
    let blocks = blocks.map(|(map, attempt)| (Partition(map), AttemptId(attempt))).to_vec();
    let level = StorageLevel::Disk;
    let copy = CopyBlocks { writer: WRITER, level, reducers: 2, from, blocks };
    Action::Copy { executor: executor(by), copy }
}

fn needs(env: &Env, number: u32) -> bool {
    env.dag.needs(&place(number).worker)
}

fn emptied(env: &mut Env, number: u32) -> Vec<Action> {
    env.handle(Event::Emptied(place(number).worker))
}

#[test]
fn what_is_there_and_what_comes_later_is_copied_and_the_loss_costs_nothing() {
    let mut env = Env::with_shuffle();
    env.submit(0, READER, []);
    env.done(0, 0, 0, 10);
    assert_eq!(leaves(&mut env, 0), [copy(1, place(0), [(0, 10)])]);
    let run = reduce_run(1, 0, [(0, 10), (0, 11)], vec![place(0)]);
    assert_eq!(env.done(0, 1, 0, 11), [submitted(run, [0, 1])], "one order after the other");
    let next = copy(1, place(0), [(1, 11)]);
    assert_eq!(tell(&mut env, 1, 0, 10, BlockState::OnDisk), [next]);
    assert!(needs(&env, 0));
    assert_eq!(tell(&mut env, 1, 1, 11, BlockState::OnDisk), []);
    assert!(!needs(&env, 0) && !env.dag.is_moving());
    let anew = reduce_run(2, 0, [(0, 10), (0, 11)], vec![place(1)]);
    assert_eq!(emptied(&mut env, 0), [suspended(1), resumed(1, anew)]);
    assert_eq!(env.lose_worker(0), [], "nothing of it is left");
    assert_eq!(env.fetch_failed((1, 1), (0, 10, 0)), [], "under the older run");
}

#[test]
fn who_is_described_once_there_is_a_copy_reads_that() {
    let mut env = Env::reducing();
    assert_eq!(leaves(&mut env, 0), [copy(1, place(0), [(0, 10)])]);
    tell(&mut env, 1, 0, 10, BlockState::OnDisk);
    let mut run = reduce_run(2, 1, [(0, 10), (0, 11)], vec![place(1), place(0)]);
    run.inputs[0].copies = vec![(Partition(0), 1)];
    assert_eq!(env.submit(1, READER, []), [submitted(run, [0, 1])]);
}

#[test]
fn a_worker_that_is_lost_before_all_is_copied_costs_what_was_not() {
    let mut env = Env::with_shuffle();
    env.submit(0, READER, []);
    env.done(0, 0, 0, 10);
    env.done(0, 1, 0, 11);
    env.finish(0);
    assert_eq!(leaves(&mut env, 0), [copy(1, place(0), [(0, 10), (1, 11)])]);
    tell(&mut env, 1, 0, 10, BlockState::OnDisk);
    assert_eq!(env.lose_worker(0), [suspended(1), submitted(map_run(2, 0, 1), [1])]);
    let run = reduce_run(3, 0, [(0, 10), (0, 20)], vec![place(1)]);
    assert_eq!(env.done(2, 1, 1, 20), [resumed(1, run)]);
}

#[test]
fn a_lost_worker_whose_output_was_copied_has_its_readers_described_anew() {
    let mut env = Env::reducing();
    leaves(&mut env, 0);
    tell(&mut env, 1, 0, 10, BlockState::OnDisk);
    let run = reduce_run(2, 0, [(0, 10), (0, 11)], vec![place(1)]);
    assert_eq!(env.lose_worker(0), [suspended(1), resumed(1, run)]);
}

#[test]
fn reading_in_vain_where_a_worker_left_is_nobodys_failure() {
    let mut env = Env::with_shuffle();
    env.register(node(3, 2, NodeKind::Records, vec![shuffle(1)]));
    env.submit(0, READER, []);
    env.done(0, 0, 0, 10);
    env.done(0, 1, 0, 11);
    env.finish(0);
    leaves(&mut env, 0);
    tell(&mut env, 1, 0, 10, BlockState::OnDisk);
    tell(&mut env, 1, 1, 11, BlockState::OnDisk);
    for run in 1..9 {
        let actions = env.fetch_failed((1, run), (run % 2, u64::from(10 + run % 2), 0));
        assert!(matches!(&actions[..], [Action::Suspend(_), Action::Resume { .. }]), "{actions:?}");
    }
}

#[test]
fn with_nobody_elsewhere_it_waits_for_somebody() {
    let mut env = Env::reducing();
    env.handle(Event::ExecutorLost(executor(1)));
    assert_eq!(leaves(&mut env, 0), []);
    assert!(env.dag.is_moving() && needs(&env, 0));
    assert_eq!(leaves(&mut env, 7), [], "who has nothing has nothing to copy");
    assert_eq!(env.add_executor(7), [], "it is to leave as well");
    assert_eq!(env.add_executor(2), [copy(2, place(0), [(0, 10)])]);
}

#[test]
fn who_is_to_go_copies_nothing() {
    let mut env = Env::reducing();
    assert_eq!(env.handle(Event::Retiring(executor(1), true)), []);
    assert_eq!(leaves(&mut env, 0), []);
    let stays = env.handle(Event::Retiring(executor(1), false));
    assert_eq!(stays, [copy(1, place(0), [(0, 10)])]);
}

#[test]
fn a_copy_that_fails_is_tried_once_more_by_another() {
    let mut env = Env::reducing();
    leaves(&mut env, 0);
    assert_eq!(tell(&mut env, 1, 0, 10, BlockState::Gone), [], "nobody else is there");
    assert_eq!(env.add_executor(2), [copy(2, place(0), [(0, 10)])]);
    assert_eq!(tell(&mut env, 2, 0, 10, BlockState::Gone), []);
    assert_eq!(env.add_executor(3), [], "not for ever");
    assert!(needs(&env, 0) && !env.dag.is_moving());
    assert_eq!(env.fetch_failed((1, 1), (0, 10, 0))[1..], [submitted(map_run(2, 0, 1), [0])]);
    assert_eq!(env.done(2, 0, 0, 20)[1..], [copy(1, place(0), [(0, 20)])], "another attempt");
}

#[test]
fn a_copier_that_is_lost_is_replaced_and_what_it_had_is_copied_again() {
    let mut env = Env::reducing();
    env.add_executor(2);
    let ordered = leaves(&mut env, 0);
    assert_eq!(ordered, [copy(1, place(0), [(0, 10)])]);
    let lost = env.handle(Event::ExecutorLost(executor(1)));
    assert_eq!(lost, [copy(2, place(0), [(0, 10)])]);
    tell(&mut env, 2, 0, 10, BlockState::OnDisk);
    env.add_executor(3);
    assert_eq!(env.lose_worker(2), [copy(3, place(0), [(0, 10)])], "worker 0 still has it");
}

#[test]
fn few_outputs_are_spread_and_many_come_one_order_after_the_other() {
    let mut env = Env::new();
    env.register(node(0, 200, NodeKind::Records, vec![]));
    env.register(node(1, 200, write(2), vec![narrow(0)]));
    env.register(node(2, 2, NodeKind::Records, vec![shuffle(1)]));
    env.submit(0, READER, []);
    (0..10).for_each(|map| drop(env.done(0, map, 0, u64::from(map))));
    env.add_executor(2);
    let sizes = |actions: Vec<Action>| {
        let copies = actions.into_iter().filter_map(|action| match action {
            Action::Copy { executor, copy } => Some((executor.number.0, copy.blocks.len())),
            _ => None,
        });
        copies.collect::<Vec<_>>()
    };
    assert_eq!(sizes(leaves(&mut env, 0)), [(1, 5), (2, 5)]);
    (10..200).for_each(|map| assert_eq!(sizes(env.done(0, map, 0, u64::from(map))), []));
    let answers = |env: &mut Env, maps: std::ops::Range<u32>| {
        let told = maps.map(|m| tell(env, 1, m, u64::from(m), BlockState::OnDisk));
        told.map(sizes).collect::<Vec<_>>()
    };
    let answered = answers(&mut env, 0..5);
    assert_eq!(answered, [vec![], vec![], vec![], vec![], vec![(1, 64)]]);
}

#[test]
fn what_only_an_executor_has_in_memory_keeps_it() {
    let mut env = Env::new();
    let level = StorageLevel::Memory;
    env.register(node(0, 2, NodeKind::Records, vec![]));
    env.register(node(1, 2, NodeKind::Kept { level, replicas: 1 }, vec![narrow(0)]));
    let blocks = Dependency::Blocks { writer: WRITER };
    env.register(node(2, 2, NodeKind::Records, vec![blocks]));
    env.submit(0, READER, []);
    let in_memory = || TaskDone { in_memory: true, ..TaskDone::default() };
    env.report(0, 0, 0, 10, in_memory());
    env.report(0, 1, 0, 11, TaskDone::default());
    let [Action::Copy { copy: first, .. }] = &leaves(&mut env, 0)[..] else { panic!() };
    let memory = ShufflePlace { executor: Some(executor(0)), ..place(0) };
    let asked = (first.reducers, first.level, &first.from, first.blocks.len());
    assert_eq!(asked, (1, level, &memory, 1), "blocks of one place");
    assert!(env.dag.has_only(executor(0)));
    let next = tell(&mut env, 1, 0, 10, BlockState::InMemory);
    assert!(!env.dag.has_only(executor(0)) && needs(&env, 0));
    assert!(matches!(&next[..], [Action::Copy { copy, .. }] if copy.from == place(0)), "{next:?}");
    tell(&mut env, 1, 1, 11, BlockState::OnDisk);
    assert!(!needs(&env, 0));
}

#[test]
fn what_nobody_needs_is_not_copied_any_more() {
    let mut env = Env::reducing();
    env.handle(Event::ExecutorLost(executor(1)));
    leaves(&mut env, 0);
    env.handle(Event::JobDropped(JobId(0)));
    for node in [SOURCE, WRITER, READER] {
        env.handle(Event::NodeDropped(node));
    }
    assert!(!env.dag.is_moving() && !needs(&env, 0));
    assert_eq!(env.add_executor(1), []);
}

#[test]
fn a_worker_that_stays_after_all_is_as_any_other() {
    let mut env = Env::reducing();
    leaves(&mut env, 0);
    tell(&mut env, 1, 0, 10, BlockState::Gone);
    assert_eq!(env.handle(Event::WorkerStays(place(0).worker)), []);
    assert!(!env.dag.is_moving());
    assert_eq!(env.add_executor(2), []);
}
