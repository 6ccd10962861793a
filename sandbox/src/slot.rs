//! A slot: one guest at a time on one thread, with nothing but a link to its owner.
//!
//! ```text
//!   Start ─► load module, link imports ─► Ready
//!     driver: write data, run main, answer snapshots ─► MainEnded
//!     tasks:  Fork, Stage, Run ─► [fork, call, reset] ... ─► Reports
//! ```
//!
//! Nothing of one task survives into another: the instance is new, the memory is reset, the rest
//! of the state that a guest can reach is [`SlotState`]'s per-guest part, replaced by assignment.

mod blocks;
mod driver;
mod room;
mod runner;
mod streams;
mod tasks;
#[cfg(test)]
mod tests;

use crate::engine;
use crate::imports;
use crate::link::{Link, LinkError, queue, receive, send};
use crate::memory::{GuestMemory, MemoryError};
use crate::module::{ModuleInfo, START_EXPORT, global_export};
use crate::wasi::{Errno, Wasi, WasiHost, WasiSettings};
use offshoot_proto::abi::{EXPORT_MEMORY, EXPORT_START, EXPORT_TASK, code};
use offshoot_proto::frame;
use offshoot_proto::id::JobId;
use offshoot_proto::link::{
    FromSlot, PathReply, PathRequest, Reply, Request, SlotRole, SlotStart, ToSlot,
};
use offshoot_proto::outcome::TaskFailure;
use offshoot_proto::snapshot::{GlobalValue, SnapshotHeader};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tasks::TaskState;
use wasmtime::{
    AsContextMut, Caller, InstancePre, Linker, Memory, Module, ModuleExport, ResourceLimiter,
};

/// Elements that all tables of a guest may have.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;

/// Why a slot ended other than by its owner closing the link.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The link broke or carried what it may not.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The module or its description cannot be loaded.
    #[error("loading the compiled module: {0}")]
    Load(String),
    /// The memory cannot be set up.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The limits of the process cannot be set.
    #[error("limiting the slot process: {0}")]
    Confine(std::io::Error),
    /// The owner broke the order of frames.
    #[error("unexpected frame: {0}")]
    Unexpected(&'static str),
}

/// The error that unwinds a guest whose attempt has ended; the reason is in the state.
#[derive(Debug, thiserror::Error)]
#[error("the attempt has ended")]
pub(crate) struct Ended;

/// What a slot keeps. The second half is replaced for each guest.
pub(crate) struct SlotState {
    link: Box<dyn Link>,
    role: SlotRole,
    memory: GuestMemory,
    exports: Exports,
    memory_bytes_max: u64,
    result_bytes_max: u64,
    disk_bytes_max: u64,
    /// The snapshot that tasks are forks of; in a driver, the last one that it took.
    snapshot: Option<SnapshotHeader>,
    /// Jobs that a driver has submitted.
    jobs: u32,
    /// Those whose results it has read to the end: dropping one is no news.
    ended_jobs: BTreeSet<JobId>,
    settings: Arc<WasiSettings>,
    wasi: Wasi,

    /// The running guest's memory.
    pub(crate) guest: Option<Memory>,
    /// For `error_text`.
    pub(crate) error: String,
    /// Why the running guest's attempt ends.
    pub(crate) failure: Option<TaskFailure>,
    /// Set when the link broke inside a call.
    pub(crate) link_error: Option<LinkError>,
    /// Bytes beyond the snapshot that the owner has given to the task.
    leased: u64,
    /// Bytes of kept blocks in the task's memory, and of what is about to be mapped.
    mapped: u64,
    /// Whether the owner has given the task a kept block, mapped or not.
    has_blocks: bool,
    /// The last growth that was refused: asked and limit, in bytes.
    refused_growth: Option<(u64, u64)>,
    streams: streams::Streams,
    task: Option<TaskState>,
}

/// The exports that are used for every guest, looked up once.
#[derive(Clone)]
struct Exports {
    memory: ModuleExport,
    start: Option<ModuleExport>,
    task: Option<ModuleExport>,
    start_section: Option<ModuleExport>,
    globals: Vec<ModuleExport>,
}

/// Everything that is loaded once.
struct Loaded {
    state: Box<SlotState>,
    pre: InstancePre<SlotState>,
    info: ModuleInfo,
}

