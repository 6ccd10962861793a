//! Sorted runs of entries, spilled through the host, and their merge.
//!
//! ```text
//!   run    := batches of entries (see [`crate::batch`])
//!   entry  := side: u8, key: length and bytes, payload: length and bytes
//!   order  := rank of the key, key, side, and then the order in which it was written
//! ```
//!
//! Nothing here knows what keys and payloads are, so that this code is there once in a module.
//! The rank is the key's hash where any order will do, its first bytes where it must be theirs.

use super::levels::Levels;
use super::spilled;
use super::tournament::Tournament;
use crate::batch::{Batch, BatchReader, decode_or_fail};
use crate::host::{self, InputStream};
use crate::record::Record;
use crate::task;
use crate::{bytes, external};
use core::cell::Cell;
use core::cmp::Ordering;
use core::ops::Range;
use offshoot_proto::abi::Source;

/// Bytes of a batch of a run: few calls of the host, and as much memory for each run of a merge.
/// Less in tests, so that their small runs have several.
pub(super) const BATCH_BYTES: usize = if cfg!(test) { 200 } else { 64 << 10 };

/// Bytes of the buffer of a run that is read: a batch passes its size by an entry, and the buffer
/// would be doubled for that.
pub(super) const BUFFER_BYTES: usize = BATCH_BYTES + BATCH_BYTES / 2;

thread_local! {
    /// Runs are numbered within a task.
    static NEXT_RUN: Cell<u32> = const { Cell::new(0) };
}

/// What a key is compared by before its bytes; equal keys have equal ranks.
pub(crate) type Rank = fn(&[u8]) -> u64;

/// The runs of one table, in the order in which they were written.
pub(crate) struct Runs {
    levels: Levels,
    rank: Rank,
}

/// A run being written.
pub(crate) struct RunWriter {
    number: u32,
    batch: Batch,
    /// Whether it has an entry: a run without one does not exist for the host.
    begun: bool,
}

/// What lies under a key.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) side: u8,
    pub(crate) key: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// All entries of all runs, in order, lent one after the other.
pub(crate) struct Merge {
    readers: Vec<RunReader>,
    order: Tournament,
    started: bool,
}

struct RunReader {
    batches: BatchReader<InputStream>,
    rank_of: Rank,
    /// Entries of the current batch that are left.
    left: u32,
    /// Where in the batch the next entry begins.
    next: usize,
    rank: u64,
    side: u8,
    key: Range<usize>,
    payload: Range<usize>,
}

/// A number for a run.
pub(crate) fn next_run() -> u32 {
    NEXT_RUN.replace(NEXT_RUN.get() + 1)
}

/// What was written as a run.
pub(crate) fn open_run(number: u32) -> BatchReader<InputStream> {
    BatchReader::new(host::open_in_task(&Source::Spill { run: number }), BUFFER_BYTES)
}

// === impl Runs ===

impl Runs {
    pub(crate) fn new(rank: Rank) -> Self {
        Self { levels: Levels::new(external::merge_bytes()), rank }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Writes a run; `fill` gives the entries in their order.
    #[inline(never)]
    pub(crate) fn write(&mut self, fill: &mut dyn FnMut(&mut RunWriter)) {
        let mut writer = RunWriter::new();
        fill(&mut writer);
        if let Some(number) = writer.finish() {
            let rank = self.rank;
            self.levels.add(number, |tail| make_one(tail, rank));
        }
    }

    /// All entries in order.
    pub(crate) fn merge(&self) -> Merge {
        Merge::of(&self.levels.numbers(), self.rank)
    }
}

/// Merges runs into one.
fn make_one(numbers: &[u32], rank: Rank) -> Option<u32> {
    let mut writer = RunWriter::new();
    let mut merge = Merge::of(numbers, rank);
    while merge.advance() {
        let Entry { side, key, payload } = merge.entry();
        writer.entry(side, key, payload);
    }
    writer.finish()
}

// === impl RunWriter ===

impl RunWriter {
    fn new() -> Self {
        Self { number: next_run(), batch: Batch::default(), begun: false }
    }

