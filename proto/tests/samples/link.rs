//! Messages between a slot and its owner.

use super::{Sample, abi, block, executor, outcome, samples, variants};
use offshoot_proto::abi::{MapRange, code};
use offshoot_proto::block::Extent;
use offshoot_proto::id::{AttemptId, JobId, NodeId, Partition, SnapshotId, StageRunId};
use offshoot_proto::link::{
    BlockFile, ForkImage, FromSlot, MainEnd, PageChange, PageSource, PathKind, PathOperation,
    PathReply, PathRequest, PathStat, Reply, Request, SlotReport, SlotRole, SlotStage, SlotStart,
    ToSlot,
};
use offshoot_proto::outcome::TaskFailure;
use offshoot_proto::snapshot::PageRun;

variants!(ToSlot: Start, Fork, Stage, DropStage, Run, Reply);
variants!(SlotRole: Driver, Tasks);
variants!(PageSource: Inline, Descriptor);
variants!(FromSlot: Ready, Reports, Request, ResultPiece, Output, MainEnded);
variants!(MainEnd: Exit, Failed);
variants!(
    Request: RegisterNode, DropNode, SubmitJob, JobResults, DropJob, ListInputs, Parallelism,
    OpenInput, PullInput, CloseInput, OpenShuffle, PullShuffle, CloseShuffle, OpenShuffleSink,
    OpenOutputSink, OpenSpill, Path, Updates, Disk, Memory,
    GiveBackMemory, JobPool, MapBlock
);
variants!(
    Reply: Ok, Number, Descriptor, Results, Inputs, BlockFiles, Blocks, BlocksEnd, Input, Path,
    Error, Failed, Flat
);
variants!(
    PathOperation: Open, Stat, List, CreateDirectory, RemoveFile, RemoveDirectory, Rename,
    ReadLink, SetTimes
);
variants!(PathReply: Done, Opened, Stat, Entries, Link, Errno);
variants!(PathKind: Other, File, Directory, Link);

/// Samples of every message.
pub fn all() -> Vec<Sample> {
    let sources = fork().changes.into_iter().map(|change| change.source);
    let mut all = samples("ToSlot", &to_slot());
    all.extend(samples("FromSlot", &from_slot()));
    all.extend(samples("Request", &requests()));
    all.extend(samples("Reply", &replies()));
    all.extend(samples("PathOperation", &operations()));
    all.extend(samples("PathReply", &path_replies()));
    all.extend(samples("PageSource", &sources.collect::<Vec<_>>()));
    all.extend(samples("SlotRole", &[SlotRole::Driver, SlotRole::Tasks]));
    all.extend(samples("MainEnd", &main_ends()));
    all.extend(samples("PathKind", &path_kinds()));
    all
}

/// To a slot.
pub fn to_slot() -> Vec<ToSlot> {
    let start = |role| SlotStart {
        role,
        arguments: vec!["sort.wasm".into(), "in".into()],
        environment: vec![("LANG".into(), "C".into())],
        preopens: vec![("/data".into(), false), ("/out".into(), true)],
        memory_bytes_max: 4 << 30,
        result_bytes_max: 1 << 30,
        disk_bytes_max: 64 << 30,
    };
    let stage = SlotStage {
        id: StageRunId(2),
        snapshot: SnapshotId(3),
        node: NodeId(5),
        reducers: Some(8),
        output: false,
        packed: true,
    };
    vec![
        ToSlot::Start(start(SlotRole::Driver)),
        ToSlot::Start(start(SlotRole::Tasks)),
        ToSlot::Fork(fork()),
        ToSlot::Stage(stage),
        ToSlot::DropStage(StageRunId(2)),
        ToSlot::Run { stage: StageRunId(2), tasks: vec![(AttemptId(300), Partition(0))] },
        ToSlot::Reply(Reply::Ok),
    ]
}

fn fork() -> ForkImage {
    let change = |page, source| PageChange { run: PageRun { page, count: 1 }, source };
    let descriptor = PageSource::Descriptor { index: 1, offset: 16 << 12 };
    ForkImage {
        header: executor::header(),
        base: true,
        changes: vec![change(0, PageSource::Inline(vec![0xAA; 5])), change(16, descriptor)],
    }
}

/// From a slot.
pub fn from_slot() -> Vec<FromSlot> {
    let report = |(number, report)| SlotReport {
        report,
        shuffle: (number == 0).then(block::index),
        staged: (number == 1).then_some((300, 0xDEAD_BEEF)),
        spilled_bytes: 1 << 33,
        pages_written: 3,
        forks: 9,
    };
    let reports = (0..).zip(outcome::reports()).map(report);
    let mut messages = vec![
        FromSlot::Ready,
        FromSlot::Reports(reports.collect()),
        FromSlot::Request(Request::Parallelism),
        FromSlot::ResultPiece(vec![1, 2, 3]),
        FromSlot::Output { stream: 1, bytes: vec![0xFF, b'\n'] },
    ];
    messages.extend(main_ends().into_iter().map(FromSlot::MainEnded));
    messages
}

