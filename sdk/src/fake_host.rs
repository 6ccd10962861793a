//! A host in the same process, for this crate's tests: jobs run where they are submitted, tasks
//! one after the other, shuffles in memory. Nothing is forked, so tests here say nothing about
//! memory; they say that the SDK speaks the ABI and that its operations are right.

use crate::raw::plain::Plain;
use crate::task;
use core::cell::RefCell;
use offshoot_proto::abi::{Dependency, InputFile, JobSpec, NarrowMap, NodeSpec, Source, code};
use offshoot_proto::id::{NodeId, Partition};
use offshoot_proto::part::PartNames;
use offshoot_proto::scheduling::PoolName;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Everything that the host knows.
#[derive(Default)]
pub(crate) struct FakeHost {
    pub(crate) nodes: BTreeMap<u32, NodeSpec>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Parts of committed outputs by path.
    pub(crate) outputs: BTreeMap<String, Vec<Vec<u8>>>,
    /// (name, partitions run, `file:line`) of every job.
    pub(crate) jobs_run: Vec<(String, usize, String)>,
    /// The pool of every job.
    pub(crate) pools: Vec<String>,
    /// How many tasks of shuffle writers have run.
    pub(crate) map_tasks: usize,
    /// How many runs were spilled, by all tasks.
    pub(crate) runs_spilled: usize,
    /// How many bytes they have.
    pub(crate) bytes_spilled: u64,
    /// Bytes that map tasks have written for reducers.
    pub(crate) bytes_shuffled: usize,
    /// Largest answer of `stream_read`, and of a piece of a result; 0 for no bound.
    pub(crate) chunk_bytes: usize,
    /// Whether kept blocks are here to be mapped, and how many were.
    pub(crate) maps_blocks: bool,
    pub(crate) blocks_mapped: usize,
    /// How many children each node has.
    children: BTreeMap<u32, usize>,
    /// What each map partition of a writer wrote.
    shuffles: BTreeMap<u32, Vec<Written>>,
    streams: BTreeMap<i32, Vec<u8>>,
    /// What accepted attempts said, each after its length.
    updates: Vec<u8>,
    jobs: BTreeMap<i32, Result<Vec<u8>, String>>,
    current: Attempt,
    next_handle: i32,
    pool: String,
    last_error: String,
}

/// Shuffle data by reducer.
type Written = BTreeMap<u32, Vec<u8>>;

/// What a task has written.
#[derive(Clone, Default)]
struct Attempt {
    result: Vec<u8>,
    output: Vec<u8>,
    shuffle: Written,
    /// Runs spilled, by number.
    runs: Written,
    update: Vec<u8>,
    message: String,
}

thread_local! {
    static HOST: RefCell<FakeHost> = RefCell::default();
}

/// Looks at the host of this test's thread, or changes it.
pub(crate) fn with<R>(look: impl FnOnce(&mut FakeHost) -> R) -> R {
    HOST.with_borrow_mut(look)
}

fn error(code: i32, text: impl Into<String>) -> i32 {
    with(|host| host.last_error = text.into());
    code
}

fn in_task() -> bool {
    task::current().is_some()
}

/// Runs one partition in place.
fn attempt(node: NodeId, partition: u32) -> Result<Attempt, String> {
    with(|host| host.current = Attempt::default());
    let ended = catch_unwind(AssertUnwindSafe(|| task::run(node.0, partition)));
    task::leave();
    let attempt = with(|host| host.current.clone());
    match ended {
        Ok(()) => {
            with(|host| {
                if !attempt.update.is_empty() {
                    let length = attempt.update.len() as u32;
                    host.updates.extend(length.to_le_bytes());
                    host.updates.extend(&attempt.update);
                }
            });
            Ok(attempt)
        }
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            Err(format!("{} {}", attempt.message, text.unwrap_or_default()))
        }
    }
}

