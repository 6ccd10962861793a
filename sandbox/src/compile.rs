//! Compilation: in a child process with limits, once a machine and user, kept on disk.
//!
//! ```text
//!   <cache>/<hash>-<version>.module   compiled code     ┐ both under one authentication code,
//!   <cache>/<hash>-<version>.info     ModuleInfo        ┘ in <...>.tag
//!   <cache>/<hash>-<version>.refused  why it is refused: a bomb is paid for once
//!   <cache>/key                       32 random bytes, only for this user
//! ```
//!
//! Compiled code is never accepted from the network, and on disk only with its code: an edited
//! file is compiled again. Two processes that want the same module wait for one compilation.

mod child;

use crate::engine::ARTIFACT_VERSION;
use crate::module::{ModuleError, ModuleInfo};
use offshoot_proto::frame;
use offshoot_proto::id::ModuleHash;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub use child::{CompileLimits, child_main};

/// Compiled modules of this machine and user.
#[derive(Clone, Debug)]
pub struct ModuleCache {
    directory: PathBuf,
    compiler: Compiler,
}

/// Who compiles.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// `PROGRAM compile`, a child of this process with limits.
    Child(PathBuf),
    /// This process: for a simulation, where no process may be started.
    InPlace,
}

/// A compiled module, ready for slots.
#[derive(Debug)]
pub struct Artifact {
    /// Compiled code.
    pub code: File,
    /// The encoded [`ModuleInfo`].
    pub description: File,
    /// The same, decoded.
    pub info: ModuleInfo,
}

/// Why there is no artifact.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The module is refused.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// It took more than it may.
    #[error("CompileLimit: {0}")]
    Limit(String),
    /// Its compiled code is larger than it may be.
    #[error("ArtifactTooLarge: {bytes} bytes, limit {limit}")]
    ArtifactTooLarge {
        /// Bytes of compiled code.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The cache cannot be used.
    #[error("module cache {path}: {error}")]
    Cache {
        /// Which path.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// The compiling process failed otherwise.
    #[error("the compiling process failed: {0}")]
    Child(String),
}

/// What the child answers; also what is remembered of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Verdict {
    Compiled,
    Refused(ModuleError),
    Limit(String),
    ArtifactTooLarge { bytes: u64, limit: u64 },
}

// === impl ModuleCache ===

impl ModuleCache {
    /// A cache in `directory`, made if it is missing, readable for this user only.
    pub fn open(directory: &Path, compiler: Compiler) -> Result<Self, CompileError> {
        let cache = Self { directory: directory.to_owned(), compiler };
        let made = fs::DirBuilder::new();
        let mut made = made;
        std::os::unix::fs::DirBuilderExt::mode(&mut made, 0o700);
        made.recursive(true).create(directory).map_err(|error| cache.error("", error))?;
        cache.key()?;
        Ok(cache)
    }

