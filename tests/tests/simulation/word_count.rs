//! The job of the simulations: the word count of `guest-examples`, and what it must come to.

use offshoot_proto::grants::{Grants, PathGrant};
use offshoot_proto::id::ModuleHash;
use offshoot_sandbox::compile::{CompileError, Compiler, ModuleCache};
use offshoot_tests::guests;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Lines of the input.
const LINES: u32 = 2_000;

/// Words that the program prints.
const PRINTED: usize = 20;

/// The program, its input and its result, and room for simulations.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) wasm: Vec<u8>,
    pub(crate) hash: ModuleHash,
    directory: TempDir,
    counts: BTreeMap<String, u64>,
}

/// Text with frequent and rare words.
fn text() -> String {
    let mut text = String::new();
    for line in 0..LINES {
        let rare = line.wrapping_mul(2_654_435_761) >> 20;
        let often = line % 17;
        text.push_str(&format!(
            "the word{often} of line{line}  and\tword{rare} the end\n"
        ));
    }
    text
}

fn path_text(path: &Path) -> String {
    path.to_str()
        .expect("temporary directories have names in UTF-8")
        .to_owned()
}

fn grant(path: &Path) -> PathGrant {
    PathGrant {
        guest: path_text(path),
        host: path_text(path),
    }
}

// === impl Job ===

impl Job {
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        let wasm = fs::read(guests::module("wordcount"))?;
        let hash = ModuleHash(*blake3::hash(&wasm).as_bytes());
        Self::cache()?.get(hash, &wasm)?;
        let text = text();
        let directory = TempDir::new()?;
        fs::create_dir(directory.path().join("input"))?;
        fs::write(directory.path().join("input/text"), &text)?;
        let mut counts = BTreeMap::new();
        for word in text.split_ascii_whitespace() {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
        Ok(Self {
            wasm,
            hash,
            directory,
            counts,
        })
    }

    /// Compiled modules of this process.
    pub(crate) fn cache() -> Result<ModuleCache, CompileError> {
        static DIRECTORY: OnceLock<TempDir> = OnceLock::new();
        let make = || TempDir::new().expect("the system has room for a directory");
        ModuleCache::open(DIRECTORY.get_or_init(make).path(), Compiler::InPlace)
    }

    /// Where a simulation may keep its files.
    pub(crate) fn directory(&self, seed: u64) -> PathBuf {
        self.directory.path().join(format!("seed-{seed}"))
    }

    pub(crate) fn arguments(&self, output: &Path) -> Vec<String> {
        let input = self.directory.path().join("input/text");
        vec!["wordcount".to_owned(), path_text(&input), path_text(output)]
    }

    pub(crate) fn grants(&self, directory: &Path) -> Grants {
        Grants {
            read: vec![grant(&self.directory.path().join("input"))],
            write: vec![grant(directory)],
            environment: vec![],
        }
    }

    /// Compares what the program printed and saved with a count that is as simple as can be.
    pub(crate) fn check(&self, printed: &[u8], output: &Path) -> Result<(), Box<dyn Error>> {
        let mut best: Vec<_> = self.counts.iter().collect();
        best.sort_by_key(|(word, count)| (Reverse(**count), *word));
        let line = |(word, count): &(&String, &u64)| format!("{count}\t{word}\n");
        let expected: String = best.iter().take(PRINTED).map(line).collect();
        if printed != expected.as_bytes() {
            let printed = String::from_utf8_lossy(printed);
            return Err(format!("printed:\n{printed}expected:\n{expected}").into());
        }
        let saved = read_output(output)?;
        if saved != self.counts {
            return Err(format!("saved:\n{saved:?}\nexpected:\n{:?}", self.counts).into());
        }
        Ok(())
    }
}

/// All parts of an output, which must be whole and nothing else.
fn read_output(output: &Path) -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
    let mut counts = BTreeMap::new();
    let mut succeeded = false;
    for entry in fs::read_dir(output)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        match name.as_str() {
            "_SUCCESS" => succeeded = true,
            "_commits" => {}
            part if part.starts_with("part-") => {
                for line in fs::read_to_string(output.join(part))?.lines() {
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
