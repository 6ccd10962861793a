//! The lineage graph: nodes as the guest registered them, checked, and for how long they stay.
//!
//! A node stays after the guest has dropped it while a node that reads it is here or a job
//! computes it.

use offshoot_proto::abi::{Dependency, NarrowMap, NodeKind, NodeSpec};
use offshoot_proto::id::NodeId;
use offshoot_proto::limits::{
    DEPENDENCIES_MAX, NODE_NAME_BYTES_MAX, NODES_MAX, PARTITIONS_MAX, REPLICAS_MAX,
};
use std::collections::BTreeMap;

/// The graph.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: BTreeMap<NodeId, Node>,
    /// Counts walks; a node that bears the current number has been seen.
    walks: u64,
}

#[derive(Debug)]
struct Node {
    spec: NodeSpec,
    /// Edges from nodes that read it.
    readers: u32,
    /// Jobs that compute it.
    jobs: u32,
    dropped: bool,
    seen_in: u64,
}

/// A kept dataset that tasks read: their partition `first + p` its map partition `p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeptInput {
    pub(super) writer: NodeId,
    pub(super) first: u32,
    pub(super) partitions: u32,
}

/// Why a node cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Ids are unique.
    #[error("node {node} is registered already; every dataset registers under an id of its own")]
    Duplicate {
        /// The id.
        node: NodeId,
    },
    /// The driver's memory is bounded.
    #[error("node {node}: {limit} nodes are alive, the limit; drop datasets that are not needed")]
    TooManyNodes {
        /// The id.
        node: NodeId,
        /// How many there may be.
        limit: usize,
    },
    /// A name or a source location is too long.
    #[error("node {node}: a {what} of {length} bytes, limit {limit}")]
    TextTooLong {
        /// The id.
        node: NodeId,
        /// `name` or `source`.
        what: &'static str,
        /// Its length.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A number of partitions or reducers is out of range.
    #[error("node {node} has {count} {what}, must be 1 to {limit}")]
    BadCount {
        /// The id.
        node: NodeId,
        /// `partitions`, `reducers` or `replicas`.
        what: &'static str,
        /// The number.
        count: u32,
        /// The largest allowed.
        limit: u32,
    },
    /// Too many parents.
    #[error("node {node} has {count} dependencies, limit {limit}; union in several steps")]
    TooManyDependencies {
        /// The id.
        node: NodeId,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A parent is not registered.
    #[error("node {node} reads node {parent}, which is not registered or was dropped")]
    UnknownParent {
        /// The id.
        node: NodeId,
        /// What it reads.
        parent: NodeId,
    },
    /// A parent is of the other kind.
    #[error("node {node} reads node {parent} as {expected}, which it is not")]
    WrongKind {
        /// The id.
        node: NodeId,
        /// What it reads.
        parent: NodeId,
        /// What the dependency asks for.
        expected: &'static str,
    },
    /// A narrow dependency reads partitions that do not exist.
    #[error(
        "node {node} has {partitions} partitions and reads the {parent_partitions} of node \
         {parent} from its partition {start} on: out of range"
    )]
    NarrowOutOfRange {
        /// The id.
        node: NodeId,
        /// How many partitions it has.
        partitions: u32,
        /// What it reads.
        parent: NodeId,
        /// How many partitions that has.
        parent_partitions: u32,
        /// The first partition of `node` that reads `parent`.
        start: u32,
    },
    /// The reader of a shuffle has another number of partitions than the shuffle has reducers.
    #[error(
        "node {node} has {partitions} partitions, but shuffle {writer} has {reducers} reducers"
    )]
    ReducersDiffer {
        /// The id.
        node: NodeId,
        /// How many partitions it has.
        partitions: u32,
        /// The shuffle.
        writer: NodeId,
        /// How many reducers it has.
        reducers: u32,
    },
}

// === impl Graph ===

impl Graph {
    pub(super) fn spec(&self, id: NodeId) -> Option<&NodeSpec> {
        self.nodes.get(&id).map(|node| &node.spec)
    }

    pub(super) fn register(&mut self, spec: NodeSpec) -> Result<(), RegisterError> {
        self.validate(&spec)?;
        for dependency in &spec.dependencies {
            if let Some(parent) = self.nodes.get_mut(&parent_of(dependency)) {
                parent.readers += 1;
            }
        }
        let node = Node { readers: 0, jobs: 0, dropped: false, seen_in: 0, spec };
        self.nodes.insert(node.spec.id, node);
        Ok(())
    }

