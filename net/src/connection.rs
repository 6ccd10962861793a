//! A connection to a peer that has been verified and welcomed.

use crate::admission::Permit;
use crate::certificate::Identity;
use crate::error::{Closed, StreamError};
use crate::role::Role;
use crate::stream::{FrameReceiver, FrameSender};
use crate::transport::{DATA_STREAMS_BY_ACCEPTOR, DATA_STREAMS_BY_DIALLER};
use crate::windows::WindowLease;
use offshoot_proto::hello::Purpose;
use offshoot_proto::limits::{CONTROL_FRAME_BYTES_MAX, DATA_FRAME_BYTES_MAX};
use quinn::{Side, VarInt};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A welcomed connection. It stays open while it or one of its streams is held.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    control: Option<FrameStream>,
}

/// Both halves of a stream.
#[derive(Debug)]
pub struct FrameStream {
    /// To the peer.
    pub sender: FrameSender,
    /// From the peer.
    pub receiver: FrameReceiver,
}

/// Why a side closes a connection or gives up a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// There is nothing more to say. Also what a dropped connection says.
    Done = 0,
    /// The peer is not welcome.
    Refused = 1,
    /// The peer broke the protocol.
    Protocol = 2,
    /// The process ends.
    Shutdown = 3,
    /// The peer's certificate no longer counts.
    Revoked = 4,
    /// The reader cannot consume the stream now, and will ask again.
    Busy = 5,
}

/// What a connection holds for as long as any part of it lives.
pub(crate) struct Shared {
    pub(crate) quinn: quinn::Connection,
    pub(crate) identity: Identity,
    pub(crate) purpose: Purpose,
    pub(crate) held: Held,
    streams: Arc<Semaphore>,
}

/// Places that are given back when the connection ends.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "kept only to be dropped with the connection")]
pub(crate) struct Held {
    pub(crate) lease: Option<WindowLease>,
    pub(crate) address: Option<Permit<IpAddr>>,
    pub(crate) identity: Option<Permit<Role>>,
}

/// Keeps a stream's connection, and its place among the open streams.
#[derive(Clone)]
pub(crate) struct StreamGuard {
    quinn: quinn::Connection,
    _shared: Option<Arc<Shared>>,
    _place: Option<Arc<OwnedSemaphorePermit>>,
}

// === impl Connection ===

impl Connection {
    /// A data connection; its hello stream is over.
    pub(crate) fn data(shared: Shared) -> Self {
        Self { shared: Arc::new(shared), control: None }
    }

    /// A control connection, whose hello stream goes on as the control stream.
    pub(crate) fn control(shared: Shared, mut stream: FrameStream) -> Self {
        let shared = Arc::new(shared);
        stream.promote(CONTROL_FRAME_BYTES_MAX, &StreamGuard::of(&shared, None));
        Self { shared, control: Some(stream) }
    }

    /// Who the peer is.
    pub fn peer(&self) -> &Role {
        &self.shared.identity.role
    }

    /// When the peer's certificate ends. It was checked at the handshake; whoever keeps a
    /// connection for longer closes it then (the peer dials again with a renewed one).
    pub fn peer_not_after(&self) -> SystemTime {
        self.shared.identity.not_after
    }

    /// What the connection is for.
    pub fn purpose(&self) -> Purpose {
        self.shared.purpose
    }

    /// The peer's address.
    pub fn remote_address(&self) -> SocketAddr {
        self.shared.quinn.remote_address()
    }

    /// The time that a packet takes there and back, as last estimated.
    pub fn round_trip(&self) -> Duration {
        self.shared.quinn.rtt()
    }

    /// The one stream of a control connection, once.
    pub fn take_control(&mut self) -> Option<FrameStream> {
        self.control.take()
    }

    /// Opens a stream of a data connection. Waits while as many are open as this side may have:
    /// first both sides have to be done with another one (finished, given up or dropped). The peer
    /// learns of the stream with the first frame.
    pub async fn open(&self) -> Result<FrameStream, StreamError> {
        self.only_data()?;
        let place = self.shared.streams.clone().acquire_owned();
        let place = place.await.map_err(|_| StreamError::NotOpen)?;
        let (send, receive) = self.shared.quinn.open_bi().await?;
        let guard = StreamGuard::of(&self.shared, Some(Arc::new(place)));
        Ok(FrameStream::new(send, receive, DATA_FRAME_BYTES_MAX, &guard))
    }

    /// The next stream that the peer opens on a data connection.
    pub async fn accept(&self) -> Result<FrameStream, StreamError> {
        self.only_data()?;
        let (send, receive) = self.shared.quinn.accept_bi().await?;
        let guard = StreamGuard::of(&self.shared, None);
        Ok(FrameStream::new(send, receive, DATA_FRAME_BYTES_MAX, &guard))
    }

    /// Closes the connection at once; what has not been acknowledged may be lost.
    pub fn close(&self, code: CloseCode, reason: &str) {
        close(&self.shared.quinn, code, reason);
    }

    /// Waits until the connection has ended, and says why.
    pub async fn closed(&self) -> Closed {
        self.shared.quinn.closed().await.into()
    }

    /// Why the connection has ended, if it has.
    pub fn close_reason(&self) -> Option<Closed> {
        self.shared.quinn.close_reason().map(Closed::from)
    }

    fn only_data(&self) -> Result<(), StreamError> {
        match self.shared.purpose {
            Purpose::Data => Ok(()),
            Purpose::Control => Err(StreamError::NotOpen),
        }
    }
}

// === impl FrameStream ===

impl FrameStream {
    pub(crate) fn new(
        send: quinn::SendStream,
        receive: quinn::RecvStream,
        frame_bytes_max: usize,
        guard: &StreamGuard,
    ) -> Self {
        Self {
            sender: FrameSender::new(send, frame_bytes_max, guard.clone()),
            receiver: FrameReceiver::new(receive, frame_bytes_max, guard.clone()),
        }
    }

    fn promote(&mut self, frame_bytes_max: usize, guard: &StreamGuard) {
        self.sender.promote(frame_bytes_max, guard.clone());
        self.receiver.promote(frame_bytes_max, guard.clone());
    }
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(
        quinn: quinn::Connection,
        identity: Identity,
        purpose: Purpose,
        held: Held,
    ) -> Self {
        let (ours, theirs) = match quinn.side() {
            Side::Client => (DATA_STREAMS_BY_DIALLER, DATA_STREAMS_BY_ACCEPTOR),
            Side::Server => (DATA_STREAMS_BY_ACCEPTOR, DATA_STREAMS_BY_DIALLER),
        };
        if purpose == Purpose::Data {
            quinn.set_max_concurrent_bi_streams(VarInt::from_u32(theirs));
        }
        let streams = Arc::new(Semaphore::new(ours as usize));
        Self { quinn, identity, purpose, held, streams }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("peer", &self.identity.role)
            .field("purpose", &self.purpose)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

// === impl StreamGuard ===

impl StreamGuard {
    /// For streams of a connection that has not been welcomed yet.
    pub(crate) fn unproven(quinn: &quinn::Connection) -> Self {
        Self { quinn: quinn.clone(), _shared: None, _place: None }
    }

    fn of(shared: &Arc<Shared>, place: Option<Arc<OwnedSemaphorePermit>>) -> Self {
        Self { quinn: shared.quinn.clone(), _shared: Some(shared.clone()), _place: place }
    }

    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        close(&self.quinn, code, reason);
    }
}

pub(crate) fn close(quinn: &quinn::Connection, code: CloseCode, reason: &str) {
    quinn.close(VarInt::from_u32(code as u32), reason.as_bytes());
}
