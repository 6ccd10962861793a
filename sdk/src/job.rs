//! Jobs: an action's node, its submission, and the results as they come back.

use crate::error::Error;
use crate::host::{self, HostJob};
use crate::node::{Edge, Node, Origin};
use crate::record::{Record, decode_whole};
use crate::task;
use core::marker::PhantomData;
use offshoot_proto::abi::{JobSpec, NodeKind, OutputSpec, RESULT_PIECE_HEADER_BYTES, ResultOrder};
use offshoot_proto::id::Partition;
use std::rc::Rc;

/// Room for pieces of results in one call: thousands of small results, and few pages that a job
/// writes in the driver's memory.
const RESULTS_BUFFER_BYTES: usize = 64 << 10;

/// Bytes at which a task hands over what it has of its result.
const RESULT_CHUNK_BYTES: usize = 64 << 10;

/// A job that was started by [`Dataset::submit`](crate::Dataset::submit). Dropping it cancels
/// what still runs.
#[must_use = "a job is cancelled when its handle is dropped"]
pub struct JobHandle<R> {
    job: Job,
    results: PhantomData<fn() -> R>,
}

/// What an action runs: a node of its own below the dataset's.
pub(crate) struct Action {
    origin: Origin,
    node: Rc<Node>,
    partitions: Vec<Partition>,
    order: ResultOrder,
    output: Option<OutputSpec>,
}

/// Takes the result of a partition.
pub(crate) type EachResult<'a> = dyn FnMut(u32, &[u8]) -> Result<(), Error> + 'a;

/// A job at the host.
pub(crate) struct Job {
    host: HostJob,
    /// How many results come; a job with an output has none, and ends when it is committed.
    results: Option<usize>,
    /// Keeps the lineage registered.
    _node: Rc<Node>,
}

/// A task's result on its way to the host.
pub(crate) struct ResultWriter(Vec<u8>);

/// Puts pieces of results together.
#[derive(Default)]
struct Assembler {
    partial: Vec<u8>,
    partition: Option<u32>,
}

/// The header of a piece.
#[derive(Clone, Copy)]
struct PieceHeader {
    partition: u32,
    total: u32,
    offset: u32,
    length: u32,
}

// === impl Action ===

impl Action {
    /// Computes all partitions of `parent`.
    ///
    /// # Panics
    /// In a task.
    #[track_caller]
    pub(crate) fn new(
        origin: Origin,
        parent: &Rc<Node>,
        compute: impl Fn(u32, &mut ResultWriter) + 'static,
    ) -> Self {
        task::require_main();
        let run = move |partition| {
            let mut writer = ResultWriter(Vec::new());
            compute(partition, &mut writer);
            writer.flush();
        };
        Self {
            origin,
            node: Node::with_tasks(
                origin,
                NodeKind::Records,
                parent.partitions(),
                Edge::one_to_one(parent),
                Rc::new(run),
            ),
            partitions: Vec::new(),
            order: ResultOrder::Partition,
            output: None,
        }
    }

    /// Only these partitions.
    pub(crate) fn partitions(self, partitions: impl IntoIterator<Item = u32>) -> Self {
        let partitions = partitions.into_iter().map(Partition).collect();
        Self { partitions, ..self }
    }

    /// Results as they are completed: for actions to which the order is nothing.
    pub(crate) fn in_any_order(self) -> Self {
        let order = ResultOrder::Arrival;
        Self { order, ..self }
    }

    /// Writes an output instead of returning results.
    pub(crate) fn output(self, path: &str) -> Self {
        let output = Some(OutputSpec { path: path.to_owned(), prefix: "part-".to_owned() });
        Self { output, ..self }
    }

    /// Writes an output whose parts' names end with `suffix`, and waits for its commit.
    #[cfg(any(feature = "compression", feature = "csv", feature = "json", feature = "parquet"))]
    pub(crate) fn save(self, path: &str, suffix: &str) -> Result<(), Error> {
        let prefix = format!("part-*{suffix}");
        let output = Some(OutputSpec { path: path.to_owned(), prefix });
        Self { output, ..self }.submit()?.for_each(&mut |_, _| Ok(()))
    }

    /// Starts it.
    #[inline(never)]
    pub(crate) fn submit(self) -> Result<Job, Error> {
        self.node.register()?;
        let all = self.node.partitions() as usize;
        let asked = if self.partitions.is_empty() { all } else { self.partitions.len() };
        let results = self.output.is_none().then_some(asked);
        let host = host::submit(&JobSpec {
            node: self.node.id(),
            partitions: self.partitions,
            order: self.order,
            output: self.output,
            name: self.origin.name.to_owned(),
            source: self.origin.source(),
        })?;
        Ok(Job { host, results, _node: self.node })
    }

    /// Runs it, one call for each result.
    pub(crate) fn run<R: Record>(self, mut each: impl FnMut(u32, R)) -> Result<(), Error> {
        self.submit()?.for_each(&mut |partition, bytes| {
            each(partition, decode_whole(bytes)?);
            Ok(())
        })
    }
}

// === impl Job ===

