//! Data connections to whoever serves blocks, shared by all slots of an executor.
//!
//! A connection has room for a few streams. Whoever waits for room must not hold any, or readers
//! wait for each other in a circle: two tasks that join three shuffles have six streams to the same
//! worker, and four fit. So there are two connections to each peer. Streams that a task reads as it
//! goes live on one, and are opened only if there is room at once. All others are read to their end
//! into a file, on the other one, where nothing but the network keeps a stream open.

use offshoot_net::{
    Connection, DATA_STREAMS_BY_DIALLER, Endpoint, Expected, FrameStream, Role, RoleKind,
};
use offshoot_proto::block::FetchBlocks;
use offshoot_proto::hello::Purpose;
use offshoot_proto::stage::ShufflePlace;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

/// The connections.
pub(in crate::executor) struct Fetcher {
    endpoint: Arc<Endpoint>,
    lines: Mutex<BTreeMap<(SocketAddr, Pace), Line>>,
}

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
    pub(in crate::executor) stream: FrameStream,
    _place: OwnedSemaphorePermit,
}

// === impl Fetcher ===

impl Fetcher {
    pub(in crate::executor) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, lines: Mutex::new(BTreeMap::new()) }
    }

    /// Asks for blocks that a task reads as it goes. None if there is no room now.
    pub(super) async fn try_open(
        &self,
        place: &ShufflePlace,
        request: &FetchBlocks,
    ) -> Result<Option<HeldStream>, String> {
        let line = self.line(place, Pace::Task).await?;
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
        let line = self.line(place, Pace::Network).await?;
        let held = line.room.clone().acquire_owned().await;
        line.ask(held.map_err(|error| error.to_string())?, request).await
    }

    /// A connection that is dialled once.
    async fn line(&self, place: &ShufflePlace, pace: Pace) -> Result<Line, String> {
        let mut lines = self.lines.lock().await;
        let key = (place.address, pace);
        if let Some(line) = lines.get(&key)
            && line.connection.close_reason().is_none()
        {
            return Ok(line.clone());
        }
        let expected: Expected = match place.executor {
            Some(executor) => Role::Executor(executor).into(),
            None => RoleKind::Worker.into(),
        };
        let dialled = self.endpoint.connect(place.address, expected, Purpose::Data).await;
        let connection = Arc::new(dialled.map_err(|error| error.to_string())?);
        let room = Arc::new(Semaphore::new(DATA_STREAMS_BY_DIALLER as usize));
        let line = Line { connection, room };
        lines.insert(key, line.clone());
        Ok(line)
    }
}

// === impl Line ===

impl Line {
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
