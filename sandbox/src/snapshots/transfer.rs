//! A snapshot on its way from one owner to another.

use super::layer::Pages;
use offshoot_proto::limits::{LINK_CHUNK_BYTES, PAGE_BYTES};
use offshoot_proto::snapshot::{PageRun, SnapshotHeader};
use std::io;

/// Bytes of one piece when a snapshot is sent.
const PIECE_BYTES: usize = LINK_CHUNK_BYTES;

/// A snapshot on its way to another owner. Holds what it needs, whatever happens to the store.
#[derive(Debug)]
pub struct Transfer {
    /// Its description; `runs` are the pages that come.
    pub header: SnapshotHeader,
    pub(super) pieces: Vec<Piece>,
}

#[derive(Debug)]
pub(super) struct Piece {
    pages: Pages,
    offset: u64,
    length: usize,
}

// === impl Transfer ===

impl Transfer {
    pub(super) fn add(&mut self, run: PageRun, pages: &Pages, offset: &mut u64) {
        let mut length = run.count as usize * PAGE_BYTES;
        if let Some(last) = self.pieces.last_mut()
            && last.pages.is(pages)
            && last.offset + last.length as u64 == *offset
        {
            let room = PIECE_BYTES.saturating_sub(last.length).min(length);
            last.length += room;
            *offset += room as u64;
            length -= room;
        }
        while length > 0 {
            let now = length.min(PIECE_BYTES);
            self.pieces.push(Piece { pages: pages.clone(), offset: *offset, length: now });
            *offset += now as u64;
            length -= now;
        }
    }

    /// Bytes of all pages.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.length as u64).sum()
    }

    /// The pages one after the other, in pieces of at most [`LINK_CHUNK_BYTES`].
    pub fn pieces(&self) -> impl Iterator<Item = io::Result<Vec<u8>>> + '_ {
        self.pieces.iter().map(|piece| piece.pages.copy(piece.offset, piece.length))
    }
}
