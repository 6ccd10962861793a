//! [`Lines`]: byte strings that are never allocated one by one; [`Text`]: lines as `String`s.

use crate::byte_pairs::BytePairs;
use crate::context;
use crate::dataset::Dataset;
use crate::error::Error;
use crate::input::{self, PieceLines};
use crate::node::{Edge, Node, Origin, Shared};
use crate::records::Records;
use crate::sample::Reservoir;
use crate::{host, task};
use core::ops::Deref;
use std::rc::Rc;

/// Lines as bytes, in partitions: what `byte_lines` and `sort` make.
///
/// Its operations lend each line to a closure instead of giving it away, so that a job over
/// gigabytes of text need not allocate for every line. [`records`](Self::records) gives them away.
#[derive(Clone)]
pub struct Lines {
    inner: Shared<Inner>,
}

struct Inner {
    node: Rc<Node>,
    open: Box<dyn Fn(u32) -> Box<dyn LineStream>>,
    sample: Box<SampleLines>,
}

/// Lines of a partition, and what they stand for: bytes, or a number of lines.
type SampleLines = dyn Fn(u32, usize) -> (Vec<Vec<u8>>, u64);

/// Lines that are lent one after the other.
pub(crate) trait LineStream {
    /// Goes to the next line; `false` if there is none.
    fn advance(&mut self) -> bool;
    /// The current line.
    fn line(&self) -> &[u8];
    /// Hands out all lines that are left.
    fn drain(self: Box<Self>, sink: &mut dyn FnMut(&[u8]));
    /// Where the current line comes from, for an error.
    fn place(&self) -> String;
}

/// The lines of a text file: a [`Dataset`] of `String`s that can still be read otherwise.
#[derive(Clone)]
pub struct Text {
    lines: Lines,
    strings: Dataset<String>,
}

/// Lines changed as they come.
struct Mapped<F> {
    lines: Box<dyn LineStream>,
    change: Rc<F>,
}

/// Lines that fit.
struct Filtered<F> {
    lines: Box<dyn LineStream>,
    fits: Rc<F>,
}

/// Lines that must be UTF-8.
struct Utf8(Box<dyn LineStream>);

/// Bytes of a line that a sample keeps: what tells lines apart, and no megabytes.
const SAMPLE_LINE_BYTES_MAX: usize = 512;

// === impl Lines: construction ===

impl Lines {
    pub(crate) fn new(
        node: Rc<Node>,
        open: impl Fn(u32) -> Box<dyn LineStream> + 'static,
        sample: impl Fn(u32, usize) -> (Vec<Vec<u8>>, u64) + 'static,
    ) -> Self {
        Self { inner: Shared::new(Inner { node, open: Box::new(open), sample: Box::new(sample) }) }
    }

    /// Of which a sample must be taken by reading all of them.
    pub(crate) fn without_index(
        node: Rc<Node>,
        open: impl Fn(u32) -> Box<dyn LineStream> + 'static,
    ) -> Self {
        let open = Rc::new(open);
        let lines = Rc::clone(&open);
        Self::new(
            node,
            move |partition| lines(partition),
            move |partition, count| {
                let mut reservoir = Reservoir::new(count, partition);
                open(partition).drain(&mut |line| {
                    reservoir.offer(|| line[..line.len().min(SAMPLE_LINE_BYTES_MAX)].to_vec());
                });
                reservoir.into_sample()
            },
        )
    }

    pub(crate) fn read(origin: Origin, path: &str, partitions: Option<u32>) -> Result<Self, Error> {
        let files = host::list(path)?;
        let total = files.iter().map(|file| file.length).sum();
        let partitions =
            partitions.unwrap_or_else(|| input::default_partitions(total, context::parallelism()));
        let any_compressed = files.iter().any(input::is_compressed);
        let pieces = Rc::new(input::split(files, partitions));
        let node = Node::records(origin, partitions, Vec::new());
        if any_compressed {
            return Ok(Self::without_index(node, move |partition| {
                Box::new(PieceLines::new(pieces[partition as usize].clone()))
            }));
        }
        let sampled = Rc::clone(&pieces);
        Ok(Self::new(
            node,
            move |partition| Box::new(PieceLines::new(pieces[partition as usize].clone())),
            move |partition, count| {
                let pieces = &sampled[partition as usize];
                input::sample(pieces, count, SAMPLE_LINE_BYTES_MAX)
            },
        ))
    }

    pub(crate) fn node(&self) -> &Rc<Node> {
        &self.inner.node
    }

    /// The lines of a partition, in a task.
    pub(crate) fn open(&self, partition: u32) -> Box<dyn LineStream> {
        (self.inner.open)(partition)
    }

    /// About so many lines of a partition, in a task.
    pub(crate) fn sample(&self, partition: u32, count: usize) -> (Vec<Vec<u8>>, u64) {
        (self.inner.sample)(partition, count)
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.node().partitions()
    }

