//! The control connection to the master: frames of this worker out, frames of the master in.

use super::node::{Event, SessionId};
use super::shell::Shared;
use offshoot_net::{ConnectError, Connection, FrameSender, FrameStream, RoleKind, StreamError};
use offshoot_proto::cluster::{FromWorker, ToWorker};
use offshoot_proto::hello::Purpose;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Frames that wait for the master: two of each of the 4,096 executors that a worker may have,
/// and heartbeats. More means that it does not read.
const OUTBOX_MAX: usize = 10_000;

/// How long the master may take to read the last words.
const GRACE: Duration = Duration::from_secs(1);

/// A connection, or the attempt at one. Dropping it closes the connection.
#[derive(Debug)]
pub(super) struct Session {
    id: SessionId,
    outbox: mpsc::Sender<FromWorker>,
    task: JoinHandle<()>,
}

/// The master does not read.
#[derive(Debug)]
pub(super) struct Overflow;

// === impl Session ===

impl Session {
    /// Dials the master. Tells `events` how it goes.
    pub(super) fn dial(shared: &Arc<Shared>, id: SessionId, events: mpsc::Sender<Event>) -> Self {
        let (outbox, frames) = mpsc::channel(OUTBOX_MAX);
        let task = tokio::spawn(run(shared.clone(), id, events, frames));
        Self { id, outbox, task }
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    /// Sends a frame without waiting.
    pub(super) fn send(&self, message: FromWorker) -> Result<(), Overflow> {
        match self.outbox.try_send(message) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(Overflow),
            // A session that has ended says so itself.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Closes the connection after what has been sent, which the master may take a second to read.
    pub(super) async fn finish(mut self) {
        // The sender that is replaced was the last one.
        self.outbox = mpsc::channel(1).0;
        let _ = timeout(GRACE, &mut self.task).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    shared: Arc<Shared>,
    session: SessionId,
    events: mpsc::Sender<Event>,
    outbox: mpsc::Receiver<FromWorker>,
) {
    let master = shared.config.master;
    let connected = shared.endpoint.connect(master, RoleKind::Master, Purpose::Control);
    let (reason, hopeless) = match connected.await {
        Ok(connection) => {
            // The events end only with the worker.
            let _ = events.send(Event::Connected { session }).await;
            let ended = talk(connection, session, &events, outbox).await;
            let ended = ended.map_or_else(|error| error.to_string(), |()| "it left".to_owned());
            (ended, false)
        }
        Err(error) => (error.to_string(), is_hopeless(&error)),
    };
    let event = Event::Disconnected { session, reason, hopeless };
    let _ = events.send(event).await;
}

/// Whether the next attempt would end in the same way.
fn is_hopeless(error: &ConnectError) -> bool {
    match error {
        ConnectError::Refused { .. }
        | ConnectError::WrongPeer { .. }
        | ConnectError::Untrusted { .. }
        | ConnectError::Frame { .. }
        | ConnectError::Local { .. } => true,
        ConnectError::Unreachable { .. } | ConnectError::WindowsExhausted { .. } => false,
    }
}

/// Returns when the master has closed the connection, or this side has nothing more to say.
async fn talk(
    mut connection: Connection,
    session: SessionId,
    events: &mpsc::Sender<Event>,
    mut outbox: mpsc::Receiver<FromWorker>,
) -> Result<(), StreamError> {
    let Some(FrameStream { mut sender, mut receiver }) = connection.take_control() else {
        return Err(StreamError::NotOpen);
    };
    loop {
        tokio::select! {
            biased;
            message = outbox.recv() => match message {
                Some(message) => queue_all(&mut sender, message, &mut outbox)?,
                None => {
                    sender.finish().await?;
                    // The master ends its side when it has read all of this. A connection that is
                    // closed before takes what has not been read with it.
                    while receiver.recv::<ToWorker>().await?.is_some() {}
                    return Ok(());
                }
            },
            flushed = sender.flush(), if sender.queued() > 0 => flushed?,
            message = receiver.recv::<ToWorker>() => match message? {
                Some(message) => {
                    let _ = events.send(Event::FromMaster { session, message }).await;
                }
                None => return Ok(()),
            },
        }
    }
}

fn queue_all(
    sender: &mut FrameSender,
    first: FromWorker,
    outbox: &mut mpsc::Receiver<FromWorker>,
) -> Result<(), StreamError> {
    sender.queue(&first)?;
    while let Ok(message) = outbox.try_recv() {
        sender.queue(&message)?;
    }
    Ok(())
}
