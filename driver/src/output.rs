//! The commit of an output directory: staged parts, one manifest, an idempotent roll-forward.
//!
//! ```text
//!   <out>/.staging/<key>/part-00000.17     what attempts wrote
//!   <out>/_commits/<key>.json              put if absent: the moment of the commit
//!   <out>/part-00000                       renamed from the staging directory
//!   <out>/_SUCCESS                         last
//! ```
//!
//! Before the manifest there is no output; after it there is all of it, because whoever finds the
//! manifest can finish the work: [`Output::commit`] renames what is still staged and takes what
//! is renamed already as done.

use offshoot_proto::id::Partition;
use offshoot_proto::outcome::StagedPart;
use offshoot_proto::part::PartNames;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

/// An output that is being written.
#[derive(Debug)]
pub struct Output {
    directory: PathBuf,
    key: String,
    prefix: String,
    parts: BTreeMap<Partition, StagedPart>,
}

/// Why an output could not be committed. Nothing of it is visible then, unless `committed`.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A step failed.
    #[error("output {path}: {step}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was done.
        step: &'static str,
        /// The system's word.
        error: io::Error,
    },
    /// A staged part is not what its task reported.
    #[error(
        "output {path}: the staged part has {found_length} bytes and checksum {found:08x}, its \
         task reported {length} and {expected:08x} (an output on several machines must be on a \
         file system that all of them share)"
    )]
    Damaged {
        /// The staged part.
        path: PathBuf,
        /// Reported length.
        length: u64,
        /// Reported checksum.
        expected: u32,
        /// Length that is there.
        found_length: u64,
        /// Checksum of what is there.
        found: u32,
    },
    /// Another commit with this key is there, of other parts.
    #[error("output {path}: committed before, with other parts")]
    Conflict {
        /// The manifest.
        path: PathBuf,
    },
}

// === impl Output ===

impl Output {
    /// Makes the directory and its staging directory.
    pub fn begin(directory: PathBuf, key: String, prefix: &str) -> Result<Self, OutputError> {
        let named = PartNames::new(prefix);
        named.map_err(|error| {
            failed(&directory, "naming its parts", io::Error::other(error.to_string()))
        })?;
        let output = Self { directory, key, prefix: prefix.to_owned(), parts: BTreeMap::new() };
        let staging = output.staging();
        fs::create_dir_all(&staging).map_err(|error| failed(&staging, "creating it", error))?;
        Ok(output)
    }

    /// Where attempts stage their parts.
    pub fn staging(&self) -> PathBuf {
        self.directory.join(".staging").join(&self.key)
    }

    /// The accepted part of a partition.
    pub fn add(&mut self, partition: Partition, part: StagedPart) {
        self.parts.insert(partition, part);
    }

    /// Makes the output visible: all of it, or an error and nothing.
    pub fn commit(self) -> Result<(), OutputError> {
        for part in self.parts.values() {
            check(part)?;
        }
        self.write_manifest()?;
        self.roll_forward()
    }

    /// Removes what was staged, and the directory if nothing else is in it.
    pub fn abandon(self) {
        let _ = fs::remove_dir_all(self.staging());
        for directory in [self.directory.join(".staging"), self.directory] {
            // Not empty: somebody else's, and kept.
            let _ = fs::remove_dir(directory);
        }
    }

    fn part(&self, partition: Partition) -> PathBuf {
        let names = PartNames::new(&self.prefix).expect("`begin` has looked at it");
        self.directory.join(names.of(partition))
    }

    fn manifest(&self) -> String {
        let mut text = String::from("{\n  \"parts\": [");
        for (index, (partition, part)) in self.parts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(
                text,
                "{comma}\n    {{\"partition\": {partition}, \"staged\": {:?}, \"bytes\": {}, \
                 \"crc32\": {}}}",
                part.path, part.length, part.checksum
            );
        }
        text.push_str("\n  ]\n}\n");
        text
    }

    /// Put if absent: written whole under another name, then linked.
    fn write_manifest(&self) -> Result<(), OutputError> {
        let commits = self.directory.join("_commits");
        fs::create_dir_all(&commits).map_err(|error| failed(&commits, "creating it", error))?;
        let path = commits.join(format!("{}.json", self.key));
        let new = commits.join(format!(".{}.new", self.key));
        let text = self.manifest();
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|error| failed(&new, "writing the manifest", error))?;
        let linked = fs::hard_link(&new, &path);
        let _ = fs::remove_file(&new);
        match linked {
            Ok(()) => sync_directory(&commits),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let there = fs::read_to_string(&path)
                    .map_err(|error| failed(&path, "reading the manifest", error))?;
                if there == text { Ok(()) } else { Err(OutputError::Conflict { path }) }
            }
            Err(error) => Err(failed(&path, "committing the manifest", error)),
        }
    }

    fn roll_forward(&self) -> Result<(), OutputError> {
        for (partition, part) in &self.parts {
            let target = self.part(*partition);
            match fs::rename(&part.path, &target) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && target.exists() => {}
                Err(error) => return Err(failed(&target, "moving the part there", error)),
            }
        }
        let success = self.directory.join("_SUCCESS");
        File::create(&success).map_err(|error| failed(&success, "creating it", error))?;
        sync_directory(&self.directory)?;
        let _ = fs::remove_dir_all(self.staging());
        let _ = fs::remove_dir(self.directory.join(".staging"));
        Ok(())
    }
}

