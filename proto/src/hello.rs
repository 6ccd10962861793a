//! The first frame in each direction of every stream-bearing connection.
//!
//! The certificate says who a peer *is*; the hello says what it speaks and what the connection is
//! for, so that a wrong version or a wrong cluster is a sentence and not a decoding error.

use crate::frame::FrameError;
use serde::{Deserialize, Serialize};

/// The version of every message in this crate. Both sides must have the same.
pub const PROTOCOL_VERSION: u32 = 1;

/// ALPN of ordinary connections: both sides present a certificate of the cluster.
pub const ALPN_CLUSTER: &[u8] = b"offshoot/1";

/// ALPN of joining: the client has only a token and a fresh key.
pub const ALPN_JOIN: &[u8] = b"offshoot-join/1";

/// Bytes of a [`Hello`] or [`Welcome`]: a version, a name and a sentence.
pub const HELLO_FRAME_BYTES_MAX: usize = 4 << 10;

/// Bytes of a [`JoinRequest`] or [`JoinReply`]: a token and a signing request, or two
/// certificates, none of which reaches 1 KiB.
pub const JOIN_FRAME_BYTES_MAX: usize = 16 << 10;

/// What a connection is for. Heartbeats and bulk data never share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Heartbeats, orders, tasks, reports: one bidirectional stream, small windows.
    Control,
    /// Modules, snapshots, blocks, large results: a stream each.
    Data,
}

/// Sent by the client on the first stream that it opens, answered by [`Welcome`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the sender. Stays the first field: see [`leading_version`].
    pub version: u32,
    /// The name of the cluster that the sender belongs to.
    pub cluster: String,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// The answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Welcome {
    /// Go on.
    Accepted,
    /// The connection is closed after this frame.
    Refused {
        /// A sentence for the person at the other side.
        reason: String,
    },
}

/// The one frame of a joining client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// [`PROTOCOL_VERSION`] of the sender. Stays the first field: see [`leading_version`].
    pub version: u32,
    /// The text that `offshoot token` printed.
    pub token: String,
    /// A DER certificate signing request made with the key of the client's own certificate.
    pub signing_request: Vec<u8>,
}

/// The one answer to a [`JoinRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinReply {
    /// The client is a member now.
    Joined {
        /// The cluster's name.
        cluster: String,
        /// The id that the certificate carries.
        worker: crate::id::WorkerId,
        /// DER of the client's new certificate.
        certificate: Vec<u8>,
        /// DER of the cluster's CA certificate.
        authority: Vec<u8>,
    },
    /// No certificate.
    Refused {
        /// A sentence for the person at the other side.
        reason: String,
    },
}

/// The version at the start of a [`Hello`] or [`JoinRequest`] of any version, so that what follows
/// it may change and a wrong version is still understood as one.
pub fn leading_version(payload: &[u8]) -> Result<u32, FrameError> {
    match postcard::take_from_bytes::<u32>(payload) {
        Ok((version, _)) => Ok(version),
        Err(error) => Err(FrameError::Malformed { reason: error.to_string() }),
    }
}