    fn narrow<U: 'static>(
        &self,
        origin: Origin,
        compute: impl Fn(Box<dyn LineStream>) -> Records<U> + 'static,
    ) -> Dataset<U> {
        let node = Node::records(origin, self.partitions(), Edge::one_to_one(self.node()));
        let lines = self.clone();
        Dataset::new(node, move |partition| compute(lines.open(partition)))
    }
}

// === impl Lines: operations ===

impl Lines {
    /// A record of each line.
    #[track_caller]
    pub fn map<U: 'static>(&self, change: impl Fn(&[u8]) -> U + 'static) -> Dataset<U> {
        let change = Rc::new(change);
        self.narrow(Origin::here("map"), move |lines| {
            let change = Rc::clone(&change);
            Records::new(Mapped { lines, change })
        })
    }

    /// The lines that fit.
    #[track_caller]
    pub fn filter(&self, fits: impl Fn(&[u8]) -> bool + 'static) -> Self {
        let edges = Edge::one_to_one(self.node());
        let node = Node::records(Origin::here("filter"), self.partitions(), edges);
        let (lines, fits) = (self.clone(), Rc::new(fits));
        Self::without_index(node, move |partition| {
            let (lines, fits) = (lines.open(partition), Rc::clone(&fits));
            Box::new(Filtered { lines, fits })
        })
    }

    /// Any number of pairs for each line, with keys that are lent:
    /// `lines.flat_map_bytes(|line, emit| emit(&line[..4], 1u64)).reduce_by_key(|a, b| a + b)`.
    #[track_caller]
    pub fn flat_map_bytes<V: 'static>(
        &self,
        change: impl Fn(&[u8], &mut dyn FnMut(&[u8], V)) + 'static,
    ) -> BytePairs<V> {
        BytePairs::new(Origin::here("flat_map_bytes"), self.clone(), change)
    }

    /// The lines as byte strings of their own.
    #[track_caller]
    pub fn records(&self) -> Dataset<Vec<u8>> {
        self.map(<[u8]>::to_vec)
    }

    /// The lines as text; a line that is not UTF-8 fails its task with file and offset.
    #[track_caller]
    pub fn utf8(&self) -> Dataset<String> {
        self.narrow(Origin::here("utf8"), |lines| Records::new(Utf8(lines)))
    }

    /// The lines as text, with U+FFFD for what is not UTF-8.
    #[track_caller]
    pub fn lossy(&self) -> Dataset<String> {
        self.map(|line| String::from_utf8_lossy(line).into_owned())
    }
}

// === impl Text ===

impl Text {
    #[track_caller]
    pub(crate) fn new(lines: Lines) -> Self {
        let strings = lines.utf8();
        Self { lines, strings }
    }

    /// The same lines with U+FFFD for what is not UTF-8.
    #[track_caller]
    pub fn lossy(&self) -> Dataset<String> {
        self.lines.lossy()
    }
}

impl Deref for Text {
    type Target = Dataset<String>;
    fn deref(&self) -> &Dataset<String> {
        &self.strings
    }
}

// === impl Mapped, Filtered, Utf8 ===

impl<U, F: Fn(&[u8]) -> U> Iterator for Mapped<F> {
    type Item = U;

    fn next(&mut self) -> Option<U> {
        self.lines.advance().then(|| (self.change)(self.lines.line()))
    }

    fn fold<A, S: FnMut(A, U) -> A>(self, initial: A, mut step: S) -> A {
        let mut state = Some(initial);
        self.lines.drain(&mut |line| {
            if let Some(before) = state.take() {
                state = Some(step(before, (self.change)(line)));
            }
        });
        state.expect("every step puts the state back")
    }
}

impl<F: Fn(&[u8]) -> bool> LineStream for Filtered<F> {
    fn advance(&mut self) -> bool {
        while self.lines.advance() {
            if (self.fits)(self.lines.line()) {
                return true;
            }
        }
        false
    }

    fn line(&self) -> &[u8] {
        self.lines.line()
    }

    fn drain(self: Box<Self>, sink: &mut dyn FnMut(&[u8])) {
        let fits = self.fits;
        self.lines.drain(&mut |line| {
            if fits(line) {
                sink(line);
            }
        });
    }

    fn place(&self) -> String {
        self.lines.place()
    }
}

impl Iterator for Utf8 {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if !self.0.advance() {
            return None;
        }
        match core::str::from_utf8(self.0.line()) {
            Ok(text) => Some(text.to_owned()),
            Err(error) => task::fail(format_args!(
                "{}: not UTF-8 after {} bytes of it (read it with `lossy` or `byte_lines`)",
                self.0.place(),
                error.valid_up_to(),
            )),
        }
    }
}
