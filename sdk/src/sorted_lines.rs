//! `Lines::sort`: lines in order of their bytes, without an allocation for each.
//!
//! A reduce task copies its lines into an arena and sorts (first eight bytes as a number, place):
//! most comparisons never look at the line.

use crate::arena::{Arena, Span};
use crate::bytes;
use crate::context;
use crate::error::Error;
use crate::job::Action;
use crate::lines::{LineStream, Lines};
use crate::node::{Edge, Node, Origin};
use crate::record::Record;
use crate::sample::{bounds, range_of, samples_per_partition};
use crate::shuffle::{self, writer_node};
use std::rc::Rc;

/// The lines of a reduce partition, in order.
pub(crate) struct SortedLines {
    arena: Arena,
    order: Vec<(u64, Span)>,
    /// The line after the current one.
    next: usize,
}

impl Lines {
    /// The lines in order of their bytes, over all partitions. Runs a job that takes a sample.
    /// A partition must fit a task's memory.
    #[track_caller]
    pub fn sort(&self) -> Result<Self, Error> {
        self.sort_with_partitions(context::parallelism().max(self.partitions()))
    }

    /// [`sort`](Self::sort) into so many partitions, some of which may be empty.
    #[track_caller]
    pub fn sort_with_partitions(&self, partitions: u32) -> Result<Self, Error> {
        let origin = Origin::here("sort");
        let bounds = self.sample_lines(origin, partitions)?;
        let lines = self.clone();
        let writer = writer_node(origin, partitions, self.node(), move |partition, mut writer| {
            lines.open(partition).drain(&mut |line| {
                let range = range_of(&bounds, |bound| bytes::compare(bound, line));
                writer.write(range, |out| {
                    line.len().encode(out);
                    out.extend_from_slice(line);
                });
            });
            writer.finish();
        });
        let edges = vec![Edge::Shuffle(Rc::clone(&writer))];
        let node = Node::records(origin, partitions, edges);
        Ok(Self::without_index(node, move |reducer| {
            let mut sorted = SortedLines::new();
            shuffle::for_each_bytes(writer.id(), reducer, |line| sorted.add(line));
            sorted.sort();
            Box::new(sorted)
        }))
    }

    fn sample_lines(&self, origin: Origin, partitions: u32) -> Result<Vec<Vec<u8>>, Error> {
        let lines = self.clone();
        let count = samples_per_partition(self.partitions(), partitions);
        let action = Action::new(origin, self.node(), move |partition, out| {
            out.write(|bytes| lines.sample(partition, count).encode(bytes));
        });
        let mut samples = Vec::new();
        action.run(|_, sample: (Vec<Vec<u8>>, u64)| samples.push(sample))?;
        Ok(bounds(samples, partitions, Vec::cmp))
    }
}

// === impl SortedLines ===

impl SortedLines {
    fn new() -> Self {
        Self { arena: Arena::default(), order: Vec::new(), next: 0 }
    }

    #[inline]
    fn add(&mut self, line: &[u8]) {
        let span = self.arena.add(line);
        self.order.push((bytes::prefix(line), span));
    }

    fn sort(&mut self) {
        let arena = &self.arena;
        self.order.sort_unstable_by(|(left, left_span), (right, right_span)| {
            left.cmp(right)
                .then_with(|| bytes::compare(arena.at(*left_span), arena.at(*right_span)))
        });
    }
}

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

#[cfg(test)]
mod tests {
    use super::SortedLines;
    use crate::lines::LineStream;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn like_the_standard_library(
            lines in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..12), 0..60),
            pulled in 0usize..10,
        ) {
            let mut sorted = SortedLines::new();
            lines.iter().for_each(|line| sorted.add(line));
            sorted.sort();
            let mut found = Vec::new();
            for _ in 0..pulled {
                if sorted.advance() {
                    found.push(sorted.line().to_vec());
                }
            }
            Box::new(sorted).drain(&mut |line| found.push(line.to_vec()));
            let mut expected = lines;
            expected.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