/// Runs the map sides of all shuffles that the node needs and that have not run.
fn run_shuffles(node: NodeId) -> Result<(), String> {
    let spec = with(|host| host.nodes.get(&node.0).cloned()).ok_or("unknown node")?;
    for dependency in &spec.dependencies {
        match dependency {
            Dependency::Narrow { parent, map } => {
                let partitions = with(|host| host.nodes[&parent.0].partitions);
                let reach = match map {
                    NarrowMap::OneToOne => spec.partitions <= partitions,
                    NarrowMap::Range { start } => start + partitions <= spec.partitions,
                    NarrowMap::Any => true,
                };
                assert!(reach, "{spec:?} over {partitions} partitions");
                run_shuffles(*parent)?;
            }
            Dependency::Shuffle { writer } => run_writer(*writer, Some(spec.partitions))?,
            Dependency::Blocks { writer } => run_writer(*writer, None)?,
        }
    }
    Ok(())
}

/// Runs a map side; `readers` is how many reducers it must have, where that is given.
fn run_writer(writer: NodeId, readers: Option<u32>) -> Result<(), String> {
    let spec = with(|host| host.nodes.get(&writer.0).cloned()).ok_or("unknown writer")?;
    let Some(reducers) = spec.kind.reducers() else {
        return Err(format!("{spec:?} writes no shuffle"));
    };
    assert!(readers.is_none_or(|readers| readers == reducers), "{spec:?}");
    let done = with(|host| host.shuffles.contains_key(&writer.0));
    if done {
        return Ok(());
    }
    run_shuffles(writer)?;
    let mut maps = Vec::new();
    for partition in 0..spec.partitions {
        with(|host| host.map_tasks += 1);
        let written = attempt(writer, partition)?.shuffle;
        assert!(written.keys().all(|reducer| *reducer < reducers));
        maps.push(written);
    }
    with(|host| host.shuffles.insert(writer.0, maps));
    Ok(())
}

fn run_job(job: &JobSpec) -> Result<Vec<u8>, String> {
    run_shuffles(job.node)?;
    let (all, chunk) = with(|host| (host.nodes[&job.node.0].partitions, host.chunk_bytes));
    let partitions: Vec<u32> = match job.partitions.is_empty() {
        true => (0..all).collect(),
        false => job.partitions.iter().map(|partition| partition.0).collect(),
    };
    let run = (job.name.clone(), partitions.len(), job.source.clone());
    with(|host| host.jobs_run.push(run));
    let (mut pieces, mut parts) = (Vec::new(), Vec::new());
    for partition in partitions {
        let done = attempt(job.node, partition)?;
        parts.push(done.output);
        let step = if chunk == 0 { done.result.len().max(1) } else { chunk };
        let whole = [&done.result[..]].into_iter().filter(|result| result.is_empty());
        for (index, piece) in done.result.chunks(step).chain(whole).enumerate() {
            let header = [partition, done.result.len() as u32, (index * step) as u32];
            pieces.extend(header.into_iter().flat_map(u32::to_le_bytes));
            pieces.extend((piece.len() as u32).to_le_bytes());
            pieces.extend_from_slice(piece);
        }
    }
    if let Some(output) = &job.output {
        for (number, part) in parts.iter().enumerate() {
            let names = PartNames::new(&output.prefix).map_err(|error| error.to_string())?;
            let path = format!("{}/{}", output.path, names.of(Partition(number as u32)));
            with(|host| host.files.insert(path, part.clone()));
        }
        with(|host| host.outputs.insert(output.path.clone(), parts));
        pieces.clear();
    }
    Ok(pieces)
}

fn parents(spec: &NodeSpec) -> impl Iterator<Item = u32> {
    spec.dependencies.iter().map(|dependency| match dependency {
        Dependency::Narrow { parent, .. } => parent.0,
        Dependency::Shuffle { writer } | Dependency::Blocks { writer } => writer.0,
    })
}

/// The functions that `raw` has on a cluster.
pub(crate) mod imports {
    use super::*;

    pub(crate) fn error_text(text: &mut [u8]) -> i32 {
        with(|host| {
            let length = host.last_error.len().min(text.len());
            text[..length].copy_from_slice(&host.last_error.as_bytes()[..length]);
            host.last_error.len() as i32
        })
    }

