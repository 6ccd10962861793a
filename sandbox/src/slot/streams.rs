//! What a guest reads: inputs, shuffles, its own spilled runs, listings.

use super::SlotState;
use super::tasks::{cannot_write, unexpected_reply};
use crate::imports::{CallError, Outcome, refused};
use crate::memory::touch;
use crate::shuffle::{BlockReader, ReadError};
use offshoot_proto::abi::{MapRange, Source, code};
use offshoot_proto::block::Extent;
use offshoot_proto::frame;
use offshoot_proto::id::NodeId;
use offshoot_proto::link::{Reply, Request, ToSlot};
use offshoot_proto::outcome::TaskFailure;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// Streams that one guest may have open.
const STREAMS_MAX: usize = 4096;

/// Runs that one task may spill.
const RUNS_MAX: u32 = 65_536;

/// Open streams by handle, and frames that came while a reply was awaited.
#[derive(Default)]
pub(super) struct Streams {
    open: Vec<Option<Stream>>,
    pub(super) later: VecDeque<(ToSlot, Vec<OwnedFd>)>,
}

enum Stream {
    File {
        file: File,
        offset: u64,
    },
    Shuffle {
        stream: u32,
        reader: BlockReader,
        ended: bool,
    },
    Spill {
        extents: Vec<Extent>,
    },
    /// An input that its owner reads.
    Input {
        stream: u32,
        bytes: Vec<u8>,
        at: usize,
        ended: bool,
    },
    Bytes {
        bytes: Vec<u8>,
        at: usize,
    },
}

/// The runs that a task has spilled, in one file.
#[derive(Debug)]
pub(super) struct Spill {
    file: File,
    length: u64,
    runs: BTreeMap<u32, Vec<Extent>>,
}

// === impl Spill ===

impl Spill {
    /// Bytes of all runs.
    pub(super) fn bytes(&self) -> u64 {
        self.length
    }
}

// === impl Streams ===

impl Streams {
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    fn add(&mut self, stream: Stream) -> Outcome {
        if let Some(free) = self.open.iter().position(Option::is_none) {
            self.open[free] = Some(stream);
            return Ok(free as i32);
        }
        if self.open.len() == STREAMS_MAX {
            let text =
                format!("stream_open: {STREAMS_MAX} streams are open, the limit; close some");
            return Err(refused(code::LIMIT, text));
        }
        self.open.push(Some(stream));
        Ok(self.open.len() as i32 - 1)
    }

    fn entry(&mut self, handle: i32, call: &str) -> Result<&mut Option<Stream>, CallError> {
        let entry = self.open.get_mut(handle as u32 as usize).filter(|entry| entry.is_some());
        entry.ok_or_else(|| refused(code::INVALID, format!("{call}: no open stream {handle}")))
    }
}

// === impl Stream ===

impl Stream {
    /// Reads what is at hand; none if the owner must be asked first.
    fn read(&mut self, spill: Option<&Spill>, out: &mut [u8]) -> Result<Option<usize>, ReadFailed> {
        match self {
            Self::File { file, offset } => {
                touch(out);
                let count = file.read_at(out, *offset).map_err(ReadFailed::Io)?;
                *offset += count as u64;
                Ok(Some(count))
            }
            Self::Shuffle { reader, ended, .. } => match reader.read(out)? {
                0 if !*ended => Ok(None),
                count => Ok(Some(count)),
            },
            Self::Spill { extents } => {
                let Some(spill) = spill else {
                    return Ok(Some(0));
                };
                let Some(extent) = extents.first_mut() else {
                    return Ok(Some(0));
                };
                let count = out.len().min(extent.length as usize);
                touch(&mut out[..count]);
                spill
                    .file
                    .read_exact_at(&mut out[..count], extent.offset)
                    .map_err(ReadFailed::Io)?;
                extent.offset += count as u64;
                extent.length -= count as u64;
                if extent.length == 0 {
                    extents.remove(0);
                }
                Ok(Some(count))
            }
            Self::Input { bytes, at, ended, .. } => match copy(bytes, at, out) {
                0 if !*ended && !out.is_empty() => Ok(None),
                count => Ok(Some(count)),
            },
            Self::Bytes { bytes, at } => Ok(Some(copy(bytes, at, out))),
        }
    }
}

