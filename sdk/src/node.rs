//! The lineage graph: nodes with their edges, and what the tasks of a node run.
//!
//! ```text
//!   Dataset ──► Node ──► parents ...        registered with the host by the first action
//!   table: id ──► closure                   what `offshoot_task` runs, for the nodes with tasks
//! ```
//!
//! A node is registered when a job first needs it, so that building a lineage costs no host call
//! and cannot fail. It is dropped at the host when its last handle goes, children first.

use crate::error::Error;
use crate::{host, task};
use core::any::Any;
use core::cell::{Cell, RefCell};
use core::ops::Deref;
use core::panic::Location;
use offshoot_proto::abi::{Dependency, NarrowMap, NodeKind, NodeSpec};
use offshoot_proto::id::NodeId;
use std::rc::Rc;

/// What a task of a node does with its partition.
pub(crate) type Computation = Rc<dyn Fn(u32)>;

/// A node of the graph.
pub(crate) struct Node {
    id: NodeId,
    origin: Origin,
    partitions: u32,
    kind: NodeKind,
    edges: Vec<Edge>,
    registered: Cell<bool>,
    /// By which [`Partitioner`](crate::Partitioner) the keys of its pairs lie where they are.
    partitioner: Option<Rc<dyn Any>>,
}

/// A handle that may be the last one of a long chain: dropped by [`release`].
pub(crate) struct Shared<I: 'static>(
    /// Nothing only while it is dropped.
    Option<Rc<I>>,
);

/// Which operation of the job's source made a node.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    /// The operation's name.
    pub(crate) name: &'static str,
    /// Where the job calls it.
    pub(crate) location: &'static Location<'static>,
}

/// A parent and how it is read.
pub(crate) enum Edge {
    /// In the same task.
    Narrow(Rc<Node>, NarrowMap),
    /// Through a shuffle.
    Shuffle(Rc<Node>),
    /// Blocks of a shuffle that the tasks choose.
    Blocks(Rc<Node>),
}

thread_local! {
    static NEXT_ID: Cell<u32> = const { Cell::new(0) };
    /// In order of ids, which only ever grow. A vector: its code is a tenth of a map's, and every
    /// machine compiles the module.
    static TABLE: RefCell<Vec<(NodeId, Computation)>> = const { RefCell::new(Vec::new()) };
    /// Handles that wait to be dropped, while one is being dropped: see [`release`].
    static RELEASED: RefCell<Option<Vec<Box<dyn Any>>>> = const { RefCell::new(None) };
}

/// What the tasks of a node run.
#[cfg_attr(
    not(any(target_family = "wasm", test)),
    allow(dead_code, reason = "nobody runs tasks of a native program")
)]
pub(crate) fn computation(id: NodeId) -> Option<Computation> {
    TABLE.with_borrow(|table| {
        let place = place_in(table, id)?;
        Some(Rc::clone(&table[place].1))
    })
}

fn place_in(table: &[(NodeId, Computation)], id: NodeId) -> Option<usize> {
    table.binary_search_by_key(&id, |entry| entry.0).ok()
}

/// Drops a handle without recursion, however long the chain of parents behind it: a lineage of
/// ten thousand steps would overflow the guest's stack.
pub(crate) fn release(handle: impl Any) {
    release_boxed(Box::new(handle));
}

#[inline(never)]
fn release_boxed(handle: Box<dyn Any>) {
    let first = RELEASED.with_borrow_mut(|waiting| match waiting {
        Some(waiting) => {
            waiting.push(handle);
            None
        }
        None => {
            *waiting = Some(Vec::new());
            Some(handle)
        }
    });
    let mut next = first;
    while let Some(handle) = next {
        drop(handle);
        next = RELEASED.with_borrow_mut(|waiting| {
            let handle = waiting.as_mut().and_then(Vec::pop);
            if handle.is_none() {
                *waiting = None;
            }
            handle
        });
    }
}

// === impl Shared ===

impl<I: 'static> Shared<I> {
    pub(crate) fn new(inner: I) -> Self {
        Self(Some(Rc::new(inner)))
    }
}

impl<I: 'static> Deref for Shared<I> {
    type Target = I;
    fn deref(&self) -> &I {
        self.0.as_ref().expect("taken only by drop")
    }
}

impl<I: 'static> Clone for Shared<I> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I: 'static> Drop for Shared<I> {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take()
            && Rc::strong_count(&inner) == 1
        {
            release(inner);
        }
    }
}

// === impl Origin ===

impl Origin {
    /// The caller of the operation; every function up to the public one is `#[track_caller]`.
    #[track_caller]
    pub(crate) fn here(name: &'static str) -> Self {
        Self { name, location: Location::caller() }
    }

