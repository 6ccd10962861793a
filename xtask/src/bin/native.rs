//! What a careful Rust programmer would write instead of a cluster: `native wordcount INPUT` and
//! `native sort INPUT OUTPUT`, for `cargo xtask bench` to compare with.
//!
//! Two threads, the standard library's `HashMap` with its own hasher, and the exchange that the
//! jobs make: eight map partitions, each combined and divided by key among eight reducers.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::env;
use std::fs::{self, File};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const THREADS: usize = 2;
const PARTITIONS: usize = 8;
const PRINTED: usize = 20;

/// Lines that the sort looks at to divide the keys, for each partition.
const SAMPLES: usize = 256;

type Counts = HashMap<Vec<u8>, u64>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["wordcount", input] => {
            let text = read(input).with_context(|| format!("reading {input}"))?;
            print_most_frequent(word_count(&text)).context("writing to standard output")
        }
        ["sort", input, output] => {
            let text = read(input).with_context(|| format!("reading {input}"))?;
            sort(&text, Path::new(output)).with_context(|| format!("writing {output}"))
        }
        _ => bail!("usage: native wordcount INPUT | native sort INPUT OUTPUT"),
    }
}

/// The whole file, read by all threads.
fn read(path: &str) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut text = vec![0; usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?];
    let piece_bytes = text.len().div_ceil(PARTITIONS).max(1);
    let pieces: Vec<_> = text.chunks_mut(piece_bytes).map(Mutex::new).collect();
    let read = in_parallel(pieces.len(), |piece| {
        let mut bytes = pieces[piece].lock().expect("no holder of the lock panics");
        file.read_exact_at(&mut bytes, (piece * piece_bytes) as u64)
    });
    drop(pieces);
    read.into_iter().collect::<io::Result<()>>()?;
    Ok(text)
}

fn word_count(text: &[u8]) -> Vec<(Vec<u8>, u64)> {
    let splits = split_lines(text);
    let mapped = in_parallel(splits.len(), |map| count_words(splits[map]));
    let best = in_parallel(PARTITIONS, |reducer| {
        let mut counts = Counts::new();
        for map in &mapped {
            let mut part = map[reducer].lock().expect("no holder of the lock panics");
            for (word, count) in part.drain() {
                *counts.entry(word).or_insert(0) += count;
            }
        }
        most_frequent(counts.into_iter().collect())
    });
    most_frequent(best.into_iter().flatten().collect())
}

/// The counts of a split, divided among the reducers.
fn count_words(split: &[u8]) -> Vec<Mutex<Counts>> {
    let mut counts = Counts::new();
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    for word in split.split(is_space).filter(|word| !word.is_empty()) {
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(counts.insert(word.to_vec(), 1)),
        }
    }
    // The same in every map partition, unlike `RandomState`.
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut parts: Vec<Counts> = (0..PARTITIONS).map(|_| Counts::new()).collect();
    for (word, count) in counts {
        let reducer = hasher.hash_one(&word) as usize % PARTITIONS;
        parts[reducer].insert(word, count);
    }
    parts.into_iter().map(Mutex::new).collect()
}

fn most_frequent(mut counts: Vec<(Vec<u8>, u64)>) -> Vec<(Vec<u8>, u64)> {
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts.truncate(PRINTED);
    counts
}

fn print_most_frequent(counts: Vec<(Vec<u8>, u64)>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for (word, count) in counts {
        write!(stdout, "{count}\t")?;
        stdout.write_all(&word)?;
        writeln!(stdout)?;
    }
    Ok(())
}

fn sort(text: &[u8], output: &Path) -> io::Result<()> {
    let splits = split_lines(text);
    let bounds = bounds(&splits);
    let mapped = in_parallel(splits.len(), |map| {
        let mut parts = vec![Vec::new(); PARTITIONS];
        for line in lines(splits[map]) {
            parts[bounds.partition_point(|bound| *bound <= line)].push(line);
        }
        parts
    });
    fs::create_dir(output)?;
    let written = in_parallel(PARTITIONS, |reducer| {
        let mut sorted: Vec<&[u8]> = mapped.iter().flat_map(|map| &map[reducer]).copied().collect();
        sorted.sort_unstable();
        write_lines(&sorted, &output.join(format!("part-{reducer:05}")))
    });
    written.into_iter().collect()
}

fn write_lines(lines: &[&[u8]], path: &Path) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for line in lines {
        file.write_all(line)?;
        file.write_all(b"\n")?;
    }
    file.into_inner()?.sync_all()
}

/// Lines between which the partitions of the sorted text end, from a sample of every split.
fn bounds<'a>(splits: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let mut sample = Vec::new();
    for split in splits {
        let step = (split.len() / SAMPLES).max(1);
        for place in (0..split.len()).step_by(step) {
            sample.extend(lines(&split[place..]).nth(1));
        }
    }
    sample.sort_unstable();
    let at = |partition: usize| sample.get(sample.len() * partition / PARTITIONS).copied();
    (1..PARTITIONS).filter_map(at).collect()
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|byte| *byte == b'\n')
}

/// The text in pieces of whole lines.
fn split_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut splits = Vec::new();
    let mut rest = text;
    for missing in (1..=PARTITIONS).rev() {
        let target = rest.len() / missing;
        let line_end = rest[target..].iter().position(|byte| *byte == b'\n');
        let (split, after) = rest.split_at(line_end.map_or(rest.len(), |end| target + end + 1));
        splits.push(split);
        rest = after;
    }
    splits.retain(|split| !split.is_empty());
    splits
}

/// Calls `work` with 0 to `count - 1`, on all threads; the results in order.
fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let take = || {
        let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let mine = numbers.take_while(|number| *number < count);
        mine.map(|number| (number, work(number))).collect::<Vec<_>>()
    };
    let mut results: Vec<(usize, T)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(take)).collect();
        let done = threads.into_iter().map(|thread| thread.join().expect("no thread panics"));
        done.flatten().collect()
    });
    results.sort_unstable_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_are_counted_across_splits() {
        let text = b"a b\na c\x0ba\n".repeat(100);
        let counted = word_count(&text);
        let expected = [(&b"a"[..], 300), (b"b", 100), (b"c", 100)];
        assert_eq!(counted, expected.map(|(word, count)| (word.to_vec(), count)));
    }

    #[test]
    fn lines_come_out_sorted_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let text: String =
            (0..5000u32).map(|n| format!("{}\n", n.wrapping_mul(7919) % 5000)).collect();
        sort(text.as_bytes(), &folder.path().join("out")).unwrap();
        let parts = (0..PARTITIONS).map(|part| {
            fs::read_to_string(folder.path().join(format!("out/part-{part:05}"))).unwrap()
        });
        let mut expected: Vec<&str> = text.lines().collect();
        expected.sort_unstable();
        let sorted = parts.collect::<String>();
        assert!(sorted.lines().eq(expected));
    }
}
