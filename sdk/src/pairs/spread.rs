//! Joins whose hot partitions are divided among several tasks.
//!
//! ```text
//!   here  ══ shuffle ═══════════════════════════════════════╗
//!   there ══ shuffle, and how much went to each reducer ══╗ ║
//!                 └─► one task: the pieces ──────────────┐║ ║
//!                                                        ▼▼ ▼
//!                        task p joins piece p: some map partitions of a reducer there,
//!                                              all of them here
//! ```
//!
//! Nobody has to guess: what is hot is known from what the shuffle wrote, before the join runs.

use crate::context;
use crate::dataset::Dataset;
use crate::node::{Edge, Node, Origin};
use crate::pairs::joins::join_partition;
use crate::pairs::{Part, Side};
use crate::partitioner::Partitioner;
use crate::record::Record;
use crate::records::Records;
use crate::shuffle::{self, writer_node, writer_node_reading};
use core::ops::Range;
use offshoot_proto::abi::MapRange;
use std::rc::Rc;

/// A reducer whose data is more than so many times the mean is divided.
const HOT: u64 = 2;

/// A reducer, the first of its map partitions and how many.
type Piece = (u32, u32, u32);

impl<K: Record + Clone, V: Record + Clone> Dataset<(K, V)> {
    /// [`join`](Self::join) with a dataset that has very many pairs of some keys: a partition of
    /// `other` with more than twice the mean is divided by the partitions that it comes from among
    /// several tasks, each of which has all pairs of this side with these keys. A small stage
    /// between the shuffles and the join decides, from what was written.
    ///
    /// What comes out has twice as many partitions, some of them empty, and no partitioner: a key
    /// is in several of them. Spark: the skew joins of adaptive execution, for datasets.
    #[track_caller]
    pub fn join_spread<W: Record + Clone>(&self, other: &Dataset<(K, W)>) -> Dataset<(K, (V, W))> {
        self.spread(Origin::here("join_spread"), other, context::parallelism())
    }

    /// [`join_spread`](Self::join_spread) over so many partitions; twice as many come out.
    #[track_caller]
    pub fn join_spread_with_partitions<W: Record + Clone>(
        &self,
        other: &Dataset<(K, W)>,
        partitions: u32,
    ) -> Dataset<(K, (V, W))> {
        self.spread(Origin::here("join_spread"), other, partitions)
    }

    fn spread<W: Record + Clone>(
        &self,
        origin: Origin,
        other: &Dataset<(K, W)>,
        reducers: u32,
    ) -> Dataset<(K, (V, W))> {
        let by_key = Partitioner::hash(reducers);
        let here = self.moved(origin, &by_key);
        let there = measured(origin, other, &by_key);
        let pieces = pieces_of(origin, &there, reducers);
        let all_here = MapRange { first: 0, count: self.partitions() };
        let edges = [&here, &there, &pieces].map(|writer| Edge::Blocks(Rc::clone(writer)));
        let node = Node::records(origin, reducers.saturating_mul(2), edges.into());
        Dataset::new(node, move |partition| {
            let mut pieces = shuffle::read_block::<Piece>(pieces.id(), 0);
            let Some((reducer, first, count)) = pieces.nth(partition as usize) else {
                return Records::new(core::iter::empty());
            };
            let here = Part { writer: here.id(), maps: all_here };
            let there = Part { writer: there.id(), maps: MapRange { first, count } };
            join_partition(&Side::Part(here), &Side::Part(there), reducer)
        })
    }
}

