//! The reduce side: one stream of bytes out of files and blocks, in the order they come.

use super::{ChunkError, ChunkHeader, chunk, unpack};
use offshoot_proto::block::Extent;
use offshoot_proto::link::BlockFile;
use offshoot_proto::outcome::TaskFailure;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How much of a file is read at a time: at least one chunk.
const READ_BYTES: usize = 1 << 20;

/// Why the stream ends early.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// A block on this machine is gone or damaged: the failure names whose.
    Fetch(TaskFailure),
    /// The owner sent what is no chunk.
    Chunk(ChunkError),
}

/// Unpacks blocks, from files of this machine or as the owner sent them.
#[derive(Debug, Default)]
pub(crate) struct BlockReader {
    files: VecDeque<(File, BlockFile)>,
    /// Packed bytes and how much of them is used.
    packed: Vec<u8>,
    packed_at: usize,
    /// Unpacked bytes and how much of them is used.
    raw: Vec<u8>,
    raw_at: usize,
}

impl BlockReader {
    pub(crate) fn add_file(&mut self, file: File, block: BlockFile) {
        self.files.push_back((file, block));
    }

    pub(crate) fn add_blocks(&mut self, bytes: Vec<u8>) {
        debug_assert!(self.files.is_empty() && self.packed_at == self.packed.len());
        self.packed = bytes;
        self.packed_at = 0;
    }

    /// Fills `out` as far as what is here reaches; 0 means that more must be added.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize, ReadError> {
        let mut filled = 0;
        while filled < out.len() {
            if self.raw_at == self.raw.len() && !self.next_chunk()? {
                break;
            }
            let count = (out.len() - filled).min(self.raw.len() - self.raw_at);
            out[filled..filled + count]
                .copy_from_slice(&self.raw[self.raw_at..self.raw_at + count]);
            filled += count;
            self.raw_at += count;
        }
        Ok(filled)
    }

    fn next_chunk(&mut self) -> Result<bool, ReadError> {
        if !self.has_whole_chunk()? {
            return Ok(false);
        }
        let result = chunk(&self.packed[self.packed_at..]).and_then(|(header, body)| {
            unpack(header, body, &mut self.raw)?;
            Ok(header.total())
        });
        self.packed_at += result.map_err(|error| self.failed(error))?;
        self.raw_at = 0;
        Ok(true)
    }

    /// Makes sure that a whole chunk is packed, if there is one.
    fn has_whole_chunk(&mut self) -> Result<bool, ReadError> {
        loop {
            let rest = &self.packed[self.packed_at..];
            let whole = match ChunkHeader::read(rest) {
                Some(Ok(header)) => rest.len() >= header.total(),
                Some(Err(error)) => return Err(self.failed(error)),
                None => false,
            };
            if whole {
                return Ok(true);
            }
            if !self.refill()? {
                let present = self.packed.len() - self.packed_at;
                if present == 0 {
                    return Ok(false);
                }
                return Err(self.failed(ChunkError::Truncated { present, expected: present + 1 }));
            }
        }
    }

    /// Reads more of the current file. False when all files are read.
    fn refill(&mut self) -> Result<bool, ReadError> {
        while let Some((_, block)) = self.files.front_mut() {
            while block.extents.first().is_some_and(|extent| extent.length == 0) {
                block.extents.remove(0);
            }
            let Some(extent) = block.extents.first_mut() else {
                let partial = self.packed_at < self.packed.len();
                if partial {
                    return Ok(false);
                }
                self.files.pop_front();
                continue;
            };
            let count = READ_BYTES.min(extent.length as usize);
            let offset = extent.offset;
            *extent =
                Extent { offset: offset + count as u64, length: extent.length - count as u64 };
            self.packed.drain(..self.packed_at);
            self.packed_at = 0;
            let start = self.packed.len();
            self.packed.resize(start + count, 0);
            let (file, _) = &self.files[0];
            if let Err(error) = file.read_exact_at(&mut self.packed[start..], offset) {
                return Err(self.unreadable(&error));
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn failed(&self, error: ChunkError) -> ReadError {
        match self.files.front() {
            Some((_, block)) => ReadError::Fetch(with_reason(&block.failure, error.to_string())),
            None => ReadError::Chunk(error),
        }
    }

    fn unreadable(&self, error: &io::Error) -> ReadError {
        let (_, block) = &self.files[0];
        ReadError::Fetch(with_reason(&block.failure, error.to_string()))
    }
}

fn with_reason(failure: &TaskFailure, text: String) -> TaskFailure {
    let mut failure = failure.clone();
    if let TaskFailure::FetchFailed { reason, .. } = &mut failure {
        *reason = text;
    }
    failure
}
