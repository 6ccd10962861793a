//! `Lines::sort`: lines in order of their bytes, without an allocation for each.
//!
//! A reduce task copies its lines into an arena and sorts (first eight bytes as a number, place):
//! most comparisons never look at the line. What does not fit goes to sorted runs.

use crate::arena::{Arena, Span};
use crate::bytes;
use crate::context;
use crate::external::Room;
use crate::external::runs::{Merge, Runs};
use crate::gather::gather;
use crate::lines::{LineStream, Lines};
use crate::node::{Edge, Node, Origin};
use crate::ranges::{Ranges, cuts};
use crate::record::Record;
use crate::sample::samples_per_partition;
use crate::shuffle::{self, ShuffleWriter, writer_node_reading};
use std::rc::Rc;

/// Lines of a reduce partition, to be sorted.
struct LineBuffer {
    arena: Arena,
    order: Vec<(u64, Span)>,
    /// Bytes of the lines.
    bytes: usize,
    room: Room,
    runs: Runs,
}

/// The lines of a reduce partition, in order.
struct SortedLines {
    arena: Arena,
    order: Vec<(u64, Span)>,
    /// The line after the current one.
    next: usize,
}

/// The lines of sorted runs.
struct MergedLines {
    merge: Merge,
    /// How many have come.
    passed: u64,
}

impl Lines {
    /// The lines in order of their bytes, over all partitions. A sample is taken first, as a
    /// stage of the same job; a line that is there very often is in several partitions.
    #[track_caller]
    pub fn sort(&self) -> Self {
        self.sort_with_partitions(context::parallelism().max(self.partitions()))
    }

    /// [`sort`](Self::sort) into so many partitions, some of which may be empty.
    #[track_caller]
    pub fn sort_with_partitions(&self, partitions: u32) -> Self {
        let origin = Origin::here("sort");
        let (sampled, lines) = (self.clone(), self.clone());
        let count = samples_per_partition(self.partitions(), partitions);
        let sample = move |partition| sampled.sample(partition, count);
        let merge = move |samples| cuts(samples, partitions, Vec::<u8>::cmp);
        let cuts = gather(origin, self.node(), sample, merge);
        let mut edges = Edge::one_to_one(self.node());
        edges.push(cuts.edge());
        let write = move |partition, mut writer: ShuffleWriter| {
            let mut ranges = Ranges::<Vec<u8>>::new(cuts.read(), partition);
            lines.open(partition).drain(&mut |line| {
                let range = ranges.range_of(|bound| bytes::compare(bound, line));
                writer.write(range, |out| {
                    line.len().encode(out);
                    out.extend_from_slice(line);
                });
            });
            writer.finish();
        };
        let writer = writer_node_reading(origin, partitions, self.partitions(), edges, write);
        let edges = vec![Edge::Shuffle(Rc::clone(&writer))];
        let node = Node::records(origin, partitions, edges);
        Self::without_index(node, move |reducer| {
            let mut buffer = LineBuffer::new();
            shuffle::for_each_bytes(writer.id(), reducer, |line| buffer.add(line));
            buffer.into_lines()
        })
    }
}

// === impl LineBuffer ===

impl LineBuffer {
    fn new() -> Self {
        let (room, runs) = (Room::of_lines(), Runs::new(bytes::prefix));
        Self { arena: Arena::default(), order: Vec::new(), bytes: 0, room, runs }
    }

    #[inline]
    fn add(&mut self, line: &[u8]) {
        let span = self.arena.add(line);
        self.order.push((bytes::prefix(line), span));
        self.bytes += line.len() + 3 * size_of::<(u64, Span)>();
        if self.bytes > self.room.bytes() {
            self.spill();
        }
    }

    fn into_lines(mut self) -> Box<dyn LineStream> {
        if self.runs.is_empty() {
            self.sort();
            return Box::new(SortedLines { arena: self.arena, order: self.order, next: 0 });
        }
        self.spill();
        Box::new(MergedLines { merge: self.runs.merge(), passed: 0 })
    }

    fn sort(&mut self) {
        let arena = &self.arena;
        self.order.sort_unstable_by(|(left, left_span), (right, right_span)| {
            left.cmp(right)
                .then_with(|| bytes::compare(arena.at(*left_span), arena.at(*right_span)))
        });
    }

    #[cold]
    #[inline(never)]
    fn spill(&mut self) {
        self.sort();
        let (arena, order) = (&self.arena, &self.order);
        self.runs.write(&mut |run| {
            order.iter().for_each(|(_, span)| run.entry(0, arena.at(*span), &[]));
        });
        (self.bytes, self.arena) = (0, Arena::default());
        self.order.clear();
    }
}

// === impl SortedLines, MergedLines ===

impl LineStream for SortedLines {
    fn advance(&mut self) -> bool {
        let more = self.next < self.order.len();
        self.next += usize::from(more);
        more
    }

    fn line(&self) -> &[u8] {
        self.arena.at(self.order[self.next - 1].1)
    }

    fn drain(self: Box<Self>, sink: &mut dyn FnMut(&[u8])) {
        for (_, span) in &self.order[self.next..] {
            sink(self.arena.at(*span));
        }
    }

    fn place(&self) -> String {
        format!("line {} of a sorted partition", self.next)
    }
}

impl LineStream for MergedLines {
    fn advance(&mut self) -> bool {
        let more = self.merge.advance();
        self.passed += u64::from(more);
        more
    }

    fn line(&self) -> &[u8] {
        self.merge.entry().key
    }

    fn drain(mut self: Box<Self>, sink: &mut dyn FnMut(&[u8])) {
        while self.advance() {
            sink(self.line());
        }
    }

    fn place(&self) -> String {
        format!("line {} of a sorted partition", self.passed)
    }
}

#[cfg(test)]
mod tests {
    use super::LineBuffer;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn like_the_standard_library(
            lines in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..12), 0..60),
            pulled in 0usize..10,
        ) {
            let mut buffer = LineBuffer::new();
            lines.iter().for_each(|line| buffer.add(line));
            let mut sorted = buffer.into_lines();
            let mut found = Vec::new();
            for _ in 0..pulled {
                if sorted.advance() {
                    found.push(sorted.line().to_vec());
                }
            }
            sorted.drain(&mut |line| found.push(line.to_vec()));
            let mut expected = lines;
            expected.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