    pub(crate) fn stream_open(source: &[u8]) -> i32 {
        let source: Source = postcard::from_bytes(source).expect("a source");
        let listing = matches!(source, Source::Listing { .. });
        if listing == in_task() {
            return error(code::NOT_HERE, "not here");
        }
        let bytes = with(|host| host.open(source));
        match bytes {
            Some(bytes) => with(|host| {
                host.next_handle += 1;
                host.streams.insert(host.next_handle, bytes);
                host.next_handle
            }),
            None => error(code::DENIED, "nothing there"),
        }
    }

    pub(crate) fn stream_read(handle: i32, buffer: &mut [u8]) -> i32 {
        with(|host| {
            let limit = if host.chunk_bytes == 0 { usize::MAX } else { host.chunk_bytes };
            let stream = host.streams.get_mut(&handle).expect("an open stream");
            let length = stream.len().min(buffer.len()).min(limit);
            buffer[..length].copy_from_slice(&stream[..length]);
            stream.drain(..length);
            length as i32
        })
    }

    pub(crate) fn stream_close(handle: i32) -> i32 {
        with(|host| host.streams.remove(&handle)).map_or(code::INVALID, |_| 0)
    }

    pub(crate) fn node_register(spec: &[u8]) -> i32 {
        let spec: NodeSpec = postcard::from_bytes(spec).expect("a node");
        if spec.partitions == 0 {
            return error(code::INVALID, format!("{}: no partitions", spec.name));
        }
        with(|host| {
            assert!(!host.nodes.contains_key(&spec.id.0), "{spec:?}");
            for parent in parents(&spec) {
                assert!(host.nodes.contains_key(&parent), "{spec:?}");
                *host.children.entry(parent).or_default() += 1;
            }
            host.nodes.insert(spec.id.0, spec);
            0
        })
    }

    pub(crate) fn node_drop(node: i32) -> i32 {
        with(|host| {
            let spec = host.nodes.remove(&node.cast_unsigned()).expect("a registered node");
            let children = host.children.remove(&node.cast_unsigned());
            assert!(matches!(children, None | Some(0)), "{spec:?} goes before its children");
            for parent in parents(&spec) {
                *host.children.entry(parent).or_default() -= 1;
            }
            0
        })
    }

    pub(crate) fn job_submit(spec: &[u8]) -> i32 {
        let job: JobSpec = postcard::from_bytes(spec).expect("a job");
        assert!(!in_task());
        let pieces = run_job(&job);
        with(|host| {
            host.next_handle += 1;
            host.jobs.insert(host.next_handle, pieces);
            host.pools.push(host.pool.clone());
            host.next_handle
        })
    }

    /// Whole pieces only, as many as there is room for.
    pub(crate) fn job_results(job: i32, buffer: &mut [u8]) -> i32 {
        let failed = with(|host| match host.jobs.get_mut(&job).expect("a job") {
            Err(text) => Err(text.clone()),
            Ok(pieces) => {
                let mut length = 0;
                while let Some(field) = pieces.get(length + 12..length + 16) {
                    let field = field.try_into().expect("four bytes");
                    let end = length + 16 + u32::from_le_bytes(field) as usize;
                    if end > buffer.len() {
                        break;
                    }
                    length = end;
                }
                assert!(length > 0 || pieces.is_empty(), "tests have small results");
                buffer[..length].copy_from_slice(&pieces[..length]);
                pieces.drain(..length);
                Ok(length as i32)
            }
        });
        failed.unwrap_or_else(|text| error(code::JOB_FAILED, text))
    }

    pub(crate) fn job_drop(job: i32) -> i32 {
        with(|host| host.jobs.remove(&job)).map_or(code::INVALID, |_| 0)
    }

    pub(crate) fn job_pool(name: &[u8]) -> i32 {
        match PoolName::new(&String::from_utf8_lossy(name)) {
            Ok(name) => {
                with(|host| host.pool = name.to_string());
                0
            }
            Err(text) => error(code::INVALID, text.to_string()),
        }
    }

    pub(crate) fn parallelism() -> i32 {
        3
    }

    pub(crate) fn result_write(bytes: &[u8]) -> i32 {
        with(|host| host.current.result.extend_from_slice(bytes));
        0
    }

