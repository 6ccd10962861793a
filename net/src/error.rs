//! What can go wrong on the wire, a variant for each thing that a caller would do differently.
//!
//! Sentences that came from a peer are cut and escaped before they get into an error.

use crate::connection::CloseCode;
use crate::credential::CredentialError;
use crate::role::{Expected, Role};
use crate::tls::Rejection;
use crate::token::TokenError;
use offshoot_proto::frame::FrameError;
use quinn::{ConnectionError, ReadError, VarInt, WriteError};
use std::io;
use std::net::SocketAddr;
use thiserror::Error;

/// Characters of a peer's sentence that are kept.
const PEER_TEXT_CHARACTERS_MAX: usize = 500;

/// QUIC's code for "connection refused" (RFC 9000, section 20.1).
const QUIC_CONNECTION_REFUSED: u64 = 0x02;

/// QUIC's codes for TLS alerts: this plus the alert (RFC 9001, section 4.8).
const QUIC_TLS_ALERTS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

/// QUIC's code for the TLS alert `no_application_protocol`.
const QUIC_NO_COMMON_PROTOCOL: u64 = 0x100 + 120;

/// An endpoint cannot be made.
#[derive(Debug, Error)]
pub enum BindError {
    /// The address cannot be bound.
    #[error("cannot bind {address}: {source}")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The credential is not usable.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The TLS library refused the credential.
    #[error("cannot set up TLS: {reason}")]
    Tls {
        /// The library's word for it.
        reason: String,
    },
}

/// A peer cannot be reached, or is not the right one, or does not want us.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody answered. Trying again later may help.
    #[error("cannot reach {address}: {reason}")]
    Unreachable {
        /// Who was dialled.
        address: SocketAddr,
        /// What happened instead of an answer.
        reason: String,
    },
    /// The peer answered and said no. Trying again without a change does not help.
    #[error("{address} refused the connection: {reason}")]
    Refused {
        /// Who was dialled.
        address: SocketAddr,
        /// The peer's reason.
        reason: String,
    },
    /// A member of the cluster is there, but another one.
    #[error("{address} is {found}, expected {expected}")]
    WrongPeer {
        /// Who was dialled.
        address: SocketAddr,
        /// Who should have been there.
        expected: Expected,
        /// Who is.
        found: Role,
    },
    /// Whoever is there is no member of the cluster.
    #[error("{address} is not a member of this cluster: {reason}")]
    Untrusted {
        /// Who was dialled.
        address: SocketAddr,
        /// What is wrong with its certificate.
        reason: String,
    },
    /// This process has no receive window left for one more data connection.
    #[error(
        "no receive window left for a data connection to {address}: all of the {total} bytes are \
         in use; close a data connection first"
    )]
    WindowsExhausted {
        /// Who was to be dialled.
        address: SocketAddr,
        /// Bytes of the budget.
        total: u64,
    },
    /// The peer's answer was not understood.
    #[error("{address} does not speak this protocol: {source}")]
    Frame {
        /// Who was dialled.
        address: SocketAddr,
        /// What was wrong.
        source: FrameError,
    },
    /// This side cannot dial at all.
    #[error("cannot dial {address}: {reason}")]
    Local {
        /// Who was to be dialled.
        address: SocketAddr,
        /// Why not.
        reason: String,
    },
}

/// Somebody dialled and did not become a peer.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// Not done in time.
    #[error("{address} did not finish its handshake in time")]
    Deadline {
        /// Who dialled.
        address: SocketAddr,
    },
    /// No certificate of the cluster, another protocol, or no QUIC.
    #[error("handshake with {address} failed: {reason}")]
    Tls {
        /// Who dialled.
        address: SocketAddr,
        /// What was wrong.
        reason: String,
    },
    /// A member of the cluster that was turned away.
    #[error("refused {role} at {address}: {reason}")]
    Refused {
        /// Who dialled.
        address: SocketAddr,
        /// Who it is.
        role: Role,
        /// What it was told.
        reason: String,
    },
    /// A member of the cluster that spoke nonsense or left.
    #[error("{role} at {address}: {source}")]
    Stream {
        /// Who dialled.
        address: SocketAddr,
        /// Who it is.
        role: Role,
        /// What happened.
        source: StreamError,
    },
}

