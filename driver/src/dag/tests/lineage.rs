//! What may be registered and submitted, and how deep it may be.

use super::super::RegisterError;
use super::*;

#[test]
fn nodes_that_contradict_themselves_or_others_are_refused() {
    let mut env = Env::with_shuffle();
    let records = NodeKind::Records;
    let mut check = |spec: NodeSpec, text: &str| {
        let error = env.dag.register(spec).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    };
    check(node(0, 2, records, vec![]), "registered already");
    check(node(9, 0, records, vec![]), "0 partitions, must be 1 to 1048576");
    check(node(9, (1 << 20) + 1, records, vec![]), "1048577 partitions");
    check(node(9, 1, write(0), vec![]), "0 reducers");
    check(node(9, 1, records, vec![narrow(8)]), "node 8, which is not");
    check(node(9, 2, records, vec![narrow(1)]), "node 1 as records");
    check(node(9, 2, records, vec![shuffle(0)]), "node 0 as a shuffle");
    check(node(9, 3, records, vec![narrow(0)]), "out of range");
    check(node(9, 3, records, vec![range(0, 2)]), "out of range");
    check(node(9, 3, records, vec![range(0, u32::MAX)]), "out of range");
    check(node(9, 3, records, vec![shuffle(1)]), "has 2 reducers");
    check(node(9, 2, records, vec![narrow(0); 4097]), "limit 4096");
    let mut named = node(9, 2, records, vec![]);
    named.name = "x".repeat(257);
    check(named, "a name of 257 bytes, limit 256");
    assert_eq!(
        env.dag.register(node(9, 3, records, vec![narrow(9)])),
        Err(RegisterError::UnknownParent { node: NodeId(9), parent: NodeId(9) }),
        "cycles cannot be said"
    );
    env.register(node(9, 4, records, vec![range(0, 0), range(0, 2)]));
}

#[test]
fn jobs_that_cannot_run_are_refused() {
    let mut env = Env::reducing();
    let refused = env.refused(1, 8, []).to_string();
    assert!(refused.contains("node 8, which is not registered"));
    assert!(env.refused(1, 1, []).to_string().contains("is a shuffle"));
    let refused = env.refused(1, 2, [0, 2]).to_string();
    assert!(refused.contains("partition 2 of node 2, which has 2"));
    let refused = env.refused(1, 2, [1, 1]).to_string();
    assert!(refused.contains("partition 1 more than once"));
    assert!(env.refused(0, 2, []).to_string().contains("already"));
}

#[test]
fn a_lineage_of_ten_thousand_shuffles_is_walked_without_recursion() {
    let mut env = Env::new();
    let count = 10_000;
    env.register(node(0, 1, NodeKind::Records, vec![]));
    for id in 0..count {
        let (writer, reader) = (2 * id + 1, 2 * id + 2);
        env.register(node(writer, 1, write(1), vec![narrow(writer - 1)]));
        env.register(node(reader, 1, NodeKind::Records, vec![shuffle(writer)]));
    }
    let last = NodeId(2 * count);
    env.submit(0, last, []);
    let mut actions = Vec::new();
    for stage in 0..count {
        let event = Event::PartitionDone {
            stage: StageRunId(stage),
            partition: Partition(0),
            executor: executor(stage % 2),
            attempt: AttemptId(u64::from(stage)),
            done: TaskDone::default(),
        };
        env.dag.handle(event, &mut actions);
    }
    env.done(count, 0, 0, 1_000_000);
    for id in 0..=2 * count {
        env.dag.handle(Event::NodeDropped(NodeId(id)), &mut actions);
    }
    let dropped = actions.iter().filter(|a| matches!(a, Action::DropShuffle(_)));
    assert_eq!(dropped.count(), count as usize);
}

#[test]
fn a_node_that_chooses_its_blocks_waits_for_the_whole_shuffle() {
    let mut env = Env::new();
    env.register(node(0, 3, NodeKind::Records, vec![]));
    env.register(node(1, 3, write(1), vec![narrow(0)]));
    let blocks = Dependency::Blocks { writer: NodeId(1) };
    env.register(node(2, 3, NodeKind::Records, vec![blocks.clone()]));
    assert_eq!(env.dag.graph.shuffles_of(NodeId(2)), [NodeId(1)]);
    let refused = env.dag.register(node(
        3,
        3,
        NodeKind::Records,
        vec![Dependency::Blocks { writer: NodeId(0) }],
    ));
    assert!(refused.unwrap_err().to_string().contains("as a shuffle, which it is not"));
}

#[test]
fn a_node_that_chooses_its_partitions_reads_a_parent_of_any_size() {
    let mut env = Env::new();
    env.register(node(0, 3, NodeKind::Records, vec![]));
    env.register(node(1, 2, write(4), vec![narrow(0)]));
    env.register(node(2, 4, NodeKind::Records, vec![shuffle(1)]));
    let any = |parent| Dependency::Narrow { parent: NodeId(parent), map: NarrowMap::Any };
    env.register(node(3, 2, NodeKind::Records, vec![any(2)]));
    env.register(node(4, 40, NodeKind::Records, vec![any(2), any(0)]));
    assert_eq!(env.dag.graph.shuffles_of(NodeId(3)), [NodeId(1)]);
    assert_eq!(env.dag.graph.shuffles_of(NodeId(4)), [NodeId(1)]);
    let refused = env.dag.register(node(5, 2, NodeKind::Records, vec![any(1)]));
    assert!(refused.unwrap_err().to_string().contains("as records, which it is not"));
}
