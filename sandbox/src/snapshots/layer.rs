//! One layer of the store: the pages that a snapshot changes, in memory or in a memory file.

use crate::memory::memory_file;
use offshoot_proto::limits::PAGE_BYTES;
use offshoot_proto::link::{ForkImage, PageChange, PageSource};
use offshoot_proto::snapshot::PageRun;
use rustix::buffer::spare_capacity;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A layer of at most so many bytes travels to a slot in the frame itself.
const INLINE_LAYER_BYTES_MAX: usize = 256 << 10;

#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) runs: Vec<PageRun>,
    pub(super) pages: Pages,
}

#[derive(Clone, Debug)]
pub(super) enum Pages {
    Bytes(Arc<[u8]>),
    File(Arc<File>),
}

// === impl Layer ===

impl Layer {
    pub(super) fn new(runs: Vec<PageRun>, bytes: Vec<u8>) -> io::Result<Self> {
        Ok(Self { runs, pages: Pages::new(bytes)? })
    }

    /// Each page with the offset of its bytes.
    pub(super) fn page_offsets(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let pages = self.runs.iter().flat_map(|run| run.page..run.page + run.count);
        pages.enumerate().map(|(index, page)| (page, index as u64 * PAGE_BYTES as u64))
    }

    /// Where the bytes of a page begin, if the layer has it.
    pub(super) fn offset_of(&self, page: u32) -> Option<u64> {
        let mut before = 0;
        for run in &self.runs {
            if (run.page..run.page + run.count).contains(&page) {
                return Some(u64::from(before + page - run.page) * PAGE_BYTES as u64);
            }
            before += run.count;
        }
        None
    }

    pub(super) fn add_to(
        &self,
        image: &mut ForkImage,
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<()> {
        let descriptor = match &self.pages {
            Pages::Bytes(_) => None,
            Pages::File(file) => {
                descriptors.push(file.try_clone()?.into());
                Some(descriptors.len() as u32 - 1)
            }
        };
        let mut offset = 0;
        for run in &self.runs {
            let length = run.count as usize * PAGE_BYTES;
            let source = match (&self.pages, descriptor) {
                (Pages::Bytes(bytes), _) => {
                    PageSource::Inline(bytes[offset as usize..][..length].to_vec())
                }
                (Pages::File(_), Some(index)) => PageSource::Descriptor { index, offset },
                (Pages::File(_), None) => unreachable!("a file has its descriptor"),
            };
            image.changes.push(PageChange { run: *run, source });
            offset += length as u64;
        }
        Ok(())
    }
}

// === impl Pages ===

impl Pages {
    pub(super) fn new(bytes: Vec<u8>) -> io::Result<Self> {
        if bytes.len() <= INLINE_LAYER_BYTES_MAX {
            return Ok(Self::Bytes(bytes.into()));
        }
        let file = File::from(memory_file("snapshot")?);
        file.write_all_at(&bytes, 0)?;
        Ok(Self::File(Arc::new(file)))
    }

    pub(super) fn length(&self) -> io::Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(file) => Ok(file.metadata()?.len()),
        }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bytes(a), Self::Bytes(b)) => Arc::ptr_eq(a, b),
            (Self::File(a), Self::File(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// The same as a vector; its memory is not cleared first.
    pub(super) fn copy(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = match self {
            Self::Bytes(bytes) => return Ok(bytes[offset as usize..][..length].to_vec()),
            Self::File(file) => file,
        };
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = offset + bytes.len() as u64;
            if rustix::io::pread(file, spare_capacity(&mut bytes), at)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => out.copy_from_slice(&bytes[offset as usize..][..out.len()]),
            Self::File(file) => file.read_exact_at(out, offset)?,
        }
        Ok(())
    }
}

pub(super) fn push_page(runs: &mut Vec<PageRun>, page: u32) {
    match runs.last_mut() {
        Some(run) if run.page + run.count == page => run.count += 1,
        _ => runs.push(PageRun { page, count: 1 }),
    }
}
