//! A range of address space as large as a linear memory can become, and what is mapped into it.
//!
//! All offsets and lengths are in bytes from its start and multiples of the page size; each
//! method checks that they lie within the reservation.

use super::runs::Run;
use crate::engine::{MEMORY_GUARD_BYTES, MEMORY_RESERVATION_BYTES};
use offshoot_proto::limits::PAGE_BYTES;
use rustix::fs::{MemfdFlags, SealFlags, SeekFrom, fcntl_add_seals, memfd_create, seek};
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous};
use rustix::mm::{mprotect, munmap};
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Bytes of address space of one linear memory, guard included.
pub(super) const RESERVED_BYTES: usize = (MEMORY_RESERVATION_BYTES + MEMORY_GUARD_BYTES) as usize;

/// Ranges of one vector, at most: the kernel's limit.
const VECTOR_MAX: usize = 1024;

/// The kernel's name for the calling process where it takes a descriptor of one.
const PIDFD_SELF: libc::c_long = -10_000;

/// Reserved address space.
#[derive(Debug)]
pub(super) struct Space {
    base: *mut u8,
}

// SAFETY: the mapping belongs to this value alone; sharing is governed by the lock around it.
unsafe impl Send for Space {}

/// A memory file that can be sealed.
pub fn memory_file(name: &str) -> io::Result<OwnedFd> {
    Ok(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?)
}

/// Seals a memory file for ever: nobody who maps it can change what another sees.
pub(super) fn seal(file: impl AsFd) -> io::Result<()> {
    let seals = SealFlags::FUTURE_WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    Ok(fcntl_add_seals(file, seals)?)
}