/// A process did not become a member.
#[derive(Debug, Error)]
pub enum JoinError {
    /// The token is not one.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The master cannot be reached, or is not the true one.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// This side cannot join anywhere.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The master's answer does not fit the request.
    #[error("the master sent a certificate that cannot be used: {0}")]
    Credential(#[from] CredentialError),
    /// The join was refused by this side; the joining process got the same sentence.
    #[error("refused to let {address} join: {reason}")]
    Refused {
        /// Who wanted to join.
        address: SocketAddr,
        /// Why not.
        reason: String,
    },
    /// The joining process spoke nonsense, was too slow or left.
    #[error("{address} did not ask to join properly: {reason}")]
    Peer {
        /// Who it was.
        address: SocketAddr,
        /// What it did.
        reason: String,
    },
}

/// A stream cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StreamError {
    /// The connection is gone, and all its streams with it.
    #[error("connection lost: {0}")]
    Closed(#[from] Closed),
    /// The peer gave up this stream only.
    #[error("the peer gave up the stream with code {code}")]
    Stopped {
        /// The peer's code.
        code: u64,
    },
    /// The peer sent what is no frame. The connection has been closed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame, {missing} bytes before its end")]
    Cut {
        /// Bytes that did not come.
        missing: usize,
    },
    /// A value of this side is too large for a frame; nothing of it was sent.
    #[error("a frame of {length} bytes is over the limit of {limit}; send it in pieces")]
    Oversize {
        /// Bytes of the value.
        length: usize,
        /// The limit of the stream.
        limit: usize,
    },
    /// More is queued than a peer that reads at all would leave.
    #[error("{queued} bytes are queued, the limit is {limit}: the peer does not read")]
    Backlog {
        /// Bytes queued.
        queued: usize,
        /// The limit.
        limit: usize,
    },
    /// This side has finished or given up the stream already, or the connection has no streams of
    /// that kind.
    #[error("the stream is not open")]
    NotOpen,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Closed {
    /// This side closed it.
    #[error("closed by this side")]
    Here,
    /// The peer closed it.
    #[error("closed by the peer with code {code}: {reason}")]
    ByPeer {
        /// A [`CloseCode`](crate::CloseCode), or a number that this version does not know.
        code: u64,
        /// The peer's sentence.
        reason: String,
    },
    /// Nothing came for too long.
    #[error("the peer has gone silent")]
    Silent,
    /// The peer has started anew and knows nothing of the connection.
    #[error("the peer has restarted")]
    Restarted,
    /// QUIC or TLS gave up.
    #[error("{reason}")]
    Transport {
        /// QUIC's code.
        code: u64,
        /// What is known.
        reason: String,
    },
}

/// Cuts and escapes text that a peer chose, for logs and terminals.
pub(crate) fn peer_text(text: &str) -> String {
    text.chars()
        .take(PEER_TEXT_CHARACTERS_MAX)
        .flat_map(|c| {
            let plain = !c.is_control() && !is_invisible(c);
            let escaped = (!plain).then(|| c.escape_unicode());
            plain.then_some(c).into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

/// Characters that change the direction or the look of what follows.
fn is_invisible(c: char) -> bool {
    let ranges = [
        '\u{200b}'..='\u{200f}',
        '\u{2028}'..='\u{202e}',
        '\u{2060}'..='\u{206f}',
        '\u{feff}'..='\u{feff}',
    ];
    ranges.iter().any(|range| range.contains(&c))
}

// === impl Closed ===

impl From<ConnectionError> for Closed {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::LocallyClosed => Self::Here,
            ConnectionError::ApplicationClosed(close) => Self::ByPeer {
                code: close.error_code.into_inner(),
                reason: peer_text(&String::from_utf8_lossy(&close.reason)),
            },
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::ConnectionClosed(close) => Self::Transport {
                code: close.error_code.into(),
                reason: peer_text(&ConnectionError::ConnectionClosed(close).to_string()),
            },
            ConnectionError::TransportError(error) => {
                Self::Transport { code: error.code.into(), reason: error.to_string() }
            }
            error @ (ConnectionError::VersionMismatch | ConnectionError::CidsExhausted) => {
                Self::Transport { code: 0, reason: error.to_string() }
            }
        }
    }
}

// === impl ConnectError ===

impl ConnectError {
    /// The error of a dial whose connection ended before it was welcomed.
    pub(crate) fn ended(address: SocketAddr, closed: Closed) -> Self {
        let refused = |reason: &str| Self::Refused { address, reason: reason.to_owned() };
        match closed {
            // One that ends may be started again, one with too many guests has fewer later.
            Closed::ByPeer { code, reason } if code == CloseCode::Shutdown as u64 => {
                Self::Unreachable { address, reason }
            }
            Closed::Transport { code: QUIC_CONNECTION_REFUSED, .. } => {
                let reason = "it takes no more connections now, or none of this kind".to_owned();
                Self::Unreachable { address, reason }
            }
            Closed::ByPeer { reason, .. } => Self::Refused { address, reason },
            Closed::Transport { code: QUIC_NO_COMMON_PROTOCOL, .. } => {
                refused("it speaks another version of the protocol, or does not serve this request")
            }
            Closed::Transport { code, .. } if QUIC_TLS_ALERTS.contains(&code) => {
                refused("it does not accept our certificate; its log has the reason")
            }
            other => Self::Unreachable { address, reason: other.to_string() },
        }
    }

    /// The error of a dial that this side's verifier ended.
    pub(crate) fn rejected(address: SocketAddr, expected: &Expected, rejection: Rejection) -> Self {
        match rejection {
            Rejection::WrongPeer(found) => {
                Self::WrongPeer { address, expected: expected.clone(), found }
            }
            Rejection::Untrusted(reason) => Self::Untrusted { address, reason },
        }
    }

    /// The error of a dial whose first stream failed.
    pub(crate) fn stream(address: SocketAddr, error: StreamError) -> Self {
        match error {
            StreamError::Closed(closed) => Self::ended(address, closed),
            StreamError::Frame(source) => Self::Frame { address, source },
            other => Self::Unreachable { address, reason: other.to_string() },
        }
    }
}

// === impl StreamError ===

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => Self::Closed(error.into()),
            ReadError::Reset(code) => Self::stopped(code),
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Self::NotOpen,
        }
    }
}

