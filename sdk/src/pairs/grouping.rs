//! All values of each key, of one dataset or of several.

#![allow(clippy::type_complexity, reason = "a record's type says what an operation makes")]

use crate::dataset::Dataset;
use crate::external::groups::{Chunks, Cogrouped, Groups, Sides};
use crate::external::joined::Unmatched;
use crate::node::{Edge, Origin};
use crate::pairs::{Side, node_by_key};
use crate::partitioner::Partitioner;
use crate::record::Record;
use crate::records::Records;
use std::rc::Rc;

/// A side with its type forgotten: an edge, and encoded pairs for a partition.
pub(crate) struct Feed {
    edge: Option<Edge>,
    feed: Rc<FeedEach>,
}

type FeedEach = dyn Fn(u32, &mut dyn FnMut(&[u8], &[u8]));

impl Feed {
    pub(crate) fn of<K: Record, V: Record>(side: Side<K, V>) -> Self {
        let edge = side.edge();
        Self { edge, feed: Rc::new(move |partition, each| side.for_each_encoded(partition, each)) }
    }
}

/// The values of all keys of all feeds.
pub(crate) fn cogrouped<K: Record, S: Sides, const N: usize>(
    origin: Origin,
    partitioner: Partitioner<K>,
    feeds: [Feed; N],
) -> Dataset<(K, S)> {
    let mut edges = Vec::new();
    let feeds = feeds.map(|feed| {
        edges.extend(feed.edge);
        feed.feed
    });
    Dataset::new(node_by_key(origin, partitioner, edges), move |partition| {
        Records::new(Cogrouped::new(chunks(&feeds, partition)))
    })
}

fn chunks<const N: usize>(feeds: &[Rc<FeedEach>; N], partition: u32) -> Chunks<N> {
    let mut groups = Groups::new();
    for (side, feed) in feeds.iter().enumerate() {
        feed(partition, &mut |key, value| groups.add(side, key, value));
    }
    groups.into_chunks()
}

impl<K: Record, V: Record> Dataset<(K, V)> {
    /// All values of each key, in the order of the dataset. Those of one key must fit a task's
    /// memory; where they are combined anyway, `reduce_by_key` moves far less. Spark:
    /// `groupByKey`.
    #[track_caller]
    pub fn group_by_key(&self) -> Dataset<(K, Vec<V>)> {
        self.grouped(Origin::here("group_by_key"), self.own_or_default_partitioner())
    }

    /// [`group_by_key`](Self::group_by_key) into so many partitions.
    #[track_caller]
    pub fn group_by_key_with_partitions(&self, partitions: u32) -> Dataset<(K, Vec<V>)> {
        self.grouped(Origin::here("group_by_key"), Partitioner::hash(partitions))
    }

    /// [`group_by_key`](Self::group_by_key), partitioned as given.
    #[track_caller]
    pub fn group_by_key_with_partitioner(
        &self,
        partitioner: &Partitioner<K>,
    ) -> Dataset<(K, Vec<V>)> {
        self.grouped(Origin::here("group_by_key"), partitioner.clone())
    }

    pub(crate) fn grouped(
        &self,
        origin: Origin,
        partitioner: Partitioner<K>,
    ) -> Dataset<(K, Vec<V>)> {
        let feeds = [self.feed(origin, &partitioner)];
        let groups: Dataset<(K, (Vec<V>,))> = cogrouped(origin, partitioner, feeds);
        groups.narrow_keeping_keys(origin, |_, records| {
            Records::new(records.map(|(key, (values,))| (key, values)))
        })
    }

    pub(crate) fn feed(&self, origin: Origin, partitioner: &Partitioner<K>) -> Feed {
        Feed::of(self.side(origin, partitioner))
    }

    /// Every key of either dataset, with all its values here and there. Spark: `cogroup`,
    /// `groupWith`.
    #[track_caller]
    pub fn cogroup<W: Record>(&self, other: &Dataset<(K, W)>) -> Dataset<(K, (Vec<V>, Vec<W>))> {
        self.cogrouped_with(Origin::here("cogroup"), other, self.common_partitioner(other))
    }

