//! Which pages of a memory were written: noted by the fault handler, exactly, at no other cost.
//!
//! ```text
//!   read-only page ──first write──► SIGSEGV ──► note it, make it writable, go on
//! ```
//!
//! One handler a process, installed after wasmtime's and in front of it: faults inside a tracked
//! memory are ours, everything else goes to wasmtime as if we were not there. A table of trackers
//! is searched by address, because a simulation runs many slots in one process.
//!
//! A memory that writes widely must not take a fault a page: after [`SINGLE_FAULTS_MAX`] faults
//! between two [`Tracker::rearm`]s the handler opens windows of pages, and after
//! [`WINDOW_FAULTS_MAX`] more the whole memory.

use offshoot_proto::limits::PAGE_BYTES;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*};

/// Faults that open one page each. Small tasks write fewer pages than this.
const SINGLE_FAULTS_MAX: usize = 128;

/// Faults after that which open a window each.
const WINDOW_FAULTS_MAX: usize = 512;

/// Pages of a window: what the kernel reads around a fault, too.
const WINDOW_PAGES: usize = 16;

/// Notes that a tracker holds.
pub(crate) const NOTES_MAX: usize = 1024;

/// Tracked memories of one process: one in a slot, all slots of a simulation in a test.
const TRACKERS_MAX: usize = 256;

static TRACKERS: [AtomicPtr<Tracker>; TRACKERS_MAX] =
    [const { AtomicPtr::new(ptr::null_mut()) }; TRACKERS_MAX];
static INSTALL: Once = Once::new();
static mut PREVIOUS: MaybeUninit<libc::sigaction> = MaybeUninit::uninit();

/// Pages that are writable and may differ from the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Note {
    /// The first page.
    pub(crate) page: u32,
    /// How many.
    pub(crate) count: u32,
    /// How many resets in a row found it as it was.
    pub(crate) calm: u32,
}

/// The written pages of one memory. Used by one thread and by the handler on that thread.
#[derive(Debug)]
pub(crate) struct Tracker {
    base: AtomicUsize,
    bytes: AtomicUsize,
    faults: AtomicUsize,
    faults_total: AtomicUsize,
    opened: AtomicBool,
    /// Notes that were there at the last `rearm`; those after them are of this task.
    kept: usize,
    count: AtomicUsize,
    notes: UnsafeCell<[Note; NOTES_MAX]>,
    /// Where read-only blocks are mapped, from the base on; what is between them is writable.
    blocks_start: AtomicUsize,
    blocks_end: AtomicUsize,
    /// Pages of them that may still be written.
    copies_left: AtomicUsize,
    /// Whether the host writes for the guest, and pages that it alone may still write: it cannot
    /// stop in the middle as a guest can.
    host_writes: AtomicBool,
    reserve_left: AtomicUsize,
    overdrawn: AtomicBool,
}

// SAFETY: `notes` is reached only by the thread that runs the memory's guest, in `&mut` methods or
// in the handler that interrupts that thread inside guest code or a copy into guest memory.
unsafe impl Sync for Tracker {}

// === impl Tracker ===

impl Tracker {
    /// A tracker that claims no address yet, known to the handler until it is dropped.
    pub(crate) fn register() -> Box<Self> {
        INSTALL.call_once(install);
        let tracker = Box::new(Self {
            base: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            faults: AtomicUsize::new(0),
            faults_total: AtomicUsize::new(0),
            opened: AtomicBool::new(false),
            kept: 0,
            count: AtomicUsize::new(0),
            notes: UnsafeCell::new([Note::default(); NOTES_MAX]),
            blocks_start: AtomicUsize::new(0),
            blocks_end: AtomicUsize::new(0),
            copies_left: AtomicUsize::new(0),
            host_writes: AtomicBool::new(false),
            reserve_left: AtomicUsize::new(0),
            overdrawn: AtomicBool::new(false),
        });
        let pointer = ptr::from_ref(&*tracker).cast_mut();
        let free = TRACKERS.iter().find(|entry| {
            entry.compare_exchange(ptr::null_mut(), pointer, AcqRel, Acquire).is_ok()
        });
        assert!(free.is_some(), "more than {TRACKERS_MAX} tracked memories in one process");
        tracker
    }