fn main_ends() -> Vec<MainEnd> {
    let failures = outcome::failures().into_iter().map(MainEnd::Failed);
    failures.chain([MainEnd::Exit { code: 3 }]).collect()
}

fn requests() -> Vec<Request> {
    let attempt = AttemptId(300);
    let mut requests = vec![
        Request::RegisterNode(abi::node()),
        Request::DropNode(NodeId(5)),
        Request::SubmitJob {
            job: abi::job(Some(abi::output())),
            snapshot: executor::header(),
            pages: vec![0xAA; 5],
        },
        Request::JobResults { job: JobId(1), capacity: 65_536 },
        Request::DropJob(JobId(1)),
        Request::ListInputs { pattern: "/data/in/*.txt".into() },
        Request::Parallelism,
        Request::OpenInput { file: abi::file(), offset: 1 << 20 },
        Request::PullInput { stream: 7 },
        Request::CloseInput { stream: 7 },
        Request::Updates { capacity: 1 << 17 },
        Request::Disk { attempt, bytes: 1 << 24 },
        Request::OpenShuffle {
            attempt,
            writer: NodeId(4),
            reducer: 5,
            maps: Some(MapRange { first: 1, count: 2 }),
        },
        Request::PullShuffle { stream: 6 },
        Request::CloseShuffle { stream: 6 },
        Request::OpenShuffleSink(attempt),
        Request::OpenOutputSink(attempt, Partition(1)),
        Request::OpenSpill(attempt),
        Request::Memory { bytes: 16 << 20 },
        Request::GiveBackMemory,
        Request::JobPool { name: "etl".into() },
        Request::MapBlock { attempt: AttemptId(300), writer: NodeId(2), map: Partition(7) },
    ];
    requests.extend(operations().into_iter().map(|operation| {
        Request::Path(PathRequest { preopen: 1, path: "a/../b".into(), operation })
    }));
    requests
}

fn operations() -> Vec<PathOperation> {
    let open = PathOperation::Open {
        read: true,
        write: false,
        create: true,
        exclusive: false,
        truncate: true,
        append: false,
        directory: true,
        follow: false,
    };
    vec![
        open,
        PathOperation::Stat { follow: true },
        PathOperation::List,
        PathOperation::CreateDirectory,
        PathOperation::RemoveFile,
        PathOperation::RemoveDirectory,
        PathOperation::Rename { to_preopen: 0, to_path: "c".into() },
        PathOperation::ReadLink,
        PathOperation::SetTimes {
            accessed_nanos: None,
            modified_nanos: Some(1_700_000_000_000_000_000),
        },
    ]
}

fn replies() -> Vec<Reply> {
    let file = BlockFile {
        failure: TaskFailure::Killed,
        extents: vec![Extent { offset: 300, length: 700 }],
    };
    let mut replies = vec![
        Reply::Ok,
        Reply::Number(300),
        Reply::Descriptor,
        Reply::Results { bytes: vec![1, 2, 3], last: true },
        Reply::Inputs(vec![abi::file()]),
        Reply::BlockFiles(vec![file]),
        Reply::Blocks(vec![3, 0, 0, 0, 3, 0, 0, 0]),
        Reply::BlocksEnd,
        Reply::Input(vec![1, 2, 3]),
        Reply::Error { code: code::DENIED, message: "--allow-read would allow it".into() },
        Reply::Failed(TaskFailure::Killed),
    ];
    replies.extend(path_replies().into_iter().map(Reply::Path));
    replies.push(Reply::Flat { bytes: 300 });
    replies
}

fn path_kinds() -> Vec<PathKind> {
    vec![PathKind::Other, PathKind::File, PathKind::Directory, PathKind::Link]
}

fn path_replies() -> Vec<PathReply> {
    let stat = |kind| PathStat {
        inode: 9,
        kind,
        links: 1,
        length: 300,
        accessed_nanos: 1,
        modified_nanos: 2,
        changed_nanos: 3,
    };
    let entries = path_kinds().into_iter().map(|kind| (format!("{kind:?}"), stat(kind)));
    vec![
        PathReply::Done,
        PathReply::Opened(stat(PathKind::File)),
        PathReply::Stat(stat(PathKind::Directory)),
        PathReply::Entries(entries.collect()),
        PathReply::Link("../a".into()),
        PathReply::Errno { errno: 44, message: "no such file".into() },
    ]
}
