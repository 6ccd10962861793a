//! Frames: a little-endian `u32` length, then that many bytes of postcard.
//!
//! The length is checked against the stream's limit before anything is allocated; bytes that are
//! left over after the value are an error, so that two versions never half-understand each other.

use core::fmt;
use serde::{Serialize, de::DeserializeOwned};

/// Bytes of the length that precedes each frame.
pub const HEADER_BYTES: usize = 4;

/// Why a frame was refused. The connection that sent it is closed; no other is affected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The announced or produced length is over the stream's limit.
    TooLarge {
        /// Bytes announced.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes are not a value of the expected type.
    Malformed {
        /// The decoder's word for it.
        reason: String,
    },
    /// A value was read and bytes were left over.
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

/// The payload bytes of `value`, without header.
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain data always serialises into memory")
}

/// Reads a whole value; bytes left over are an error.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    let (value, rest) = postcard::take_from_bytes::<T>(bytes)
        .map_err(|error| FrameError::Malformed { reason: error.to_string() })?;
    if rest.is_empty() { Ok(value) } else { Err(FrameError::TrailingBytes { count: rest.len() }) }
}

/// Appends header and payload of `value` to `out`; on error `out` is as before.
pub fn append<T: Serialize + ?Sized>(
    value: &T,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let taken = core::mem::take(out);
    let mut taken = postcard::to_extend(value, taken).expect("plain data always serialises");
    let length = taken.len() - start - HEADER_BYTES;
    if length > limit || u32::try_from(length).is_err() {
        taken.truncate(start);
        *out = taken;
        return Err(FrameError::TooLarge { length, limit });
    }
    taken[start..start + HEADER_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
    *out = taken;
    Ok(())
}

/// The payload length that a header announces, if it is within `limit`.
pub fn payload_length(header: [u8; HEADER_BYTES], limit: usize) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header) as usize;
    if length > limit { Err(FrameError::TooLarge { length, limit }) } else { Ok(length) }
}

// === impl FrameError ===

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { length, limit } => {
                write!(f, "frame of {length} bytes is over the limit of {limit}")
            }
            Self::Malformed { reason } => write!(f, "malformed frame: {reason}"),
            Self::TrailingBytes { count } => write!(f, "{count} bytes left over after a frame"),
        }
    }
}

impl core::error::Error for FrameError {}