fn copy(bytes: &[u8], at: &mut usize, out: &mut [u8]) -> usize {
    let count = out.len().min(bytes.len() - *at);
    out[..count].copy_from_slice(&bytes[*at..*at + count]);
    *at += count;
    count
}

enum ReadFailed {
    Io(io::Error),
    Blocks(ReadError),
}

impl From<ReadError> for ReadFailed {
    fn from(error: ReadError) -> Self {
        Self::Blocks(error)
    }
}

impl From<ReadFailed> for CallError {
    fn from(error: ReadFailed) -> Self {
        let failure = match error {
            ReadFailed::Blocks(ReadError::Fetch(failure)) => failure,
            ReadFailed::Blocks(ReadError::Chunk(error)) => {
                TaskFailure::Host { message: format!("a block from the executor: {error}") }
            }
            ReadFailed::Io(error) => TaskFailure::Host { message: format!("reading: {error}") },
        };
        Self::Ends(failure)
    }
}

// === impl SlotState ===

impl SlotState {
    /// `stream_open`.
    pub(crate) fn stream_open(&mut self, source: Source) -> Outcome {
        let stream = match source {
            Source::File { file, offset } => {
                self.only_in_task("stream_open of a file")?;
                match self.request(Request::OpenInput { file, offset }, vec![])? {
                    (Reply::Descriptor, Some(file)) => Stream::File { file: file.into(), offset },
                    (Reply::Number(stream), None) => {
                        Stream::Input { stream, bytes: Vec::new(), at: 0, ended: false }
                    }
                    _ => return Err(CallError::Ends(unexpected_reply())),
                }
            }
            Source::Shuffle { writer, reducer } => self.open_shuffle(writer, reducer, None)?,
            Source::Blocks { writer, reducer, maps } => {
                self.open_shuffle(writer, reducer, Some(maps))?
            }
            Source::Spill { run } => {
                let task = self.only_in_task("stream_open of a run")?;
                let extents = task.spill.as_ref().and_then(|spill| spill.runs.get(&run)).cloned();
                let extents = extents.ok_or_else(|| {
                    refused(code::INVALID, format!("stream_open: no run {run} was spilled"))
                })?;
                Stream::Spill { extents }
            }
            Source::Listing { pattern } => {
                self.only_in_main("stream_open of a listing")?;
                let (reply, _) = self.request(Request::ListInputs { pattern }, vec![])?;
                let Reply::Inputs(files) = reply else {
                    return Err(CallError::Ends(unexpected_reply()));
                };
                Stream::Bytes { bytes: frame::to_bytes(&files), at: 0 }
            }
        };
        self.streams.add(stream)
    }

    fn open_shuffle(
        &mut self,
        writer: NodeId,
        reducer: u32,
        maps: Option<MapRange>,
    ) -> Result<Stream, CallError> {
        let attempt = self.only_in_task("stream_open of a shuffle")?.attempt;
        let request = Request::OpenShuffle { attempt, writer, reducer, maps };
        let (Reply::Number(stream), _) = self.request(request, vec![])? else {
            return Err(CallError::Ends(unexpected_reply()));
        };
        Ok(Stream::Shuffle { stream, reader: BlockReader::default(), ended: false })
    }

    /// `stream_read`.
    pub(crate) fn stream_read(&mut self, handle: i32, out: &mut [u8]) -> Outcome {
        let limit = i32::MAX as usize;
        let length = out.len().min(limit);
        loop {
            let spill = self.task.as_ref().and_then(|task| task.spill.as_ref());
            let entry = self.streams.entry(handle, "stream_read")?;
            let Some(stream) = entry.as_mut() else {
                return Ok(0);
            };
            if let Some(count) = stream.read(spill, &mut out[..length])? {
                return Ok(count as i32);
            }
            self.pull(handle)?;
        }
    }