    /// The artifact of a module, if it is there and untouched.
    pub fn lookup(&self, hash: ModuleHash) -> Result<Option<Artifact>, CompileError> {
        if let Ok(bytes) = fs::read(self.path(hash, "refused"))
            && let Ok(verdict) = frame::from_bytes::<Verdict>(&bytes)
        {
            verdict.into_result()?;
        }
        match self.read(hash) {
            Ok(artifact) => Ok(artifact),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error(&self.name(hash, "module"), error)),
        }
    }

    /// The artifact of a module, compiled if it is not there. Blocks meanwhile.
    pub fn get(&self, hash: ModuleHash, wasm: &[u8]) -> Result<Artifact, CompileError> {
        if let Some(artifact) = self.lookup(hash)? {
            return Ok(artifact);
        }
        let lock_name = self.name(hash, "lock");
        let lock = self.create(&lock_name)?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| self.error(&lock_name, error.into()))?;
        // Another process may have compiled it while this one waited.
        if let Some(artifact) = self.lookup(hash)? {
            return Ok(artifact);
        }
        self.compile(hash, wasm)?;
        let found = self.lookup(hash)?;
        found.ok_or_else(|| CompileError::Child("it left no artifact".to_owned()))
    }

    fn compile(&self, hash: ModuleHash, wasm: &[u8]) -> Result<(), CompileError> {
        let (code, info) = (self.name(hash, "module.new"), self.name(hash, "info.new"));
        let (code_file, info_file) = (self.create(&code)?, self.create(&info)?);
        let verdict = match &self.compiler {
            Compiler::Child(program) => child::run(program, wasm, code_file, info_file),
            Compiler::InPlace => child::compile(wasm, code_file, info_file),
        };
        let verdict = verdict.map_err(CompileError::Child)?;
        if verdict != Verdict::Compiled {
            self.write(&self.name(hash, "refused"), &frame::to_bytes(&verdict))?;
            for name in [&code, &info] {
                let _ = fs::remove_file(self.directory.join(name));
            }
            return verdict.into_result();
        }
        let tag = self.tag(&self.directory.join(&code), &self.directory.join(&info));
        let tag = tag.map_err(|error| self.error(&code, error))?;
        for (from, to) in [(&code, "module"), (&info, "info")] {
            let to = self.path(hash, to);
            fs::rename(self.directory.join(from), to).map_err(|error| self.error(from, error))?;
        }
        self.write(&self.name(hash, "tag"), tag.as_bytes())
    }

    fn read(&self, hash: ModuleHash) -> io::Result<Option<Artifact>> {
        let expected = fs::read(self.path(hash, "tag"))?;
        let (code, info) = (self.path(hash, "module"), self.path(hash, "info"));
        let tag = self.tag(&code, &info)?;
        if tag != *expected.as_slice() {
            tracing::warn!(module = %hash, "the cached artifact was changed; compiling it again");
            return Ok(None);
        }
        let Ok(decoded) = frame::from_bytes(&fs::read(&info)?) else {
            return Ok(None);
        };
        Ok(Some(Artifact {
            code: File::open(code)?,
            description: File::open(info)?,
            info: decoded,
        }))
    }

    /// Keyed hash of both files.
    fn tag(&self, code: &Path, info: &Path) -> io::Result<blake3::Hash> {
        let key = self.key().map_err(io::Error::other)?;
        let mut hasher = blake3::Hasher::new_keyed(&key);
        for path in [code, info] {
            let file = File::open(path)?;
            hasher.update(&file.metadata()?.len().to_le_bytes());
            hasher.update_reader(file)?;
        }
        Ok(hasher.finalize())
    }

    fn key(&self) -> Result<[u8; 32], CompileError> {
        let path = self.directory.join("key");
        match fs::read(&path) {
            Ok(bytes) if bytes.len() == 32 => {
                let mut key = [0; 32];
                key.copy_from_slice(&bytes);
                return Ok(key);
            }
            Ok(_) => {
                let error = io::Error::other("not 32 bytes; remove it to make a new one");
                return Err(self.error("key", error));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.error("key", error)),
        }
        let mut key = [0; 32];
        rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| self.error("key", error.into()))?;
        let name = format!("key.{}", std::process::id());
        self.write(&name, &key)?;
        // Whoever links first wins; all read what is there then.
        let linked = fs::hard_link(self.directory.join(&name), &path);
        let _ = fs::remove_file(self.directory.join(&name));
        match linked {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.key(),
            Err(error) => Err(self.error("key", error)),
        }
    }

    fn name(&self, hash: ModuleHash, kind: &str) -> String {
        format!("{hash}-{ARTIFACT_VERSION}.{kind}")
    }

    fn path(&self, hash: ModuleHash, kind: &str) -> PathBuf {
        self.directory.join(self.name(hash, kind))
    }

    fn create(&self, name: &str) -> Result<OwnedFd, CompileError> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        open(self.directory.join(name), flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| self.error(name, error.into()))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), CompileError> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let temporary = self.directory.join(format!("{name}.{}", std::process::id()));
        let written = options
            .open(&temporary)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| fs::rename(&temporary, self.directory.join(name)));
        written.map_err(|error| self.error(name, error))
    }

    fn error(&self, name: &str, error: io::Error) -> CompileError {
        CompileError::Cache { path: self.directory.join(name), error }
    }
}

// === impl Verdict ===

impl Verdict {
    fn into_result(self) -> Result<(), CompileError> {
        match self {
            Self::Compiled => Ok(()),
            Self::Refused(error) => Err(error.into()),
            Self::Limit(text) => Err(CompileError::Limit(text)),
            Self::ArtifactTooLarge { bytes, limit } => {
                Err(CompileError::ArtifactTooLarge { bytes, limit })
            }
        }
    }
}

#[cfg(test)]
mod tests;
