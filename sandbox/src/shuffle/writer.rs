//! The map side: one buffer a reducer, one file, reducers in order within each flush. A block that
//! is to be kept in memory is written flat: what its task wrote, and the headers behind that.

use super::append_chunk;
use super::flat::{append_header, flat_extents};
use offshoot_proto::block::{Extent, ShuffleIndex};
use offshoot_proto::limits::SHUFFLE_CHUNK_BYTES;
use std::fs::File;
use std::io::{self, Write};

/// Raw and compressed bytes that one task's writer holds before it flushes.
const BUFFER_BYTES_MAX: usize = 32 << 20;

/// Collects what a map task writes.
#[derive(Debug)]
pub(crate) struct ShuffleWriter {
    reducers: Vec<Reducer>,
    /// Of a flat block, the headers of the chunks so far.
    headers: Option<Vec<u8>>,
    held: usize,
    written: u64,
    digest: crc32fast::Hasher,
    out: Vec<u8>,
}

#[derive(Debug, Default)]
struct Reducer {
    raw: Vec<u8>,
    chunks: Vec<u8>,
    extents: Vec<Extent>,
}

impl ShuffleWriter {
    /// For so many reducers; `packed` if chunks are compressed. What is not, for one reducer, is
    /// written flat.
    pub(crate) fn new(reducers: u32, packed: bool) -> Self {
        debug_assert!(packed || reducers == 1);
        Self {
            headers: (!packed).then(Vec::new),
            reducers: (0..reducers).map(|_| Reducer::default()).collect(),
            held: 0,
            written: 0,
            digest: crc32fast::Hasher::new(),
            out: Vec::new(),
        }
    }

    pub(crate) fn reducers(&self) -> usize {
        self.reducers.len()
    }

    /// Adds bytes for a reducer. True if [`flush`](Self::flush) should follow.
    pub(crate) fn push(&mut self, reducer: usize, mut bytes: &[u8]) -> bool {
        self.digest.update(&(reducer as u32).to_le_bytes());
        self.digest.update(bytes);
        let Self { reducers, headers, .. } = self;
        let Reducer { raw, chunks, .. } = &mut reducers[reducer];
        let mut append = |body: &[u8], chunks: &mut Vec<u8>| append(headers, body, chunks);
        let before = raw.len() + chunks.len();
        while raw.len() + bytes.len() >= SHUFFLE_CHUNK_BYTES {
            let (now, later) = bytes.split_at(SHUFFLE_CHUNK_BYTES - raw.len());
            if raw.is_empty() {
                append(now, chunks);
            } else {
                raw.extend_from_slice(now);
                append(raw, chunks);
                raw.clear();
            }
            bytes = later;
        }
        raw.extend_from_slice(bytes);
        self.held = self.held + raw.len() + chunks.len() - before;
        self.held > BUFFER_BYTES_MAX
    }

    /// Makes chunks of everything that is held; how many bytes [`flush`](Self::flush) will write.
    pub(crate) fn seal(&mut self) -> u64 {
        let mut bytes = 0;
        let Self { reducers, headers, .. } = self;
        for reducer in reducers {
            if !reducer.raw.is_empty() {
                append(headers, &reducer.raw, &mut reducer.chunks);
                reducer.raw.clear();
            }
            bytes += reducer.chunks.len() as u64;
        }
        bytes
    }

    /// Writes everything that is held, reducer by reducer.
    pub(crate) fn flush(&mut self, file: &mut File) -> io::Result<()> {
        self.seal();
        self.out.clear();
        for reducer in &mut self.reducers {
            if reducer.chunks.is_empty() {
                continue;
            }
            let length = reducer.chunks.len() as u64;
            reducer.extents.push(Extent { offset: self.written, length });
            self.written += length;
            self.out.append(&mut reducer.chunks);
            if self.out.len() >= 1 << 20 {
                file.write_all(&self.out)?;
                self.out.clear();
            }
        }
        self.held = 0;
        file.write_all(&self.out)
    }

    /// Writes what comes behind everything else.
    pub(crate) fn end(&mut self, file: &mut File) -> io::Result<()> {
        let Some(headers) = &self.headers else { return Ok(()) };
        file.write_all(headers)?;
        self.reducers[0].extents = flat_extents(headers, self.written);
        self.written += headers.len() as u64;
        Ok(())
    }

    /// How many bytes [`end`](Self::end) will write.
    pub(crate) fn headers_bytes(&self) -> u64 {
        self.headers.as_ref().map_or(0, |headers| headers.len() as u64)
    }

    /// Whether there is anything to write or written.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0 && self.written == 0
    }

    /// The index of what was flushed, and the digest of what was pushed.
    pub(crate) fn finish(self) -> (ShuffleIndex, u32) {
        let reducers = self.reducers.into_iter().map(|reducer| reducer.extents).collect();
        (ShuffleIndex { reducers, data_bytes: self.written }, self.digest.finalize())
    }
}

/// Adds a chunk, or, of a flat block, its body.
fn append(headers: &mut Option<Vec<u8>>, body: &[u8], chunks: &mut Vec<u8>) {
    match headers {
        Some(headers) => {
            append_header(body, headers);
            chunks.extend_from_slice(body);
        }
        None => append_chunk(body, chunks),
    }
}
