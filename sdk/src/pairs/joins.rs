//! Joins: pairs of values with the same key, of two datasets.
//!
//! ```text
//!   both sides where the partitioner wants them (a shuffle each, or none)
//!     inner join   this side in memory, the other passes by; both spilled if this does not fit
//!     outer joins  of each key the values of this side in memory, those of the other pass by
//!   broadcast_join: the other side in the memory of main, so in every fork; nothing is moved
//! ```

#![allow(clippy::type_complexity, reason = "a record's type says what an operation makes")]

use crate::dataset::Dataset;
use crate::error::Error;
use crate::external::groups::{Cursor, Groups};
use crate::external::joined::{Joined, Matches, Outer};
use crate::hash::hash_bytes;
use crate::key_table::KeyTable;
use crate::key_table::ahead::TOGETHER;
use crate::node::Origin;
use crate::pairs::{Side, node_by_key};
use crate::partitioner::Partitioner;
use crate::record::Record;
use crate::records::Records;
use core::iter::{self, Fuse};
use core::marker::PhantomData;
use core::mem::needs_drop;
use std::collections::VecDeque;
use std::rc::Rc;

/// Most bytes of the pairs that pass by together, and the last of them.
const PASSING_BYTES: usize = 64 << 10;

/// The matches of the pairs that pass by with those that are held. Nothing is allocated for a pair.
struct Passing<K: 'static, V, W: 'static> {
    groups: Groups<2>,
    there: Fuse<Records<(K, W)>>,
    /// The pairs that pass next, and which of the values held comes next for each.
    next: VecDeque<(K, W, Cursor)>,
    /// Their keys' encodings, and where each ends.
    encoded: Vec<u8>,
    ends: Vec<usize>,
    kind: PhantomData<fn() -> V>,
}

/// The inner join of a partition.
pub(crate) fn join_partition<K, V, W>(
    here: &Side<K, V>,
    there: &Side<K, W>,
    partition: u32,
) -> Records<(K, (V, W))>
where
    K: Record + Clone,
    V: Record + Clone,
    W: Record + Clone,
{
    let mut groups = Groups::<2>::new();
    here.for_each_encoded(partition, &mut |key, value| groups.add(0, key, value));
    if groups.is_held() {
        return Records::new(Passing::new(groups, there.records(partition)));
    }
    there.for_each_encoded(partition, &mut |key, value| groups.add(1, key, value));
    let inner = Outer { here: false, there: false };
    Records::new(pairs_of(Joined::new(groups.into_chunks(), inner), |here, there| {
        Some((here?, there?))
    }))
}

/// The pairs that `pair` makes of every two values that belong to each other.
fn pairs_of<K, V, W, P>(
    joined: Joined<K, V, W>,
    pair: impl Fn(Option<V>, Option<W>) -> Option<P> + Copy + 'static,
) -> impl Iterator<Item = (K, P)>
where
    K: Record + Clone,
    V: Record + Clone,
    W: Record + Clone,
{
    joined.flat_map(move |Matches { key, here, there }| {
        there.into_iter().flat_map(move |there| {
            let (key, here) = (key.clone(), Rc::clone(&here));
            (0..here.len()).filter_map(move |n| {
                let pair = pair(here[n].clone(), there.clone())?;
                Some((key.clone(), pair))
            })
        })
    })
}

impl<K: Record, V: Record> Dataset<(K, V)> {
    /// Every pair of a value here and a value there with the same key. The values of this side are
    /// held in memory as long as they fit, those of the other pass by: put the larger one there.
    /// Two datasets with the same partitioner are joined where they are. Spark: `join`.
    #[track_caller]
    pub fn join<W: Record + Clone>(&self, other: &Dataset<(K, W)>) -> Dataset<(K, (V, W))>
    where
        K: Clone,
        V: Clone,
    {
        self.joined(Origin::here("join"), other, self.common_partitioner(other))
    }

    /// [`join`](Self::join) into so many partitions.
    #[track_caller]
    pub fn join_with_partitions<W: Record + Clone>(
        &self,
        other: &Dataset<(K, W)>,
        partitions: u32,
    ) -> Dataset<(K, (V, W))>
    where
        K: Clone,
        V: Clone,
    {
        self.joined(Origin::here("join"), other, Partitioner::hash(partitions))
    }

    /// [`join`](Self::join), partitioned as given.
    #[track_caller]
    pub fn join_with_partitioner<W: Record + Clone>(
        &self,
        other: &Dataset<(K, W)>,
        partitioner: &Partitioner<K>,
    ) -> Dataset<(K, (V, W))>
    where
        K: Clone,
        V: Clone,
    {
        self.joined(Origin::here("join"), other, partitioner.clone())
    }

    fn joined<W: Record + Clone>(
        &self,
        origin: Origin,
        other: &Dataset<(K, W)>,
        partitioner: Partitioner<K>,
    ) -> Dataset<(K, (V, W))>
    where
        K: Clone,
        V: Clone,
    {
        let (here, there) = (self.side(origin, &partitioner), other.side(origin, &partitioner));
        let edges = here.edge().into_iter().chain(there.edge()).collect();
        Dataset::new(node_by_key(origin, partitioner, edges), move |partition| {
            join_partition(&here, &there, partition)
        })
    }

    /// [`join`](Self::join), and every value here whose key is not there. The values of one key of
    /// this side must fit a task's memory, those of the other need not. Spark: `leftOuterJoin`.
    #[track_caller]
    pub fn left_outer_join<W: Record + Clone>(
        &self,
        other: &Dataset<(K, W)>,
    ) -> Dataset<(K, (V, Option<W>))>
    where
        K: Clone,
        V: Clone,
    {
        let origin = Origin::here("left_outer_join");
        let outer = Outer { here: true, there: false };
        self.paired(origin, other, outer, |here, there| Some((here?, there)))
    }