    pub(crate) fn shuffle_write(reducer: i32, bytes: &[u8]) -> i32 {
        with(|host| {
            host.bytes_shuffled += bytes.len();
            let stream = host.current.shuffle.entry(reducer.cast_unsigned());
            stream.or_default().extend_from_slice(bytes);
        });
        0
    }

    pub(crate) fn spill_write(run: i32, bytes: &[u8]) -> i32 {
        with(|host| {
            if !host.current.runs.contains_key(&run.cast_unsigned()) {
                host.runs_spilled += 1;
            }
            host.bytes_spilled += bytes.len() as u64;
            let written = host.current.runs.entry(run.cast_unsigned());
            written.or_default().extend_from_slice(bytes);
        });
        0
    }

    pub(crate) fn update_write(bytes: &[u8]) -> i32 {
        with(|host| host.current.update.extend_from_slice(bytes));
        0
    }

    pub(crate) fn updates_read(pieces: &mut [u8]) -> i32 {
        let updates = with(|host| core::mem::take(&mut host.updates));
        pieces[..updates.len()].copy_from_slice(&updates);
        updates.len() as i32
    }

    pub(crate) fn map_block(writer: u32, map: u32) -> Result<Option<&'static [u8]>, i32> {
        with(|host| {
            let written = host.shuffles.get(&writer).and_then(|maps| maps.get(map as usize));
            let Some(bytes) = written.and_then(|map| map.get(&0)).filter(|_| host.maps_blocks)
            else {
                return Ok(None);
            };
            host.blocks_mapped += 1;
            // Where any number may lie, and for as long as the process.
            let mut place = vec![0u128; bytes.len().div_ceil(16)];
            let all = Plain::<u128>::NUMBER.bytes_mut(&mut place);
            all[..bytes.len()].copy_from_slice(bytes);
            Ok(Some(&Plain::<u128>::NUMBER.bytes(place.leak())[..bytes.len()]))
        })
    }

    pub(crate) fn task_memory() -> i32 {
        (512 << 20) >> 16
    }

    pub(crate) fn output_write(bytes: &[u8]) -> i32 {
        with(|host| host.current.output.extend_from_slice(bytes));
        0
    }

    pub(crate) fn task_fail(message: &[u8]) {
        let message = String::from_utf8_lossy(message).into_owned();
        with(|host| host.current.message = message);
    }
}

// === impl FakeHost ===

impl FakeHost {
    fn open(&self, source: Source) -> Option<Vec<u8>> {
        match source {
            Source::File { file, offset } => {
                let bytes = self.files.get(&file.path)?;
                bytes.get(offset as usize..).map(<[u8]>::to_vec)
            }
            Source::Shuffle { writer, reducer } => {
                let maps = self.shuffles.get(&writer.0)?;
                let stream = maps.iter().filter_map(|map| map.get(&reducer)).flatten();
                Some(stream.copied().collect())
            }
            Source::Listing { pattern } => {
                let files = self.files.iter().filter(|(path, _)| path.starts_with(&pattern));
                let files = files.map(|(path, bytes)| InputFile {
                    path: path.clone(),
                    length: bytes.len() as u64,
                    modified_nanos: 7,
                });
                postcard::to_allocvec(&files.collect::<Vec<_>>()).ok()
            }
            Source::Blocks { writer, reducer, maps } => {
                let written = self.shuffles.get(&writer.0)?;
                let (first, count) = (maps.first as usize, maps.count as usize);
                let chosen = written.get(first..first + count)?;
                let stream = chosen.iter().filter_map(|map| map.get(&reducer)).flatten();
                Some(stream.copied().collect())
            }
            Source::Spill { run } => self.current.runs.get(&run).cloned(),
        }
    }

    /// Nothing is left behind: no open stream, no job, no node but those of living datasets.
    pub(crate) fn assert_clean(&self) {
        assert!(self.streams.is_empty(), "open streams");
        assert!(self.jobs.is_empty(), "jobs that were not dropped");
        assert!(self.nodes.is_empty(), "{:?}", self.nodes);
    }
}
