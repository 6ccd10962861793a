//! The bytes of compound arguments: postcard's encoding of the types of `offshoot_proto::abi`,
//! written by hand, because serde's generated code would be a twentieth of a small job's module,
//! which every machine of a cluster compiles. The tests hold it to postcard.

use offshoot_proto::abi::{
    Dependency, InputFile, JobSpec, NarrowMap, NodeKind, NodeSpec, ResultOrder, Source,
    StorageLevel,
};

/// An argument being written.
#[derive(Default)]
pub(crate) struct Argument(Vec<u8>);

/// What can be passed to an import.
pub(crate) trait Argue {
    /// Appends the encoding.
    fn argue(&self, to: &mut Argument);

    /// The encoding alone.
    fn bytes(&self) -> Vec<u8> {
        let mut argument = Argument::default();
        self.argue(&mut argument);
        argument.0
    }
}

// === impl Argument ===

impl Argument {
    #[inline(never)]
    fn number(&mut self, number: u64) {
        let mut rest = number;
        while rest > 0x7f {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
    }

    #[inline(never)]
    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }
}

// === impl Argue ===

impl Argue for NodeSpec {
    fn argue(&self, to: &mut Argument) {
        to.number(self.id.0.into());
        to.text(&self.name);
        to.text(&self.source);
        to.number(self.partitions.into());
        match self.kind {
            NodeKind::Records => to.number(0),
            NodeKind::ShuffleWrite { reducers } => {
                to.number(1);
                to.number(reducers.into());
            }
            NodeKind::Kept { level, replicas } => {
                to.number(2);
                to.number(match level {
                    StorageLevel::Memory => 0,
                    StorageLevel::MemoryAndDisk => 1,
                    StorageLevel::Disk => 2,
                });
                to.number(replicas.into());
            }
        }
        to.number(self.dependencies.len() as u64);
        self.dependencies.iter().for_each(|dependency| dependency.argue(to));
    }
}

impl Argue for Dependency {
    fn argue(&self, to: &mut Argument) {
        match self {
            Self::Narrow { parent, map } => {
                to.number(0);
                to.number(parent.0.into());
                match map {
                    NarrowMap::OneToOne => to.number(0),
                    NarrowMap::Range { start } => {
                        to.number(1);
                        to.number((*start).into());
                    }
                    NarrowMap::Any => to.number(2),
                }
            }
            Self::Shuffle { writer } => {
                to.number(1);
                to.number(writer.0.into());
            }
            Self::Blocks { writer } => {
                to.number(2);
                to.number(writer.0.into());
            }
        }
    }
}

impl Argue for JobSpec {
    fn argue(&self, to: &mut Argument) {
        to.number(self.node.0.into());
        to.number(self.partitions.len() as u64);
        self.partitions.iter().for_each(|partition| to.number(partition.0.into()));
        to.number(match self.order {
            ResultOrder::Partition => 0,
            ResultOrder::Arrival => 1,
        });
        to.number(self.output.is_some().into());
        if let Some(output) = &self.output {
            to.text(&output.path);
            to.text(&output.prefix);
        }
        to.text(&self.name);
        to.text(&self.source);
    }
}

impl Argue for InputFile {
    fn argue(&self, to: &mut Argument) {
        to.text(&self.path);
        to.number(self.length);
        let nanos = self.modified_nanos;
        to.number(((nanos << 1) ^ (nanos >> 63)).cast_unsigned());
    }
}

impl Argue for Source {
    fn argue(&self, to: &mut Argument) {
        match self {
            Self::File { file, offset } => {
                to.number(0);
                file.argue(to);
                to.number(*offset);
            }
            Self::Shuffle { writer, reducer } => {
                to.number(1);
                to.number(writer.0.into());
                to.number((*reducer).into());
            }
            Self::Spill { run } => {
                to.number(2);
                to.number((*run).into());
            }
            Self::Listing { pattern } => {
                to.number(3);
                to.text(pattern);
            }
            Self::Blocks { writer, reducer, maps } => {
                to.number(4);
                to.number(writer.0.into());
                for number in [*reducer, maps.first, maps.count] {
                    to.number(number.into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Argue;
    use offshoot_proto::abi::*;
    use offshoot_proto::id::{NodeId, Partition};
    use proptest::prelude::*;
    use serde::Serialize;

    fn check(value: &(impl Argue + Serialize)) {
        assert_eq!(value.bytes(), postcard::to_allocvec(value).unwrap());
    }

    proptest! {
        #[test]
        fn like_postcard(a: u32, b: u32, c: u64, nanos: i64, text: String, more: String) {
            let parent = NodeId(a);
            let narrow = |map| Dependency::Narrow { parent, map };
            let dependencies = vec![
                narrow(NarrowMap::OneToOne),
                narrow(NarrowMap::Range { start: b }),
                narrow(NarrowMap::Any),
                Dependency::Shuffle { writer: parent },
                Dependency::Blocks { writer: parent },
            ];
            let levels = [StorageLevel::Memory, StorageLevel::MemoryAndDisk, StorageLevel::Disk];
            let kept = levels.map(|level| NodeKind::Kept { level, replicas: a });
            let others = [NodeKind::Records, NodeKind::ShuffleWrite { reducers: b }];
            for kind in kept.into_iter().chain(others) {
                let (name, source) = (text.clone(), more.clone());
                let dependencies = dependencies.clone();
                check(&NodeSpec { id: parent, name, source, partitions: b, kind, dependencies });
            }
            let output = Some(OutputSpec { path: text.clone(), prefix: more.clone() });
            let orders = [(ResultOrder::Partition, None), (ResultOrder::Arrival, output)];
            for (order, output) in orders {
                check(&JobSpec {
                    node: parent,
                    partitions: vec![Partition(b), Partition(a)],
                    order,
                    output,
                    name: text.clone(),
                    source: more.clone(),
                });
            }
            let file = InputFile { path: text.clone(), length: c, modified_nanos: nanos };
            check(&Source::File { file, offset: c });
            check(&Source::Shuffle { writer: parent, reducer: b });
            check(&Source::Spill { run: a });
            let maps = MapRange { first: a, count: b };
            check(&Source::Blocks { writer: parent, reducer: b, maps });
            check(&Source::Listing { pattern: more });
        }
    }
}
