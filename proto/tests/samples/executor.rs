//! Messages between driver and executor.

use super::{Sample, outcome, sample, samples, variants};
use offshoot_proto::abi::StorageLevel;
use offshoot_proto::executor::{
    BlockState, CopyBlocks, DataChunk, Door, DriverData, FromExecutor, KeptBlock, ToExecutor,
};
use offshoot_proto::id::{
    AppId, AttemptId, ExecutorId, ExecutorNumber, JobId, NodeId, Partition, SnapshotId, StageRunId,
    WorkerId,
};
use offshoot_proto::snapshot::{GlobalValue, PageRun, SnapshotHeader};
use offshoot_proto::stage::{ShuffleInput, ShufflePlace, StageKind, StageRun};

variants!(
    ToExecutor: Heartbeat, Snapshot, DropSnapshot, Stage, DropStage, Run, Recall, Kill,
    DropResults, DropShuffle, Copy, Stop
);
variants!(FromExecutor: Ready, Heartbeat, Reports, Recalled, Kept, Log);
variants!(DriverData: Snapshot, Result);
variants!(StageKind: Result, ShuffleWrite, Output, Kept);
variants!(BlockState: InMemory, OnDisk, Gone);
variants!(GlobalValue: I32, I64, F32, F64, V128);

/// Samples of every message.
pub fn all() -> Vec<Sample> {
    let mut all = samples("ToExecutor", &to_executor());
    all.extend(samples("FromExecutor", &from_executor()));
    all.extend(samples("DriverData", &driver_data()));
    all.extend(samples("StageKind", &stage_kinds()));
    all.extend(samples("GlobalValue", &header().globals));
    all.push(sample("SnapshotHeader", &header()));
    let chunk = |compressed| DataChunk { length: 3, compressed, bytes: vec![1, 2, 3] };
    all.extend([true, false].map(|compressed| sample("DataChunk", &chunk(compressed))));
    all
}

/// The same with what attempts report.
pub fn with_reports() -> Vec<Sample> {
    let mut all = all();
    all.extend(outcome::all());
    all
}

/// To an executor.
pub fn to_executor() -> Vec<ToExecutor> {
    let stages = stage_kinds().into_iter().map(stage).map(ToExecutor::Stage);
    let attempts = || vec![AttemptId(300), AttemptId(301)];
    let mut messages = vec![
        ToExecutor::Heartbeat,
        ToExecutor::Snapshot {
            header: header(),
            after: None,
            difference: false,
            pages: DataChunk { length: 5, compressed: false, bytes: vec![0xAA; 5] },
        },
        ToExecutor::DropSnapshot(SnapshotId(1)),
        ToExecutor::DropStage(StageRunId(2)),
        ToExecutor::Run {
            stage: StageRunId(2),
            tasks: vec![(AttemptId(300), Partition(0)), (AttemptId(301), Partition(1))],
        },
        ToExecutor::Recall(attempts()),
        ToExecutor::Kill(attempts()),
        ToExecutor::DropResults(attempts()),
        ToExecutor::DropShuffle(NodeId(4)),
        ToExecutor::Copy(CopyBlocks {
            reducers: 1,
            writer: NodeId(4),
            level: StorageLevel::Memory,
            from: place(Some(executor())),
            blocks: vec![(Partition(1), AttemptId(290))],
        }),
        ToExecutor::Stop,
    ];
    messages.extend(stages);
    messages
}

/// From an executor.
pub fn from_executor() -> Vec<FromExecutor> {
    vec![
        FromExecutor::Ready {
            door: Some(Door { name: [0xAB; 16], secret: [0xCD; 16] }),
            executor: executor(),
            worker: WorkerId("w1".into()),
            slots: 2,
        },
        FromExecutor::Heartbeat,
        FromExecutor::Reports(outcome::reports()),
        FromExecutor::Recalled(vec![AttemptId(300)]),
        FromExecutor::Kept(
            [BlockState::InMemory, BlockState::OnDisk, BlockState::Gone].map(kept).into(),
        ),
        FromExecutor::Log { text: "stage 2: hello".into() },
    ]
}

fn driver_data() -> Vec<DriverData> {
    vec![
        DriverData::Snapshot { header: header(), after: Some(SnapshotId(3)), packed: true },
        DriverData::Result(AttemptId(300)),
    ]
}

fn stage_kinds() -> Vec<StageKind> {
    vec![
        StageKind::Result,
        StageKind::ShuffleWrite { reducers: 8 },
        StageKind::Output { staging: "/data/out/.staging".into(), prefix: "part-".into() },
        StageKind::Kept { level: StorageLevel::MemoryAndDisk },
    ]
}

fn executor() -> ExecutorId {
    ExecutorId { app: AppId(7), number: ExecutorNumber(1) }
}

fn place(executor: Option<ExecutorId>) -> ShufflePlace {
    ShufflePlace {
        worker: WorkerId("w1".into()),
        executor,
        address: "10.1.2.3:7001".parse().expect("an address"),
    }
}

fn kept(state: BlockState) -> KeptBlock {
    KeptBlock { writer: NodeId(4), map: Partition(1), attempt: AttemptId(290), state }
}

fn stage(kind: StageKind) -> StageRun {
    let input = ShuffleInput {
        writer: NodeId(4),
        places: vec![place(None), place(Some(executor()))],
        maps: vec![(0, AttemptId(290)), (1, AttemptId(291))],
        copies: vec![(Partition(1), 0)],
    };
    StageRun {
        id: StageRunId(2),
        job: JobId(1),
        snapshot: SnapshotId(3),
        node: NodeId(5),
        kind,
        inputs: vec![input],
    }
}

/// A snapshot with a global of every type.
pub fn header() -> SnapshotHeader {
    SnapshotHeader {
        id: SnapshotId(3),
        memory_bytes: 17 << 16,
        globals: vec![
            GlobalValue::I32(-1),
            GlobalValue::I64(i64::MIN),
            GlobalValue::F32(f32::NAN.to_bits()),
            GlobalValue::F64(1.5f64.to_bits()),
            GlobalValue::V128(u128::MAX),
        ],
        realtime_nanos: 1_700_000_000_000_000_000,
        monotonic_nanos: 5_000_000,
        seed: 0x0123_4567_89AB_CDEF,
        first_free_descriptor: 4,
        runs: vec![PageRun { page: 0, count: 1 }, PageRun { page: 16, count: 3 }],
    }
}
