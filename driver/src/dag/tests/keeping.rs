//! Kept datasets: near tasks, second copies, what moves and what is lost.

use super::*;
use offshoot_proto::abi::StorageLevel;
use offshoot_proto::executor::{BlockState, CopyBlocks, KeptBlock};

const IN_MEMORY: fn() -> TaskDone = || TaskDone { in_memory: true, ..TaskDone::default() };

/// Node 1 keeps 2 partitions, node 2 reads them; job 0 has begun to compute them as set 0.
fn keeping(level: StorageLevel, replicas: u32) -> Env {
    let mut env = Env::new();
    env.register(node(0, 2, NodeKind::Records, vec![]));
    env.register(node(1, 2, NodeKind::Kept { level, replicas }, vec![narrow(0)]));
    let blocks = Dependency::Blocks { writer: WRITER };
    env.register(node(2, 2, NodeKind::Records, vec![blocks]));
    let run = StageRun { kind: StageKind::Kept { level }, ..map_run(0, 0, 1) };
    assert_eq!(env.submit(0, READER, []), [submitted(run, [0, 1])]);
    env
}

fn memory_of(number: u32) -> ShufflePlace {
    ShufflePlace { executor: Some(executor(number)), ..place(number) }
}

fn tell(env: &mut Env, by: u32, map: u32, attempt: u64, state: BlockState) -> Vec<Action> {
    let (map, attempt) = (Partition(map), AttemptId(attempt));
    let blocks = vec![KeptBlock { writer: WRITER, map, attempt, state }];
    env.handle(Event::Kept { executor: executor(by), blocks })
}

/// Where a submitted or resumed run reads the two partitions, and who is near.
fn reads(actions: &[Action]) -> (Vec<ShufflePlace>, Near) {
    let (run, near) = match actions {
        [.., Action::Submit { run, near, .. }] => (run, near.clone()),
        [.., Action::Resume { run, .. }] => (run, Near::default()),
        other => panic!("{other:?}"),
    };
    let input = &run.inputs[0];
    (input.maps.iter().map(|(place, _)| input.places[*place as usize].clone()).collect(), near)
}

#[test]
fn tasks_are_near_what_they_read_in_memory_and_in_files() {
    let mut env = keeping(StorageLevel::MemoryAndDisk, 1);
    env.report(0, 0, 0, 10, IN_MEMORY());
    let actions = env.report(0, 1, 1, 11, TaskDone::default());
    let executors = BTreeMap::from([(executor(0), vec![0])]);
    let workers = BTreeMap::from([(WorkerId("w1".to_owned()), vec![1])]);
    let near = Near { executors, workers, mostly: None };
    assert_eq!(reads(&actions), (vec![memory_of(0), place(1)], near));
}

#[test]
fn an_executor_takes_what_it_had_in_memory_along_and_nothing_else() {
    let mut env = keeping(StorageLevel::MemoryAndDisk, 1);
    env.report(0, 0, 0, 10, IN_MEMORY());
    env.report(0, 1, 0, 11, TaskDone::default());
    let lost = env.handle(Event::ExecutorLost(executor(0)));
    assert!(
        matches!(&lost[..], [Action::Suspend(_), Action::Submit { partitions: p, .. }]
            if *p == partitions([0])),
        "{lost:?}"
    );
    let actions = env.report(2, 0, 1, 12, IN_MEMORY());
    assert_eq!(reads(&actions).0, [memory_of(1), place(0)]);
}

#[test]
fn executors_that_are_gone_and_hold_nothing_are_forgotten() {
    let mut env = keeping(StorageLevel::MemoryAndDisk, 1);
    env.report(0, 0, 0, 10, IN_MEMORY());
    env.report(0, 1, 1, 11, TaskDone::default());
    let known = env.dag.places.count();
    assert_eq!(known, 4, "two machines and two executors");
    // Others come and go on the machine of one of these.
    for number in 2..100 {
        let home = place(1);
        env.handle(Event::ExecutorAdded {
            executor: executor(number),
            address: place(number).address,
            worker: home.worker,
            worker_address: home.address,
        });
        assert_eq!(env.handle(Event::ExecutorLost(executor(number))), []);
    }
    assert_eq!(env.dag.places.count(), known);
    let lost = env.handle(Event::ExecutorLost(executor(0)));
    assert!(matches!(&lost[..], [Action::Suspend(_), Action::Submit { .. }]), "{lost:?}");
    assert_eq!(env.dag.places.count(), known - 1);
    let actions = env.report(2, 0, 1, 12, IN_MEMORY());
    assert_eq!(reads(&actions).0, [memory_of(1), place(1)]);
}

