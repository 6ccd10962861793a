//! What guests say.

use super::{Sample, sample, samples, variants};
use offshoot_proto::abi::{
    Dependency, InputFile, JobSpec, MapRange, NarrowMap, NodeKind, NodeSpec, OutputSpec,
    ResultOrder, Source, StorageLevel,
};
use offshoot_proto::id::{NodeId, Partition};

variants!(NarrowMap: OneToOne, Range, Any);
variants!(Dependency: Narrow, Shuffle, Blocks);
variants!(NodeKind: Records, ShuffleWrite, Kept);
variants!(StorageLevel: Memory, MemoryAndDisk, Disk);
variants!(ResultOrder: Partition, Arrival);
variants!(Source: File, Shuffle, Spill, Listing, Blocks);

/// Samples of every message.
pub fn all() -> Vec<Sample> {
    let maps = [NarrowMap::OneToOne, NarrowMap::Range { start: 8 }, NarrowMap::Any];
    let kept = |level| NodeKind::Kept { level, replicas: 2 };
    let kinds = [
        NodeKind::Records,
        NodeKind::ShuffleWrite { reducers: 8 },
        kept(StorageLevel::Memory),
        kept(StorageLevel::MemoryAndDisk),
        kept(StorageLevel::Disk),
    ];
    let orders = [ResultOrder::Partition, ResultOrder::Arrival];
    let mut all = samples("NarrowMap", &maps);
    all.extend(samples("Dependency", &node().dependencies));
    all.extend(samples("NodeKind", &kinds));
    all.extend(samples("ResultOrder", &orders));
    all.extend(samples("Source", &sources()));
    all.push(sample("NodeSpec", &node()));
    all.extend([Some(output()), None].map(|output| sample("JobSpec", &job(output))));
    all.push(sample("InputFiles", &vec![file(), file()]));
    all
}

/// A node with a parent of each sort.
pub fn node() -> NodeSpec {
    let narrow = |map| Dependency::Narrow { parent: NodeId(3), map };
    NodeSpec {
        id: NodeId(5),
        name: "union".into(),
        source: "src/main.rs:12".into(),
        partitions: 16,
        kind: NodeKind::Records,
        dependencies: vec![
            narrow(NarrowMap::OneToOne),
            narrow(NarrowMap::Range { start: 8 }),
            Dependency::Shuffle { writer: NodeId(4) },
            Dependency::Blocks { writer: NodeId(4) },
        ],
    }
}

/// An action.
pub fn job(output: Option<OutputSpec>) -> JobSpec {
    JobSpec {
        node: NodeId(5),
        partitions: vec![Partition(0), Partition(300)],
        order: ResultOrder::Arrival,
        output,
        name: "count".into(),
        source: "src/main.rs:13".into(),
    }
}

/// An output.
pub fn output() -> OutputSpec {
    OutputSpec { path: "/data/out".into(), prefix: "part-".into() }
}

/// A listed file.
pub fn file() -> InputFile {
    InputFile { path: "/data/in/a.txt".into(), length: 1 << 33, modified_nanos: -1 }
}

fn sources() -> Vec<Source> {
    vec![
        Source::File { file: file(), offset: 1 << 20 },
        Source::Shuffle { writer: NodeId(4), reducer: 5 },
        Source::Spill { run: 1 },
        Source::Listing { pattern: "/data/in/*.txt".into() },
        Source::Blocks { writer: NodeId(4), reducer: 5, maps: MapRange { first: 1, count: 2 } },
    ]
}
