//! The memory of a slot that runs tasks: from snapshot to snapshot.

use super::space::data_ranges;
use super::{GuestMemory, Inner, MemoryError};
use crate::fault::Note;
use offshoot_proto::limits::PAGE_BYTES;
use offshoot_proto::link::{ForkImage, PageChange, PageSource};
use offshoot_proto::snapshot::PageRun;
use rustix::fs::{fstat, seek};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// Runs of at least this many pages are mapped, so that slots share them; shorter ones are copied.
const MAPPED_RUN_PAGES: u32 = 64;

impl GuestMemory {
    /// Makes the memory that of another snapshot. `descriptors` are those of the image.
    pub fn apply(&self, image: &ForkImage, descriptors: Vec<OwnedFd>) -> Result<(), MemoryError> {
        if !image.header.is_well_formed() || image.header.memory_bytes == 0 {
            return Err(MemoryError::BadImage("malformed header"));
        }
        let mut inner = self.lock();
        inner.reset()?;
        let length = image.header.memory_bytes as usize;
        if image.base {
            let base = descriptors.first().ok_or(MemoryError::BadImage("no base descriptor"))?;
            inner.map_base(base, length)?;
        } else if inner.length == 0 {
            return Err(MemoryError::BadImage("changes of a memory that has no base"));
        } else {
            inner.set_length(length)?;
        }
        for change in &image.changes {
            inner.apply_change(change, &descriptors)?;
        }
        inner.tracker.rearm(false);
        Ok(())
    }

    /// Makes bytes of the guest's memory writable for the kernel, which cannot take our faults.
    pub fn make_writable(&self, offset: usize, length: usize) {
        let mut inner = self.lock();
        let (snapshot, end) = (inner.length, offset.saturating_add(length));
        inner.open_range(offset..end.min(snapshot));
        // What the task has grown may be a mapped block.
        let grown = offset.max(snapshot)..end.min(inner.size);
        if !grown.is_empty() {
            inner.live.touch(grown);
        }
    }

    /// Pages that are noted as written, at most; for the metrics.
    pub fn pages_noted(&self) -> usize {
        let mut inner = self.lock();
        if inner.tracker.opened() {
            return inner.length / PAGE_BYTES;
        }
        inner.tracker.notes().iter().map(|note| note.count as usize).sum()
    }
}

