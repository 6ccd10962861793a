//! Connections to this executor: the driver's control frames and bulk data; other executors of the
//! application, which fetch blocks that are kept here.

use super::core::HeldResults;
use super::kept::Kept;
use super::receive::{PageSink, ReceivedPages};
use crate::shuffle_service::ShuffleService;
use offshoot_net::{
    Arrival, Connection, Endpoint, FrameReceiver, FrameSender, FrameStream, Role, StreamError,
};
use offshoot_proto::executor::{DataChunk, DriverData, FromExecutor, ToExecutor};
use offshoot_proto::hello::Purpose;
use offshoot_proto::id::{AppId, SnapshotId};
use offshoot_proto::limits::LINK_CHUNK_BYTES;
use offshoot_proto::snapshot::SnapshotHeader;
use offshoot_sandbox::data_chunk::{pack, unpack};
use offshoot_sandbox::door::DoorListener;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes of one chunk of a large result.
const RESULT_CHUNK_BYTES: usize = 1 << 20;

/// Frames of one wake-up that are handed to the core together.
const EVENTS_MAX: usize = 1024;

/// Frames for the driver. `None` is the end of them: it is closed once the driver has them all.
pub(super) type ToDriver = mpsc::UnboundedSender<Option<FromExecutor>>;

/// What the driver's connections bring.
#[derive(Debug)]
pub(super) enum FromDriver {
    /// A control connection; frames for the driver go here.
    Connected(ToDriver),
    /// A frame.
    Frame(ToExecutor),
    /// A snapshot that came on a stream of its own.
    Snapshot(SnapshotHeader, Option<SnapshotId>, ReceivedPages),
    /// The control connection has ended.
    Gone(String),
}

/// Takes what the driver passes through the door.
async fn attend(door: DoorListener, events: mpsc::Sender<FromDriver>) {
    while let Ok((header, file)) = door.next().await {
        let passed = FromDriver::Snapshot(header, None, ReceivedPages::Whole(file));
        if events.send(passed).await.is_err() {
            return;
        }
    }
}

/// What whoever connects may fetch.
#[derive(Clone)]
pub(super) struct Served {
    /// The driver: results.
    pub(super) held: HeldResults,
    /// Other executors: blocks.
    pub(super) blocks: Arc<ShuffleService<Arc<Kept>>>,
}

/// Who may use an executor of an application, and for what.
fn authorise(app: AppId, peer: &Role, purpose: Purpose) -> Result<(), String> {
    match peer {
        Role::Driver(driver) if *driver == app => Ok(()),
        Role::Executor(executor) if executor.app == app && purpose == Purpose::Data => Ok(()),
        _ => Err(format!("role {peer} may not use this executor")),
    }
}

/// Accepts connections until the endpoint closes.
pub(super) fn listen(
    endpoint: Arc<Endpoint>,
    app: AppId,
    served: Served,
    door: Option<DoorListener>,
) -> mpsc::Receiver<FromDriver> {
    let (events, receiver) = mpsc::channel(EVENTS_MAX);
    if let Some(door) = door {
        tokio::spawn(attend(door, events.clone()));
    }
    tokio::spawn(async move {
        while let Some(arrival) = endpoint.accept().await {
            let Arrival::Member(incoming) = arrival else {
                continue;
            };
            let (events, served) = (events.clone(), served.clone());
            tokio::spawn(async move {
                let authorise = |peer: &Role, purpose| authorise(app, peer, purpose);
                match incoming.handshake(authorise).await {
                    Ok(connection) => serve(connection, events, served, app).await,
                    // An executor that ends cuts what has begun.
                    Err(_) if events.is_closed() => {}
                    Err(error) => tracing::warn!(%error, "refused a connection"),
                }
            });
        }
    });
    receiver
}

async fn serve(
    mut connection: Connection,
    events: mpsc::Sender<FromDriver>,
    served: Served,
    app: AppId,
) {
    match connection.take_control() {
        Some(stream) => control(stream, events).await,
        None if matches!(connection.peer(), Role::Executor(_)) => {
            served.blocks.serve(&connection, app).await;
        }
        None => data(connection, events, served.held).await,
    }
}

