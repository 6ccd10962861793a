//! What becomes of an attempt's files when it ends.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::launch::test_support::{artifact, executor, start};
use crate::memory::{BlockId, Lease};
use offshoot_net::{Accepts, Authority, ClusterName, Endpoint, Role, UdpNetwork, Validity};
use offshoot_proto::abi::StorageLevel;
use offshoot_proto::id::{JobId, NodeId, SnapshotId};
use offshoot_proto::limits::SHUFFLE_CHUNK_BYTES;
use offshoot_proto::link::{Reply, Request};
use offshoot_proto::stage::ShuffleInput;
use offshoot_sandbox::shuffle::{append_header, flat_extents};
use offshoot_sandbox::slots::PortFuture;
use offshoot_store::SystemStores;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::SystemTime;
use tempfile::TempDir;

const WRITER: NodeId = NodeId(4);

/// Slots that are never started.
struct NoSlots;

impl Slots for NoSlots {
    fn start(&self, _: String) -> PortFuture<'_, io::Result<Box<dyn SlotConnection>>> {
        Box::pin(async { Err(io::Error::other("there are none")) })
    }
}

/// A slot's task whose slot is this test.
struct TestSlot {
    directory: TempDir,
    task: SlotTask,
}

// === impl TestSlot ===

impl TestSlot {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (events, _) = mpsc::unbounded_channel();
        let context = context(directory.path(), endpoint().await, events);
        Self { directory, task: SlotTask::new(0, Arc::new(context)) }
    }

    /// A run of the stage that writes the shuffle, and its one attempt with the slot, which has
    /// written four bytes.
    fn run(&mut self, run: u32) -> AttemptId {
        let attempt = AttemptId(run.into());
        let stage = Arc::new(StageRun {
            id: StageRunId(run),
            job: JobId(1),
            snapshot: SnapshotId(1),
            node: WRITER,
            kind: StageKind::ShuffleWrite { reducers: 1 },
            inputs: vec![],
        });
        self.task.context.kept.note_writer(&stage);
        self.task.attempts.insert(attempt, (stage, Partition(0)));
        self.write(attempt);
        attempt
    }

    fn write(&self, attempt: AttemptId) {
        let sink = self.task.context.files.shuffle_sink(WRITER, Partition(0), attempt);
        File::from(sink.unwrap()).write_all(b"data").unwrap();
    }

    async fn end(&mut self, attempt: AttemptId) -> TaskOutcome {
        let done = TaskDone {
            digest: 0,
            result: ResultPlace::Inline(vec![]),
            staged: None,
            shuffle_bytes: 4,
            updates: vec![],
            in_memory: false,
        };
        let report = SlotReport {
            report: TaskReport { attempt, run_nanos: 1, outcome: TaskOutcome::Done(done) },
            shuffle: Some(ShuffleIndex { reducers: vec![vec![]], data_bytes: 4 }),
            staged: None,
            spilled_bytes: 0,
            pages_written: 1,
            forks: 1,
        };
        self.task.accept(report).await.unwrap().outcome
    }

    /// Names of the shuffle's files; none if not even their directory is there.
    fn files(&self) -> Option<Vec<PathBuf>> {
        let entries = std::fs::read_dir(self.directory.path().join(format!("shuffle/{WRITER}")));
        let names = entries.ok()?.map(|entry| PathBuf::from(entry.unwrap().file_name()));
        let mut names: Vec<_> = names.collect();
        names.sort();
        Some(names)
    }
}

/// What slots share that are never started, with 1 MiB for kept blocks.
pub(in crate::executor) fn context(
    app_directory: &Path,
    endpoint: Endpoint,
    events: mpsc::UnboundedSender<(usize, SlotEvent)>,
) -> SlotContext {
    let mut start = start();
    start.app_directory = app_directory.to_owned();
    let start = Arc::new(start);
    let files = AppFiles::create(&start).unwrap();
    let grants = &start.launch.app.grants;
    SlotContext {
        code: artifact().code.into(),
        description: artifact().description.into(),
        slots: Arc::new(NoSlots),
        broker: Broker::for_tasks(grants),
        files: files.clone(),
        remote: RemoteFiles::new(Arc::new(SystemStores), grants, Default::default()),
        fetcher: Fetcher::new(Arc::new(endpoint)),
        held: HeldResults::default(),
        kept: Kept::start(1 << 20, files, events.clone()),
        counters: Counters::default(),
        events,
        start,
    }
}