impl Job {
    /// Waits for all results, handing out each as it comes.
    #[inline(never)]
    pub(crate) fn for_each(&self, each: &mut EachResult<'_>) -> Result<(), Error> {
        task::require_main();
        let mut buffer = vec![0; RESULTS_BUFFER_BYTES];
        let mut assembler = Assembler::default();
        let mut left = self.results;
        // After the last result there is nothing to ask for.
        while left != Some(0) {
            let length = self.host.results(&mut buffer)?;
            if length == 0 {
                break;
            }
            let pieces = buffer.get(..length).ok_or_else(|| malformed("a full buffer"))?;
            let whole = assembler.add(pieces, each)?;
            left = left.map(|left| left.saturating_sub(whole));
        }
        assembler.finish()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // A fork has no say in the driver's jobs.
        if task::current().is_none() {
            self.host.forget();
        }
    }
}

// === impl JobHandle ===

impl<R: Record> JobHandle<R> {
    pub(crate) fn new(job: Job) -> Self {
        Self { job, results: PhantomData }
    }

    /// Waits for the job: one result for each partition, in their order.
    pub fn wait(self) -> Result<Vec<R>, Error> {
        let mut results = Vec::new();
        self.wait_each(|_, result| results.push(result))?;
        Ok(results)
    }

    /// Waits for the job and hands out each result with its partition, in their order, without
    /// keeping them.
    pub fn wait_each(self, mut each: impl FnMut(u32, R)) -> Result<(), Error> {
        self.job.for_each(&mut |partition, bytes| {
            each(partition, decode_whole(bytes)?);
            Ok(())
        })
    }
}

// === impl ResultWriter ===

impl ResultWriter {
    /// Appends what `encode` appends.
    pub(crate) fn write(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.0);
        if self.0.len() >= RESULT_CHUNK_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.0.is_empty() {
            host::write_result(&self.0);
            self.0.clear();
        }
    }
}

// === impl Assembler ===

impl Assembler {
    #[inline(never)]
    /// Takes pieces; how many results they made whole.
    fn add(&mut self, mut pieces: &[u8], each: &mut EachResult<'_>) -> Result<usize, Error> {
        let mut whole = 0;
        while !pieces.is_empty() {
            let (header, rest) = PieceHeader::read(pieces)?;
            let (bytes, rest) = rest
                .split_at_checked(header.length as usize)
                .ok_or_else(|| malformed("a piece that is cut off"))?;
            pieces = rest;
            if header.offset as usize != self.partial.len()
                || self.partition.is_some_and(|partition| partition != header.partition)
            {
                return Err(malformed("pieces out of order"));
            }
            if bytes.len() == header.total as usize {
                each(header.partition, bytes)?;
                whole += 1;
                continue;
            }
            self.partition = Some(header.partition);
            self.partial.extend_from_slice(bytes);
            if self.partial.len() >= header.total as usize {
                each(header.partition, &self.partial)?;
                whole += 1;
                *self = Self::default();
            }
        }
        Ok(whole)
    }

    fn finish(self) -> Result<(), Error> {
        match self.partition {
            None => Ok(()),
            Some(_) => Err(malformed("the end of the job in the middle of a result")),
        }
    }
}

// === impl PieceHeader ===

impl PieceHeader {
    fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (header, rest) = bytes
            .split_first_chunk::<RESULT_PIECE_HEADER_BYTES>()
            .ok_or_else(|| malformed("a piece without a whole header"))?;
        let mut fields = header.as_chunks::<4>().0.iter().map(|field| u32::from_le_bytes(*field));
        let mut next = || fields.next().unwrap_or_default();
        let header = Self { partition: next(), total: next(), offset: next(), length: next() };
        Ok((header, rest))
    }
}

#[cold]
#[inline(never)]
fn malformed(what: &str) -> Error {
    Error::Malformed("job_results: ".to_owned() + what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Assembler;
    use crate::error::Error;

    fn piece(partition: u32, total: u32, offset: u32, bytes: &[u8]) -> Vec<u8> {
        let header = [partition, total, offset, bytes.len() as u32].map(u32::to_le_bytes);
        [header.as_flattened(), bytes].concat()
    }

    fn assemble(answers: &[Vec<u8>]) -> Result<Vec<(u32, Vec<u8>)>, Error> {
        let mut results = Vec::new();
        let mut assembler = Assembler::default();
        for pieces in answers {
            assembler.add(pieces, &mut |partition, bytes| {
                results.push((partition, bytes.to_vec()));
                Ok(())
            })?;
        }
        assembler.finish()?;
        Ok(results)
    }

    #[test]
    fn pieces_become_results() {
        let first = [piece(3, 0, 0, b""), piece(1, 2, 0, b"ab"), piece(7, 5, 0, b"c")].concat();
        let second = [piece(7, 5, 1, b"de"), piece(7, 5, 3, b"fg"), piece(0, 1, 0, b"h")].concat();
        let results = assemble(&[first, second]).unwrap();
        let expected = [(3, &b""[..]), (1, b"ab"), (7, b"cdefg"), (0, b"h")];
        assert_eq!(results, expected.map(|(partition, bytes)| (partition, bytes.to_vec())));
    }

    #[test]
    fn what_the_abi_does_not_allow_is_an_error() {
        let cases = [
            vec![1, 2, 3],
            piece(0, 9, 0, b"abc"),
            piece(0, 9, 1, b"abc"),
            piece(0, 3, 0, b"abc")[..18].to_vec(),
            [piece(0, 9, 0, b"abc"), piece(1, 9, 3, b"abcdef")].concat(),
        ];
        for case in cases {
            let result = assemble(std::slice::from_ref(&case));
            assert!(matches!(result, Err(Error::Malformed(_))), "{case:?}: {result:?}");
        }
    }
}