/// A shuffle whose last reducer gets from each map task how many bytes it wrote for the others.
fn measured<K: Record, W: Record>(
    origin: Origin,
    pairs: &Dataset<(K, W)>,
    by_key: &Partitioner<K>,
) -> Rc<Node> {
    let (pairs, by_key, reducers) = (pairs.clone(), by_key.clone(), by_key.partitions());
    let node = Rc::clone(pairs.node());
    writer_node(origin, reducers.saturating_add(1), &node, move |partition, mut writer| {
        let (mut encoded, mut sizes) = (Vec::new(), vec![0u64; reducers as usize]);
        pairs.records(partition).for_each(|(key, value)| {
            encoded.clear();
            key.encode(&mut encoded);
            let reducer = by_key.partition_of(&key, &encoded);
            value.encode(&mut encoded);
            sizes[reducer as usize] += encoded.len() as u64;
            writer.write(reducer, |out| out.extend_from_slice(&encoded));
        });
        writer.write(reducers, |out| sizes.encode(out));
        writer.finish();
    })
}

/// The one task that looks at the sizes of all map tasks.
fn pieces_of(origin: Origin, there: &Rc<Node>, reducers: u32) -> Rc<Node> {
    let (writer, maps) = (there.id(), MapRange { first: 0, count: there.partitions() });
    let edges = vec![Edge::Blocks(Rc::clone(there))];
    writer_node_reading(origin, 1, 1, edges, move |_, mut out| {
        let sizes: Vec<Vec<u64>> = shuffle::read_blocks(writer, reducers, maps).collect();
        for piece in pieces(&sizes, reducers) {
            out.write(0, |bytes| piece.encode(bytes));
        }
        out.finish();
    })
}

/// What the tasks of the join read, of the bytes that each map partition wrote for each reducer.
/// No more than twice as many pieces as reducers: none but the last of a reducer has less than
/// the mean of all reducers, as far as map partitions can be divided.
fn pieces(sizes: &[Vec<u64>], reducers: u32) -> Vec<Piece> {
    let of = |map: usize, reducer: u32| sizes[map].get(reducer as usize).copied().unwrap_or(0);
    let total_of = |reducer| (0..sizes.len()).map(|map| of(map, reducer)).sum::<u64>();
    let totals: Vec<u64> = (0..reducers).map(total_of).collect();
    let mean = totals.iter().sum::<u64>().div_ceil(u64::from(reducers.max(1))).max(1);
    let mut pieces = Vec::new();
    for (reducer, total) in (0..).zip(totals) {
        let mut add = |maps: Range<usize>| {
            pieces.push((reducer, maps.start as u32, maps.len() as u32));
        };
        let (mut first, mut bytes) = (0, 0);
        for map in 0..sizes.len() {
            bytes += of(map, reducer);
            if total > HOT * mean && bytes >= mean {
                add(first..map + 1);
                (first, bytes) = (map + 1, 0);
            }
        }
        if first < sizes.len() {
            add(first..sizes.len());
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::pieces;
    use proptest::prelude::*;

    #[test]
    fn what_is_hot_is_divided() {
        // Reducer 1 has 60 of 80 bytes; the mean is 20.
        let sizes = [vec![5, 10, 0, 5], vec![0, 30, 5, 0], vec![0, 20, 5, 0]];
        let expected = [(0, 0, 3), (1, 0, 2), (1, 2, 1), (2, 0, 3), (3, 0, 3)];
        assert_eq!(pieces(&sizes, 4), expected);
        assert_eq!(pieces(&[], 4), []);
    }

    proptest! {
        #[test]
        fn everything_is_read_once(
            sizes in (1usize..6).prop_flat_map(|reducers| {
                let map = proptest::collection::vec(0u64..100, reducers);
                proptest::collection::vec(map, 0..20)
            }),
        ) {
            let reducers = sizes.first().map_or(1, Vec::len) as u32;
            let pieces = pieces(&sizes, reducers);
            prop_assert!(pieces.len() <= 2 * reducers as usize);
            let read: Vec<(u32, u32)> = pieces
                .iter()
                .flat_map(|(reducer, first, count)| (*first..first + count).map(|m| (*reducer, m)))
                .collect();
            let all = (0..reducers).flat_map(|r| (0..sizes.len() as u32).map(move |m| (r, m)));
            prop_assert_eq!(read, all.collect::<Vec<_>>());
        }
    }
}
