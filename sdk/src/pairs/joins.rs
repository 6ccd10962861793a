//! Joins: pairs of values with the same key, of two datasets.
//!
//! ```text
//!   both sides where the partitioner wants them (a shuffle each, or none)
//!     inner join   this side in memory, the other passes by; both spilled if this does not fit
//!     outer joins  all values of a key at once, from cogroup
//!   broadcast_join: the other side in the memory of main, so in every fork; nothing is moved
//! ```

#![allow(clippy::type_complexity, reason = "a record's type says what an operation makes")]

use crate::batch::decode_or_fail;
use crate::bytes;
use crate::dataset::Dataset;
use crate::error::Error;
use crate::external::groups::{Chunks, Cursor, Groups};
use crate::hash::hash_bytes;
use crate::key_table::KeyTable;
use crate::node::Origin;
use crate::pairs::{Side, node_by_key};
use crate::partitioner::Partitioner;
use crate::record::Record;
use crate::records::Records;
use core::marker::PhantomData;
use std::rc::Rc;

/// Values here, and some of those there, of one key.
struct Matches<K, V, W> {
    key: K,
    here: Rc<[V]>,
    there: Vec<W>,
}

/// The matches of the pairs that pass by with those that are held. Nothing is allocated for a pair.
struct Passing<K: 'static, V, W: 'static> {
    groups: Groups<2>,
    there: Records<(K, W)>,
    /// The pair that passes, and which of the values held comes next for it.
    current: Option<(K, W, Cursor)>,
    encoded: Vec<u8>,
    kind: PhantomData<fn() -> V>,
}

/// The matches of two sides in chunks, so that the values of a hot key there never have to be in
/// memory at once.
struct JoinedChunks<K, V, W> {
    chunks: Chunks<2>,
    key: Option<Vec<u8>>,
    /// The values here of the key, once the first chunk of the other side has come.
    here: Rc<[V]>,
    kind: PhantomData<fn() -> (K, W)>,
}

/// The inner join of a partition.
fn join_partition<K, V, W>(
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
        let (there, encoded) = (there.records(partition), Vec::new());
        let kind = PhantomData;
        return Records::new(Passing { groups, there, current: None, encoded, kind });
    }
    there.for_each_encoded(partition, &mut |key, value| groups.add(1, key, value));
    let joined = JoinedChunks::<K, V, W>::new(groups.into_chunks());
    Records::new(joined.flat_map(|Matches { key, here, there }| {
        there.into_iter().flat_map(move |there| {
            let (key, here) = (key.clone(), Rc::clone(&here));
            (0..here.len()).map(move |n| (key.clone(), (here[n].clone(), there.clone())))
        })
    }))
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
        let edges = vec![here.edge(), there.edge()];
        Dataset::new(node_by_key(origin, partitioner, edges), move |partition| {
            join_partition(&here, &there, partition)
        })
    }

    /// [`join`](Self::join), and every value here whose key is not there. Spark: `leftOuterJoin`.
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
        self.paired(origin, other, |here, there| product(here, &optional(there)))
    }

    /// [`join`](Self::join), and every value there whose key is not here. Spark:
    /// `rightOuterJoin`.
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
        self.paired(origin, other, |here, there| product(optional(here), &there))
    }

    /// [`join`](Self::join), and every value of either dataset whose key the other has not.
    /// Spark: `fullOuterJoin`.
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
        self.paired(origin, other, |here, there| product(optional(here), &optional(there)))
    }

    /// Pairs that `pair` makes of all values of each key.
    fn paired<W: Record, P: 'static>(
        &self,
        origin: Origin,
        other: &Dataset<(K, W)>,
        pair: impl Fn(Vec<V>, Vec<W>) -> Vec<P> + Copy + 'static,
    ) -> Dataset<(K, P)>
    where
        K: Clone,
    {
        let both = self.cogrouped_with(origin, other, self.common_partitioner(other));
        both.narrow_keeping_keys(origin, move |_, records| {
            Records::new(records.flat_map(move |(key, (here, there))| {
                pair(here, there).into_iter().map(move |pair| (key.clone(), pair))
            }))
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

/// Every value, or the one that stands for none.
fn optional<V>(values: Vec<V>) -> Vec<Option<V>> {
    if values.is_empty() { vec![None] } else { values.into_iter().map(Some).collect() }
}

fn product<A: Clone, B: Clone>(left: Vec<A>, right: &[B]) -> Vec<(A, B)> {
    let row = |left: A| right.iter().map(move |right| (left.clone(), right.clone()));
    left.into_iter().flat_map(row).collect()
}

// === impl Passing, JoinedChunks ===

impl<K: Record + Clone, V: Record, W: Clone> Iterator for Passing<K, V, W> {
    type Item = (K, (V, W));

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, there, cursor)) = &mut self.current
                && let Some(here) = self.groups.take(cursor)
            {
                return Some((key.clone(), (here, there.clone())));
            }
            let (key, there) = self.there.next()?;
            self.encoded.clear();
            key.encode(&mut self.encoded);
            let cursor = self.groups.find(0, &self.encoded);
            self.current = Some((key, there, cursor));
        }
    }
}

impl<K, V, W> JoinedChunks<K, V, W> {
    fn new(chunks: Chunks<2>) -> Self {
        Self { chunks, key: None, here: Rc::new([]), kind: PhantomData }
    }
}

impl<K: Record, V: Record, W: Record> Iterator for JoinedChunks<K, V, W> {
    type Item = Matches<K, V, W>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut here = Vec::new();
        while self.chunks.advance() {
            let chunk = self.chunks.chunk();
            if !self.key.as_ref().is_some_and(|key| bytes::equal(key, chunk.key)) {
                self.key = Some(chunk.key.to_vec());
                self.here = Rc::new([]);
                here.clear();
            }
            if chunk.side == 0 {
                here.extend(chunk.decode::<V>());
                continue;
            }
            if !here.is_empty() {
                self.here = core::mem::take(&mut here).into();
            }
            if !self.here.is_empty() {
                let key = decode_or_fail(&mut &chunk.key[..]);
                let there = chunk.decode().collect();
                return Some(Matches { key, here: Rc::clone(&self.here), there });
            }
        }
        None
    }
}