    /// Claims `bytes` from `base` on, all of them read-only by now.
    pub(crate) fn track(&self, base: *mut u8, bytes: usize) {
        self.bytes.store(0, Release);
        self.base.store(base.addr(), Release);
        self.bytes.store(bytes, Release);
    }

    /// Faults since the tracker was made.
    pub(crate) fn faults_total(&self) -> usize {
        self.faults_total.load(Relaxed) + self.faults.load(Relaxed)
    }

    /// Whether the whole memory was made writable.
    pub(crate) fn opened(&self) -> bool {
        self.opened.load(Relaxed)
    }

    /// The caller has made the whole memory writable.
    pub(crate) fn open(&mut self) {
        *self.opened.get_mut() = true;
    }

    /// How many of the notes, the first ones, were there at the last [`rearm`](Self::rearm).
    pub(crate) fn kept(&self) -> usize {
        self.kept
    }

    /// The notes, to be read and changed while no guest runs.
    pub(crate) fn notes(&mut self) -> &mut [Note] {
        let count = *self.count.get_mut();
        &mut self.notes.get_mut()[..count]
    }

    /// Keeps the first `count` notes.
    pub(crate) fn truncate(&mut self, count: usize) {
        let now = self.count.get_mut();
        *now = count.min(*now);
        self.kept = self.kept.min(count);
    }

    /// Notes a page that the caller has made writable. False if there is no room.
    pub(crate) fn note(&mut self, page: u32) -> bool {
        let count = *self.count.get_mut();
        if count == NOTES_MAX {
            return false;
        }
        self.notes.get_mut()[count] = Note { page, count: 1, calm: 0 };
        *self.count.get_mut() = count + 1;
        true
    }

    /// Starts counting faults anew; `closed` if the whole memory is read-only again.
    pub(crate) fn rearm(&mut self, closed: bool) {
        *self.faults_total.get_mut() += std::mem::take(self.faults.get_mut());
        if closed {
            *self.opened.get_mut() = false;
            *self.count.get_mut() = 0;
        }
        self.kept = *self.count.get_mut();
    }

    /// A read-only block lies at these offsets, which are behind the claimed bytes. Of all blocks
    /// until [`close_copies`](Self::close_copies), `pages` may be written, and `reserve` more by
    /// the host.
    pub(crate) fn open_to_copies(
        &mut self,
        start: usize,
        end: usize,
        (pages, reserve): (usize, usize),
    ) {
        if *self.blocks_end.get_mut() == 0 {
            *self.blocks_start.get_mut() = start;
            *self.copies_left.get_mut() = pages;
            *self.reserve_left.get_mut() = reserve;
        }
        *self.blocks_end.get_mut() = end;
    }

    /// The blocks are not mapped any more.
    pub(crate) fn close_copies(&mut self) {
        *self.blocks_end.get_mut() = 0;
        *self.overdrawn.get_mut() = false;
    }

    /// The host begins or ends to write for the guest.
    pub(crate) fn set_host_writes(&mut self, writes: bool) {
        *self.host_writes.get_mut() = writes;
    }

    /// Whether the host has written more pages of blocks than the task may: it is to fail.
    pub(crate) fn overdrawn(&self) -> bool {
        self.overdrawn.load(Relaxed)
    }

    /// Makes a page of a block writable: what is written there is a private copy.
    fn on_copy(&self, base: usize, offset: usize) -> bool {
        let left = self.copies_left.load(Relaxed);
        let reserve = self.reserve_left.load(Relaxed);
        if left > 0 {
            self.copies_left.store(left - 1, Relaxed);
        } else if self.host_writes.load(Relaxed) && reserve > 0 {
            self.reserve_left.store(reserve - 1, Relaxed);
            self.overdrawn.store(true, Relaxed);
        } else {
            return false;
        }
        // SAFETY: the page is one of a block, which the owner of the memory has mapped.
        let result = unsafe {
            let start = base + offset / PAGE_BYTES * PAGE_BYTES;
            let start = ptr::without_provenance_mut::<libc::c_void>(start);
            libc::mprotect(start, PAGE_BYTES, libc::PROT_READ | libc::PROT_WRITE)
        };
        result == 0
    }