#[test]
fn an_executor_that_a_run_was_told_to_read_is_known_until_it_is_told_something_else() {
    let mut env = keeping(StorageLevel::Memory, 2);
    env.report(0, 0, 0, 10, IN_MEMORY());
    env.report(0, 1, 1, 11, IN_MEMORY());
    assert_eq!(tell(&mut env, 1, 0, 10, BlockState::InMemory), []);
    assert_eq!(tell(&mut env, 0, 1, 11, BlockState::InMemory), []);
    let known = env.dag.places.count();
    assert_eq!(reads(&env.submit(1, READER, [])).0, [memory_of(0), memory_of(1)]);
    assert_eq!(env.handle(Event::ExecutorLost(executor(0))), [], "there are copies");
    assert_eq!(env.dag.places.count(), known);
    env.handle(Event::ExecutorLost(executor(1)));
    assert_eq!(env.dag.places.count(), known - 2);
}

#[test]
fn a_block_that_moved_to_a_file_is_read_there() {
    let mut env = keeping(StorageLevel::MemoryAndDisk, 1);
    env.report(0, 0, 0, 10, IN_MEMORY());
    env.report(0, 1, 1, 11, IN_MEMORY());
    assert_eq!(tell(&mut env, 0, 0, 10, BlockState::OnDisk), []);
    assert_eq!(env.handle(Event::ExecutorLost(executor(0))), []);
    let actions = env.submit(1, READER, []);
    let executors = BTreeMap::from([(executor(1), vec![1])]);
    let workers = BTreeMap::from([(WorkerId("w0".to_owned()), vec![0])]);
    assert_eq!(
        reads(&actions),
        (vec![place(0), memory_of(1)], Near { executors, workers, mostly: None })
    );
}

#[test]
fn a_block_that_made_room_is_computed_again_when_it_is_needed() {
    let mut env = keeping(StorageLevel::Memory, 1);
    env.report(0, 0, 0, 10, IN_MEMORY());
    env.report(0, 1, 1, 11, IN_MEMORY());
    env.done(1, 0, 0, 12);
    env.done(1, 1, 1, 13);
    assert_eq!(tell(&mut env, 0, 0, 9, BlockState::Gone), [], "of another attempt");
    assert_eq!(tell(&mut env, 0, 0, 10, BlockState::Gone), [], "nobody reads it");
    let actions = env.submit(1, READER, []);
    assert!(
        matches!(&actions[..], [Action::Submit { partitions: p, .. }] if *p == partitions([0])),
        "{actions:?}"
    );
}

#[test]
fn of_two_copies_the_second_is_made_elsewhere_and_the_loss_of_one_costs_nothing() {
    let mut env = keeping(StorageLevel::Memory, 2);
    env.report(0, 0, 0, 10, IN_MEMORY());
    let actions = env.report(0, 1, 0, 11, IN_MEMORY());
    let blocks = vec![(Partition(0), AttemptId(10)), (Partition(1), AttemptId(11))];
    let level = StorageLevel::Memory;
    let copy = CopyBlocks { writer: WRITER, level, from: memory_of(0), reducers: 1, blocks };
    assert_eq!(actions[0], Action::Copy { executor: executor(1), copy });
    tell(&mut env, 1, 0, 10, BlockState::InMemory);
    tell(&mut env, 1, 1, 11, BlockState::Gone);
    let lost = env.handle(Event::ExecutorLost(executor(0)));
    assert!(
        matches!(&lost[..], [Action::Suspend(_), Action::Submit { partitions: p, .. }]
            if *p == partitions([1])),
        "the copy that failed: {lost:?}"
    );
    let actions = env.report(2, 1, 1, 14, IN_MEMORY());
    assert_eq!(reads(&actions).0, [memory_of(1), memory_of(1)]);
    let added = env.add_executor(7);
    assert!(
        matches!(&added[..], [Action::Copy { copy, .. }] if copy.blocks.len() == 2),
        "both have one copy again: {added:?}"
    );
}

#[test]
fn a_reader_goes_on_with_the_copy_of_a_block_that_cannot_be_read() {
    let mut env = keeping(StorageLevel::Disk, 2);
    env.done(0, 0, 0, 10);
    env.done(0, 1, 0, 11);
    tell(&mut env, 1, 0, 10, BlockState::OnDisk);
    tell(&mut env, 1, 1, 11, BlockState::OnDisk);
    let actions = env.fetch_failed((1, 1), (0, 10, 0));
    assert_eq!(reads(&actions).0, [place(1), place(0)], "nothing is computed");
}

#[test]
fn more_than_two_copies_are_refused() {
    let mut env = Env::new();
    env.register(node(0, 2, NodeKind::Records, vec![]));
    let kind = NodeKind::Kept { level: StorageLevel::Disk, replicas: 3 };
    let error = env.dag.register(node(1, 2, kind, vec![narrow(0)])).unwrap_err();
    assert_eq!(error.to_string(), "node 1 has 3 replicas, must be 1 to 2");
}
