//! The job of the simulations: the word count of `guest-examples`, and what it must come to.
//!
//! What the guest sees must be the same in every process, or a seed that failed in one could do
//! something else in another: its memory is compressed on the wire. So the input has a place and
//! a time of its own, and the guest knows its output by another name than the system does.

use crate::store::SimStore;
use offshoot_proto::grants::{Grants, PathGrant};
use offshoot_proto::id::ModuleHash;
use offshoot_sandbox::compile::{Compiler, ModuleCache};
use offshoot_tests::guests;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use tempfile::{NamedTempFile, TempDir};

/// Lines of the input.
const LINES: u32 = 2_000;

/// Words that the program prints.
const PRINTED: usize = 20;

/// What the guest calls the directory in which it makes its outputs.
const RESULTS: &str = "/results";

/// The bucket, in seeds that use one.
const STORE: &str = "s3://bucket";

/// When the input was modified, since 1970.
const INPUT_TIME: Duration = Duration::from_secs(1_700_000_000);

/// The program, its input and its result, and room for simulations.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) wasm: Vec<u8>,
    pub(crate) hash: ModuleHash,
    pub(crate) cache: ModuleCache,
    input: PathBuf,
    directory: TempDir,
    counts: Counts,
}

/// How often each word is there.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Text with frequent and rare words.
fn text() -> String {
    let mut text = String::new();
    for line in 0..LINES {
        let rare = line.wrapping_mul(2_654_435_761) >> 20;
        let often = line % 17;
        text.push_str(&format!("the word{often} of line{line}  and\tword{rare} the end\n"));
    }
    text
}

/// Writes the input, which other processes may be reading: the same bytes, made as long ago.
fn write_input(text: &str) -> io::Result<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulation-input");
    fs::create_dir_all(&directory)?;
    let mut file = NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR"))?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_modified(UNIX_EPOCH + INPUT_TIME)?;
    let path = directory.join("text");
    file.persist(&path)?;
    Ok(path)
}

fn path_text(path: &Path) -> String {
    let text = path.to_str();
    text.expect("build and temporary directories have names in UTF-8").to_owned()
}

// === impl Job ===

impl Job {
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        let wasm = fs::read(guests::module("wordcount"))?;
        let hash = ModuleHash(*blake3::hash(&wasm).as_bytes());
        let directory = TempDir::new()?;
        let cache = ModuleCache::open(&directory.path().join("modules"), Compiler::InPlace)?;
        cache.get(hash, &wasm)?;
        let text = text();
        let input = write_input(&text)?;
        let mut counts = BTreeMap::new();
        for word in text.split_ascii_whitespace() {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
        Ok(Self { wasm, hash, cache, input, directory, counts })
    }

    /// The bytes of the input.
    pub(crate) fn input(&self) -> io::Result<Vec<u8>> {
        fs::read(&self.input)
    }

    /// Where a simulation may keep its files.
    pub(crate) fn directory(&self, seed: u64) -> PathBuf {
        self.directory.path().join(format!("seed-{seed}"))
    }

    /// Those of a run that saves its counts as `output`.
    pub(crate) fn arguments(&self, output: &str, is_remote: bool) -> Vec<String> {
        if is_remote {
            let (input, output) = (format!("{STORE}/in/text"), format!("{STORE}/{output}"));
            return vec!["wordcount".to_owned(), input, output];
        }
        let output = format!("{RESULTS}/{output}");
        vec!["wordcount".to_owned(), path_text(&self.input), output]
    }

    /// Those of a run that makes its output in `directory`.
    pub(crate) fn grants(&self, directory: &Path) -> Grants {
        let (input, results) = (path_text(&self.input), RESULTS.to_owned());
        Grants {
            read: vec![PathGrant { guest: input.clone(), host: input }],
            write: vec![
                PathGrant { guest: results, host: path_text(directory) },
                PathGrant { guest: STORE.to_owned(), host: STORE.to_owned() },
            ],
            environment: vec![],
        }
    }

    /// Compares what the program printed and saved with a count that is as simple as can be.
    pub(crate) fn check(&self, printed: &[u8], saved: &Counts) -> Result<(), Box<dyn Error>> {
        let mut best: Vec<_> = self.counts.iter().collect();
        best.sort_by_key(|(word, count)| (Reverse(**count), *word));
        let line = |(word, count): &(&String, &u64)| format!("{count}\t{word}\n");
        let expected: String = best.iter().take(PRINTED).map(line).collect();
        if printed != expected.as_bytes() {
            let printed = String::from_utf8_lossy(printed);
            return Err(format!("printed:\n{printed}expected:\n{expected}").into());
        }
        if *saved != self.counts {
            return Err(format!("saved:\n{saved:?}\nexpected:\n{:?}", self.counts).into());
        }
        Ok(())
    }
}

/// All parts of an output directory, which must be whole and nothing else.
pub(crate) fn read_output(output: &Path) -> Result<Counts, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(output)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_directory = output.join(&name).is_dir();
        let bytes = if is_directory { Vec::new() } else { fs::read(output.join(&name))? };
        files.push((name, bytes));
    }
    count(files)
}

/// The same of an output in the store.
pub(crate) async fn read_objects(store: &SimStore, output: &str) -> Result<Counts, Box<dyn Error>> {
    let contents = store.contents(output).await?.into_iter();
    let beneath = |path: &str| path.strip_prefix(output).unwrap_or(path)[1..].to_owned();
    let files = contents.map(|(path, bytes)| (beneath(&path), bytes));
    // Names of commits: they are directories in a directory.
    let name =
        |path: String| path.split_once('/').map_or(path.clone(), |(name, _)| name.to_owned());
    count(files.filter(|(path, _)| !path.ends_with(".json")).map(|(p, b)| (name(p), b)).collect())
}

/// The counts in the parts among these files, which are nothing else than an output.
fn count(files: Vec<(String, Vec<u8>)>) -> Result<Counts, Box<dyn Error>> {
    let mut counts = Counts::new();
    let mut succeeded = false;
    for (name, bytes) in files {
        match name.as_str() {
            "_SUCCESS" => succeeded = true,
            "_commits" if bytes.is_empty() => {}
            part if part.starts_with("part-") => {
                for line in String::from_utf8(bytes)?.lines() {
                    let (word, count) = line.split_once('\t').ok_or("a line without a count")?;
                    if counts.insert(word.to_owned(), count.parse()?).is_some() {
                        return Err(format!("{word} is saved twice").into());
                    }
                }
            }
            other => return Err(format!("{other} is left in the output").into()),
        }
    }
    if !succeeded {
        return Err("the output has no _SUCCESS".into());
    }
    Ok(counts)
}