    /// Called by the handler: makes the page of `address` writable if it is ours.
    fn on_fault(&self, address: usize) -> bool {
        let base = self.base.load(Acquire);
        let bytes = self.bytes.load(Acquire);
        let offset = address.wrapping_sub(base);
        let blocks = self.blocks_start.load(Relaxed)..self.blocks_end.load(Relaxed);
        if blocks.contains(&offset) {
            return self.on_copy(base, offset);
        }
        if offset >= bytes || self.opened.load(Relaxed) {
            return false;
        }
        let faults = self.faults.fetch_add(1, Relaxed);
        let pages = bytes / PAGE_BYTES;
        let page = offset / PAGE_BYTES;
        let (first, count) = if faults < SINGLE_FAULTS_MAX {
            (page, 1)
        } else {
            let first = page / WINDOW_PAGES * WINDOW_PAGES;
            (first, WINDOW_PAGES.min(pages - first))
        };
        let noted = self.count.load(Relaxed);
        let whole = faults >= SINGLE_FAULTS_MAX + WINDOW_FAULTS_MAX || noted == NOTES_MAX;
        let (first, count) = if whole { (0, pages) } else { (first, count) };
        // SAFETY: the range lies within the memory that the owner handed to `track`.
        let result = unsafe {
            let start = ptr::without_provenance_mut::<libc::c_void>(base + first * PAGE_BYTES);
            libc::mprotect(start, count * PAGE_BYTES, libc::PROT_READ | libc::PROT_WRITE)
        };
        if result != 0 {
            return false;
        }
        if whole {
            self.opened.store(true, Relaxed);
        } else {
            let note = Note { page: first as u32, count: count as u32, calm: 0 };
            // SAFETY: the interrupted thread is the only other user and stands in guest code.
            unsafe { (*self.notes.get())[noted] = note };
            self.count.store(noted + 1, Relaxed);
        }
        true
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let pointer = ptr::from_mut(self);
        for entry in &TRACKERS {
            let _ = entry.compare_exchange(pointer, ptr::null_mut(), AcqRel, Acquire);
        }
    }
}

fn install() {
    // wasmtime installs its handlers with a process's first engine; ours must come after them.
    drop(wasmtime::Engine::default());
    // SAFETY: plain libc calls on zeroed structures, once a process, before any guest runs.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
        action.sa_sigaction = on_segv as *const () as usize;
        libc::sigemptyset(&mut action.sa_mask);
        let previous = (&raw mut PREVIOUS).cast::<libc::sigaction>();
        let result = libc::sigaction(libc::SIGSEGV, &action, previous);
        assert_eq!(result, 0, "the kernel takes a handler for SIGSEGV");
    }
}

unsafe extern "C" fn on_segv(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid siginfo with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() }.addr();
    for entry in &TRACKERS {
        let tracker = entry.load(Acquire);
        // SAFETY: a tracker leaves the table before it is freed, on the thread that faults in it.
        if !tracker.is_null() && unsafe { (*tracker).on_fault(address) } {
            return;
        }
    }
    // SAFETY: `PREVIOUS` was filled by `install` before this handler could run. wasmtime's handler
    // is of the three-argument kind; a default disposition is restored and the fault repeats.
    unsafe {
        let previous = (&raw const PREVIOUS).cast::<libc::sigaction>();
        match (*previous).sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {
                libc::sigaction(signal, previous, ptr::null_mut());
            }
            handler => {
                let handler: unsafe extern "C" fn(
                    libc::c_int,
                    *mut libc::siginfo_t,
                    *mut libc::c_void,
                ) = std::mem::transmute(handler);
                handler(signal, info, context);
            }
        }
    }
}