    /// `stream_close`.
    pub(crate) fn stream_close(&mut self, handle: i32) -> Outcome {
        let closed = self.streams.entry(handle, "stream_close")?.take();
        let request = match closed {
            Some(Stream::Shuffle { stream, ended: false, .. }) => Request::CloseShuffle { stream },
            Some(Stream::Input { stream, ended: false, .. }) => Request::CloseInput { stream },
            _ => return Ok(0),
        };
        self.send(&offshoot_proto::link::FromSlot::Request(request), vec![])?;
        Ok(0)
    }

    /// Asks the owner for more of what it reads.
    fn pull(&mut self, handle: i32) -> Result<(), CallError> {
        match self.streams.entry(handle, "stream_read")? {
            Some(Stream::Input { .. }) => self.pull_input(handle),
            _ => self.pull_shuffle(handle),
        }
    }

    fn pull_input(&mut self, handle: i32) -> Result<(), CallError> {
        let Some(Stream::Input { stream, .. }) = self.streams.entry(handle, "stream_read")? else {
            return Ok(());
        };
        let request = Request::PullInput { stream: *stream };
        let (Reply::Input(next), _) = self.request(request, vec![])? else {
            return Err(CallError::Ends(unexpected_reply()));
        };
        let entry = self.streams.entry(handle, "stream_read")?;
        if let Some(Stream::Input { bytes, at, ended, .. }) = entry {
            *ended = next.is_empty();
            (*bytes, *at) = (next, 0);
        }
        Ok(())
    }

    fn pull_shuffle(&mut self, handle: i32) -> Result<(), CallError> {
        let number = match self.streams.entry(handle, "stream_read")? {
            Some(Stream::Shuffle { stream, .. }) => *stream,
            _ => return Ok(()),
        };
        let (reply, descriptors) =
            self.exchange(Request::PullShuffle { stream: number }, vec![])?;
        let Some(Stream::Shuffle { reader, ended, .. }) =
            self.streams.entry(handle, "stream_read")?
        else {
            return Ok(());
        };
        match reply {
            Reply::BlockFiles(files) if files.len() == descriptors.len() => {
                for (block, descriptor) in files.into_iter().zip(descriptors) {
                    reader.add_file(descriptor.into(), block);
                }
            }
            Reply::Blocks(bytes) => reader.add_blocks(bytes),
            Reply::BlocksEnd => *ended = true,
            _ => return Err(CallError::Ends(unexpected_reply())),
        }
        Ok(())
    }

    /// `spill_write`.
    pub(crate) fn spill_write(&mut self, run: i32, bytes: &[u8]) -> Outcome {
        let run = run as u32;
        if run >= RUNS_MAX {
            let text = format!("spill_write: run {run} is over the limit of {RUNS_MAX}");
            return Err(refused(code::LIMIT, text));
        }
        let task = self.only_in_task("spill_write")?;
        let attempt = task.attempt;
        if task.spill.is_none() {
            let file = self.open_sink(Request::OpenSpill(attempt))?;
            let spill = Spill { file, length: 0, runs: BTreeMap::new() };
            self.only_in_task("spill_write")?.spill = Some(spill);
        }
        self.charge(bytes.len() as u64)?;
        let task = self.only_in_task("spill_write")?;
        let spill = task.spill.as_mut().expect("opened above");
        let failed = |error| cannot_write("a spilled run", &error);
        spill.file.write_all_at(bytes, spill.length).map_err(failed)?;
        let extents = spill.runs.entry(run).or_default();
        match extents.last_mut() {
            Some(last) if last.offset + last.length == spill.length => {
                last.length += bytes.len() as u64;
            }
            _ => extents.push(Extent { offset: spill.length, length: bytes.len() as u64 }),
        }
        spill.length += bytes.len() as u64;
        Ok(0)
    }
}
