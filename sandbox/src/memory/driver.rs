//! The memory of the driver's slot: what changed since the last snapshot.

use super::space::{data_ranges, seal};
use super::{GuestMemory, Inner, MemoryError};
use crate::engine::MEMORY_RESERVATION_BYTES;
use offshoot_proto::limits::PAGE_BYTES;
use offshoot_proto::snapshot::PageRun;
use std::io;
use std::os::fd::OwnedFd;

/// Noted pages that stay open from snapshot to snapshot.
const HOT_NOTES_MAX: usize = 512;

/// A page that so many snapshots found unchanged is closed.
const CALM_SNAPSHOTS_MAX: u32 = 64;

/// What a snapshot adds to the one before it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Length of the memory in bytes.
    pub memory_bytes: u64,
    /// The changed pages.
    pub runs: Vec<PageRun>,
    /// Their bytes, one page after the other. Empty for the first snapshot: its pages are in the
    /// memory file, at their own offsets.
    pub pages: Vec<u8>,
}

impl GuestMemory {
    /// Makes `file`, which must be empty, the memory of a driver that has not started.
    pub fn share(&self, file: OwnedFd) -> Result<(), MemoryError> {
        let mut inner = self.lock();
        inner.live.map_shared(MEMORY_RESERVATION_BYTES as usize, &file)?;
        inner.shared = Some(file);
        Ok(())
    }

    /// Takes a snapshot: what changed since the last one.
    pub fn snapshot(&self) -> Result<Changes, MemoryError> {
        let mut inner = self.lock();
        match inner.shared.take() {
            Some(file) => inner.first_snapshot(&file),
            None => inner.next_snapshot(),
        }
    }
}

impl Inner {
    /// The memory file becomes the snapshot; the driver goes on with a private mapping of it.
    fn first_snapshot(&mut self, file: &OwnedFd) -> Result<Changes, MemoryError> {
        let length = self.size;
        seal(file)?;
        for space in [&self.live, &self.pristine] {
            space.map_private(0, length, file, 0)?;
        }
        self.live.forget(length, MEMORY_RESERVATION_BYTES as usize - length)?;
        self.length = length;
        self.tracker.rearm(true);
        self.tracker.track(self.live.base(), length);
        let runs = data_ranges(file, length as u64)?.into_iter().map(|range| PageRun {
            page: (range.start / PAGE_BYTES as u64) as u32,
            count: ((range.end - range.start) / PAGE_BYTES as u64) as u32,
        });
        Ok(Changes { memory_bytes: length as u64, runs: runs.collect(), pages: Vec::new() })
    }

    fn next_snapshot(&mut self) -> Result<Changes, MemoryError> {
        let mut changes = Changes { memory_bytes: self.size as u64, ..Changes::default() };
        let pages = self.candidates();
        let mut unchanged = Vec::new();
        for page in pages {
            let start = page as usize * PAGE_BYTES;
            let bytes = self.live.range(start..start + PAGE_BYTES);
            if bytes == self.pristine.range(start..start + PAGE_BYTES) {
                unchanged.push(page);
                continue;
            }
            changes.push(page, bytes);
            if self.patched.insert(page) {
                self.pristine.make_writable(start, PAGE_BYTES)?;
            }
            self.pristine.write(start, self.live.range(start..start + PAGE_BYTES));
        }
        self.close_calm(&unchanged)?;
        self.take_growth(&mut changes)?;
        Ok(changes)
    }

    /// Pages that may have changed, ascending, each once.
    fn candidates(&mut self) -> Vec<u32> {
        if self.tracker.opened() {
            return (0..(self.length / PAGE_BYTES) as u32).collect();
        }
        let notes = self.tracker.notes();
        let mut pages: Vec<u32> =
            notes.iter().flat_map(|note| note.page..note.page + note.count).collect();
        pages.sort_unstable();
        pages.dedup();
        pages
    }

    /// Closes everything if too much is open, else the notes whose pages are long unchanged.
    fn close_calm(&mut self, unchanged: &[u32]) -> io::Result<()> {
        if self.tracker.opened() || self.tracker.notes().len() > HOT_NOTES_MAX {
            self.live.make_read_only(0, self.length)?;
            self.tracker.rearm(true);
            return Ok(());
        }
        let mut closed = false;
        for note in self.tracker.notes() {
            let calm =
                (note.page..note.page + note.count).all(|p| unchanged.binary_search(&p).is_ok());
            note.calm = if calm { note.calm + 1 } else { 0 };
            closed |= note.calm >= CALM_SNAPSHOTS_MAX;
        }
        if closed {
            self.close_notes(CALM_SNAPSHOTS_MAX)?;
        }
        self.tracker.rearm(false);
        Ok(())
    }

    /// What the driver grew since the last snapshot: pages that are not zero are changes.
    fn take_growth(&mut self, changes: &mut Changes) -> io::Result<()> {
        let (old, new) = (self.length, self.size);
        if new == old {
            return Ok(());
        }
        self.pristine.map_zeros(old, new - old)?;
        for page in (old / PAGE_BYTES) as u32..(new / PAGE_BYTES) as u32 {
            let start = page as usize * PAGE_BYTES;
            let bytes = self.live.range(start..start + PAGE_BYTES);
            if bytes.iter().any(|&byte| byte != 0) {
                changes.push(page, bytes);
                self.patched.insert(page);
                self.pristine.make_writable(start, PAGE_BYTES)?;
                self.pristine.write(start, bytes);
            }
        }
        self.live.make_read_only(old, new - old)?;
        self.length = new;
        self.tracker.track(self.live.base(), new);
        Ok(())
    }
}

// === impl Changes ===

impl Changes {
    fn push(&mut self, page: u32, bytes: &[u8]) {
        match self.runs.last_mut() {
            Some(run) if run.page + run.count == page => run.count += 1,
            _ => self.runs.push(PageRun { page, count: 1 }),
        }
        self.pages.extend_from_slice(bytes);
    }
}