impl Inner {
    /// Opens the pages of a part of the snapshot.
    fn open_range(&mut self, range: std::ops::Range<usize>) {
        if self.tracker.opened() || range.is_empty() {
            return;
        }
        for page in range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES) {
            if !self.open_page(page as u32) {
                return self.open_all();
            }
        }
    }

    fn map_base(&mut self, base: &OwnedFd, length: usize) -> Result<(), MemoryError> {
        let old = self.length;
        self.live.forget(0, old)?;
        self.pristine.forget(0, old)?;
        self.patched.clear();
        self.tracker.rearm(true);
        let file_bytes = fstat(base).map_err(io::Error::from)?.st_size as u64;
        let backed = file_bytes.min(length as u64) as usize / PAGE_BYTES * PAGE_BYTES;
        for space in [&self.live, &self.pristine] {
            space.map_private(0, backed, base, 0)?;
            space.map_zeros(backed, length - backed)?;
        }
        for range in data_ranges(base, backed as u64)? {
            self.live.populate(range.start as usize, (range.end - range.start) as usize)?;
        }
        let _ = seek(base, rustix::fs::SeekFrom::Start(0));
        self.claim(length);
        Ok(())
    }

    fn claim(&mut self, length: usize) {
        self.length = length;
        self.size = length;
        self.highest = length;
        self.tracker.track(self.live.base(), length);
    }

    fn set_length(&mut self, length: usize) -> io::Result<()> {
        let old = self.length;
        if length > old {
            self.live.map_zeros(old, length - old)?;
            self.pristine.map_zeros(old, length - old)?;
        } else if length < old {
            let first_gone = (length / PAGE_BYTES) as u32;
            self.patched.split_off(&first_gone);
            self.drop_notes(first_gone, u32::MAX - first_gone)?;
            self.live.forget(length, old - length)?;
            self.pristine.forget(length, old - length)?;
        }
        self.claim(length);
        Ok(())
    }

    fn apply_change(
        &mut self,
        change: &PageChange,
        descriptors: &[OwnedFd],
    ) -> Result<(), MemoryError> {
        let PageRun { page, count } = change.run;
        let range = self.page_range(page, count);
        if count == 0 || range.len() != count as usize * PAGE_BYTES {
            return Err(MemoryError::BadImage("pages beyond the memory"));
        }
        match &change.source {
            PageSource::Inline(bytes) if bytes.len() == range.len() => {
                Ok(self.copy_pages(page, bytes)?)
            }
            PageSource::Inline(_) => Err(MemoryError::BadImage("wrong number of bytes")),
            PageSource::Descriptor { index, offset } => {
                let file = descriptors
                    .get(*index as usize)
                    .ok_or(MemoryError::BadImage("no such descriptor"))?;
                let file_bytes = fstat(file).map_err(io::Error::from)?.st_size as u64;
                let end = offset.checked_add(range.len() as u64);
                if offset % PAGE_BYTES as u64 != 0 || end.is_none_or(|end| end > file_bytes) {
                    return Err(MemoryError::BadImage("pages beyond their descriptor"));
                }
                if count >= MAPPED_RUN_PAGES {
                    return Ok(self.map_pages(change.run, file, *offset)?);
                }
                let mut bytes = vec![0; range.len()];
                std::fs::File::from(file.try_clone()?).read_exact_at(&mut bytes, *offset)?;
                Ok(self.copy_pages(page, &bytes)?)
            }
        }
    }

    /// Copies pages into both mappings and leaves them hot: what `main` writes between two jobs,
    /// tasks write, too.
    fn copy_pages(&mut self, first: u32, bytes: &[u8]) -> io::Result<()> {
        for (page, bytes) in (first..).zip(bytes.chunks_exact(PAGE_BYTES)) {
            let start = page as usize * PAGE_BYTES;
            if self.patched.insert(page) {
                self.pristine.make_writable(start, PAGE_BYTES)?;
            }
            self.pristine.write(start, bytes);
            if self.is_noted(page) {
                self.live.write(start, bytes);
                continue;
            }
            self.live.make_writable(start, PAGE_BYTES)?;
            self.live.write(start, bytes);
            if !self.tracker.note(page) {
                self.live.make_read_only(start, PAGE_BYTES)?;
            }
        }
        Ok(())
    }

    fn is_noted(&mut self, page: u32) -> bool {
        let covers = |note: &Note| (note.page..note.page + note.count).contains(&page);
        self.tracker.notes().iter().any(covers)
    }

    /// As a first write to the page would. False if there is no room for a note.
    fn open_page(&mut self, page: u32) -> bool {
        if self.is_noted(page) {
            return true;
        }
        let noted = self.tracker.note(page);
        if noted {
            // A page that stays closed fails the kernel's write there: nothing goes unnoticed.
            let _ = self.live.make_writable(page as usize * PAGE_BYTES, PAGE_BYTES);
        }
        noted
    }

    /// As the fault handler does once it cannot note more.
    fn open_all(&mut self) {
        if self.live.make_writable(0, self.length).is_ok() {
            self.tracker.open();
        }
    }

    /// Maps pages of a file over both mappings.
    fn map_pages(&mut self, run: PageRun, file: &OwnedFd, offset: u64) -> io::Result<()> {
        self.drop_notes(run.page, run.count)?;
        let range = self.page_range(run.page, run.count);
        for space in [&self.live, &self.pristine] {
            space.map_private(range.start, range.len(), file, offset)?;
        }
        self.live.populate(range.start, range.len())?;
        let gone: Vec<u32> = self.patched.range(run.page..run.page + run.count).copied().collect();
        for page in gone {
            self.patched.remove(&page);
        }
        Ok(())
    }
}
