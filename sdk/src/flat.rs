//! Kept partitions of plain types: the values one after the other as they lie in memory.
//!
//! ```text
//!   write ──► the values' bytes ──► host keeps them ──┬─► mapped into the task: a slice
//!                                                     └─► read as a stream, a buffer at a time
//! ```

use crate::host::{self, InputStream, STREAM_BUFFER_BYTES};
use crate::raw::plain::Plain;
use crate::record::Record;
use crate::records::Records;
use crate::task;
use offshoot_proto::abi::{MapRange, Source};
use offshoot_proto::id::NodeId;
use std::io::Read;

/// Bytes that are written at a time.
const WRITE_BYTES: usize = 64 << 10;

/// Values that are read.
struct Reader<T> {
    stream: InputStream,
    plain: Plain<T>,
    buffer: Vec<T>,
    at: usize,
    end: usize,
}

/// How many values go into so many bytes.
fn values_in<T>(bytes: usize) -> usize {
    (bytes / size_of::<T>()).max(1)
}

/// Writes a partition.
pub(crate) fn write<T: Record>(plain: Plain<T>, records: Records<T>) {
    if let Some(values) = records.as_slice() {
        return plain.bytes(values).chunks(WRITE_BYTES).for_each(|b| host::write_shuffle(0, b));
    }
    let room = values_in::<T>(WRITE_BYTES);
    let mut waiting = Vec::with_capacity(room);
    records.for_each(|record| {
        waiting.push(record);
        if waiting.len() == room {
            host::write_shuffle(0, plain.bytes(&waiting));
            waiting.clear();
        }
    });
    if !waiting.is_empty() {
        host::write_shuffle(0, plain.bytes(&waiting));
    }
}

/// A partition that was written so.
pub(crate) fn read<T: Record>(plain: Plain<T>, writer: NodeId, map: u32) -> Records<T> {
    let mapped = host::map_block(writer, map).and_then(|bytes| plain.values(bytes));
    if let Some(values) = mapped {
        return Records::of_slice(values, plain);
    }
    let maps = MapRange { first: map, count: 1 };
    let stream = host::open_in_task(&Source::Blocks { writer, reducer: 0, maps });
    let buffer = plain.zeroed(values_in::<T>(STREAM_BUFFER_BYTES));
    Records::new(Reader { stream, plain, buffer, at: 0, end: 0 })
}

// === impl Reader ===

impl<T> Reader<T> {
    /// Reads as many values as there is room for; false at the end.
    fn refill(&mut self) -> bool {
        let bytes = self.plain.bytes_mut(&mut self.buffer);
        let mut filled = 0;
        while filled < bytes.len() {
            match self.stream.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) => task::fail(format_args!("reading kept records: {error}")),
            }
        }
        if !filled.is_multiple_of(size_of::<T>()) {
            task::fail(format_args!("kept records: the last one ends too early"));
        }
        (self.at, self.end) = (0, filled / size_of::<T>());
        filled > 0
    }
}

impl<T> Iterator for Reader<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.at == self.end && !self.refill() {
            return None;
        }
        let value = self.plain.copy(&self.buffer[self.at]);
        self.at += 1;
        Some(value)
    }

    fn fold<A, F: FnMut(A, T) -> A>(mut self, initial: A, mut step: F) -> A {
        let mut state = initial;
        loop {
            for value in &self.buffer[self.at..self.end] {
                state = step(state, self.plain.copy(value));
            }
            if !self.refill() {
                return state;
            }
        }
    }
}
