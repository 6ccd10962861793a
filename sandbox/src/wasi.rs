//! Preview-1 of WASI for guests in slots: the 46 functions of `wasi_snapshot_preview1`.
//!
//! ```text
//!   guest ── fd_read ──► linker ──► Call { memory, host } ──► Table ──► descriptor ──► kernel
//!         ── path_open ►        ──►        │
//!                                          └─ WasiHost::path ──► trusted side, which resolves it
//!                                             and answers with a descriptor
//! ```
//!
//! | | `main` | a task |
//! |---|---|---|
//! | clock | real, in steps of 1 ms | stands at the snapshot's time; sleeps end at once |
//! | random | the system's | seeded by snapshot, node and partition |
//! | arguments, environment | granted | the same |
//! | standard output and error | [`WasiHost::output`] | the same |
//! | standard input | at its end | the same |
//! | files | [`WasiHost::path`] | the same, with descriptors of its own |
//! | `proc_exit` | ends the call with [`Exit`] | the same |
//!
//! A slot has no runtime, no network and opens nothing, and neither does this module: files are
//! descriptors that came from the trusted side, directories are names that it resolves again each
//! time. Sockets, links and signals do not exist (`ENOTSOCK`, `ENOTSUP`).
//!
//! **The guest's memory may be write-protected**, which is how a fork finds the pages that it
//! wrote. Stores made here fault and are handled like the guest's own; before the kernel is given
//! guest memory to write to, [`WasiHost::make_writable`] is called for it.
#![forbid(unsafe_code)]

mod clock;
mod errno;
mod files;
mod linker;
mod memory;
mod metadata;
mod paths;
mod process;
mod random;
mod readdir;
mod rights;
mod stat;
mod table;
#[cfg(test)]
mod tests;

pub use clock::Clock;
pub use errno::Errno;
pub(crate) use linker::PIECE_BYTES;
pub use linker::{MODULE, add_to_linker};
pub use random::Random;
pub use stat::{modified_nanos, path_stat};

use crate::link::FixedWorld;
use core::fmt;
use offshoot_proto::id::{NodeId, Partition};
use offshoot_proto::link::{PathReply, PathRequest, SlotStart};
use offshoot_proto::snapshot::SnapshotHeader;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use table::{Descriptor, Directory, File, Table};
use wasmtime::Memory;

/// What the state of a store must be able to do for the guest in it.
pub trait WasiHost {
    /// The guest's descriptors, clocks and the rest.
    fn wasi(&mut self) -> &mut Wasi;

    /// The guest's linear memory, if it is known; otherwise the export `memory` is looked up in
    /// every call.
    fn memory(&self) -> Option<Memory> {
        None
    }

    /// Takes what the guest wrote to stream 1 or 2: at most 1 MiB at a time.
    fn output(&mut self, stream: u8, bytes: &[u8]) -> Result<(), Errno>;

    /// Asks the trusted side. A file that was opened comes as [`PathReply::Opened`] with its
    /// descriptor, a directory as [`PathReply::Stat`] without one.
    fn path(&mut self, request: PathRequest) -> Result<(PathReply, Option<OwnedFd>), Errno>;

    /// Makes these bytes of the guest's memory, all within it, writable for the kernel.
    fn make_writable(&mut self, offset: usize, length: usize);

    /// A call begins, in which the host may write to the guest's memory.
    fn begin_call(&mut self) {}