fn failed(path: &Path, step: &'static str, error: io::Error) -> OutputError {
    OutputError::Io { path: path.to_owned(), step, error }
}

fn sync_directory(path: &Path) -> Result<(), OutputError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| failed(path, "making it durable", error))
}

/// Compares a staged part with its report, and makes it durable.
fn check(part: &StagedPart) -> Result<(), OutputError> {
    let path = PathBuf::from(&part.path);
    let read = |error| failed(&path, "reading the staged part", error);
    let mut file = File::open(&path).map_err(read)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut found_length = 0;
    loop {
        let count = file.read(&mut buffer).map_err(read)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        found_length += count as u64;
    }
    file.sync_all().map_err(read)?;
    let found = hasher.finalize();
    if (found_length, found) == (part.length, part.checksum) {
        return Ok(());
    }
    let (length, expected) = (part.length, part.checksum);
    Err(OutputError::Damaged { path, length, expected, found_length, found })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn staged(output: &Output, partition: u32, bytes: &[u8]) -> StagedPart {
        let path = output.staging().join(format!("part-{partition:05}.7"));
        fs::write(&path, bytes).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let checksum = crc32fast::hash(bytes);
        StagedPart { path, length: bytes.len() as u64, checksum, upload: None }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn parts_are_named_within_the_output() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        for prefix in ["../part-", "a/b", ".part-"] {
            let error = Output::begin(path.clone(), "k".to_owned(), prefix).unwrap_err();
            assert!(error.to_string().contains("cannot be named by"), "{error}");
            assert!(!path.exists());
        }
        let output = Output::begin(path.clone(), "k".to_owned(), "part-*.csv.gz").unwrap();
        assert_eq!(output.part(Partition(3)), path.join("part-00003.csv.gz"));
    }

    #[test]
    fn a_commit_leaves_parts_and_nothing_staged() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        let mut output = Output::begin(out.clone(), "app-1-0".into(), "part-").unwrap();
        for n in [0, 1] {
            let part = staged(&output, n, &[n as u8; 10]);
            output.add(Partition(n), part);
        }
        output.commit().unwrap();
        assert_eq!(names(&out), ["_SUCCESS", "_commits", "part-00000", "part-00001"]);
        assert_eq!(fs::read(out.join("part-00001")).unwrap(), [1; 10]);
    }

    #[test]
    fn a_damaged_part_commits_nothing() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        let mut output = Output::begin(out.clone(), "k".into(), "part-").unwrap();
        let mut part = staged(&output, 0, b"good");
        part.checksum ^= 1;
        output.add(Partition(0), part);
        let error = output.commit().unwrap_err();
        assert!(matches!(error, OutputError::Damaged { .. }), "{error}");
        assert!(!out.join("_commits").exists() && !out.join("part-00000").exists());
    }

    #[test]
    fn a_commit_that_was_cut_off_is_finished_by_the_next() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        let make = || {
            let mut output = Output::begin(out.clone(), "k".into(), "part-").unwrap();
            for n in [0u32, 1] {
                let part = staged(&output, n, &[n as u8; 3]);
                output.add(Partition(n), part);
            }
            output
        };
        let first = make();
        first.write_manifest().unwrap();
        fs::rename(&first.parts[&Partition(0)].path, first.part(Partition(0))).unwrap();
        first.roll_forward().unwrap();
        assert_eq!(names(&out), ["_SUCCESS", "_commits", "part-00000", "part-00001"]);
        make().commit().unwrap();
        assert_eq!(fs::read(out.join("part-00000")).unwrap(), [0; 3]);
    }

    #[test]
    fn abandoning_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        let output = Output::begin(out.clone(), "k".into(), "part-").unwrap();
        staged(&output, 0, b"x");
        output.abandon();
        assert!(!out.exists());
    }
}