    /// [`join`](Self::join), and every value there whose key is not here. What must fit is
    /// as in [`left_outer_join`](Self::left_outer_join). Spark: `rightOuterJoin`.
    #[track_caller]
    pub fn right_outer_join<W: Record + Clone>(
        &self,
        other: &Dataset<(K, W)>,
    ) -> Dataset<(K, (Option<V>, W))>
    where
        K: Clone,
        V: Clone,
    {
        let origin = Origin::here("right_outer_join");
        let outer = Outer { here: false, there: true };
        self.paired(origin, other, outer, |here, there| Some((here, there?)))
    }

    /// [`join`](Self::join), and every value of either dataset whose key the other has not.
    /// What must fit is as in [`left_outer_join`](Self::left_outer_join). Spark: `fullOuterJoin`.
    #[track_caller]
    pub fn full_outer_join<W: Record + Clone>(
        &self,
        other: &Dataset<(K, W)>,
    ) -> Dataset<(K, (Option<V>, Option<W>))>
    where
        K: Clone,
        V: Clone,
    {
        let origin = Origin::here("full_outer_join");
        let outer = Outer { here: true, there: true };
        self.paired(origin, other, outer, |here, there| Some((here, there)))
    }

    /// Pairs that `pair` makes of every two values that belong to each other.
    fn paired<W: Record + Clone, P: 'static>(
        &self,
        origin: Origin,
        other: &Dataset<(K, W)>,
        outer: Outer,
        pair: impl Fn(Option<V>, Option<W>) -> Option<P> + Copy + 'static,
    ) -> Dataset<(K, P)>
    where
        K: Clone,
        V: Clone,
    {
        self.joined_chunks(origin, other, self.common_partitioner(other), move |chunks| {
            Records::new(pairs_of(Joined::new(chunks, outer), pair))
        })
    }

    /// [`join`](Self::join) with a dataset that fits the driver's memory: runs a job that collects
    /// it, and then every task finds it in its fork. Nothing is shuffled, and the partitions stay
    /// as they are. The table is there as long as the result is. Spark: a join with a `broadcast`
    /// variable.
    #[track_caller]
    pub fn broadcast_join<W: Record + Clone>(
        &self,
        small: &Dataset<(K, W)>,
    ) -> Result<Dataset<(K, (V, W))>, Error>
    where
        K: Clone,
        V: Clone,
    {
        let origin = Origin::here("broadcast_join");
        let mut table = KeyTable::<Vec<W>>::new();
        let mut encoded = Vec::new();
        for (key, value) in small.collect()? {
            encoded.clear();
            key.encode(&mut encoded);
            table.entry(&encoded, hash_bytes(&encoded), Vec::new).push(value);
        }
        let table = Rc::new(table);
        Ok(self.narrow_keeping_keys(origin, move |_, records| {
            let (table, mut encoded) = (Rc::clone(&table), Vec::new());
            Records::new(records.flat_map(move |(key, here)| {
                encoded.clear();
                key.encode(&mut encoded);
                let there = table.lookup(&encoded, hash_bytes(&encoded)).cloned();
                let there = there.unwrap_or_default().into_iter();
                there.map(move |there| (key.clone(), (here.clone(), there)))
            }))
        }))
    }
}

// === impl Passing ===

impl<K: Record, V, W: Record> Passing<K, V, W> {
    fn new(groups: Groups<2>, there: Records<(K, W)>) -> Self {
        let (next, encoded, ends) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { groups, there: there.fuse(), next, encoded, ends, kind: PhantomData }
    }

    /// Lets some pairs come, and finds what is held for them; `false` if none is left.
    fn refill(&mut self) -> bool {
        self.encoded.clear();
        self.ends.clear();
        let mut bytes = 0;
        while self.next.len() < self.groups.together() && bytes < PASSING_BYTES {
            let Some((key, value)) = self.there.next() else { break };
            key.encode(&mut self.encoded);
            self.ends.push(self.encoded.len());
            bytes += match key.heap_bytes() + value.heap_bytes() {
                // It has something that it does not tell of, perhaps.
                0 if needs_drop::<(K, W)>() => PASSING_BYTES / 4,
                bytes => bytes,
            };
            self.next.push_back((key, value, Cursor::END));
        }
        let starts = iter::once(&0).chain(&self.ends);
        let keys = starts.zip(&self.ends).map(|(start, end)| &self.encoded[*start..*end]);
        let mut cursors = [Cursor::END; TOGETHER];
        self.groups.find_all(0, keys, &mut cursors[..self.next.len()]);
        for (passing, cursor) in self.next.iter_mut().zip(cursors) {
            passing.2 = cursor;
        }
        !self.next.is_empty()
    }
}

impl<K: Record + Clone, V: Record, W: Record + Clone> Iterator for Passing<K, V, W> {
    type Item = (K, (V, W));

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some((key, there, cursor)) = self.next.front_mut() {
                let Some(here) = self.groups.take(cursor) else {
                    self.next.pop_front();
                    continue;
                };
                if !cursor.is_at_end() {
                    return Some((key.clone(), (here, there.clone())));
                }
                let (key, there, _) = self.next.pop_front()?;
                return Some((key, (here, there)));
            }
            if !self.refill() {
                return None;
            }
        }
    }
}