async fn endpoint() -> Endpoint {
    let now = SystemTime::now();
    let authority = Authority::generate(ClusterName::random(), now).unwrap();
    let role = Role::Executor(executor(1, 0));
    let credential = authority.mint(&role, Validity::of_node(now)).unwrap();
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    Endpoint::bind(&UdpNetwork, any, credential, Accepts::Members).await.unwrap()
}

#[tokio::test]
async fn an_attempt_that_ends_after_its_shuffle_was_dropped_leaves_nothing() {
    let mut slot = TestSlot::new().await;
    let [before, late, killed] = [1, 2, 3].map(|run| slot.run(run));
    assert!(matches!(slot.end(before).await, TaskOutcome::Done(_)));
    assert_eq!(slot.files().unwrap().len(), 4, "data and index, and two that are not committed");
    slot.task.context.kept.drop_dataset(WRITER);
    assert_eq!(slot.files(), None);
    // The slot opens its file at its first byte, which may be after the drop.
    slot.write(late);
    slot.write(killed);
    let outcome = slot.end(late).await;
    assert!(
        matches!(&outcome, TaskOutcome::Failed(TaskFailure::Host { message })
            if message.contains("was dropped while it ran")),
        "{outcome:?}"
    );
    slot.task.discard();
    assert_eq!(slot.files(), None);

    let again = slot.run(4);
    assert!(matches!(slot.end(again).await, TaskOutcome::Done(_)));
    let names = ["0-4.data", "0-4.index"].map(PathBuf::from);
    assert_eq!(slot.files().unwrap(), names);
}

#[tokio::test]
async fn what_a_task_maps_counts_until_its_slot_gives_memory_back_and_who_comes_later_reads() {
    let mut slot = TestSlot::new().await;
    let (by, reader) = (AttemptId(1), AttemptId(2));
    let id = BlockId { writer: WRITER, map: Partition(0), attempt: by };
    // More than half of the memory that there is.
    let (mut bodies, mut headers) = (vec![], vec![]);
    for _ in 0..3 {
        let body = vec![7; SHUFFLE_CHUNK_BYTES];
        append_header(&body, &mut headers);
        bodies.extend_from_slice(&body);
    }
    let extents = flat_extents(&headers, bodies.len() as u64);
    let data_bytes = (bodies.len() + headers.len()) as u64;
    let index = ShuffleIndex { reducers: vec![extents], data_bytes };
    let context = slot.task.context.clone();
    let sink = context.files.shuffle_sink(WRITER, Partition(0), by).unwrap();
    File::from(sink).write_all(&[bodies, headers].concat()).unwrap();
    assert!(context.kept.commit(id, StorageLevel::MemoryAndDisk, &index).await.unwrap());

    let maps = vec![(0, by)];
    let input = ShuffleInput { writer: WRITER, places: vec![], maps, copies: vec![] };
    let stage = StageRun {
        id: StageRunId(2),
        job: JobId(1),
        snapshot: SnapshotId(1),
        node: NodeId(5),
        kind: StageKind::Result,
        inputs: vec![input],
    };
    slot.task.attempts.insert(reader, (Arc::new(stage), Partition(0)));
    let map = Request::MapBlock { attempt: reader, writer: WRITER, map: Partition(0) };
    let (reply, descriptors) = requests::answer(&mut slot.task, map.clone()).await.unwrap();
    assert!(matches!(reply, Reply::Flat { .. }) && descriptors.len() == 1, "{reply:?}");

    let mut other = std::pin::pin!(context.kept.lease(1, 512 << 10));
    let first = std::future::poll_fn(|cx| Poll::Ready(other.as_mut().poll(cx))).await;
    assert_eq!(first, Poll::Pending, "its pages are there yet");
    assert!(context.kept.find(id).is_some(), "it is on its way to a file");
    let (reply, descriptors) = requests::answer(&mut slot.task, map).await.unwrap();
    assert!(reply == Reply::Ok && descriptors.is_empty(), "{reply:?}");
    assert!(requests::answer(&mut slot.task, Request::GiveBackMemory).await.is_none());
    assert_eq!(other.await, Lease::Granted);
}