/// Runs a slot until its owner closes the link or its `main` ends.
pub fn run(link: Box<dyn Link>) -> Result<(), SlotError> {
    run_confined(link, |_| Ok(()))
}

/// As [`run`]; `confine` is called before anything of the guest's is loaded.
pub(crate) fn run_confined(
    mut link: Box<dyn Link>,
    confine: impl FnOnce(&SlotStart) -> std::io::Result<()>,
) -> Result<(), SlotError> {
    let (message, descriptors) = receive::<ToSlot>(&mut *link)?;
    let ToSlot::Start(start) = message else {
        return Err(SlotError::Unexpected("the first one must be Start"));
    };
    confine(&start).map_err(SlotError::Confine)?;
    let role = start.role;
    let loaded = load(link, start, descriptors)?;
    let result = match role {
        SlotRole::Driver => driver::run(loaded),
        SlotRole::Tasks => tasks::run(loaded),
    };
    match result {
        Err(SlotError::Link(LinkError::Closed)) => Ok(()),
        other => other,
    }
}

fn load(
    link: Box<dyn Link>,
    start: SlotStart,
    descriptors: Vec<OwnedFd>,
) -> Result<Loaded, SlotError> {
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or(SlotError::Unexpected("Start lacks descriptors"));
    let (artifact, description) = (next()?, next()?);
    let memory = GuestMemory::new()?;
    if start.role == SlotRole::Driver {
        memory.share(next()?)?;
    }
    let failed = |error: wasmtime::Error| SlotError::Load(format!("{error:#}"));
    let engine = engine::runner(memory.creator()).map_err(failed)?;
    // SAFETY: the owner has verified the artifact's authentication code and hands over a file
    // that nobody changes; it was made by this version's compiler in `compile`.
    let module = unsafe { Module::deserialize_open_file(&engine, File::from(artifact)) };
    let module = module.map_err(failed)?;
    let info = read_info(description)?;
    let exports = Exports::find(&module, &info)?;
    let settings = WasiSettings::new(&start);
    let wasi = match link.world() {
        Some(world) => Wasi::for_main_in(&settings, world),
        None => Wasi::for_main(&settings),
    };
    let state = Box::new(SlotState {
        link,
        role: start.role,
        memory,
        exports,
        memory_bytes_max: start.memory_bytes_max,
        result_bytes_max: start.result_bytes_max,
        disk_bytes_max: start.disk_bytes_max,
        snapshot: None,
        jobs: 0,
        ended_jobs: BTreeSet::new(),
        settings,
        wasi,
        guest: None,
        error: String::new(),
        failure: None,
        link_error: None,
        leased: 0,
        mapped: 0,
        has_blocks: false,
        refused_growth: None,
        streams: streams::Streams::default(),
        task: None,
    });
    let mut linker = Linker::new(&engine);
    imports::link(&mut linker).map_err(failed)?;
    let pre = linker.instantiate_pre(&module).map_err(failed)?;
    Ok(Loaded { state, pre, info })
}

/// Reads at offsets: all slots of an owner share the position of this file.
fn read_info(description: OwnedFd) -> Result<ModuleInfo, SlotError> {
    let failed = |error: std::io::Error| SlotError::Load(error.to_string());
    let file = File::from(description);
    let mut bytes = vec![0; file.metadata().map_err(failed)?.len() as usize];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    frame::from_bytes(&bytes).map_err(|error| SlotError::Load(error.to_string()))
}

/// The values of all mutable globals of the guest that is calling.
pub(crate) fn read_globals(caller: &mut Caller<'_, SlotState>) -> Vec<GlobalValue> {
    let exports = caller.data().exports.clone();
    let mut values = Vec::with_capacity(exports.globals.len());
    for export in &exports.globals {
        let global = caller.get_module_export(export).and_then(wasmtime::Extern::into_global);
        let global = global.expect("the rewritten module exports its mutable globals");
        values.push(runner::from_val(&global.get(caller.as_context_mut())));
    }
    values
}

// === impl Exports ===

