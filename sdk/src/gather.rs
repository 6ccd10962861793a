//! Something small of every partition, brought together and given to every task that follows, as
//! stages of the same job.
//!
//! ```text
//!   partition 0 ──summarize──┐                        ┌──► task 0
//!   partition 1 ──summarize──┼──► one task: merge ────┼──► task 1
//!   partition 2 ──summarize──┘                        └──► task 2
//! ```
//!
//! What a range partitioner takes its bounds from, and what numbers records over all partitions.

use crate::node::{Edge, Node, Origin};
use crate::record::Record;
use crate::shuffle::{self, writer_node};
use crate::task;
use core::marker::PhantomData;
use std::rc::Rc;

/// What was made of all partitions.
pub(crate) struct Gathered<R> {
    writer: Rc<Node>,
    kind: PhantomData<fn() -> R>,
}

/// Makes one `R` of all partitions of `parent`.
pub(crate) fn gather<S: Record, R: Record>(
    origin: Origin,
    parent: &Rc<Node>,
    summarize: impl Fn(u32) -> S + 'static,
    merge: impl Fn(Vec<S>) -> R + 'static,
) -> Gathered<R> {
    let summaries = writer_node(origin, 1, parent, move |partition, mut writer| {
        writer.write(0, |out| summarize(partition).encode(out));
        writer.finish();
    });
    let one = Node::records(origin, 1, vec![Edge::Shuffle(Rc::clone(&summaries))]);
    let writer = writer_node(origin, 1, &one, move |_, mut writer| {
        let merged = merge(shuffle::read(summaries.id(), 0).collect());
        writer.write(0, |out| merged.encode(out));
        writer.finish();
    });
    Gathered { writer, kind: PhantomData }
}

// === impl Gathered ===

impl<R: Record> Gathered<R> {
    /// To be among the edges of the node whose tasks [`read`](Self::read) it.
    pub(crate) fn edge(&self) -> Edge {
        Edge::Blocks(Rc::clone(&self.writer))
    }

    /// What was made, in a task of that node.
    pub(crate) fn read(&self) -> R {
        let mut all = shuffle::read_block(self.writer.id(), 0);
        all.next().unwrap_or_else(|| task::fail(format_args!("a gathered value is missing")))
    }
}
