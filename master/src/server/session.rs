//! A control connection: frames of the peer to the core, and what the core says to the peer.

use super::Server;
use super::core::Input;
use super::outbox::{End, Outbox};
use crate::cluster::{Event, SessionId};
use offshoot_net::{
    CloseCode, Connection, FrameReceiver, FrameSender, FrameStream, Role, StreamError,
};
use offshoot_proto::cluster::{FromClient, FromWorker};
use offshoot_proto::id::WorkerId;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// How long a peer may take to read the last words.
const GRACE: Duration = Duration::from_secs(5);

/// What ended a session.
enum Cause {
    /// The core is done with the peer, or the peer does not read.
    Core(End),
    /// The peer says nothing more, or its connection is gone.
    Peer(Result<(), StreamError>),
    /// The core's words do not get through.
    Sending,
    /// Its certificate has expired.
    Expired,
}

/// Where frames of one peer come from and go to.
struct Ear<'a> {
    inputs: &'a mpsc::Sender<Input>,
    session: SessionId,
    remote: IpAddr,
}

/// Serves the peer until either side is done with the other.
pub(super) async fn run(
    server: &Server,
    mut connection: Connection,
    session: SessionId,
    expiry: Duration,
) {
    let Some(FrameStream { sender, receiver }) = connection.take_control() else {
        return;
    };
    let outbox = Outbox::default();
    let input = Input::Opened { session, outbox: outbox.clone() };
    if server.inputs.send(input).await.is_err() {
        return;
    }
    let ear = Ear { inputs: &server.inputs, session, remote: connection.remote_address().ip() };
    let mut saying = pin!(say(&outbox, sender));
    let cause = tokio::select! {
        biased;
        end = outbox.ended() => Cause::Core(end),
        _ = &mut saying => Cause::Sending,
        heard = ear.hear(receiver, connection.peer()) => Cause::Peer(heard),
        () = sleep(expiry) => Cause::Expired,
    };
    // The core ends the outbox when it hears this, unless it has done so already.
    let closed = Input::Event(Event::Closed { session });
    let _ = server.inputs.send(closed).await;
    let peer = connection.peer();
    let warn = |what: &str| server.complaints.warn(format_args!("{peer}: {what}"));
    match cause {
        Cause::Core(End::Cut) => {
            warn("does not read what it is told; its connection is cut");
            connection.close(CloseCode::Refused, "you do not read what the master says");
        }
        Cause::Core(End::Flushed) | Cause::Peer(Ok(())) => {
            let last_words = async {
                let _ = saying.await;
                connection.closed().await
            };
            let _ = timeout(GRACE, last_words).await;
        }
        Cause::Peer(Err(StreamError::Closed(_))) | Cause::Sending => {}
        Cause::Peer(Err(error)) => warn(&error.to_string()),
        Cause::Expired => {
            let reason = "your certificate has expired; dial again with a renewed one";
            connection.close(CloseCode::Revoked, reason);
        }
    }
}

/// Sends all that the core says, and the end of the stream after it.
async fn say(outbox: &Outbox, mut sender: FrameSender) -> Result<(), StreamError> {
    outbox.drain(&mut sender).await?;
    sender.finish().await?;
    sender.acknowledged().await
}

// === impl Ear ===

impl Ear<'_> {
    /// Hands the peer's frames to the core until the peer says nothing more.
    async fn hear(&self, receiver: FrameReceiver, peer: &Role) -> Result<(), StreamError> {
        match peer {
            Role::Worker(id) => self.hear_worker(receiver, id).await,
            Role::Tenant(name) => self.hear_client(receiver, name).await,
            // The handshake lets nobody else in.
            Role::Master | Role::Driver(_) | Role::Executor(_) => Ok(()),
        }
    }

    async fn hear_worker(
        &self,
        mut receiver: FrameReceiver,
        id: &WorkerId,
    ) -> Result<(), StreamError> {
        while let Some(mut message) = receiver.recv::<FromWorker>().await? {
            self.complete(&mut message);
            let event = Event::FromWorker { session: self.session, identity: id.clone(), message };
            if self.inputs.send(Input::Event(event)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn hear_client(
        &self,
        mut receiver: FrameReceiver,
        tenant: &str,
    ) -> Result<(), StreamError> {
        while let Some(message) = receiver.recv::<FromClient>().await? {
            let event =
                Event::FromClient { session: self.session, tenant: tenant.to_owned(), message };
            if self.inputs.send(Input::Event(event)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// A worker that listens on all interfaces does not know under which address others see it.
    fn complete(&self, message: &mut FromWorker) {
        let complete = |address: &mut SocketAddr| {
            if address.ip().is_unspecified() {
                address.set_ip(self.remote.to_canonical());
            }
        };
        match message {
            FromWorker::Register(info) => {
                complete(&mut info.address);
                let held = info.executors.iter_mut();
                held.filter_map(|executor| executor.address.as_mut()).for_each(complete);
            }
            FromWorker::ExecutorReady { address, .. } => complete(address),
            _ => {}
        }
    }
}