impl Exports {
    fn find(module: &Module, info: &ModuleInfo) -> Result<Self, SlotError> {
        let find = |name: &str| module.get_export_index(name);
        let missing = |name: &str| SlotError::Load(format!("the artifact has no export {name}"));
        let globals = (0..info.globals)
            .map(|index| find(&global_export(index)).ok_or_else(|| missing("of a global")))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            memory: find(EXPORT_MEMORY).ok_or_else(|| missing(EXPORT_MEMORY))?,
            start: find(EXPORT_START),
            task: find(EXPORT_TASK),
            start_section: find(START_EXPORT),
            globals,
        })
    }
}

// === impl SlotState ===

impl SlotState {
    fn send(&mut self, message: &FromSlot, descriptors: Vec<OwnedFd>) -> Result<(), LinkError> {
        send(&mut *self.link, message, descriptors)
    }

    /// Says what nobody needs to know before the next frame.
    fn say_later(&mut self, message: &FromSlot) -> Result<(), LinkError> {
        queue(&mut *self.link, message)
    }

    /// Asks the owner and waits for its answer.
    fn request(
        &mut self,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(Reply, Option<OwnedFd>), imports::CallError> {
        let (reply, mut descriptors) = self.exchange(request, descriptors)?;
        Ok((reply, descriptors.pop()))
    }

    fn exchange(
        &mut self,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(Reply, Vec<OwnedFd>), imports::CallError> {
        self.send(&FromSlot::Request(request), descriptors)?;
        loop {
            let (message, descriptors) = receive::<ToSlot>(&mut *self.link)?;
            match message {
                ToSlot::Reply(Reply::Error { code, message }) => {
                    return Err(imports::refused(code, message));
                }
                ToSlot::Reply(Reply::Failed(failure)) => {
                    return Err(imports::CallError::Ends(failure));
                }
                ToSlot::Reply(reply) => return Ok((reply, descriptors)),
                // What the owner sent before it saw the request; it is for later.
                other => self.streams.later.push_back((other, descriptors)),
            }
        }
    }

    /// The next frame that is not a reply.
    fn next_order(&mut self) -> Result<(ToSlot, Vec<OwnedFd>), LinkError> {
        match self.streams.later.pop_front() {
            Some(order) => Ok(order),
            None => receive(&mut *self.link),
        }
    }

    /// Bytes of memory that a guest of this slot begins with and that count for nobody.
    fn memory_base(&self) -> u64 {
        match self.role {
            SlotRole::Driver => 0,
            SlotRole::Tasks => self.memory.length() as u64,
        }
    }

    fn only_in_main(&self, call: &str) -> Result<(), imports::CallError> {
        match &self.task {
            None => Ok(()),
            Some(task) => Err(imports::refused(
                code::NOT_HERE,
                format!("{call}: actions run in main; this is a task of node {}", task.node),
            )),
        }
    }

    fn only_in_task(&mut self, call: &str) -> Result<&mut TaskState, imports::CallError> {
        self.task.as_mut().ok_or_else(|| {
            imports::refused(code::NOT_HERE, format!("{call}: only a task may call it"))
        })
    }
}

impl WasiHost for SlotState {
    fn wasi(&mut self) -> &mut Wasi {
        &mut self.wasi
    }

    fn memory(&self) -> Option<Memory> {
        self.guest
    }

    fn output(&mut self, stream: u8, bytes: &[u8]) -> Result<(), Errno> {
        let sent = self.send(&FromSlot::Output { stream, bytes: bytes.to_vec() }, vec![]);
        sent.map_err(|_| Errno::IO)
    }

    fn path(&mut self, request: PathRequest) -> Result<(PathReply, Option<OwnedFd>), Errno> {
        match self.request(Request::Path(request), vec![]) {
            Ok((Reply::Path(reply), descriptor)) => Ok((reply, descriptor)),
            _ => Err(Errno::IO),
        }
    }

    fn make_writable(&mut self, offset: usize, length: usize) {
        self.memory.make_writable(offset, length);
    }

    fn begin_call(&mut self) {
        self.begin_writing();
    }

    fn may_write(&mut self) -> Result<(), Errno> {
        // The guest does not see it: the call is its last.
        if self.has_overdrawn() { Err(Errno::FAULT) } else { Ok(()) }
    }

    fn end_call(&mut self) -> wasmtime::Result<()> {
        self.end_writing().map_err(|failure| {
            self.failure = Some(failure);
            Ended.into()
        })
    }
}

impl ResourceLimiter for SlotState {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.may_grow(desired as u64)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}
