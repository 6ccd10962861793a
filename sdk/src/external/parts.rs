//! Encoded pairs, put aside by a part of the hash of their keys.
//!
//! ```text
//!   pairs ──by hash──► part 0 [ chunk, chunk, ... ]  ──► a table of the keys of part 0
//!                      part 1 [ chunk, ... ]         ──► a table of the keys of part 1
//! ```
//!
//! A table that is larger than the caches of a core waits for memory twice for each pair. Pairs are
//! written to parts, and read again, one after the other, and each part has keys for a table that
//! fits. The pairs of a key stay in their order. They are encoded, so that many more of them can be
//! held than a table could have keys.

use super::aggregate::{combined_with, update};
use crate::batch::{decode_or_fail, skip_or_fail};
use crate::hash::hash_bytes;
use crate::key_table::KeyTable;
use crate::record::Record;

/// How many parts there are.
pub(crate) const PARTS: usize = if cfg!(test) { 4 } else { 64 };

/// Most bytes at which a chunk ends.
const CHUNK_BYTES_MAX: usize = 16 << 10;

/// Least bytes at which it ends, however small the room is.
const CHUNK_BYTES_MIN: usize = 64;

/// Pairs by part.
pub(crate) struct Parts {
    parts: Vec<Vec<Chunk>>,
    chunk_bytes: usize,
    /// Bytes that are allocated for pairs.
    bytes: usize,
    pairs: u64,
}

/// Whole pairs, one after the other.
struct Chunk {
    pairs: u32,
    bytes: Vec<u8>,
}

/// What keys are ordered by, part by part. The half of the hash that has chosen the reducer comes
/// last, for it is alike in all of a task.
#[inline]
pub(crate) fn rank_of(key: &[u8]) -> u64 {
    hash_bytes(key).rotate_left(32)
}

#[inline]
fn part_of(rank: u64) -> usize {
    (((rank >> 32) * PARTS as u64) >> 32) as usize
}

// === impl Parts ===

impl Parts {
    /// For so many bytes in all: the first chunks of all parts have a quarter of them.
    pub(crate) fn new(bytes: usize) -> Self {
        let chunk_bytes = (bytes / 4 / PARTS).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        Self { parts: (0..PARTS).map(|_| Vec::new()).collect(), chunk_bytes, bytes: 0, pairs: 0 }
    }

    /// Bytes that are allocated for the pairs.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many pairs there are.
    #[inline]
    pub(crate) fn pairs(&self) -> u64 {
        self.pairs
    }

    /// Adds a pair, given by its key's encoding and by what appends that of its value.
    #[inline]
    pub(crate) fn add(&mut self, key: &[u8], encode: impl FnOnce(&mut Vec<u8>)) {
        let chunks = &mut self.parts[part_of(rank_of(key))];
        let chunk = match chunks.last_mut() {
            Some(chunk) if chunk.bytes.len() < self.chunk_bytes => chunk,
            _ => {
                // What the last pair takes beyond the end is small, mostly.
                let bytes = Vec::with_capacity(self.chunk_bytes + self.chunk_bytes / 16);
                self.bytes += bytes.capacity();
                chunks.push(Chunk { pairs: 0, bytes });
                let last = chunks.len() - 1;
                &mut chunks[last]
            }
        };
        let before = chunk.bytes.capacity();
        chunk.bytes.extend_from_slice(key);
        encode(&mut chunk.bytes);
        chunk.pairs += 1;
        self.bytes += chunk.bytes.capacity() - before;
        self.pairs += 1;
    }

    /// Takes the pairs of a part, each the key's encoding and the value, into a table.
    pub(crate) fn take<K: Record, C: Record>(
        &mut self,
        part: usize,
        combine: &impl Fn(C, C) -> C,
        table: &mut KeyTable<Option<C>>,
    ) {
        let combine = combined_with(combine);
        for chunk in core::mem::take(&mut self.parts[part]) {
            let mut input = &chunk.bytes[..];
            for _ in 0..chunk.pairs {
                let key = skip_or_fail::<K>(&mut input);
                let value = decode_or_fail(&mut input);
                update(table, key, |held| combine(value, held));
            }
            self.bytes -= chunk.bytes.capacity();
            self.pairs -= u64::from(chunk.pairs);
        }
    }
}
