//! Data connections to whoever serves blocks, shared by all slots of an executor.
//!
//! A connection has room for a few streams. Whoever waits for room must not hold any, or readers
//! wait for each other in a circle: two tasks that join three shuffles have six streams to the same
//! worker, and four fit. So there are two connections to each peer. Streams that a task reads as it
//! goes live on one, and are opened only if there is room at once. All others are read to their end
//! into a file, on the other one, where nothing but the network keeps a stream open.

use offshoot_net::{
    ConnectError, Connection, DATA_STREAMS_BY_DIALLER, Endpoint, Expected, FrameStream, Role,
    RoleKind,
};
use offshoot_proto::block::{BlockFrame, FetchBlocks};
use offshoot_proto::hello::Purpose;
use offshoot_proto::stage::ShufflePlace;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Connections that are kept for later. A process has windows for about 40; this leaves room for
/// the driver's, and for those that others dial.
const LINES_MAX: usize = 24;

/// A peer that sends nothing for so long, of what it was asked for, will not.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The connections.
pub(in crate::executor) struct Fetcher {
    endpoint: Arc<Endpoint>,
    lines: std::sync::Mutex<BTreeMap<Key, Arc<Mutex<Option<Line>>>>>,
}

type Key = (SocketAddr, Pace);

/// Who decides how fast a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pace {
    /// A task.
    Task,
    /// The network.
    Network,
}

/// A connection, and how many streams fit into it.
#[derive(Clone)]
struct Line {
    connection: Arc<Connection>,
    room: Arc<Semaphore>,
}

/// A stream, and its place.
pub(in crate::executor) struct HeldStream {
    stream: FrameStream,
    _place: OwnedSemaphorePermit,
}

// === impl Fetcher ===

impl Fetcher {
    pub(in crate::executor) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, lines: Default::default() }
    }

    /// Asks for blocks that a task reads as it goes. None if there is no room now.
    pub(super) async fn try_open(
        &self,
        place: &ShufflePlace,
        request: &FetchBlocks,
    ) -> Result<Option<HeldStream>, String> {
        let line = match self.line(place, Pace::Task).await {
            Ok(line) => line,
            // A connection more is one too many; the other way works with less.
            Err(ConnectError::WindowsExhausted { .. }) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        match line.room.clone().try_acquire_owned() {
            Ok(held) => line.ask(held, request).await.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Asks for blocks that are read as fast as they come, when there is room.
    pub(in crate::executor) async fn open(
        &self,
        place: &ShufflePlace,
        request: &FetchBlocks,
    ) -> Result<HeldStream, String> {
        let line = self.line(place, Pace::Network).await.map_err(|error| error.to_string())?;
        let held = line.room.clone().acquire_owned().await;
        line.ask(held.map_err(|error| error.to_string())?, request).await
    }

    /// A connection that is dialled once. Who dials makes nobody wait but those who want the same.
    async fn line(&self, place: &ShufflePlace, pace: Pace) -> Result<Line, ConnectError> {
        let line = self.find((place.address, pace));
        let mut line = line.lock().await;
        if let Some(line) = line.as_ref().filter(|line| line.is_open()) {
            return Ok(line.clone());
        }
        let expected: Expected = match place.executor {
            Some(executor) => Role::Executor(executor).into(),
            None => RoleKind::Worker.into(),
        };
        let dialled = self.endpoint.connect(place.address, expected, Purpose::Data).await;
        let connection = Arc::new(dialled?);
        let room = Arc::new(Semaphore::new(DATA_STREAMS_BY_DIALLER as usize));
        Ok(line.insert(Line { connection, room }).clone())
    }

    /// The place of a connection; one that nobody uses is closed when there are many.
    fn find(&self, key: Key) -> Arc<Mutex<Option<Line>>> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= LINES_MAX && !lines.contains_key(&key) {
            let idle = |line: &Mutex<Option<Line>>| {
                line.try_lock().is_ok_and(|line| line.as_ref().is_none_or(Line::is_idle))
            };
            let idle = lines.iter().find(|(_, line)| idle(line)).map(|(key, _)| *key);
            idle.and_then(|key| lines.remove(&key));
        }
        lines.entry(key).or_default().clone()
    }
}

// === impl HeldStream ===

impl HeldStream {
    /// What comes next; it is an error if that is the end, or nothing for a long time.
    pub(in crate::executor) async fn next(&mut self) -> Result<BlockFrame, String> {
        let frame = timeout(SILENCE_MAX, self.stream.receiver.recv::<BlockFrame>()).await;
        match frame {
            Ok(Ok(Some(frame))) => Ok(frame),
            Ok(Ok(None)) => Err("the stream ended early".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it sent nothing for {} s", SILENCE_MAX.as_secs())),
        }
    }
}

// === impl Line ===

impl Line {
    fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    fn is_idle(&self) -> bool {
        self.room.available_permits() == DATA_STREAMS_BY_DIALLER as usize
    }

    async fn ask(
        &self,
        held: OwnedSemaphorePermit,
        request: &FetchBlocks,
    ) -> Result<HeldStream, String> {
        let opened = self.connection.open().await;
        let mut stream = opened.map_err(|error| error.to_string())?;
        let sent = stream.sender.send(request).await;
        sent.map(|()| HeldStream { stream, _place: held }).map_err(|error| error.to_string())
    }
}