    /// Whether the host may go on to write in this call. To be asked before it writes more than a
    /// number or two, and again after each MiB of one piece, or each few KiB of scattered ones.
    ///
    /// # Errors
    /// It may not; then [`end_call`](Self::end_call) says that the guest may not either.
    fn may_write(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    /// It ends.
    ///
    /// # Errors
    /// The guest may not go on: this unwinds it.
    fn end_call(&mut self) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// What is the same for `main` and all tasks of a slot.
#[derive(Clone, Debug)]
pub struct WasiSettings {
    arguments: Strings,
    environment: Strings,
    preopens: Vec<String>,
}

/// Preview-1 of one guest: of `main`, or of one task. Making one allocates nothing, so that a
/// slot's is replaced by assignment between two tasks.
#[derive(Debug)]
pub struct Wasi {
    settings: Arc<WasiSettings>,
    table: Table,
    clock: Clock,
    random: Random,
    refusal: Option<Refusal>,
}

/// Why the last refused call was refused: what an error number cannot tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A task used a descriptor that `main` opened.
    OpenedByMain {
        /// Its number.
        descriptor: u32,
    },
    /// A path is not granted.
    Path {
        /// The sentence of the trusted side, with the flag that would allow it.
        message: String,
    },
}

/// The guest called `exit`. Ends the call into the guest as an error, to be found with
/// [`wasmtime::Error::downcast_ref`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("exit({0})")]
pub struct Exit(
    /// The guest's code.
    pub i32,
);

/// Strings as preview-1 hands them out: one after the other, each with a NUL at its end.
#[derive(Clone, Debug, Default)]
struct Strings {
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

// === impl WasiSettings ===

impl WasiSettings {
    /// Those of a slot.
    pub fn new(start: &SlotStart) -> Arc<Self> {
        let pairs = start.environment.iter();
        Arc::new(Self {
            arguments: start.arguments.iter().cloned().collect(),
            environment: pairs.map(|(name, value)| format!("{name}={value}")).collect(),
            preopens: start.preopens.iter().map(|(name, _)| name.clone()).collect(),
        })
    }
}

// === impl Wasi ===

impl Wasi {
    /// That of `main`.
    pub fn for_main(settings: &Arc<WasiSettings>) -> Self {
        Self::new(settings, Clock::real(), Random::System, 0)
    }

    /// That of a `main` which is to do the same in every run.
    pub fn for_main_in(settings: &Arc<WasiSettings>, world: FixedWorld) -> Self {
        let clock = Clock::Standing { realtime_nanos: world.realtime_nanos, monotonic_nanos: 0 };
        Self::new(settings, clock, Random::from_seed(world.seed), 0)
    }

    /// That of a task which is a fork of this snapshot.
    pub fn for_task(
        settings: &Arc<WasiSettings>,
        snapshot: &SnapshotHeader,
        node: NodeId,
        partition: Partition,
    ) -> Self {
        let clock = Clock::Standing {
            realtime_nanos: snapshot.realtime_nanos,
            monotonic_nanos: snapshot.monotonic_nanos,
        };
        let random = Random::for_task(snapshot.seed, node, partition);
        Self::new(settings, clock, random, snapshot.first_free_descriptor)
    }

    /// Any other: descriptors get the numbers from `first` on.
    pub fn new(settings: &Arc<WasiSettings>, clock: Clock, random: Random, first: u32) -> Self {
        Self {
            settings: Arc::clone(settings),
            table: Table::new(settings.preopens.len() as u32, first),
            clock,
            random,
            refusal: None,
        }
    }

    /// The guest's clocks, for the header of a snapshot.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Random bytes from where the guest's come from, for the header of a snapshot.
    pub fn draw(&mut self, bytes: &mut [u8]) -> Result<(), Errno> {
        self.random.fill(bytes)
    }

    /// The lowest descriptor number that the guest has not used, for the header of a snapshot.
    pub fn first_free_descriptor(&self) -> u32 {
        self.table.first_free()
    }

    /// Why the last refused call was refused, for the text of an error that may follow from it.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    fn descriptor(&mut self, number: u32) -> Result<Descriptor<'_>, Errno> {
        self.check_own(number)?;
        self.table.descriptor(number)
    }

    fn file(&mut self, number: u32, if_stream: Errno) -> Result<&mut File, Errno> {
        self.check_own(number)?;
        self.table.file(number, if_stream)
    }

    fn directory(&mut self, number: u32) -> Result<Directory, Errno> {
        self.check_own(number)?;
        self.table.directory(number)
    }

    fn check_own(&mut self, descriptor: u32) -> Result<(), Errno> {
        if self.table.was_opened_by_main(descriptor) {
            self.refusal = Some(Refusal::OpenedByMain { descriptor });
            return Err(Errno::BADF);
        }
        Ok(())
    }
}

// === impl Refusal ===

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenedByMain { descriptor } => {
                write!(f, "descriptor {descriptor} was opened by main; a task opens its own files")
            }
            Self::Path { message } => f.write_str(message),
        }
    }
}

// === impl Strings ===

impl FromIterator<String> for Strings {
    fn from_iter<I: IntoIterator<Item = String>>(strings: I) -> Self {
        let mut all = Self::default();
        for string in strings {
            all.starts.push(all.bytes.len() as u32);
            all.bytes.extend_from_slice(string.as_bytes());
            all.bytes.push(0);
        }
        all
    }
}
