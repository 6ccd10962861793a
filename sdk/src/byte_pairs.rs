//! [`BytePairs`]: pairs whose keys are lent byte strings, on their way to a reduction.

use crate::context;
use crate::dataset::Dataset;
use crate::external::aggregate::combined_with;
use crate::lines::{LineStream, Lines};
use crate::node::{Edge, Node, Origin};
use crate::pairs::combining::reduced;
use crate::partitioner::Partitioner;
use crate::record::Record;
use crate::records::Records;
use crate::shuffle::{Combiner, writer_node};
use std::rc::Rc;

/// Pairs made of lines by [`Lines::flat_map_bytes`]. Reducing them by key copies a key once per
/// task, not once per pair: the way to count words.
pub struct BytePairs<V: 'static> {
    node: Rc<Node>,
    lines: Lines,
    emit: Rc<Emit<V>>,
}

type Emit<V> = dyn Fn(&[u8], &mut dyn FnMut(&[u8], V));

/// The pairs of one line after the other, given away.
struct Pairs<V> {
    lines: Box<dyn LineStream>,
    emit: Rc<Emit<V>>,
    ready: std::vec::IntoIter<(Vec<u8>, V)>,
}

/// The encoding of a byte string as a key: what `Vec<u8>` has.
fn encode_key(key: &[u8], out: &mut Vec<u8>) {
    key.len().encode(out);
    out.extend_from_slice(key);
}

// === impl BytePairs ===

impl<V: 'static> BytePairs<V> {
    pub(crate) fn new(
        origin: Origin,
        lines: Lines,
        emit: impl Fn(&[u8], &mut dyn FnMut(&[u8], V)) + 'static,
    ) -> Self {
        let edges = Edge::one_to_one(lines.node());
        Self { node: Node::records(origin, lines.partitions(), edges), lines, emit: Rc::new(emit) }
    }

    /// The pairs with keys of their own.
    #[track_caller]
    pub fn records(&self) -> Dataset<(Vec<u8>, V)> {
        let edges = Edge::one_to_one(&self.node);
        let node = Node::records(Origin::here("records"), self.node.partitions(), edges);
        let (lines, emit) = (self.lines.clone(), Rc::clone(&self.emit));
        Dataset::new(node, move |partition| {
            Records::new(Pairs {
                lines: lines.open(partition),
                emit: Rc::clone(&emit),
                ready: Vec::new().into_iter(),
            })
        })
    }
}

impl<V: Record> BytePairs<V> {
    /// One value for each key.
    #[track_caller]
    pub fn reduce_by_key(&self, combine: impl Fn(V, V) -> V + 'static) -> Dataset<(Vec<u8>, V)> {
        self.reduce_by_key_with_partitions(context::parallelism(), combine)
    }

    /// [`reduce_by_key`](Self::reduce_by_key) into so many partitions.
    #[track_caller]
    pub fn reduce_by_key_with_partitions(
        &self,
        partitions: u32,
        combine: impl Fn(V, V) -> V + 'static,
    ) -> Dataset<(Vec<u8>, V)> {
        let origin = Origin::here("reduce_by_key");
        let combine = Rc::new(combine);
        let (lines, emit) = (self.lines.clone(), Rc::clone(&self.emit));
        let map_side = Rc::clone(&combine);
        let partitioner = Partitioner::hash(partitions);
        let by_key = partitioner.clone();
        let writer = writer_node(origin, partitions, &self.node, move |partition, writer| {
            let mut combiner = Combiner::new(writer, by_key.clone(), &map_side);
            let change = combined_with(&*map_side);
            let mut add = |key: &[u8], value| combiner.update(key, value, &change, encode_key);
            lines.open(partition).drain(&mut |line| emit(line, &mut add));
            combiner.finish(encode_key);
        });
        reduced(origin, partitioner, writer, combine)
    }
}

// === impl Pairs ===

impl<V> Iterator for Pairs<V> {
    type Item = (Vec<u8>, V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(pair) = self.ready.next() {
                return Some(pair);
            }
            if !self.lines.advance() {
                return None;
            }
            let mut pairs = Vec::new();
            (self.emit)(self.lines.line(), &mut |key, value| {
                pairs.push((key.to_vec(), value));
            });
            self.ready = pairs.into_iter();
        }
    }
}
