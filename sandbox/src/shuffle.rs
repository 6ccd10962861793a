//! Shuffle data: chunks as they lie in files, the writer of a map task, the reader of a reducer.
//!
//! The format is that of [`offshoot_proto::block`]. A chunk is compressed and summed here, in the
//! slot; owners and workers only look at headers and sums.

mod flat;
mod reader;
mod writer;

pub use flat::{FlatPart, FlatParts, append_header, flat_extents};
pub(crate) use reader::{BlockReader, ReadError};
pub(crate) use writer::ShuffleWriter;

use offshoot_proto::block::{CHUNK_COMPRESSED, CHUNK_HEADER_BYTES};
use offshoot_proto::limits::SHUFFLE_CHUNK_BYTES;

/// Bytes of a chunk's body, compressed or not; what a decoder accepts at most.
pub const CHUNK_BODY_BYTES_MAX: usize = SHUFFLE_CHUNK_BYTES + (SHUFFLE_CHUNK_BYTES / 64);

/// The header of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Bytes after decompression.
    pub raw: usize,
    /// Bytes of the body.
    pub body: usize,
    /// Whether the body is an lz4 block.
    pub compressed: bool,
    /// CRC-32 of the body.
    pub checksum: u32,
}

/// Why a chunk cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// It ends early.
    #[error("a chunk ends after {present} of {expected} bytes")]
    Truncated {
        /// Bytes that are there.
        present: usize,
        /// Bytes that its header announces.
        expected: usize,
    },
    /// Its header is not one.
    #[error("a chunk announces {raw} bytes in a body of {body}, limit {SHUFFLE_CHUNK_BYTES}")]
    BadHeader {
        /// Raw length.
        raw: usize,
        /// Body length.
        body: usize,
    },
    /// Its bytes have changed.
    #[error("checksum mismatch: expected {expected:08x}, found {found:08x}")]
    Checksum {
        /// In the header.
        expected: u32,
        /// Of the body.
        found: u32,
    },
    /// Its body does not decompress.
    #[error("a chunk does not decompress to its announced length")]
    Compression,
}

/// Appends `raw`, at most [`SHUFFLE_CHUNK_BYTES`], as one chunk, compressed if that is shorter.
pub fn append_chunk(raw: &[u8], out: &mut Vec<u8>) {
    debug_assert!(raw.len() <= SHUFFLE_CHUNK_BYTES);
    let start = out.len();
    let body_start = start + CHUNK_HEADER_BYTES;
    let bound = lz4_flex::block::get_maximum_output_size(raw.len());
    out.resize(body_start + bound, 0);
    let length = lz4_flex::block::compress_into(raw, &mut out[body_start..])
        .expect("the buffer has the largest size that a block can take");
    if length < raw.len() {
        out.truncate(body_start + length);
        seal_chunk(raw.len(), length as u32 | CHUNK_COMPRESSED, &mut out[start..]);
    } else {
        out.truncate(body_start);
        out.extend_from_slice(raw);
        seal_chunk(raw.len(), raw.len() as u32, &mut out[start..]);
    }
}

/// Writes the header before a body.
fn seal_chunk(raw: usize, body: u32, chunk: &mut [u8]) {
    let (header, content) = chunk.split_at_mut(CHUNK_HEADER_BYTES);
    header.copy_from_slice(&header_of(raw, body, content));
}

fn header_of(raw: usize, body: u32, content: &[u8]) -> [u8; CHUNK_HEADER_BYTES] {
    let mut header = [0; CHUNK_HEADER_BYTES];
    header[..4].copy_from_slice(&(raw as u32).to_le_bytes());
    header[4..8].copy_from_slice(&body.to_le_bytes());
    header[8..].copy_from_slice(&crc32fast::hash(content).to_le_bytes());
    header
}

/// Reads the chunk at the start of `bytes`: its header and its body, sum checked.
pub fn chunk(bytes: &[u8]) -> Result<(ChunkHeader, &[u8]), ChunkError> {
    let truncated = |expected| ChunkError::Truncated { present: bytes.len(), expected };
    let header = ChunkHeader::read(bytes).ok_or(truncated(CHUNK_HEADER_BYTES))??;
    let end = CHUNK_HEADER_BYTES + header.body;
    let body = bytes.get(CHUNK_HEADER_BYTES..end).ok_or(truncated(end))?;
    let found = crc32fast::hash(body);
    if found == header.checksum {
        Ok((header, body))
    } else {
        Err(ChunkError::Checksum { expected: header.checksum, found })
    }
}

/// Decompresses the body of a chunk into `out`, replacing what it held.
pub fn unpack(header: ChunkHeader, body: &[u8], out: &mut Vec<u8>) -> Result<(), ChunkError> {
    out.clear();
    if !header.compressed {
        out.extend_from_slice(body);
        return Ok(());
    }
    out.resize(header.raw, 0);
    match lz4_flex::block::decompress_into(body, out) {
        Ok(length) if length == header.raw => Ok(()),
        _ => Err(ChunkError::Compression),
    }
}

// === impl ChunkHeader ===

impl ChunkHeader {
    /// Bytes of header and body.
    pub fn total(&self) -> usize {
        CHUNK_HEADER_BYTES + self.body
    }

    /// The header at the start of `bytes`; none if there are too few.
    pub fn read(bytes: &[u8]) -> Option<Result<Self, ChunkError>> {
        let word = |at: usize| {
            let bytes: &[u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let (raw, body, checksum) = (word(0)? as usize, word(4)?, word(8)?);
        let compressed = body & CHUNK_COMPRESSED != 0;
        let body = (body & !CHUNK_COMPRESSED) as usize;
        let fits = raw <= SHUFFLE_CHUNK_BYTES && body <= CHUNK_BODY_BYTES_MAX;
        if !fits || !compressed && raw != body || raw == 0 {
            return Some(Err(ChunkError::BadHeader { raw, body }));
        }
        Some(Ok(Self { raw, body, compressed, checksum }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn chunks_come_back_whether_they_compress_or_not() {
        let mut noise = 1u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .take(SHUFFLE_CHUNK_BYTES)
        .collect();
        for raw in [b"a".to_vec(), vec![7; SHUFFLE_CHUNK_BYTES], noise] {
            let mut bytes = vec![];
            append_chunk(&raw, &mut bytes);
            let (header, body) = chunk(&bytes).unwrap();
            assert_eq!(header.total(), bytes.len());
            let mut out = vec![];
            unpack(header, body, &mut out).unwrap();
            assert_eq!(out, raw);
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let mut bytes = vec![];
        append_chunk(b"some words that are long enough to be worth it", &mut bytes);
        for index in CHUNK_HEADER_BYTES..bytes.len() {
            bytes[index] ^= 4;
            assert!(matches!(chunk(&bytes), Err(ChunkError::Checksum { .. })), "byte {index}");
            bytes[index] ^= 4;
        }
        for length in 0..bytes.len() {
            assert!(matches!(chunk(&bytes[..length]), Err(ChunkError::Truncated { .. })));
        }
    }
}
