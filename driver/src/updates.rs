//! What tasks said with `update_write` and `main` has not read yet.

use std::collections::VecDeque;

/// Bytes of the length before each piece.
const HEADER_BYTES: usize = 4;

/// Updates of accepted attempts, in the order in which these were accepted.
#[derive(Debug)]
pub(crate) struct Updates {
    pieces: VecDeque<Vec<u8>>,
    bytes: u64,
    limit: u64,
    lost: bool,
}

/// Why updates cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpdatesError {
    /// The guest's buffer has no room for the next piece.
    #[error("updates_read: a buffer of {capacity} bytes, the next update needs {needed}")]
    Capacity {
        /// Room in the buffer.
        capacity: usize,
        /// What the next piece takes with its length.
        needed: usize,
    },
    /// So many waited that some were given up.
    #[error(
        "updates of more than {limit} bytes were not read in time, the limit (read accumulators \
         while jobs run, or raise it with --conf max-result-size=SIZE)"
    )]
    Lost {
        /// How many bytes may wait.
        limit: u64,
    },
}

// === impl Updates ===

impl Updates {
    /// At most `limit` bytes wait.
    pub(crate) fn new(limit: u64) -> Self {
        Self { pieces: VecDeque::new(), bytes: 0, limit, lost: false }
    }

    pub(crate) fn add(&mut self, piece: Vec<u8>) {
        let bytes = self.bytes + (HEADER_BYTES + piece.len()) as u64;
        if bytes > self.limit {
            self.lost = true;
            return;
        }
        self.bytes = bytes;
        self.pieces.push_back(piece);
    }

    /// The next whole pieces, each after its length (a little-endian `u32`); nothing if there are
    /// none.
    pub(crate) fn read(&mut self, capacity: usize) -> Result<Vec<u8>, UpdatesError> {
        if self.lost {
            return Err(UpdatesError::Lost { limit: self.limit });
        }
        let mut out = Vec::new();
        while let Some(piece) = self.pieces.front() {
            let needed = HEADER_BYTES + piece.len();
            if out.len() + needed > capacity {
                if out.is_empty() {
                    return Err(UpdatesError::Capacity { capacity, needed });
                }
                break;
            }
            out.extend_from_slice(&(piece.len() as u32).to_le_bytes());
            out.extend_from_slice(piece);
            self.bytes -= needed as u64;
            self.pieces.pop_front();
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn updates_come_whole_and_in_order() {
        let mut updates = Updates::new(100);
        for piece in [&b"one"[..], b"", b"three"] {
            updates.add(piece.to_vec());
        }
        assert_eq!(updates.read(11).unwrap(), b"\x03\0\0\0one\0\0\0\0");
        assert_eq!(updates.read(9).unwrap(), b"\x05\0\0\0three");
        assert_eq!(updates.read(0).unwrap(), b"");
    }

    #[test]
    fn a_buffer_that_is_too_small_is_an_error_and_loses_nothing() {
        let mut updates = Updates::new(100);
        updates.add(b"three".to_vec());
        let error = UpdatesError::Capacity { capacity: 8, needed: 9 };
        assert_eq!(updates.read(8), Err(error));
        assert_eq!(updates.read(9).unwrap(), b"\x05\0\0\0three");
    }

    #[test]
    fn what_nobody_reads_is_bounded_and_not_lost_in_silence() {
        let mut updates = Updates::new(10);
        updates.add(b"123456".to_vec());
        assert_eq!(updates.read(10).unwrap().len(), 10);
        updates.add(b"123456".to_vec());
        updates.add(b"7".to_vec());
        assert_eq!(updates.read(100), Err(UpdatesError::Lost { limit: 10 }));
    }
}
