//! The imports with `Result`, and streams as [`std::io::Read`].
//!
//! No cell of this crate is borrowed while a function of this module runs: the host may take a
//! snapshot inside, and whatever is borrowed then is borrowed in every task.

use crate::argument::Argue;
use crate::error::Error;
use crate::{raw, task};
use core::hint::black_box;
use offshoot_proto::abi::{FREE_HEAP_BYTES, InputFile, JobSpec, NodeSpec, Source, WASM_PAGE_BYTES};
use offshoot_proto::id::NodeId;
use std::hash::RandomState;
use std::io::{self, Read, Write};

/// Room for the text of an error; a longer one is asked for again.
const ERROR_TEXT_BYTES: usize = 4 << 10;

/// Room for what tasks said: the least that the host takes.
const UPDATES_BUFFER_BYTES: usize = (64 << 10) + 4;

/// How many bytes to ask of a stream at a time: few calls, and within a core's cache.
pub(crate) const STREAM_BUFFER_BYTES: usize = 128 << 10;

/// An open stream of the host; closed when dropped.
pub(crate) struct InputStream {
    handle: i32,
}

/// A job's id at the host.
#[derive(Clone, Copy)]
pub(crate) struct HostJob(i32);

// === checks ===

#[inline]
fn check(value: i32) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| error(value))
}

#[cold]
#[inline(never)]
fn error(value: i32) -> Error {
    Error::from_code(value, error_text())
}

#[cold]
#[inline(never)]
fn error_text() -> String {
    let mut text = vec![0; ERROR_TEXT_BYTES];
    let mut length = raw::error_text(&mut text);
    if usize::try_from(length).is_ok_and(|length| length > text.len()) {
        text.resize(length.unsigned_abs() as usize, 0);
        length = raw::error_text(&mut text);
    }
    let Ok(length) = usize::try_from(length) else {
        return "there is no host: build for wasm32-wasip1 and run with `offshoot submit`".into();
    };
    text.truncate(length);
    String::from_utf8(text).unwrap_or_default()
}

// === both places ===

impl InputStream {
    pub(crate) fn open(source: &Source) -> Result<Self, Error> {
        let handle = check(raw::stream_open(&source.bytes()))?;
        Ok(Self { handle: handle.cast_signed() })
    }
}

impl Read for InputStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = check(raw::stream_read(self.handle, buffer))? as usize;
        if length > buffer.len() {
            let text = format!("stream_read: {length} bytes for a buffer of {}", buffer.len());
            return Err(Error::Malformed(text).into());
        }
        Ok(length)
    }
}

impl Drop for InputStream {
    fn drop(&mut self) {
        raw::stream_close(self.handle);
    }
}

// === main ===

/// The files that match, sorted by path.
pub(crate) fn list(pattern: &str) -> Result<Vec<InputFile>, Error> {
    task::require_main();
    let mut stream = InputStream::open(&Source::Listing { pattern: pattern.to_owned() })?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(|error| Error::Io(error.to_string()))?;
    postcard::from_bytes(&bytes)
        .map_err(|error| Error::Malformed(format!("listing of {pattern}: {error}")))
}

pub(crate) fn register(spec: &NodeSpec) -> Result<(), Error> {
    check(raw::node_register(&spec.bytes())).map(drop)
}

/// Forgets a node. A failure has nobody to tell: the node is gone either way.
pub(crate) fn drop_node(node: NodeId) {
    raw::node_drop(node.0.cast_signed());
}

/// Reduce partitions where the job names no number.
pub(crate) fn parallelism() -> Result<u32, Error> {
    check(raw::parallelism()).map(|cores| cores.max(1))
}

/// Names the pool of the jobs that are submitted from now on.
pub(crate) fn set_pool(name: &str) -> Result<(), Error> {
    check(raw::job_pool(name.as_bytes())).map(drop)
}

/// Takes the snapshot and starts the job.
pub(crate) fn submit(spec: &JobSpec) -> Result<HostJob, Error> {
    let spec = spec.bytes();
    prepare_snapshot();
    check(raw::job_submit(&spec)).map(|job| HostJob(job.cast_signed()))
}

/// Everything that every fork would otherwise do, find half done, or do differently.
fn prepare_snapshot() {
    // The keys of `HashMap` are drawn once per thread: drawn here, they are the same in all tasks.
    black_box(RandomState::new());
    // What is still buffered would be printed again by every task that prints. Standard error
    // has no buffer.
    let _ = io::stdout().flush();
    // The allocator keeps what it once had: a small task finds this block and need not grow.
    black_box(Vec::<u8>::with_capacity(black_box(FREE_HEAP_BYTES)));
}

/// Takes all that tasks have said and main has not heard, piece by piece.
pub(crate) fn read_updates(each: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
    let mut buffer = vec![0; UPDATES_BUFFER_BYTES];
    loop {
        let length = check(raw::updates_read(&mut buffer))? as usize;
        let mut pieces = buffer.get(..length).unwrap_or_default();
        if pieces.is_empty() {
            return Ok(());
        }
        while let Some((header, rest)) = pieces.split_first_chunk() {
            let piece = rest.split_at_checked(u32::from_le_bytes(*header) as usize);
            let cut = || Error::Malformed("updates_read: a piece that is cut off".to_owned());
            let (piece, rest) = piece.ok_or_else(cut)?;
            each(piece)?;
            pieces = rest;
        }
    }
}

impl HostJob {
    /// Writes pieces into the buffer, waiting for one; 0 when all results have been handed out.
    pub(crate) fn results(self, buffer: &mut [u8]) -> Result<usize, Error> {
        check(raw::job_results(self.0, buffer)).map(|length| length as usize)
    }

    /// Forgets the job, cancelling what still runs.
    pub(crate) fn forget(self) {
        raw::job_drop(self.0);
    }
}

// === tasks: a failed write ends the task ===

fn check_in_task(what: &str, value: i32) {
    if let Err(error) = check(value) {
        task::fail(format_args!("{what}: {error}"));
    }
}

pub(crate) fn write_result(bytes: &[u8]) {
    check_in_task("writing the result", raw::result_write(bytes));
}

pub(crate) fn write_output(bytes: &[u8]) {
    check_in_task("writing the output", raw::output_write(bytes));
}

pub(crate) fn write_shuffle(reducer: u32, bytes: &[u8]) {
    let written = raw::shuffle_write(reducer.cast_signed(), bytes);
    check_in_task("writing shuffle data", written);
}

pub(crate) fn write_spill(run: u32, bytes: &[u8]) {
    check_in_task("spilling", raw::spill_write(run.cast_signed(), bytes));
}

pub(crate) fn write_update(bytes: &[u8]) {
    check_in_task("reporting accumulators", raw::update_write(bytes));
}

/// Bytes by which this task may grow its memory; the same in every attempt.
pub(crate) fn task_memory() -> usize {
    match check(raw::task_memory()) {
        Ok(pages) => usize::try_from(u64::from(pages) * WASM_PAGE_BYTES).unwrap_or(usize::MAX),
        Err(error) => task::fail(format_args!("asking for this task's memory: {error}")),
    }
}

/// What a partition of a kept dataset wrote, in place; none if it must be read.
pub(crate) fn map_block(writer: NodeId, map: u32) -> Option<&'static [u8]> {
    raw::map_block(writer.0, map).unwrap_or_else(|code| {
        task::fail(format_args!("mapping a kept partition: {}", error(code)))
    })
}

/// Opens a stream of this task.
pub(crate) fn open_in_task(source: &Source) -> InputStream {
    InputStream::open(source).unwrap_or_else(|error| task::fail(format_args!("{error}")))
}
