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
use crate::node::Origin;
use crate::pairs::{Side, node_by_key};
use crate::partitioner::Partitioner;
use crate::record::Record;
use crate::records::Records;
use core::marker::PhantomData;
use std::rc::Rc;

/// The matches of the pairs that pass by with those that are held. Nothing is allocated for a pair.
struct Passing<K: 'static, V, W: 'static> {
    groups: Groups<2>,
    there: Records<(K, W)>,
    /// The pair that passes, and which of the values held comes next for it.
    current: Option<(K, W, Cursor)>,
    encoded: Vec<u8>,
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
        let (there, encoded) = (there.records(partition), Vec::new());
        let kind = PhantomData;
        return Records::new(Passing { groups, there, current: None, encoded, kind });
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
