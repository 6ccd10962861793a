//! Records in batches: the form of shuffle streams and of collected results.
//!
//! ```text
//!   batch := records: u32 LE, bytes: u32 LE, then the records' encodings one after the other
//! ```
//!
//! A stream is any number of batches. No host call, no length and no check per record: a reader
//! takes a whole batch into its buffer and decodes from there.

use crate::record::{Malformed, Record};
use crate::task;
use core::marker::PhantomData;
use core::ops::Range;
use std::io::{self, Read};

const HEADER_BYTES: usize = 8;

/// A batch being filled.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    records: u32,
}

/// Reads batches from a stream of bytes.
pub(crate) struct BatchReader<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    chunk_bytes: usize,
    /// The batch handed out last.
    batch: Range<usize>,
}

/// The records of a stream of batches.
pub(crate) struct RecordReader<T, R> {
    batches: BatchReader<R>,
    /// What is left of the batch before `batches.start`.
    records_left: u32,
    bytes_left: usize,
    kind: PhantomData<fn() -> T>,
}

// === impl Batch ===

impl Batch {
    /// Adds one record, which `encode` appends.
    #[inline]
    pub(crate) fn add(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(&[0; HEADER_BYTES]);
        }
        encode(&mut self.bytes);
        self.records += 1;
    }

    /// Its length in bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Hands out the finished batch, if there is a record in it, and starts the next.
    pub(crate) fn take(&mut self, write: impl FnOnce(&[u8])) {
        if self.records == 0 {
            return;
        }
        let bytes = u32::try_from(self.bytes.len() - HEADER_BYTES)
            .expect("a guest's memory is below 4 GiB");
        self.bytes[..4].copy_from_slice(&self.records.to_le_bytes());
        self.bytes[4..HEADER_BYTES].copy_from_slice(&bytes.to_le_bytes());
        write(&self.bytes);
        self.bytes.clear();
        self.records = 0;
    }
}

// === impl BatchReader ===

impl<R: Read> BatchReader<R> {
    pub(crate) fn new(input: R, chunk_bytes: usize) -> Self {
        Self { input, buffer: Vec::new(), start: 0, end: 0, chunk_bytes, batch: 0..0 }
    }

    /// The next batch: its number of records, and their bytes.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u32, &[u8])>> {
        if !self.advance_to(HEADER_BYTES)? {
            return match self.end - self.start {
                0 => Ok(None),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        let header = &self.buffer[self.start..];
        let (records, bytes) = (read_u32(header), read_u32(&header[4..]) as usize);
        self.start += HEADER_BYTES;
        if !self.advance_to(bytes)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let batch = self.start..self.start + bytes;
        self.start = batch.end;
        self.batch = batch.clone();
        Ok(Some((records, &self.buffer[batch])))
    }

    /// The batch that [`next`](Self::next) answered last.
    #[inline]
    pub(crate) fn current(&self) -> &[u8] {
        &self.buffer[self.batch.clone()]
    }

    /// Reads until `count` bytes are there; `false` at the end of the stream.
    fn advance_to(&mut self, count: usize) -> io::Result<bool> {
        while self.end - self.start < count {
            if self.start + count.max(self.chunk_bytes) > self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
                // By doubling, so that a length is not believed before its bytes are there.
                let wanted = count.min((self.end * 2).max(self.chunk_bytes));
                let size = wanted.max(self.chunk_bytes).max(self.buffer.len());
                self.buffer.resize(size.max(self.end + 1), 0);
            }
            match self.input.read(&mut self.buffer[self.end..])? {
                0 => return Ok(false),
                length => self.end += length,
            }
        }
        Ok(true)
    }
}

fn read_u32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

// === impl RecordReader ===

impl<T: Record, R: Read> RecordReader<T, R> {
    pub(crate) fn new(batches: BatchReader<R>) -> Self {
        Self { batches, records_left: 0, bytes_left: 0, kind: PhantomData }
    }
}

impl<T: Record, R: Read> Iterator for RecordReader<T, R> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        while self.records_left == 0 {
            let (records, bytes) = next_or_fail(&mut self.batches)?;
            let length = bytes.len();
            (self.records_left, self.bytes_left) = (records, length);
        }
        let end = self.batches.start;
        let mut input = &self.batches.buffer[end - self.bytes_left..end];
        let record = decode_or_fail(&mut input);
        self.bytes_left = input.len();
        self.records_left -= 1;
        Some(record)
    }
}