/// Reads and writes the control stream until it ends. A driver that says no more is told what there
/// is to be told.
async fn control(stream: FrameStream, events: mpsc::Sender<FromDriver>) {
    let FrameStream { sender, mut receiver } = stream;
    let (to_driver, outgoing) = mpsc::unbounded_channel();
    if events.send(FromDriver::Connected(to_driver)).await.is_err() {
        return;
    }
    let reading = async {
        while let Some(frame) = receiver.recv::<ToExecutor>().await? {
            if events.send(FromDriver::Frame(frame)).await.is_err() {
                break;
            }
        }
        Ok::<_, StreamError>(())
    };
    let writing = write(sender, outgoing);
    tokio::pin!(writing);
    let (ended, is_written) = tokio::select! {
        biased;
        ended = reading => (ended, false),
        ended = &mut writing => (ended, true),
    };
    let may_go_on = ended.is_ok() && !is_written;
    let reason = ended.err().map_or_else(|| "it closed the stream".to_owned(), |e| e.to_string());
    let _ = events.send(FromDriver::Gone(reason)).await;
    if may_go_on {
        // Whoever waits for it has a limit.
        let _ = writing.await;
    }
}

/// Writes frames until the driver has the last one.
async fn write(
    mut sender: FrameSender,
    mut outgoing: mpsc::UnboundedReceiver<Option<FromExecutor>>,
) -> Result<(), StreamError> {
    let mut next = outgoing.recv().await.flatten();
    while let Some(frame) = next {
        sender.queue(&frame)?;
        next = match outgoing.try_recv() {
            Ok(next) => next,
            Err(_) => {
                sender.flush().await?;
                outgoing.recv().await.flatten()
            }
        };
    }
    sender.finish().await?;
    sender.acknowledged().await
}

/// Serves the streams of a data connection.
async fn data(connection: Connection, events: mpsc::Sender<FromDriver>, held: HeldResults) {
    while let Ok(stream) = connection.accept().await {
        let (events, held) = (events.clone(), held.clone());
        tokio::spawn(async move {
            if let Err(error) = data_stream(stream, events, held).await {
                tracing::warn!(%error, "a data stream of the driver ended early");
            }
        });
    }
}

async fn data_stream(
    mut stream: FrameStream,
    events: mpsc::Sender<FromDriver>,
    held: HeldResults,
) -> io::Result<()> {
    match stream.receiver.recv::<DriverData>().await.map_err(io::Error::other)? {
        Some(DriverData::Snapshot { header, after, packed }) => {
            let mut sink = PageSink::new(&header, after.is_none())?;
            if packed {
                receive_packed(&mut stream.receiver, &mut sink).await?;
            } else {
                receive_raw(&mut stream.receiver, &mut sink).await?;
            }
            let _ = events.send(FromDriver::Snapshot(header, after, sink.finish()?)).await;
        }
        Some(DriverData::Result(attempt)) => {
            let result = held.lock().expect("no holder of the lock panics").get(&attempt).cloned();
            for piece in result.iter().flat_map(|result| result.chunks(RESULT_CHUNK_BYTES)) {
                let chunk = pack(piece.to_vec());
                stream.sender.send(&chunk).await.map_err(io::Error::other)?;
            }
            stream.sender.finish().await.map_err(io::Error::other)?;
        }
        None => {}
    }
    Ok(())
}

async fn receive_packed(receiver: &mut FrameReceiver, sink: &mut PageSink) -> io::Result<()> {
    while let Some(chunk) = receiver.recv::<DataChunk>().await.map_err(io::Error::other)? {
        sink.push(&unpack(chunk)?)?;
    }
    Ok(())
}

async fn receive_raw(receiver: &mut FrameReceiver, sink: &mut PageSink) -> io::Result<()> {
    let mut buffer = vec![0; LINK_CHUNK_BYTES];
    loop {
        let count = receiver.recv_into(&mut buffer).await.map_err(io::Error::other)?;
        if count == 0 {
            return Ok(());
        }
        sink.push(&buffer[..count])?;
    }
}
