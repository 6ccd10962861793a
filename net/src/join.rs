//! How a process without a certificate becomes a worker: a protocol of one frame each way.
//!
//! ```text
//!   joining process                                       master
//!      ── TLS, ALPN offshoot-join/1, fresh key ──────────►
//!      ◄─ chain with the authority that the token names ──
//!      ── token, signing request ────────────────────────►  token good? key the one shown?
//!                                                           redeem: used before? which id?
//!      ◄─ certificate, or a sentence ─────────────────────
//! ```
//!
//! The client certificate is self-signed and proves one thing: that the peer holds the key of the
//! signing request, so that nobody who copies a request in transit gets a certificate for it. That
//! a token works once is decided by the `redeem` callback, which the master backs with its log.

use crate::admission::Permit;
use crate::authority::{self, Authority, Validity};
use crate::certificate;
use crate::connection::{CloseCode, FrameStream, StreamGuard, close};
use crate::credential::{Credential, NewKey};
use crate::endpoint::quinn_endpoint;
use crate::error::{BindError, Closed, ConnectError, JoinError, StreamError, peer_text};
use crate::handshake::{other_version, peer_certificate};
use crate::network::Network;
use crate::role::{Expected, Role, RoleKind};
use crate::stream::ended_early;
use crate::tls;
use crate::token::{JoinToken, TokenClaims};
use crate::transport::{self, Mark, StartIds};
use crate::windows::WindowSize;
use offshoot_proto::frame;
use offshoot_proto::hello::{
    JOIN_FRAME_BYTES_MAX, JoinReply, JoinRequest, PROTOCOL_VERSION, leading_version,
};
use offshoot_proto::id::WorkerId;
use offshoot_proto::limits::HANDSHAKE_DEADLINE;
use quinn::{ClientConfig, ServerConfig};
use rcgen::PublicKeyData;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// Joins that a master serves at once: joining is rare, and anybody may try.
pub const JOINS_CONCURRENT_MAX: usize = 16;

/// How long a joining process waits for the answer: the master writes to its log first.
const REPLY_DEADLINE: Duration = Duration::from_secs(30);

/// A process that wants to join. Dropping it refuses the connection.
#[derive(Debug)]
pub struct Joining {
    quinn: quinn::Incoming,
    config: Arc<ServerConfig>,
    _address: Permit<IpAddr>,
    _place: OwnedSemaphorePermit,
}

/// A join request of this version, or the version that it is of.
enum Heard {
    Request(JoinRequest),
    OtherVersion(u32),
}

// === impl Joining ===

impl Joining {
    pub(crate) fn new(
        quinn: quinn::Incoming,
        config: Arc<ServerConfig>,
        address: Permit<IpAddr>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { quinn, config, _address: address, _place: place }
    }

    /// Who dials.
    pub fn remote_address(&self) -> SocketAddr {
        self.quinn.remote_address()
    }

    /// Serves the one request of a joining process.
    ///
    /// A good token's claims and the process's raw public key go to `redeem`, which gives the new
    /// worker's id, or the sentence that the process gets. It must take a nonce only once, and may
    /// give the same id again to the same key (the answer may have been lost on its way). The
    /// request must be there within 5 s; `redeem` takes the time that it needs.
    pub async fn serve<F>(
        self,
        authority: &Authority,
        now: SystemTime,
        redeem: impl FnOnce(TokenClaims, Vec<u8>) -> F,
    ) -> Result<WorkerId, JoinError>
    where
        F: Future<Output = Result<WorkerId, String>>,
    {
        let address = self.quinn.remote_address();
        let peer = |reason: String| JoinError::Peer { address, reason };
        let Self { quinn, config, _address, _place } = self;
        let request = timeout(HANDSHAKE_DEADLINE, read_request(quinn, config)).await;
        let (quinn, stream, heard) = request
            .map_err(|_| peer("no request in time".to_owned()))?
            .map_err(|error| peer(error.to_string()))?;
        let granted = match judge(&quinn, heard, authority, now) {
            Ok((claims, request, public_key)) => match redeem(claims, public_key).await {
                Ok(worker) => issue(authority, worker, &request, now),
                Err(reason) => Err(reason),
            },
            Err(reason) => Err(reason),
        };
        let reply = match &granted {
            Ok((reply, _)) => reply.clone(),
            Err(reason) => JoinReply::Refused { reason: reason.clone() },
        };
        let sent = timeout(HANDSHAKE_DEADLINE, send_reply(&quinn, stream, &reply)).await;
        close(&quinn, CloseCode::Done, "");
        let (_, worker) = granted.map_err(|reason| JoinError::Refused { address, reason })?;
        sent.map_err(|_| peer("did not take its certificate in time".to_owned()))?
            .map_err(|error| peer(error.to_string()))?;
        Ok(worker)
    }
}

async fn read_request(
    incoming: quinn::Incoming,
    config: Arc<ServerConfig>,
) -> Result<(quinn::Connection, FrameStream, Heard), StreamError> {
    let quinn = incoming.accept_with(config)?.await?;
    let (send, receive) = quinn.accept_bi().await?;
    let guard = StreamGuard::unproven(&quinn);
    let mut stream = FrameStream::new(send, receive, JOIN_FRAME_BYTES_MAX, &guard);
    let heard = stream.receiver.recv_with(|payload| {
        Ok(match leading_version(payload)? {
            PROTOCOL_VERSION => Heard::Request(frame::from_bytes(payload)?),
            other => Heard::OtherVersion(other),
        })
    });
    let heard = heard.await?.ok_or_else(ended_early)?;
    Ok((quinn, stream, heard))
}