impl From<WriteError> for StreamError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => Self::Closed(error.into()),
            WriteError::Stopped(code) => Self::stopped(code),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::NotOpen,
        }
    }
}

impl From<ConnectionError> for StreamError {
    fn from(error: ConnectionError) -> Self {
        Self::Closed(error.into())
    }
}

impl StreamError {
    fn stopped(code: VarInt) -> Self {
        Self::Stopped { code: code.into_inner() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_or_has_no_room_may_be_dialled_again() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let by_peer = |code: CloseCode| Closed::ByPeer { code: code as u64, reason: String::new() };
        let ended = |closed| ConnectError::ended(address, closed);
        let no_room = Closed::Transport { code: QUIC_CONNECTION_REFUSED, reason: String::new() };
        for closed in [by_peer(CloseCode::Shutdown), no_room] {
            assert!(matches!(ended(closed), ConnectError::Unreachable { .. }));
        }
        for code in [CloseCode::Refused, CloseCode::Protocol, CloseCode::Revoked] {
            assert!(matches!(ended(by_peer(code)), ConnectError::Refused { .. }));
        }
    }

    #[test]
    fn a_peers_text_cannot_move_the_cursor_or_fill_the_log() {
        assert_eq!(peer_text("no\u{1b}[2J\nyes"), "no\\u{1b}[2J\\u{a}yes");
        assert_eq!(peer_text("\u{202e}evil"), "\\u{202e}evil");
        assert_eq!(peer_text("größer als 1 MiB"), "größer als 1 MiB");
        assert_eq!(peer_text(&"x".repeat(10_000)).len(), PEER_TEXT_CHARACTERS_MAX);
    }
}