    /// [`cogroup`](Self::cogroup), partitioned as given.
    #[track_caller]
    pub fn cogroup_with_partitioner<W: Record>(
        &self,
        other: &Dataset<(K, W)>,
        partitioner: &Partitioner<K>,
    ) -> Dataset<(K, (Vec<V>, Vec<W>))> {
        self.cogrouped_with(Origin::here("cogroup"), other, partitioner.clone())
    }

    pub(crate) fn cogrouped_with<W: Record>(
        &self,
        origin: Origin,
        other: &Dataset<(K, W)>,
        partitioner: Partitioner<K>,
    ) -> Dataset<(K, (Vec<V>, Vec<W>))> {
        let feeds = [self.feed(origin, &partitioner), other.feed(origin, &partitioner)];
        cogrouped(origin, partitioner, feeds)
    }

    /// [`cogroup`](Self::cogroup) of three datasets.
    #[track_caller]
    pub fn cogroup3<W: Record, X: Record>(
        &self,
        second: &Dataset<(K, W)>,
        third: &Dataset<(K, X)>,
    ) -> Dataset<(K, (Vec<V>, Vec<W>, Vec<X>))> {
        let (origin, by) = (Origin::here("cogroup"), self.common_partitioner(second));
        let feeds = [self.feed(origin, &by), second.feed(origin, &by), third.feed(origin, &by)];
        cogrouped(origin, by, feeds)
    }

    /// [`cogroup`](Self::cogroup) of four datasets.
    #[track_caller]
    pub fn cogroup4<W: Record, X: Record, Y: Record>(
        &self,
        second: &Dataset<(K, W)>,
        third: &Dataset<(K, X)>,
        fourth: &Dataset<(K, Y)>,
    ) -> Dataset<(K, (Vec<V>, Vec<W>, Vec<X>, Vec<Y>))> {
        let (origin, by) = (Origin::here("cogroup"), self.common_partitioner(second));
        let feeds = [
            self.feed(origin, &by),
            second.feed(origin, &by),
            third.feed(origin, &by),
            fourth.feed(origin, &by),
        ];
        cogrouped(origin, by, feeds)
    }

    /// The pairs whose keys the other dataset has not. Spark: `subtractByKey`.
    #[track_caller]
    pub fn subtract_by_key<W: Record>(&self, other: &Dataset<(K, W)>) -> Self
    where
        K: Clone,
    {
        let origin = Origin::here("subtract_by_key");
        let keys = other.narrow_keeping_keys(origin, |_, records| {
            Records::new(records.map(|(key, _)| (key, ())))
        });
        self.subtracted(origin, &keys, self.common_partitioner(other))
    }

    pub(crate) fn subtracted(
        &self,
        origin: Origin,
        keys: &Dataset<(K, ())>,
        partitioner: Partitioner<K>,
    ) -> Self
    where
        K: Clone,
    {
        keys.joined_chunks(origin, self, partitioner, |chunks| {
            Records::new(Unmatched::<K, V>::new(chunks).flat_map(|(key, values)| {
                values.into_iter().map(move |value| (key.clone(), value))
            }))
        })
    }

    /// What `make` makes of the values of this dataset and of another one.
    pub(crate) fn joined_chunks<W: Record, P: 'static>(
        &self,
        origin: Origin,
        other: &Dataset<(K, W)>,
        partitioner: Partitioner<K>,
        make: impl Fn(Chunks<2>) -> Records<(K, P)> + 'static,
    ) -> Dataset<(K, P)> {
        let (here, there) = (self.feed(origin, &partitioner), other.feed(origin, &partitioner));
        let feeds = [here.feed, there.feed];
        let edges = here.edge.into_iter().chain(there.edge).collect();
        Dataset::new(node_by_key(origin, partitioner, edges), move |partition| {
            make(chunks(&feeds, partition))
        })
    }
}
