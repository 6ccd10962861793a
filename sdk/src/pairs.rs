//! Operations by key on a `Dataset<(K, V)>`. Keys are the same if their encodings are.
//!
//! ```text
//!   pairs/narrow        keys, values, map_values, ...
//!   pairs/partitioning  which partition a key is in; sorts
//!   pairs/combining     one value for each key: reduce_by_key, aggregate_by_key, ...
//!   pairs/grouping      all values of each key: group_by_key, cogroup, subtract_by_key
//!   pairs/joins         pairs of values: inner and outer joins, broadcast_join
//! ```
//!
//! Every operation that brings keys together wants its datasets partitioned in one way. A dataset
//! that already is so is read where it is; any other one is shuffled: see [`Side`].

use crate::dataset::Dataset;
use crate::node::{Edge, Node, Origin};
use crate::partitioner::Partitioner;
use crate::record::Record;
use crate::records::Records;
use crate::shuffle::{self, writer_node};
use offshoot_proto::abi::{MapRange, NarrowMap};
use offshoot_proto::id::NodeId;
use std::rc::Rc;

pub(crate) mod combining;
mod grouping;
mod joins;
mod narrow;
mod partitioning;
mod spread;

/// Pairs on their way to where an operation wants them.
pub(crate) enum Side<K: 'static, V: 'static> {
    /// Through a shuffle.
    Shuffled(Rc<Node>),
    /// They are there already.
    Here(Dataset<(K, V)>),
    /// Through a shuffle, but only a part of it.
    Part(Part),
}

/// Some map partitions of a shuffle.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) writer: NodeId,
    pub(crate) maps: MapRange,
}

impl<K: Record, V: 'static> Dataset<(K, V)> {
    /// By which rule the pairs lie in their partitions, if it is known. Spark: `partitioner`.
    pub fn partitioner(&self) -> Option<Partitioner<K>> {
        self.node().partitioner()?.downcast_ref::<Partitioner<K>>().cloned()
    }

    pub(crate) fn has_partitioner(&self, partitioner: &Partitioner<K>) -> bool {
        self.partitioner().as_ref() == Some(partitioner)
    }

    /// What an operation on this dataset alone uses if the job names nothing.
    pub(crate) fn own_or_default_partitioner(&self) -> Partitioner<K> {
        self.partitioner().unwrap_or_else(Partitioner::default_hash)
    }
}

impl<K: Record, V: Record> Dataset<(K, V)> {
    /// What an operation on two datasets uses if the job names nothing: what they have in common,
    /// or what one of them has, or the default.
    pub(crate) fn common_partitioner<W: Record>(&self, other: &Dataset<(K, W)>) -> Partitioner<K> {
        let (here, there) = (self.partitioner(), other.partitioner());
        if here.is_some() && here == there {
            return here.unwrap_or_else(Partitioner::default_hash);
        }
        let general = here.into_iter().chain(there).find(Partitioner::is_general);
        general.unwrap_or_else(Partitioner::default_hash)
    }

    /// These pairs as one side of an operation, which reads them as `partitioner` wants them.
    pub(crate) fn side(&self, origin: Origin, partitioner: &Partitioner<K>) -> Side<K, V> {
        if self.has_partitioner(partitioner) {
            return Side::Here(self.clone());
        }
        Side::Shuffled(self.moved(origin, partitioner))
    }

    /// The shuffle that brings these pairs to where `partitioner` wants them.
    pub(crate) fn moved(&self, origin: Origin, partitioner: &Partitioner<K>) -> Rc<Node> {
        let (pairs, by_key) = (self.clone(), partitioner.clone());
        let reducers = partitioner.partitions();
        writer_node(origin, reducers, self.node(), move |partition, mut writer| {
            let mut encoded = Vec::new();
            pairs.records(partition).for_each(|(key, value)| {
                encoded.clear();
                key.encode(&mut encoded);
                writer.write_pair(by_key.partition_of(&key, &encoded), &encoded, &value);
            });
            writer.finish();
        })
    }
}

/// A node that reads these edges and whose keys lie as the partitioner says.
pub(crate) fn node_by_key<K: Record>(
    origin: Origin,
    partitioner: Partitioner<K>,
    edges: Vec<Edge>,
) -> Rc<Node> {
    Node::partitioned(origin, partitioner.partitions(), edges, Some(Rc::new(partitioner)))
}

// === impl Side ===

impl<K: Record, V: Record> Side<K, V> {
    /// How a node reads it; a part is made in a task, whose node has its edge.
    pub(crate) fn edge(&self) -> Option<Edge> {
        match self {
            Self::Shuffled(writer) => Some(Edge::Shuffle(Rc::clone(writer))),
            Self::Here(pairs) => Some(Edge::Narrow(Rc::clone(pairs.node()), NarrowMap::OneToOne)),
            Self::Part(_) => None,
        }
    }

    /// The pairs of a partition.
    pub(crate) fn records(&self, partition: u32) -> Records<(K, V)> {
        match self {
            Self::Shuffled(writer) => Records::new(shuffle::read(writer.id(), partition)),
            Self::Here(pairs) => pairs.records(partition),
            Self::Part(Part { writer, maps }) => {
                Records::new(shuffle::read_blocks(*writer, partition, *maps))
            }
        }
    }

    /// The encodings of key and value of every pair.
    pub(crate) fn for_each_encoded(&self, partition: u32, each: &mut dyn FnMut(&[u8], &[u8])) {
        match self {
            Self::Shuffled(writer) => {
                shuffle::for_each_encoded::<K, V>(writer.id(), partition, each);
            }
            Self::Part(Part { writer, maps }) => {
                shuffle::for_each_encoded_block::<K, V>(*writer, partition, *maps, each);
            }
            Self::Here(pairs) => {
                let mut encoded = Vec::new();
                pairs.records(partition).for_each(|(key, value)| {
                    encoded.clear();
                    key.encode(&mut encoded);
                    let key_bytes = encoded.len();
                    value.encode(&mut encoded);
                    let (key, value) = encoded.split_at(key_bytes);
                    each(key, value);
                });
            }
        }
    }
}