    /// The guest has no handle of it any more. Returns the nodes that are gone.
    pub(super) fn drop_node(&mut self, id: NodeId) -> Vec<NodeId> {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.dropped = true;
        }
        self.sweep(id)
    }

    /// A job computes it.
    pub(super) fn pin(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.jobs += 1;
        }
    }

    /// A job does not compute it any more. Returns the nodes that are gone.
    pub(super) fn unpin(&mut self, id: NodeId) -> Vec<NodeId> {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.jobs -= 1;
        }
        self.sweep(id)
    }

    /// The shuffles that a task of this node reads, in order.
    pub(super) fn shuffles_of(&mut self, id: NodeId) -> Vec<NodeId> {
        self.walks += 1;
        let mut found = Vec::new();
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            let Some(node) = self.nodes.get_mut(&id) else {
                continue;
            };
            if std::mem::replace(&mut node.seen_in, self.walks) == self.walks {
                continue;
            }
            for dependency in &node.spec.dependencies {
                match dependency {
                    Dependency::Narrow { parent, .. } => stack.push(*parent),
                    Dependency::Shuffle { writer } | Dependency::Blocks { writer } => {
                        found.push(*writer)
                    }
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The kept datasets whose blocks a task of this node reads one by one, partition for
    /// partition.
    pub(super) fn kept_of(&mut self, id: NodeId) -> Vec<KeptInput> {
        self.walks += 1;
        let mut found = Vec::new();
        let mut stack = vec![(id, 0)];
        while let Some((id, first)) = stack.pop() {
            let Some(node) = self.nodes.get_mut(&id) else {
                continue;
            };
            if std::mem::replace(&mut node.seen_in, self.walks) == self.walks {
                continue;
            }
            for dependency in node.spec.dependencies.clone() {
                match dependency {
                    Dependency::Narrow { parent, map: NarrowMap::OneToOne } => {
                        stack.push((parent, first));
                    }
                    Dependency::Narrow { parent, map: NarrowMap::Range { start } } => {
                        stack.push((parent, first + start));
                    }
                    Dependency::Blocks { writer } => {
                        let spec = self.spec(writer);
                        let kept = spec.filter(|s| matches!(s.kind, NodeKind::Kept { .. }));
                        found.extend(kept.map(|spec| KeptInput {
                            writer,
                            first,
                            partitions: spec.partitions,
                        }));
                    }
                    Dependency::Narrow { map: NarrowMap::Any, .. } | Dependency::Shuffle { .. } => {
                    }
                }
            }
        }
        found
    }

    /// Removes a node that nobody needs, then its parents that nobody needs, and so on.
    fn sweep(&mut self, id: NodeId) -> Vec<NodeId> {
        let mut gone = Vec::new();
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            let unneeded = |node: &Node| node.dropped && node.readers == 0 && node.jobs == 0;
            if !self.nodes.get(&id).is_some_and(unneeded) {
                continue;
            }
            let Some(node) = self.nodes.remove(&id) else {
                continue;
            };
            gone.push(id);
            for parent in node.spec.dependencies.iter().map(parent_of) {
                if let Some(node) = self.nodes.get_mut(&parent) {
                    node.readers -= 1;
                }
                stack.push(parent);
            }
        }
        gone
    }

    fn validate(&self, spec: &NodeSpec) -> Result<(), RegisterError> {
        let node = spec.id;
        if self.nodes.contains_key(&node) {
            return Err(RegisterError::Duplicate { node });
        }
        if self.nodes.len() >= NODES_MAX {
            let limit = NODES_MAX;
            return Err(RegisterError::TooManyNodes { node, limit });
        }
        for (what, text) in [("name", &spec.name), ("source", &spec.source)] {
            let (length, limit) = (text.len(), NODE_NAME_BYTES_MAX);
            if length > limit {
                return Err(RegisterError::TextTooLong { node, what, length, limit });
            }
        }
        check_count(node, "partitions", spec.partitions, PARTITIONS_MAX)?;
        match spec.kind {
            NodeKind::Records => {}
            NodeKind::ShuffleWrite { reducers } => {
                check_count(node, "reducers", reducers, PARTITIONS_MAX)?;
            }
            NodeKind::Kept { replicas, .. } => {
                check_count(node, "replicas", replicas, REPLICAS_MAX)?;
            }
        }
        let (count, limit) = (spec.dependencies.len(), DEPENDENCIES_MAX);
        if count > limit {
            return Err(RegisterError::TooManyDependencies { node, count, limit });
        }
        spec.dependencies
            .iter()
            .try_for_each(|dependency| self.validate_dependency(spec, dependency))
    }

    fn validate_dependency(
        &self,
        spec: &NodeSpec,
        dependency: &Dependency,
    ) -> Result<(), RegisterError> {
        let (node, partitions) = (spec.id, spec.partitions);
        let parent = parent_of(dependency);
        let Some(parent_spec) = self.spec(parent) else {
            return Err(RegisterError::UnknownParent { node, parent });
        };
        let wrong_kind = |expected| RegisterError::WrongKind { node, parent, expected };
        match (dependency, parent_spec.kind.reducers()) {
            (Dependency::Narrow { map, .. }, None) => {
                let parent_partitions = parent_spec.partitions;
                let (start, fits) = match map {
                    NarrowMap::OneToOne => (0, partitions <= parent_partitions),
                    NarrowMap::Range { start } => {
                        let end = start.checked_add(parent_partitions);
                        (*start, end.is_some_and(|end| end <= partitions))
                    }
                    NarrowMap::Any => (0, true),
                };
                if !fits {
                    return Err(RegisterError::NarrowOutOfRange {
                        node,
                        partitions,
                        parent,
                        parent_partitions,
                        start,
                    });
                }
                Ok(())
            }
            (Dependency::Shuffle { writer }, Some(reducers)) => {
                if reducers != partitions {
                    return Err(RegisterError::ReducersDiffer {
                        node,
                        partitions,
                        writer: *writer,
                        reducers,
                    });
                }
                Ok(())
            }
            (Dependency::Blocks { .. }, Some(_)) => Ok(()),
            (Dependency::Narrow { .. }, Some(_)) => Err(wrong_kind("records")),
            (Dependency::Shuffle { .. } | Dependency::Blocks { .. }, None) => {
                Err(wrong_kind("a shuffle"))
            }
        }
    }
}

fn parent_of(dependency: &Dependency) -> NodeId {
    match dependency {
        Dependency::Narrow { parent, .. } => *parent,
        Dependency::Shuffle { writer } | Dependency::Blocks { writer } => *writer,
    }
}

fn check_count(
    node: NodeId,
    what: &'static str,
    count: u32,
    limit: u32,
) -> Result<(), RegisterError> {
    if (1..=limit).contains(&count) {
        return Ok(());
    }
    Err(RegisterError::BadCount { node, what, count, limit })
}
