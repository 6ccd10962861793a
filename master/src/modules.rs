//! Modules as users uploaded them, one file each, named by the hash of its bytes.
//!
//! An upload is written to a file of its own, checked, and renamed: a file that has a hash for its
//! name has been whole once. Reads and writes are synchronous and small; whoever uses a module
//! compares its hash again.

use crate::state::{from_hex, hex};
use offshoot_proto::id::ModuleHash;
use offshoot_proto::limits::MODULE_BYTES_MAX;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// Bytes of one read or write, between which other tasks run.
pub const PIECE_BYTES: usize = 256 << 10;

/// Bytes of all modules: 256 of the largest. More is a directory that nobody cleans.
pub const STORE_BYTES_MAX: u64 = 256 * MODULE_BYTES_MAX;

/// A directory of modules; clones share it.
#[derive(Clone, Debug)]
pub struct ModuleStore {
    directory: Arc<Path>,
    books: Arc<Mutex<Books>>,
}

/// A module on its way in. Dropping it forgets what has come.
#[derive(Debug)]
pub struct Upload {
    store: ModuleStore,
    hash: ModuleHash,
    length: u64,
    received: u64,
    hasher: blake3::Hasher,
    path: PathBuf,
    file: File,
}

/// Why a module is not stored or not found. Every message is for the peer, too.
#[derive(Debug, Error)]
pub enum ModuleError {
    /// More than any module may have.
    #[error("module too large: {length} bytes, the limit is {limit}")]
    TooLarge {
        /// Bytes announced or sent.
        length: u64,
        /// The limit.
        limit: u64,
    },
    /// It ended early or went on.
    #[error("module is {found} bytes long, {announced} were announced")]
    WrongLength {
        /// Bytes announced.
        announced: u64,
        /// Bytes that came, as far as they were read.
        found: u64,
    },
    /// Its bytes have another hash than its name.
    #[error("module damaged on its way: its hash is {found}, {announced} was announced")]
    WrongHash {
        /// What was announced.
        announced: ModuleHash,
        /// What it is.
        found: ModuleHash,
    },
    /// The store is full.
    #[error("the master's module store is full ({limit} bytes); ask its operator to clean it")]
    Full {
        /// The limit.
        limit: u64,
    },
    /// No such module.
    #[error("module {hash} is not known to the master; upload it first")]
    Unknown {
        /// Its hash.
        hash: ModuleHash,
    },
    /// The disk does not play along.
    #[error("the master cannot {doing} a module: {source}")]
    Disk {
        /// What was tried.
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

#[derive(Debug, Default)]
struct Books {
    lengths: BTreeMap<ModuleHash, u64>,
    /// Of stored modules and of uploads, which may use all that they announced.
    bytes: u64,
    uploads: u64,
}

// === impl ModuleStore ===

impl ModuleStore {
    /// Opens or makes the directory and removes what unfinished uploads left.
    pub fn open(directory: &Path) -> Result<Self, ModuleError> {
        let scanned = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        let scanned = scanned.and_then(|()| scan(directory));
        let lengths = scanned.map_err(|source| ModuleError::Disk { doing: "list", source })?;
        let books = Books { bytes: lengths.values().sum(), lengths, uploads: 0 };
        Ok(Self { directory: directory.into(), books: Arc::new(Mutex::new(books)) })
    }

    /// Every module that is stored.
    pub fn hashes(&self) -> Vec<ModuleHash> {
        self.books().lengths.keys().copied().collect()
    }

    /// The length of a module that is stored.
    pub fn length(&self, hash: ModuleHash) -> Option<u64> {
        self.books().lengths.get(&hash).copied()
    }

    /// Begins an upload.
    pub fn upload(&self, hash: ModuleHash, length: u64) -> Result<Upload, ModuleError> {
        if length > MODULE_BYTES_MAX {
            let limit = MODULE_BYTES_MAX;
            return Err(ModuleError::TooLarge { length, limit });
        }
        let mut books = self.books();
        if books.bytes + length > STORE_BYTES_MAX {
            let limit = STORE_BYTES_MAX;
            return Err(ModuleError::Full { limit });
        }
        let path = self.directory.join(format!("{}.upload", books.uploads));
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.map_err(|source| ModuleError::Disk { doing: "create", source })?;
        books.uploads += 1;
        books.bytes += length;
        drop(books);
        Ok(Upload {
            store: self.clone(),
            hash,
            length,
            received: 0,
            hasher: blake3::Hasher::new(),
            path,
            file,
        })
    }

    /// Opens a module for reading, with its length.
    pub fn open_module(&self, hash: ModuleHash) -> Result<(File, u64), ModuleError> {
        let length = self.length(hash).ok_or(ModuleError::Unknown { hash })?;
        let file = File::open(self.path(hash))
            .map_err(|source| ModuleError::Disk { doing: "read", source })?;
        Ok((file, length))
    }

    fn path(&self, hash: ModuleHash) -> PathBuf {
        self.directory.join(hash.to_string())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn scan(directory: &Path) -> io::Result<BTreeMap<ModuleHash, u64>> {
    let mut lengths = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        if name.ends_with(".upload") {
            fs::remove_file(entry.path())?;
        } else if let Some(hash) = from_hex(name).filter(|hash| hex(hash) == name) {
            lengths.insert(ModuleHash(hash), entry.metadata()?.len());
        }
    }
    Ok(lengths)
}

// === impl Upload ===

impl Upload {
    /// Takes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ModuleError> {
        self.received += bytes.len() as u64;
        if self.received > self.length {
            return Err(self.wrong_length());
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|source| ModuleError::Disk { doing: "write", source })
    }

    /// Checks length and hash and stores the module durably.
    pub fn finish(self) -> Result<(), ModuleError> {
        if self.received != self.length {
            return Err(self.wrong_length());
        }
        let found = ModuleHash(*self.hasher.finalize().as_bytes());
        if found != self.hash {
            let announced = self.hash;
            return Err(ModuleError::WrongHash { announced, found });
        }
        let stored = self.file.sync_all();
        let stored = stored.and_then(|()| fs::rename(&self.path, self.store.path(self.hash)));
        let stored = stored.and_then(|()| File::open(&*self.store.directory)?.sync_all());
        stored.map_err(|source| ModuleError::Disk { doing: "store", source })?;
        let mut books = self.store.books();
        if books.lengths.insert(self.hash, self.length).is_none() {
            // The announced bytes are given back when `self` is dropped.
            books.bytes += self.length;
        }
        Ok(())
    }

    fn wrong_length(&self) -> ModuleError {
        ModuleError::WrongLength { announced: self.length, found: self.received }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; anything else is removed at the next start.
        let _ = fs::remove_file(&self.path);
        self.store.books().bytes -= self.length;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read;

    fn hash_of(bytes: &[u8]) -> ModuleHash {
        ModuleHash(*blake3::hash(bytes).as_bytes())
    }

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn a_module_is_stored_under_its_hash_and_found_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = ModuleStore::open(directory.path()).unwrap();
        let hash = hash_of(b"module");
        assert!(matches!(store.open_module(hash), Err(ModuleError::Unknown { .. })));
        for _ in 0..2 {
            let mut upload = store.upload(hash, 6).unwrap();
            upload.write(b"mod").unwrap();
            upload.write(b"ule").unwrap();
            upload.finish().unwrap();
        }
        assert_eq!((store.books().bytes, files(directory.path())), (6, 1));
        let store = ModuleStore::open(directory.path()).unwrap();
        assert_eq!((store.hashes(), store.length(hash)), (vec![hash], Some(6)));
        let mut text = String::new();
        store.open_module(hash).unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "module");
    }

    #[test]
    fn what_is_not_announced_so_is_refused_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = ModuleStore::open(directory.path()).unwrap();
        let mut wrong = store.upload(hash_of(b"other"), 6).unwrap();
        wrong.write(b"module").unwrap();
        assert!(matches!(wrong.finish(), Err(ModuleError::WrongHash { .. })));
        let short = store.upload(hash_of(b"module"), 6).unwrap();
        assert!(matches!(short.finish(), Err(ModuleError::WrongLength { found: 0, .. })));
        let mut long = store.upload(hash_of(b"module"), 3).unwrap();
        assert!(matches!(long.write(b"module"), Err(ModuleError::WrongLength { found: 6, .. })));
        drop(long);
        let large = store.upload(hash_of(b""), MODULE_BYTES_MAX + 1);
        assert!(matches!(large, Err(ModuleError::TooLarge { .. })));
        assert_eq!((store.books().bytes, files(directory.path())), (0, 0));
    }

    #[test]
    fn the_store_has_an_end_and_gives_back_what_uploads_announced() {
        let directory = tempfile::tempdir().unwrap();
        let store = ModuleStore::open(directory.path()).unwrap();
        let count = STORE_BYTES_MAX / MODULE_BYTES_MAX;
        let upload = || store.upload(hash_of(b""), MODULE_BYTES_MAX);
        let all: Vec<_> = (0..count).map(|_| upload().unwrap()).collect();
        assert!(matches!(upload(), Err(ModuleError::Full { .. })));
        drop(all);
        assert!(upload().is_ok());
    }

    #[test]
    fn left_overs_of_uploads_are_removed_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("3.upload"), b"half").unwrap();
        fs::write(directory.path().join("notes"), b"not ours").unwrap();
        let store = ModuleStore::open(directory.path()).unwrap();
        assert_eq!((store.hashes(), files(directory.path())), (vec![], 1));
    }
}