fn judge(
    quinn: &quinn::Connection,
    heard: Heard,
    authority: &Authority,
    now: SystemTime,
) -> Result<(TokenClaims, Vec<u8>, Vec<u8>), String> {
    let request = match heard {
        Heard::Request(request) => request,
        Heard::OtherVersion(version) => return Err(other_version(version)),
    };
    let token: JoinToken = request.token.parse().map_err(sentence)?;
    let claims = token.verify(authority, now).map_err(sentence)?.clone();
    let requested = authority::signing_request_key(&request.signing_request).map_err(sentence)?;
    let shown = peer_certificate(quinn).ok_or("no certificate")?;
    let shown = certificate::public_key(&shown).map_err(sentence)?;
    if shown != requested.der_bytes() {
        return Err("the signing request is not for the key that the connection uses".to_owned());
    }
    Ok((claims, request.signing_request, shown))
}

fn issue(
    authority: &Authority,
    worker: WorkerId,
    request: &[u8],
    now: SystemTime,
) -> Result<(JoinReply, WorkerId), String> {
    let role = Role::Worker(worker.clone());
    let certificate = authority.issue(&role, request, Validity::of_node(now)).map_err(sentence)?;
    let reply = JoinReply::Joined {
        cluster: authority.cluster().to_string(),
        worker: worker.clone(),
        certificate,
        authority: authority.certificate().to_vec(),
    };
    Ok((reply, worker))
}

async fn send_reply(
    quinn: &quinn::Connection,
    mut stream: FrameStream,
    reply: &JoinReply,
) -> Result<(), StreamError> {
    stream.sender.send(reply).await?;
    stream.sender.finish().await?;
    // The process closes the connection when it has read the answer.
    match quinn.closed().await.into() {
        Closed::ByPeer { .. } => Ok(()),
        other => Err(other.into()),
    }
}

fn sentence(error: impl ToString) -> String {
    error.to_string()
}

/// Joins the cluster whose master is at `address` with a token, and returns what makes this
/// process a worker of it.
///
/// A master whose authority is not the one in the token is not told the token.
pub async fn join(
    network: &dyn Network,
    address: SocketAddr,
    token: &JoinToken,
) -> Result<Credential, JoinError> {
    let key = NewKey::generate()?;
    let seed = network.seed();
    let local = unspecified(address);
    let endpoint = quinn_endpoint(network, seed, local, None)
        .await
        .map_err(|source| BindError::Socket { address: local, source })?;
    let start_ids = StartIds::new(seed);
    let asked = timeout(REPLY_DEADLINE, ask(&endpoint, &start_ids, address, token, &key)).await;
    endpoint.close(quinn::VarInt::from_u32(CloseCode::Done as u32), b"");
    endpoint.wait_idle().await;
    let reply = asked.unwrap_or_else(|_| {
        let reason = format!("no answer within {} s", REPLY_DEADLINE.as_secs());
        Err(ConnectError::Unreachable { address, reason }.into())
    })?;
    match reply {
        JoinReply::Refused { reason } => {
            let reason = peer_text(&reason);
            Err(ConnectError::Refused { address, reason }.into())
        }
        JoinReply::Joined { certificate, authority, .. } => {
            if !token.claims_unverified().pins(&authority) {
                let reason = "it sent another authority than the token's".to_owned();
                return Err(ConnectError::Untrusted { address, reason }.into());
            }
            Ok(key.into_credential(certificate, authority)?)
        }
    }
}

async fn ask(
    endpoint: &quinn::Endpoint,
    start_ids: &StartIds,
    address: SocketAddr,
    token: &JoinToken,
    key: &NewKey,
) -> Result<JoinReply, JoinError> {
    let quinn = dial(endpoint, start_ids, address, token, key).await?;
    let request = JoinRequest {
        version: PROTOCOL_VERSION,
        token: token.to_string(),
        signing_request: key.signing_request()?,
    };
    let exchange = async {
        let (send, receive) = quinn.open_bi().await?;
        let guard = StreamGuard::unproven(&quinn);
        let mut stream = FrameStream::new(send, receive, JOIN_FRAME_BYTES_MAX, &guard);
        stream.sender.send(&request).await?;
        stream.sender.finish().await?;
        stream.receiver.recv().await?.ok_or_else(ended_early)
    };
    let reply = exchange.await.map_err(|error| ConnectError::stream(address, error))?;
    close(&quinn, CloseCode::Done, "");
    Ok(reply)
}

async fn dial(
    endpoint: &quinn::Endpoint,
    start_ids: &StartIds,
    address: SocketAddr,
    token: &JoinToken,
    key: &NewKey,
) -> Result<quinn::Connection, JoinError> {
    let (crypto, note) = tls::joining_client(token.claims_unverified(), key)?;
    let start_id = start_ids.next(Mark::Join);
    let mut config = ClientConfig::new(crypto);
    config.transport_config(transport::dialled(Mark::Join, WindowSize::MIN));
    config.initial_dst_cid_provider(Arc::new(move || start_id));
    let connecting = endpoint
        .connect_with(config, address, RoleKind::Master.server_name())
        .map_err(|error| ConnectError::Local { address, reason: error.to_string() })?;
    let connected = timeout(HANDSHAKE_DEADLINE, connecting).await.map_err(|_| {
        let reason = format!("no answer within {} s", HANDSHAKE_DEADLINE.as_secs());
        ConnectError::Unreachable { address, reason }
    })?;
    Ok(connected.map_err(|error| match note.take() {
        Some(rejection) => {
            ConnectError::rejected(address, &Expected::Kind(RoleKind::Master), rejection)
        }
        None => ConnectError::ended(address, error.into()),
    })?)
}

fn unspecified(peer: SocketAddr) -> SocketAddr {
    let address: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    (address, 0).into()
}