    /// `file:line`.
    pub(crate) fn source(&self) -> String {
        format!("{}:{}", self.location.file(), self.location.line())
    }
}

// === impl Edge ===

impl Edge {
    /// Child partition `p` reads parent partition `p`.
    #[inline(never)]
    pub(crate) fn one_to_one(parent: &Rc<Node>) -> Vec<Self> {
        vec![Self::Narrow(Rc::clone(parent), NarrowMap::OneToOne)]
    }

    /// The task decides which partitions of the parent it reads.
    pub(crate) fn any(parent: &Rc<Node>) -> Self {
        Self::Narrow(Rc::clone(parent), NarrowMap::Any)
    }

    fn parent(&self) -> &Rc<Node> {
        match self {
            Self::Narrow(parent, _) | Self::Shuffle(parent) | Self::Blocks(parent) => parent,
        }
    }

    fn into_parent(self) -> Rc<Node> {
        match self {
            Self::Narrow(parent, _) | Self::Shuffle(parent) | Self::Blocks(parent) => parent,
        }
    }

    fn dependency(&self) -> Dependency {
        match self {
            Self::Narrow(parent, map) => Dependency::Narrow { parent: parent.id, map: map.clone() },
            Self::Shuffle(writer) => Dependency::Shuffle { writer: writer.id },
            Self::Blocks(writer) => Dependency::Blocks { writer: writer.id },
        }
    }
}

// === impl Node ===

impl Node {
    /// A node of records whose tasks are those of its children.
    pub(crate) fn records(origin: Origin, partitions: u32, edges: Vec<Edge>) -> Rc<Self> {
        Self::new(origin, NodeKind::Records, partitions, edges, None)
    }

    /// [`records`](Self::records) whose keys lie as `partitioner`, a
    /// [`Partitioner`](crate::Partitioner), says.
    pub(crate) fn partitioned(
        origin: Origin,
        partitions: u32,
        edges: Vec<Edge>,
        partitioner: Option<Rc<dyn Any>>,
    ) -> Rc<Self> {
        Self::new(origin, NodeKind::Records, partitions, edges, partitioner)
    }

    #[inline(never)]
    fn new(
        origin: Origin,
        kind: NodeKind,
        partitions: u32,
        edges: Vec<Edge>,
        partitioner: Option<Rc<dyn Any>>,
    ) -> Rc<Self> {
        let id = NodeId(NEXT_ID.replace(NEXT_ID.get() + 1));
        let registered = Cell::new(false);
        Rc::new(Self { id, origin, partitions, kind, edges, registered, partitioner })
    }

    /// A node with tasks of its own.
    #[inline(never)]
    pub(crate) fn with_tasks(
        origin: Origin,
        kind: NodeKind,
        partitions: u32,
        edges: Vec<Edge>,
        computation: Computation,
    ) -> Rc<Self> {
        let node = Self::new(origin, kind, partitions, edges, None);
        TABLE.with_borrow_mut(|table| table.push((node.id, computation)));
        node
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The [`Partitioner`](crate::Partitioner) of its pairs, if it is known.
    pub(crate) fn partitioner(&self) -> Option<&Rc<dyn Any>> {
        self.partitioner.as_ref()
    }

    /// Registers this node and what it depends on, parents first.
    #[inline(never)]
    pub(crate) fn register(self: &Rc<Self>) -> Result<(), Error> {
        let mut path = vec![(Rc::clone(self), 0)];
        while let Some((node, next_edge)) = path.last_mut() {
            if node.registered.get() {
                path.pop();
            } else if let Some(edge) = node.edges.get(*next_edge) {
                *next_edge += 1;
                let parent = Rc::clone(edge.parent());
                path.push((parent, 0));
            } else {
                host::register(&node.spec())?;
                node.registered.set(true);
            }
        }
        Ok(())
    }

    fn spec(&self) -> NodeSpec {
        NodeSpec {
            id: self.id,
            name: self.origin.name.to_owned(),
            source: self.origin.source(),
            partitions: self.partitions,
            kind: self.kind,
            dependencies: self.edges.iter().map(Edge::dependency).collect(),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A fork has no say in the driver's graph.
        if task::current().is_some() {
            return;
        }
        let computation = TABLE.with_borrow_mut(|table| {
            let place = place_in(table, self.id)?;
            Some(table.remove(place).1)
        });
        if self.registered.get() {
            host::drop_node(self.id);
        }
        drop(computation);
        for edge in self.edges.drain(..) {
            release(edge.into_parent());
        }
    }
}