/// The records of batches that are all there: a collected result.
pub(crate) fn decode_batches<T: Record>(
    mut bytes: &[u8],
    mut each: impl FnMut(T),
) -> Result<(), Malformed> {
    while !bytes.is_empty() {
        // The lengths are the writer's; a wrong one shows as a record that does not decode.
        let (header, mut input) = bytes.split_at(HEADER_BYTES.min(bytes.len()));
        for _ in 0..read_u32(header) {
            each(T::decode(&mut input)?);
        }
        bytes = input;
    }
    Ok(())
}

/// Every batch of a shuffle stream; what cannot be read ends the task.
pub(crate) fn for_each_batch<R: Read>(
    mut batches: BatchReader<R>,
    mut each: impl FnMut(u32, &mut &[u8]),
) {
    while let Some((records, mut bytes)) = next_or_fail(&mut batches) {
        each(records, &mut bytes);
    }
}

fn next_or_fail<R: Read>(batches: &mut BatchReader<R>) -> Option<(u32, &[u8])> {
    batches.next().unwrap_or_else(|error| task::fail(format_args!("reading records: {error}")))
}

/// Decodes, or ends the task.
#[inline]
pub(crate) fn decode_or_fail<T: Record>(input: &mut &[u8]) -> T {
    T::decode(input).unwrap_or_else(|error| task::fail(format_args!("shuffle data: {error}")))
}

/// The bytes of one record's encoding, which the input moves past; or ends the task.
#[inline]
pub(crate) fn skip_or_fail<'a, T: Record>(input: &mut &'a [u8]) -> &'a [u8] {
    let before = *input;
    if let Err(error) = T::skip(input) {
        task::fail(format_args!("shuffle data: {error}"));
    }
    &before[..before.len() - input.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{Batch, BatchReader, RecordReader};
    use crate::record::Record;
    use proptest::prelude::*;
    use std::io::{self, Read};

    /// Hands out at most so many bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let limit = buffer.len().min(self.1);
            self.0.read(&mut buffer[..limit])
        }
    }

    fn stream(records: &[Vec<u8>], batch_bytes: usize) -> Vec<u8> {
        let mut stream = Vec::new();
        let mut batch = Batch::default();
        for record in records {
            batch.add(|out| record.encode(out));
            if batch.len() >= batch_bytes {
                batch.take(|bytes| stream.extend_from_slice(bytes));
            }
        }
        batch.take(|bytes| stream.extend_from_slice(bytes));
        batch.take(|_| panic!("an empty batch is not written"));
        stream
    }

    proptest! {
        #[test]
        fn records_come_back(
            records: Vec<Vec<u8>>, batch in 1usize..64, step in 1usize..40, chunk in 1usize..64,
        ) {
            let stream = stream(&records, batch);
            let read = RecordReader::new(BatchReader::new(Slow(&stream, step), chunk));
            prop_assert_eq!(read.collect::<Vec<Vec<u8>>>(), records);
        }
    }

    #[test]
    fn a_record_larger_than_the_buffer() {
        let records = vec![vec![1; 10], vec![2; 3 << 20], vec![], vec![3; 5]];
        let stream = stream(&records, 256);
        let read = RecordReader::new(BatchReader::new(Slow(&stream, 100_000), 4096));
        assert!(read.collect::<Vec<Vec<u8>>>() == records);
    }

    #[test]
    fn records_without_bytes_are_counted() {
        let mut stream = Vec::new();
        let mut batch = Batch::default();
        (0..3).for_each(|_| batch.add(|out| ().encode(out)));
        batch.take(|bytes| stream.extend_from_slice(bytes));
        assert_eq!(RecordReader::<(), _>::new(BatchReader::new(&stream[..], 64)).count(), 3);
    }

    #[test]
    fn an_end_within_a_batch_is_an_error() {
        let stream = stream(&[vec![1; 10], vec![2; 10]], 1000);
        for end in 1..stream.len() {
            let mut batches = BatchReader::new(&stream[..end], 64);
            assert!(batches.next().is_err(), "{end} bytes");
        }
        let lying = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 9];
        let mut batches = BatchReader::new(&lying[..], 64);
        assert!(batches.next().is_err());
        assert!(batches.buffer.len() < 4096, "the length was believed");
    }
}