    /// Adds an entry. A payload is held in memory when it is read: one of many parts is better
    /// given as several entries.
    pub(crate) fn entry(&mut self, side: u8, key: &[u8], payload: &[u8]) {
        self.begun = true;
        self.batch.add(|out| {
            out.push(side);
            for bytes in [key, payload] {
                bytes.len().encode(out);
                out.extend_from_slice(bytes);
            }
        });
        if self.batch.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.batch.take(|bytes| spilled::write(self.number, bytes));
    }

    /// Its number, unless it is empty.
    fn finish(mut self) -> Option<u32> {
        self.flush();
        self.begun.then_some(self.number)
    }
}

// === impl Merge ===

impl Merge {
    #[inline(never)]
    fn of(numbers: &[u32], rank: Rank) -> Self {
        let open = |number: &u32| RunReader::new(open_run(*number), rank);
        let mut readers: Vec<RunReader> = numbers.iter().map(open).collect();
        let full = (0..).zip(&mut readers).filter_map(|(n, run)| run.advance().then_some(n));
        let full: Vec<u32> = full.collect();
        let order = Tournament::new(full, |a, b| before(&readers, a, b));
        Self { readers, order, started: false }
    }

    /// Goes to the next entry; `false` if there is none.
    pub(crate) fn advance(&mut self) -> bool {
        if core::mem::replace(&mut self.started, true)
            && let Some(current) = self.order.least()
        {
            let more = self.readers[current as usize].advance();
            let less = |a, b| before(&self.readers, a, b);
            match more {
                true => self.order.moved(less),
                false => self.order.ended(less),
            }
        }
        self.order.least().is_some()
    }

    /// The current entry, after [`advance`](Self::advance) said that there is one.
    pub(crate) fn entry(&self) -> Entry<'_> {
        let current = self.order.least().expect("advance said so");
        self.readers[current as usize].entry()
    }
}

fn before(readers: &[RunReader], a: u32, b: u32) -> bool {
    let (left, right) = (&readers[a as usize], &readers[b as usize]);
    let by_rank = left.rank.cmp(&right.rank);
    let order = by_rank.then_with(|| {
        let (left, right) = (left.entry(), right.entry());
        let by_key = bytes::compare(left.key, right.key);
        by_key.then(left.side.cmp(&right.side)).then(a.cmp(&b))
    });
    order == Ordering::Less
}

// === impl RunReader ===

impl RunReader {
    fn new(batches: BatchReader<InputStream>, rank_of: Rank) -> Self {
        let empty = 0..0;
        Self {
            batches,
            rank_of,
            left: 0,
            next: 0,
            rank: 0,
            side: 0,
            key: empty.clone(),
            payload: empty,
        }
    }

    fn advance(&mut self) -> bool {
        while self.left == 0 {
            match self.batches.next() {
                Ok(Some((entries, _))) => (self.left, self.next) = (entries, 0),
                Ok(None) => return false,
                Err(error) => task::fail(format_args!("reading a spilled run: {error}")),
            }
        }
        let batch = self.batches.current();
        let mut input = &batch[self.next..];
        let side = decode_or_fail::<u8>(&mut input);
        let mut part = || {
            let length = decode_or_fail::<usize>(&mut input);
            let begin = batch.len() - input.len();
            let Some(rest) = input.get(length..) else {
                task::fail(format_args!("a spilled run ends within an entry"));
            };
            input = rest;
            begin..begin + length
        };
        (self.key, self.payload) = (part(), part());
        self.side = side;
        self.next = self.payload.end;
        self.left -= 1;
        self.rank = (self.rank_of)(&batch[self.key.clone()]);
        true
    }

    fn entry(&self) -> Entry<'_> {
        let batch = self.batches.current();
        Entry {
            side: self.side,
            key: &batch[self.key.clone()],
            payload: &batch[self.payload.clone()],
        }
    }
}
