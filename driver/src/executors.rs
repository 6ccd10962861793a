//! The driver's connections to its executors: one control stream, bulk data beside it.

use offshoot_net::{Connection, Endpoint, FrameStream, Role, StreamError};
use offshoot_proto::cluster::ExecutorInfo;
use offshoot_proto::executor::{DataChunk, Door, DriverData, FromExecutor, ToExecutor};
use offshoot_proto::hello::Purpose;
use offshoot_proto::id::{AttemptId, ExecutorId, SnapshotId};
use offshoot_sandbox::data_chunk::{pack, unpack};
use offshoot_sandbox::door;
use offshoot_sandbox::link::LinkError;
use offshoot_sandbox::snapshots::{SnapshotError, SnapshotStore, Transfer};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How often the driver says that it is here.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// An executor that is silent for so long is lost.
const LEASE: Duration = Duration::from_secs(4);

/// Tries to reach an executor that the master says is listening.
const DIALS_MAX: u32 = 3;

/// A snapshot of at most so many bytes goes with the control frames.
const INLINE_SNAPSHOT_BYTES_MAX: u64 = 256 << 10;

/// Pages are packed if the start of the first piece shrinks to less than this share of itself:
/// packing less takes longer than sending more.
const WORTH_PACKING: (usize, usize) = (1, 2);

/// What an executor says, or what becomes of it.
#[derive(Debug)]
pub(crate) enum ExecutorEvent {
    /// It can be given tasks.
    Ready {
        /// How many at once.
        slots: u32,
        /// Where it takes snapshots, if it is on this machine.
        door: Option<Door>,
    },
    /// A frame.
    Frame(FromExecutor),
    /// It is gone.
    Lost(String),
}

/// A fetched result, or none if the executor no longer has it.
pub(crate) type Fetched = Option<Vec<u8>>;

/// An executor that is dialled or connected.
#[derive(Debug)]
pub(crate) struct ExecutorLink {
    pub(crate) info: ExecutorInfo,
    frames: mpsc::UnboundedSender<ToExecutor>,
    data: mpsc::UnboundedSender<DataOrder>,
    /// The newest snapshot that it was sent.
    pub(crate) snapshot: Option<SnapshotId>,
    pub(crate) ready: bool,
    /// Where it takes snapshots, until it is known not to be on this machine.
    pub(crate) door: Option<Door>,
}

#[derive(Debug)]
enum DataOrder {
    Send(Transfer, Option<SnapshotId>),
    Fetch(AttemptId, u64, oneshot::Sender<Fetched>),
}

/// Dials an executor.
pub(crate) fn connect(
    endpoint: Arc<Endpoint>,
    info: ExecutorInfo,
    events: mpsc::UnboundedSender<(ExecutorId, ExecutorEvent)>,
) -> ExecutorLink {
    let (frames, frames_out) = mpsc::unbounded_channel();
    let (data, data_out) = mpsc::unbounded_channel();
    let id = info.id;
    let task_info = info.clone();
    tokio::spawn(async move {
        let lost = live(endpoint, task_info, &events, frames_out, data_out).await;
        let _ = events.send((id, ExecutorEvent::Lost(lost)));
    });
    ExecutorLink { info, frames, data, snapshot: None, ready: false, door: None }
}

// === impl ExecutorLink ===

impl ExecutorLink {
    pub(crate) fn send(&self, frame: ToExecutor) {
        // A link that has ended has said so.
        let _ = self.frames.send(frame);
    }

    /// Passes the base of the snapshots to an executor on this machine, which has none yet.
    pub(crate) fn pass_base(&mut self, store: &SnapshotStore) {
        let Some(door) = self.door.take() else { return };
        let (header, file) = store.base();
        let passed = file.try_clone().map_err(LinkError::from);
        let passed = passed.and_then(|file| door::pass(&door, header, file.into()));
        match passed {
            Ok(()) => self.snapshot = Some(header.id),
            Err(error) => tracing::debug!(%error, "the executor is not on this machine"),
        }
    }

    /// Sends what makes a snapshot of the newest one that the executor has.
    pub(crate) fn send_snapshot(
        &mut self,
        store: &SnapshotStore,
        id: SnapshotId,
    ) -> Result<(), SnapshotError> {
        let transfer = store.transfer(id, self.snapshot)?;
        let after = self.snapshot.replace(id);
        if transfer.bytes() > INLINE_SNAPSHOT_BYTES_MAX {
            let _ = self.data.send(DataOrder::Send(transfer, after));
            return Ok(());
        }
        let mut pages = Vec::with_capacity(transfer.bytes() as usize);
        for piece in transfer.pieces() {
            pages.extend_from_slice(&piece?);
        }
        let header = transfer.header;
        let difference = match after {
            Some(after) => store.difference(after, &header.runs, &mut pages)?,
            None => false,
        };
        self.send(ToExecutor::Snapshot { header, after, difference, pages: pack(pages) });
        Ok(())
    }

    /// Asks for a held result.
    pub(crate) fn fetch(&self, attempt: AttemptId, length: u64) -> oneshot::Receiver<Fetched> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.data.send(DataOrder::Fetch(attempt, length, sender));
        receiver
    }
}

async fn live(
    endpoint: Arc<Endpoint>,
    info: ExecutorInfo,
    events: &mpsc::UnboundedSender<(ExecutorId, ExecutorEvent)>,
    frames: mpsc::UnboundedReceiver<ToExecutor>,
    data: mpsc::UnboundedReceiver<DataOrder>,
) -> String {
    let control = match dial(&endpoint, &info, Purpose::Control).await {
        Ok(mut connection) => connection.take_control(),
        Err(reason) => return reason,
    };
    let Some(control) = control else {
        return "it has no control stream".to_owned();
    };
    let serving = serve_data(endpoint, info.clone(), data);
    tokio::select! {
        biased;
        lost = serve_control(control, info.id, events, frames) => lost,
        lost = serving => lost,
    }
}

