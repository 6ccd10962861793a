//! Encoded pairs, put aside by a part of the hash of their keys.
//!
//! ```text
//!   pairs ──by hash──► part 0 [ chunk, chunk, ... ]  ──► a table of the keys of part 0
//!                      part 1 [ chunk, ... ]         ──► a table of the keys of part 1
//! ```
//!
//! A table that is larger than the caches of a core waits for memory twice for each pair. Pairs are
//! written to parts, and read again, one after the other, and each part has keys for a table that
//! fits. The pairs of a key stay in their order.

use crate::batch::{decode_or_fail, skip_or_fail};
use crate::record::Record;

/// How many parts there are.
pub(crate) const PARTS: usize = if cfg!(test) { 4 } else { 64 };

/// Bytes at which a chunk ends.
const CHUNK_BYTES: usize = if cfg!(test) { 64 } else { 16 << 10 };

/// What a pair may go beyond them without another allocation.
const CHUNK_MARGIN: usize = 256;

/// Pairs by part.
pub(crate) struct Parts {
    parts: Vec<Vec<Chunk>>,
    /// Empty ones.
    spare: Vec<Chunk>,
    bytes: usize,
    pairs: u64,
}

/// Whole pairs, one after the other.
struct Chunk {
    pairs: u32,
    bytes: Vec<u8>,
}

/// The part of a key. Its hash's upper half has chosen the reducer and is alike in all of a task.
#[inline]
pub(crate) fn part_of(hash: u64) -> usize {
    (hash as u32) as usize / (1 << 26) % PARTS
}

// === impl Parts ===

impl Parts {
    pub(crate) fn new() -> Self {
        let parts = (0..PARTS).map(|_| Vec::new()).collect();
        Self { parts, spare: Vec::new(), bytes: 0, pairs: 0 }
    }

    /// Bytes of the pairs.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many pairs there are.
    pub(crate) fn pairs(&self) -> u64 {
        self.pairs
    }

    /// Adds a pair, which `encode` appends, by the hash of its key.
    #[inline]
    pub(crate) fn add(&mut self, hash: u64, encode: impl FnOnce(&mut Vec<u8>)) {
        let chunks = &mut self.parts[part_of(hash)];
        let chunk = match chunks.last_mut() {
            Some(chunk) if chunk.bytes.len() < CHUNK_BYTES => chunk,
            _ => {
                chunks.push(self.spare.pop().unwrap_or_else(Chunk::new));
                let last = chunks.len() - 1;
                &mut chunks[last]
            }
        };
        let before = chunk.bytes.len();
        encode(&mut chunk.bytes);
        chunk.pairs += 1;
        self.bytes += chunk.bytes.len() - before;
        self.pairs += 1;
    }

    /// Takes the pairs of a part: the key's encoding, and the value.
    pub(crate) fn take<K: Record, C: Record>(
        &mut self,
        part: usize,
        mut each: impl FnMut(&[u8], C),
    ) {
        for mut chunk in self.parts[part].drain(..) {
            let mut input = &chunk.bytes[..];
            for _ in 0..chunk.pairs {
                let key = skip_or_fail::<K>(&mut input);
                each(key, decode_or_fail(&mut input));
            }
            self.bytes -= chunk.bytes.len();
            self.pairs -= u64::from(chunk.pairs);
            if chunk.bytes.capacity() <= CHUNK_BYTES + CHUNK_MARGIN {
                chunk.pairs = 0;
                chunk.bytes.clear();
                self.spare.push(chunk);
            }
        }
    }
}

// === impl Chunk ===

impl Chunk {
    fn new() -> Self {
        Self { pairs: 0, bytes: Vec::with_capacity(CHUNK_BYTES + CHUNK_MARGIN) }
    }
}