/// The byte ranges of a file that hold data, ascending.
pub(super) fn data_ranges(file: impl AsFd, length: u64) -> io::Result<Vec<std::ops::Range<u64>>> {
    let mut ranges = Vec::new();
    let mut position = 0;
    while position < length {
        let start = match seek(&file, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(&file, SeekFrom::Hole(start))?.min(length);
        if start >= end {
            break;
        }
        ranges.push(start..end);
        position = end;
    }
    Ok(ranges)
}

/// Writes each page once, so that the kernel may write there: a first write to a page of a snapshot
/// or of a mapped block is a fault that only user code can take.
pub(crate) fn touch(out: &mut [u8]) {
    let mut at = 0;
    while at < out.len() {
        let place = &raw mut out[at];
        // SAFETY: `place` is a byte of a slice that is borrowed mutably.
        unsafe { place.write_volatile(place.read_volatile()) };
        at += PAGE_BYTES - place.addr() % PAGE_BYTES;
    }
}

// === impl Space ===

impl Space {
    /// Reserves address space; nothing in it can be touched.
    pub(super) fn reserve() -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe {
            mmap_anonymous(std::ptr::null_mut(), RESERVED_BYTES, ProtFlags::empty(), flags)?
        };
        Ok(Self { base: base.cast() })
    }

    pub(super) fn base(&self) -> *mut u8 {
        self.base
    }

    fn at(&self, offset: usize, length: usize) -> *mut c_void {
        let end = offset.checked_add(length).expect("offsets are below 2^33");
        assert!(end <= RESERVED_BYTES, "range {offset}+{length} is beyond the reservation");
        // SAFETY: checked just above.
        unsafe { self.base.add(offset).cast() }
    }

    /// The first `length` bytes, which must be readable.
    pub(super) fn bytes(&self, length: usize) -> &[u8] {
        let start = self.at(0, length).cast::<u8>();
        // SAFETY: callers pass at most the length that is mapped readable; no guest runs while
        // the slice lives, because guests run on this thread.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    /// A readable range.
    pub(super) fn range(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.bytes(range.end)[range.start..]
    }

    /// Touches the pages of a range, none of which may be out of reach.
    pub(super) fn touch(&self, range: std::ops::Range<usize>) {
        let start = self.at(range.start, range.len()).cast::<u8>();
        // SAFETY: callers pass what a guest may write, and no guest runs meanwhile: guests run on
        // this thread.
        touch(unsafe { std::slice::from_raw_parts_mut(start, range.len()) });
    }

    /// Copies `bytes` to a writable range.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let target = self.at(offset, bytes.len()).cast::<u8>();
        // SAFETY: callers have made the range writable; `bytes` is not part of this space
        // unless it is a disjoint range.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
    }

    /// Makes a range readable and writable.
    pub(super) fn make_writable(&self, offset: usize, length: usize) -> io::Result<()> {
        self.protect(offset, length, MprotectFlags::READ | MprotectFlags::WRITE)
    }

    /// Makes a range readable only.
    pub(super) fn make_read_only(&self, offset: usize, length: usize) -> io::Result<()> {
        self.protect(offset, length, MprotectFlags::READ)
    }

    fn protect(&self, offset: usize, length: usize, flags: MprotectFlags) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        // SAFETY: the range is part of this reservation.
        unsafe { mprotect(self.at(offset, length), length, flags)? };
        Ok(())
    }

    /// Maps a part of a file over a range, privately and read-only.
    pub(super) fn map_private(
        &self,
        offset: usize,
        length: usize,
        file: impl AsFd,
        file_offset: u64,
    ) -> io::Result<()> {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        self.map_file(offset, length, ProtFlags::READ, flags, file, file_offset)
    }

    /// Maps a file over a range, shared, not accessible yet.
    pub(super) fn map_shared(&self, length: usize, file: impl AsFd) -> io::Result<()> {
        let flags = MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE;
        self.map_file(0, length, ProtFlags::empty(), flags, file, 0)
    }

    fn map_file(
        &self,
        offset: usize,
        length: usize,
        protection: ProtFlags,
        flags: MapFlags,
        file: impl AsFd,
        file_offset: u64,
    ) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        let start = self.at(offset, length);
        // SAFETY: replaces a part of this reservation; no reference into it is alive.
        unsafe { mmap(start, length, protection, flags, file, file_offset)? };
        Ok(())
    }

    /// Replaces a range by zero pages that can be read but not written.
    pub(super) fn map_zeros(&self, offset: usize, length: usize) -> io::Result<()> {
        self.map_anonymous(offset, length, ProtFlags::READ)
    }

    /// Replaces a range by fresh pages that cannot be touched.
    pub(super) fn forget(&self, offset: usize, length: usize) -> io::Result<()> {
        self.map_anonymous(offset, length, ProtFlags::empty())
    }

    fn map_anonymous(&self, offset: usize, length: usize, prot: ProtFlags) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: replaces a part of this reservation; no reference into it is alive.
        unsafe { mmap_anonymous(self.at(offset, length), length, prot, flags)? };
        Ok(())
    }

    /// Fills the page tables of a range for reading.
    pub(super) fn populate(&self, offset: usize, length: usize) -> io::Result<()> {
        self.advise(offset, length, Advice::LinuxPopulateRead)
    }

    /// Drops private copies of pages: they read as what is mapped beneath.
    pub(super) fn drop_copies(&self, runs: &[Run]) -> io::Result<()> {
        let bytes = |run: &Run| (run.start as usize * PAGE_BYTES, run.len() * PAGE_BYTES);
        for runs in runs.chunks(VECTOR_MAX) {
            if runs.len() > 1 && self.drop_copies_at_once(runs.iter().map(bytes)) {
                continue;
            }
            for (offset, length) in runs.iter().map(bytes) {
                self.advise(offset, length, Advice::LinuxDontNeed)?;
            }
        }
        Ok(())
    }

    /// One call for many ranges, which a process may make for itself since Linux 6.14 or so: false
    /// if the kernel did not do all of it. Dropping a range twice does no harm.
    fn drop_copies_at_once(&self, ranges: impl Iterator<Item = (usize, usize)>) -> bool {
        static REFUSED: AtomicBool = AtomicBool::new(false);
        if REFUSED.load(Relaxed) {
            return false;
        }
        let vector = ranges
            .map(|(offset, length)| libc::iovec {
                iov_base: self.at(offset, length),
                iov_len: length,
            })
            .collect::<Vec<_>>();
        let wanted: usize = vector.iter().map(|range| range.iov_len).sum();
        // SAFETY: the ranges are parts of this reservation; no reference into them is alive.
        let done = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                PIDFD_SELF,
                vector.as_ptr(),
                vector.len(),
                libc::MADV_DONTNEED,
                0,
            )
        };
        if done < 0 {
            REFUSED.store(true, Relaxed);
        }
        done == wanted as libc::c_long
    }

    fn advise(&self, offset: usize, length: usize, advice: Advice) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        // SAFETY: the range is part of this reservation; no reference into it is alive.
        unsafe { madvise(self.at(offset, length), length, advice)? };
        Ok(())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `reserve` and nothing refers to it any more.
        let _ = unsafe { munmap(self.base.cast(), RESERVED_BYTES) };
    }
}
