//! Linear memory as a fork: private pages over a snapshot, an exact set of written ones.
//!
//! ```text
//!   live      ├── snapshot, private, read-only until written ──┤── grown by the task ──┤ guard
//!   pristine  ├── the same pages, never given to a guest ──────┤
//! ```
//!
//! A task starts as `live == pristine`. [`GuestMemory::reset`] makes it so again after a task: it
//! copies `pristine` over the *hot* pages, which nearly every task writes and which therefore stay
//! writable, drops the private copies of the other pages that were noted, and replaces what the
//! task grew by fresh unreadable pages. Its cost depends on what tasks write and not on the size
//! of the driver.
//!
//! Behind what the task grew, kept blocks may be mapped, read-only at first: what the task writes
//! there is its own copy, and goes with the rest.
//!
//! The driver's own memory is a shared mapping of a memory file until its first snapshot, which
//! therefore costs nothing: the file *is* the snapshot, and the driver goes on with a private
//! mapping of it. Later snapshots are the noted pages that differ from `pristine`.

mod driver;
mod flat;
mod heat;
mod restore;
mod runs;
mod space;
mod tasks;
#[cfg(test)]
mod tests;

use crate::fault::Tracker;
use heat::Heat;
use offshoot_proto::limits::PAGE_BYTES;
use rustix::fd::OwnedFd;
use space::Space;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

pub use driver::Changes;
pub(crate) use flat::{HOST_WRITES_MAX, WRITTEN_PAGES_MAX};
pub use space::memory_file;
pub(crate) use space::touch;

/// Why a memory could not be set up as asked.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The system's word for it.
    #[error("mapping guest memory: {0}")]
    Io(#[from] io::Error),
    /// The image names pages or descriptors that are not there.
    #[error("bad memory image: {0}")]
    BadImage(&'static str),
}

/// The linear memory of a slot: the creator that wasmtime asks, and what the slot does with it
/// between two guests. Clones are handles to the same memory.
#[derive(Clone)]
pub struct GuestMemory {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    live: Space,
    pristine: Space,
    tracker: Box<Tracker>,
    heat: Heat,
    sorted: restore::Sorted,
    /// Bytes of the snapshot; before a driver's first one, 0.
    length: usize,
    /// Bytes that the guest may touch now.
    size: usize,
    /// The highest `size` since the last reset.
    highest: usize,
    /// Pages of `pristine` that were copied there and would be lost by `MADV_DONTNEED`.
    patched: BTreeSet<u32>,
    /// The driver's memory file, until its first snapshot.
    shared: Option<OwnedFd>,
}

struct LiveMemory {
    inner: Arc<Mutex<Inner>>,
    base: *mut u8,
}

// SAFETY: `base` is an address of a mapping that lives as long as `inner`; it is dereferenced by
// wasmtime only, under the rules of `LinearMemory`.
unsafe impl Send for LiveMemory {}
// SAFETY: as above.
unsafe impl Sync for LiveMemory {}

// === impl GuestMemory ===

impl GuestMemory {
    /// Address space for one linear memory, with nothing in it.
    pub fn new() -> Result<Self, MemoryError> {
        let inner = Inner {
            live: Space::reserve()?,
            pristine: Space::reserve()?,
            tracker: Tracker::register(),
            heat: Heat::new(),
            sorted: restore::Sorted::default(),
            length: 0,
            size: 0,
            highest: 0,
            patched: BTreeSet::new(),
            shared: None,
        };
        Ok(Self { inner: Arc::new(Mutex::new(inner)) })
    }

    /// What wasmtime asks for memories. All instances made with it share this one memory, so
    /// only one of them may live at a time.
    pub fn creator(&self) -> Arc<dyn MemoryCreator> {
        Arc::new(self.clone())
    }

    /// Bytes of the snapshot that is mapped.
    pub fn length(&self) -> usize {
        self.lock().length
    }

    /// Faults taken since the memory was made: first writes to pages.
    pub fn faults(&self) -> usize {
        self.lock().tracker.faults_total()
    }

    /// Whether the memory is that of the snapshot, byte for byte. Reads all of it: for tests.
    pub fn is_pristine(&self) -> bool {
        let inner = self.lock();
        inner.size == inner.length
            && inner.live.bytes(inner.length) == inner.pristine.bytes(inner.length)
    }

    /// A copy of the first `length` bytes: for tests.
    #[cfg(test)]
    pub(crate) fn copy_of(&self, length: usize) -> Vec<u8> {
        self.lock().live.bytes(length).to_vec()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the lock panics")
    }
}

// SAFETY: the reservation covers 4 GiB and the guard that `engine::config` asks for, never moves,
// and is zero or a snapshot of this module's own memory where it is accessible.
unsafe impl MemoryCreator for GuestMemory {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let mut inner = self.lock();
        if reserved.unwrap_or(0) + guard > space::RESERVED_BYTES {
            return Err(format!("a memory of {reserved:?} bytes does not fit the reservation"));
        }
        if inner.length == 0 {
            inner.grow(minimum).map_err(|error| error.to_string())?;
        } else if minimum > inner.length {
            return Err(format!("the module starts with {minimum} bytes, the snapshot has fewer"));
        }
        Ok(Box::new(LiveMemory { base: inner.live.base(), inner: self.inner.clone() }))
    }
}

// === impl LiveMemory ===

// SAFETY: `as_ptr` never changes, `byte_size` bytes from it are accessible, the rest of the
// reservation traps.
unsafe impl LinearMemory for LiveMemory {
    fn byte_size(&self) -> usize {
        self.inner.lock().expect("no holder of the lock panics").size
    }

    fn byte_capacity(&self) -> usize {
        crate::engine::MEMORY_RESERVATION_BYTES as usize
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        let mut inner = self.inner.lock().expect("no holder of the lock panics");
        Ok(inner.grow(new_size)?)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.base
    }
}

// === impl Inner ===

impl Inner {
    fn grow(&mut self, new_size: usize) -> io::Result<()> {
        if new_size > self.size {
            if let Some(file) = &self.shared {
                rustix::fs::ftruncate(file, new_size as u64)?;
            }
            self.live.make_writable(self.size, new_size - self.size)?;
            self.size = new_size;
            self.highest = self.highest.max(new_size);
        }
        Ok(())
    }

    /// The byte range of pages, cut to the snapshot.
    fn page_range(&self, page: u32, count: u32) -> std::ops::Range<usize> {
        let start = (page as usize * PAGE_BYTES).min(self.length);
        let end = ((page as usize + count as usize) * PAGE_BYTES).min(self.length);
        start..end
    }
}
