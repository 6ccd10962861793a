//! What a task wrote is undone: hot pages are copied back and stay writable, cold ones are given
//! back, all of them with few system calls.
//!
//! ```text
//!   written  ──hot──► copied from `pristine`, stays noted and writable
//!            └─cold─► private copy dropped (one call), read-only (a call a span), forgotten
//! ```
//!
//! A span may cross pages that were not written: they are read-only already, and the kernel skips
//! them faster than it takes another call. It may not cross a page that stays writable.

use super::heat::CALM_RESETS_MAX;
use super::runs::{Run, cover, normalize, subtract};
use super::{GuestMemory, Inner, MemoryError};
use crate::fault::Note;
use offshoot_proto::limits::PAGE_BYTES;
use std::io;

/// Hot pages at most: a reset compares or copies each of them, and together with the faults of one
/// task their notes fit into a tracker.
const HOT_PAGES_MAX: usize = 256;

/// The pages of one reset; kept for their allocations.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Those that stay writable.
    hot: Vec<Run>,
    /// Those that become read-only.
    cold: Vec<Run>,
    /// Cold pages that are not under a hot note, too.
    closing: Vec<Run>,
    /// Closing pages that `pristine` alone has.
    patched: Vec<Run>,
    /// Closing pages that read as the mapped file without their private copies.
    dropped: Vec<Run>,
    /// What to protect in one call each.
    spans: Vec<Run>,
}

impl GuestMemory {
    /// Undoes all that a task did. Afterwards the memory is that of the snapshot.
    pub fn reset(&self) -> Result<(), MemoryError> {
        Ok(self.lock().reset()?)
    }
}

impl Inner {
    pub(super) fn reset(&mut self) -> io::Result<()> {
        self.heat.next_reset();
        if self.tracker.opened() {
            self.give_back_all()?;
        } else {
            self.give_back_cold()?;
        }
        if self.highest > self.length {
            self.live.forget(self.length, self.highest - self.length)?;
            self.tracker.close_copies();
        }
        self.size = self.length;
        self.highest = self.length;
        Ok(())
    }

    fn give_back_cold(&mut self) -> io::Result<()> {
        let mut sorted = self.take_sorted();
        self.sort_notes(&mut sorted);
        let result = self.close(&mut sorted, true);
        self.sorted = sorted;
        self.tracker.rearm(false);
        result
    }

    /// Copies the snapshot over hot pages that differ from it and keeps their notes.
    fn sort_notes(&mut self, sorted: &mut Sorted) {
        let kept_before = self.tracker.kept();
        let notes = self.tracker.notes();
        let mut hot = 0;
        for index in 0..notes.len() {
            let Note { page, count, mut calm } = notes[index];
            let bytes = page as usize * PAGE_BYTES..(page as usize + 1) * PAGE_BYTES;
            let room = count == 1 && hot < HOT_PAGES_MAX;
            let stays = if index < kept_before {
                let before = self.pristine.range(bytes.clone());
                if self.live.range(bytes.clone()) == before {
                    calm += 1;
                } else {
                    calm = 0;
                    self.live.write(bytes.start, before);
                }
                room && calm < CALM_RESETS_MAX
            } else {
                let hot = room && self.heat.grows_hot(page);
                if hot {
                    self.live.write(bytes.start, self.pristine.range(bytes));
                }
                hot
            };
            if stays {
                notes[hot] = Note { page, count, calm };
                hot += 1;
                sorted.hot.push(page..page + 1);
            } else {
                sorted.cold.push(page..page + count);
            }
        }
        self.tracker.truncate(hot);
    }

    /// Makes cold pages read-only, with what they hold (`reset` false) or as in the snapshot.
    fn close(&mut self, sorted: &mut Sorted, reset: bool) -> io::Result<()> {
        if sorted.cold.is_empty() {
            return Ok(());
        }
        normalize(&mut sorted.cold);
        normalize(&mut sorted.hot);
        subtract(&sorted.cold, &sorted.hot, &mut sorted.closing);
        if reset {
            for run in &sorted.closing {
                for &page in self.patched.range(run.clone()) {
                    let start = page as usize * PAGE_BYTES;
                    self.live.write(start, self.pristine.range(start..start + PAGE_BYTES));
                    sorted.patched.push(page..page + 1);
                }
            }
            normalize(&mut sorted.patched);
            subtract(&sorted.closing, &sorted.patched, &mut sorted.dropped);
            self.live.drop_copies(&sorted.dropped)?;
        }
        cover(&sorted.closing, &sorted.hot, &mut sorted.spans);
        for span in &sorted.spans {
            let start = span.start as usize * PAGE_BYTES;
            self.live.make_read_only(start, span.len() * PAGE_BYTES)?;
        }
        Ok(())
    }

    /// After a task that wrote so much that the whole memory was opened.
    fn give_back_all(&mut self) -> io::Result<()> {
        let whole = 0..(self.length / PAGE_BYTES) as u32;
        self.live.drop_copies(std::slice::from_ref(&whole))?;
        for &page in &self.patched {
            let start = page as usize * PAGE_BYTES;
            self.live.write(start, self.pristine.range(start..start + PAGE_BYTES));
        }
        self.live.make_read_only(0, self.length)?;
        self.tracker.rearm(true);
        Ok(())
    }

    /// Makes the pages of notes that were calm so often read-only, and forgets the notes.
    pub(super) fn close_notes(&mut self, calm: u32) -> io::Result<()> {
        self.drop_notes_if(|note| note.calm >= calm)
    }

    /// Forgets notes that touch a range of pages.
    pub(super) fn drop_notes(&mut self, page: u32, count: u32) -> io::Result<()> {
        let end = page.saturating_add(count);
        self.drop_notes_if(|note| note.page < end && note.page + note.count > page)
    }

    /// Forgets notes and makes their pages read-only as they are. A page may be under two notes,
    /// its own and a window's: what is still noted stays open.
    fn drop_notes_if(&mut self, gone: impl Fn(&Note) -> bool) -> io::Result<()> {
        let mut sorted = self.take_sorted();
        let notes = self.tracker.notes();
        let mut kept = 0;
        for index in 0..notes.len() {
            let note = notes[index];
            let run = note.page..note.page + note.count;
            if gone(&note) {
                sorted.cold.push(run);
            } else {
                sorted.hot.push(run);
                notes[kept] = note;
                kept += 1;
            }
        }
        self.tracker.truncate(kept);
        let result = self.close(&mut sorted, false);
        self.sorted = sorted;
        result
    }

    fn take_sorted(&mut self) -> Sorted {
        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.clear();
        sorted
    }
}

// === impl Sorted ===

impl Sorted {
    fn clear(&mut self) {
        let Self { hot, cold, closing, patched, dropped, spans } = self;
        for runs in [hot, cold, closing, patched, dropped, spans] {
            runs.clear();
        }
    }
}