async fn dial(
    endpoint: &Endpoint,
    info: &ExecutorInfo,
    purpose: Purpose,
) -> Result<Connection, String> {
    let role = Role::Executor(info.id);
    let mut dials = 0;
    loop {
        match endpoint.connect(info.address, role.clone(), purpose).await {
            Ok(connection) => return Ok(connection),
            Err(error) => {
                dials += 1;
                if dials == DIALS_MAX {
                    return Err(error.to_string());
                }
            }
        }
    }
}

async fn serve_control(
    stream: FrameStream,
    id: ExecutorId,
    events: &mpsc::UnboundedSender<(ExecutorId, ExecutorEvent)>,
    mut frames: mpsc::UnboundedReceiver<ToExecutor>,
) -> String {
    let FrameStream { mut sender, mut receiver } = stream;
    let reading = async {
        let mut heard = Instant::now();
        loop {
            let frame = tokio::time::timeout_at(heard + LEASE, receiver.recv()).await;
            let frame = match frame {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => return "it closed the connection".to_owned(),
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return format!("it was silent for {} s", LEASE.as_secs()),
            };
            heard = Instant::now();
            let event = match frame {
                FromExecutor::Heartbeat => continue,
                FromExecutor::Ready { slots, door, .. } => ExecutorEvent::Ready { slots, door },
                frame => ExecutorEvent::Frame(frame),
            };
            if events.send((id, event)).is_err() {
                return "the driver has ended".to_owned();
            }
        }
    };
    let writing = async {
        let mut beat = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                biased;
                frame = frames.recv() => {
                    let Some(frame) = frame else { return Ok("the driver let go".to_owned()) };
                    let stop = matches!(frame, ToExecutor::Stop);
                    let mut may_wait = frame.may_wait();
                    sender.queue(&frame)?;
                    while let Ok(frame) = frames.try_recv() {
                        may_wait &= frame.may_wait();
                        sender.queue(&frame)?;
                    }
                    if may_wait {
                        continue;
                    }
                    sender.flush().await?;
                    if stop {
                        let _ = sender.finish().await;
                        // It may have last words, and closes its half after them.
                        return std::future::pending().await;
                    }
                }
                _ = beat.tick() => sender.send(&ToExecutor::Heartbeat).await?,
            }
        }
    };
    tokio::select! {
        biased;
        lost = reading => lost,
        ended = writing => ended.unwrap_or_else(|error: StreamError| error.to_string()),
    }
}

/// Bulk data, on a connection that is dialled when there is some.
async fn serve_data(
    endpoint: Arc<Endpoint>,
    info: ExecutorInfo,
    mut orders: mpsc::UnboundedReceiver<DataOrder>,
) -> String {
    let mut connection: Option<Arc<Connection>> = None;
    while let Some(order) = orders.recv().await {
        let dialled = match &connection {
            Some(connection) => connection.clone(),
            None => match dial(&endpoint, &info, Purpose::Data).await {
                Ok(dialled) => connection.insert(Arc::new(dialled)).clone(),
                Err(reason) => return reason,
            },
        };
        match order {
            DataOrder::Send(transfer, after) => {
                if let Err(error) = send_snapshot(&dialled, &transfer, after).await {
                    return error.to_string();
                }
            }
            DataOrder::Fetch(attempt, length, reply) => {
                tokio::spawn(async move {
                    let fetched = fetch(&dialled, attempt, length).await;
                    let _ = reply.send(fetched.ok().flatten());
                });
            }
        }
    }
    // The control half decides when the link ends.
    std::future::pending().await
}

async fn send_snapshot(
    connection: &Connection,
    transfer: &Transfer,
    after: Option<SnapshotId>,
) -> Result<(), StreamError> {
    let mut stream = connection.open().await?;
    let header = transfer.header.clone();
    let first = transfer.pieces().next();
    let packed = matches!(first, Some(Ok(piece)) if is_worth_packing(&piece));
    stream.sender.send(&DriverData::Snapshot { header, after, packed }).await?;
    for piece in transfer.pieces() {
        // A memory file of this process: an error is a bug that the executor sees as a cut.
        let Ok(piece) = piece else { break };
        if packed {
            stream.sender.send(&pack(piece)).await?;
        } else {
            stream.sender.send_chunk(piece.into()).await?;
        }
    }
    stream.sender.finish().await?;
    stream.sender.acknowledged().await
}

fn is_worth_packing(piece: &[u8]) -> bool {
    let sample = &piece[..piece.len().min(64 << 10)];
    let packed = lz4_flex::block::compress(sample).len();
    packed * WORTH_PACKING.1 < sample.len() * WORTH_PACKING.0
}

async fn fetch(
    connection: &Connection,
    attempt: AttemptId,
    length: u64,
) -> Result<Fetched, StreamError> {
    let mut stream = connection.open().await?;
    stream.sender.send(&DriverData::Result(attempt)).await?;
    stream.sender.finish().await?;
    let mut result = Vec::new();
    while let Some(chunk) = stream.receiver.recv::<DataChunk>().await? {
        let room = length.saturating_sub(result.len() as u64);
        if u64::from(chunk.length) > room {
            return Ok(None);
        }
        let Ok(bytes) = unpack(chunk) else { return Ok(None) };
        result.extend_from_slice(&bytes);
    }
    Ok((result.len() as u64 == length).then_some(result))
}
