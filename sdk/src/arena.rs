//! Byte strings one after the other in blocks of 1 MiB: no allocation each, no copy when it grows.

/// Bytes of a block, the unit of a position's upper bits.
const BLOCK_BYTES: usize = 1 << 20;

/// Byte strings that are only ever added.
#[derive(Default)]
pub(crate) struct Arena {
    /// A string longer than a block has one of its own, followed by empty ones for the positions
    /// that it takes.
    blocks: Vec<Vec<u8>>,
    /// How many bytes may still be added to the last block.
    room: usize,
}

/// Where a byte string is, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    position: u32,
    length: u32,
}

// === impl Arena ===

impl Arena {
    /// Adds a byte string. All of them together stay below the 4 GiB of a guest's memory.
    #[inline]
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Span {
        if bytes.len() > self.room || self.blocks.is_empty() {
            self.add_block(bytes.len());
        }
        let units = bytes.len().div_ceil(BLOCK_BYTES).max(1);
        let block = self.blocks.len() - units;
        let storage = &mut self.blocks[block];
        let position = block * BLOCK_BYTES + storage.len();
        storage.extend_from_slice(bytes);
        self.room = self.room.saturating_sub(bytes.len());
        if units > 1 {
            self.room = 0;
        }
        Span {
            position: u32::try_from(position).expect("a guest's memory is below 4 GiB"),
            length: u32::try_from(bytes.len()).expect("a guest's memory is below 4 GiB"),
        }
    }

    /// The byte string.
    #[inline]
    pub(crate) fn at(&self, span: Span) -> &[u8] {
        if span.length == 0 {
            return &[];
        }
        let block = &self.blocks[span.position as usize / BLOCK_BYTES];
        let offset = span.position as usize % BLOCK_BYTES;
        &block[offset..offset + span.length as usize]
    }

    /// Bytes that it holds of the heap, about.
    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// Forgets everything but one block.
    pub(crate) fn clear(&mut self) {
        self.blocks.truncate(1);
        let first = self.blocks.first_mut();
        match first.filter(|block| block.capacity() <= 2 * BLOCK_BYTES) {
            Some(block) => {
                block.clear();
                self.room = BLOCK_BYTES;
            }
            None => {
                self.blocks.clear();
                self.room = 0;
            }
        }
    }

    fn add_block(&mut self, bytes: usize) {
        let units = bytes.div_ceil(BLOCK_BYTES).max(1);
        // The first block grows as it fills: a small task should not need more memory.
        let capacity = if self.blocks.is_empty() { bytes } else { bytes.max(BLOCK_BYTES) };
        self.blocks.push(Vec::with_capacity(capacity));
        self.blocks.extend((1..units).map(|_| Vec::new()));
        self.room = if units > 1 { bytes } else { BLOCK_BYTES };
    }
}

// === impl Span ===

impl Span {
    /// Bytes of the string.
    pub(crate) fn len(self) -> usize {
        self.length as usize
    }

    /// Position and length, little-endian: the last byte is the length's highest.
    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.position) | u64::from(self.length) << 32).to_le_bytes()
    }

    /// What [`to_bytes`](Self::to_bytes) was given.
    #[inline]
    pub(crate) fn from_bytes(bytes: [u8; 8]) -> Self {
        let word = u64::from_le_bytes(bytes);
        Self { position: word as u32, length: (word >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arena, BLOCK_BYTES};

    #[test]
    fn every_string_comes_back_whatever_its_length() {
        let lengths = [0, 1, BLOCK_BYTES - 1, 7, BLOCK_BYTES, 1, BLOCK_BYTES + 1, 3, 0];
        let lengths = lengths.iter().chain(&[3 * BLOCK_BYTES, 5, BLOCK_BYTES / 2, BLOCK_BYTES / 2]);
        let strings: Vec<Vec<u8>> =
            lengths.enumerate().map(|(index, length)| vec![index as u8 + 1; *length]).collect();
        let mut arena = Arena::default();
        for round in 0..3 {
            let spans: Vec<_> = strings.iter().map(|string| arena.add(string)).collect();
            for (string, span) in strings.iter().zip(spans) {
                assert!(arena.at(span) == string.as_slice(), "round {round}");
            }
            arena.clear();
            assert!(arena.heap_bytes() <= BLOCK_BYTES, "round {round}");
        }
    }
}
