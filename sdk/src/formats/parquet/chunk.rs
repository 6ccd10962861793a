//! Parts of a file in memory, for the reader of pages.

use crate::formats::files;
use crate::host::InputStream;
use bytes::{Buf, Bytes, buf::Reader};
use core::ops::Range;
use offshoot_proto::abi::InputFile;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use std::io::{self, Read};

/// What is read of a file's end at once: its footer, unless that is large.
const TAIL_BYTES: u64 = 64 << 10;

/// A gap that is read over rather than opening the file again behind it.
const GAP_BYTES: u64 = 256 << 10;

/// Bytes of a file from some offset on.
#[derive(Clone)]
pub(crate) struct Chunk {
    pub(crate) base: u64,
    pub(crate) bytes: Bytes,
    /// Of the file.
    length: u64,
}

/// Reads ranges of a file, the next one behind the last.
pub(crate) struct Ranges<'a> {
    file: &'a InputFile,
    open: Option<(InputStream, u64)>,
}

// === impl Chunk ===

impl Chunk {
    pub(crate) fn new(base: u64, bytes: Bytes, length: u64) -> Self {
        Self { base, bytes, length }
    }

    fn slice(&self, start: u64) -> Result<Bytes> {
        let at = start.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        let at = at.filter(|at| *at <= self.bytes.len());
        at.map(|at| self.bytes.slice(at..)).ok_or_else(|| outside(start))
    }
}

fn outside(start: u64) -> ParquetError {
    ParquetError::EOF(format!("it points to byte {start}, where nothing of it can be"))
}

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Chunk {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        self.slice(start).map(Buf::reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let rest = self.slice(start)?;
        if rest.len() < length {
            return Err(outside(start + length as u64));
        }
        Ok(rest.slice(..length))
    }
}

// === impl Ranges ===

impl<'a> Ranges<'a> {
    pub(crate) fn new(file: &'a InputFile) -> Self {
        Self { file, open: None }
    }

    /// The bytes of a range, all of them.
    pub(crate) fn read(&mut self, range: Range<u64>) -> io::Result<Bytes> {
        if range.end > self.file.length || range.start > range.end {
            let (Range { start, end }, length) = (range, self.file.length);
            let text = format!("it points to bytes {start} to {end}, and has {length}");
            return Err(io::Error::other(text));
        }
        let near = |at: u64| at <= range.start && range.start - at <= GAP_BYTES;
        let (mut stream, at) = match self.open.take() {
            Some((stream, at)) if near(at) => (stream, at),
            _ => (files::open_raw(self.file, range.start), range.start),
        };
        io::copy(&mut stream.by_ref().take(range.start - at), &mut io::sink())?;
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        stream.by_ref().take(range.end - range.start).read_to_end(&mut bytes)?;
        if range.start + (bytes.len() as u64) < range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.open = Some((stream, range.end));
        Ok(bytes.into())
    }
}

/// The footer of a file.
pub(crate) fn metadata(file: &InputFile) -> Result<ParquetMetaData> {
    let mut tail_bytes = TAIL_BYTES;
    loop {
        let base = file.length.saturating_sub(tail_bytes);
        let bytes = Ranges::new(file).read(base..file.length);
        let bytes = bytes.map_err(|error| ParquetError::General(error.to_string()))?;
        let mut reader = ParquetMetaDataReader::new();
        let tail = Chunk::new(0, bytes, file.length - base);
        match reader.try_parse_sized(&tail, file.length) {
            Ok(()) => return reader.finish(),
            Err(ParquetError::NeedMoreData(needed)) if needed as u64 > tail_bytes => {
                if needed as u64 > file.length {
                    return Err(ParquetError::EOF(format!(
                        "its footer says that it has {needed} bytes, and the file has {}",
                        file.length
                    )));
                }
                tail_bytes = needed as u64;
            }
            Err(error) => return Err(error),
        }
    }
}
