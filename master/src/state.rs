//! The state directory: what a master must still know after a restart.
//!
//! ```text
//!   DIR/                  mode 0700
//!     lock                held while a master runs; says who holds it
//!     authority.pem       the cluster's key and certificate (see offshoot-net)
//!     admin.credential    what lets a person in as tenant `admin`
//!     counters            format, cluster, epoch, next application
//!     redeemed            join tokens that have been used
//!     tenants             who shares the cluster, and by what rules
//!     drains              workers that are to leave, and by when
//!     modules/HASH        modules as they were uploaded
//! ```
//!
//! Not here: applications, other workers, leases. They register again.

mod counters;
mod drains;
mod redeemed;
mod tenants;

#[cfg(test)]
mod tests;

pub(crate) use counters::Counters;
pub use counters::FORMAT_VERSION;
pub(crate) use drains::{Drains, DrainsFile};
pub(crate) use redeemed::{Redeemed, Redemption, from_hex, hex};
pub(crate) use tenants::TenantsFile;

use crate::cluster::{ADMIN, Tenants};
use crate::modules::{ModuleError, ModuleStore};
use crate::ports::Clock;
use offshoot_net::{Authority, AuthorityError, Credential, CredentialError, Role, Validity};
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use thiserror::Error;

/// An admin credential with less life left than this is replaced when a master starts.
const ADMIN_LIFE_LEFT_MIN: Duration = Duration::from_secs(120 * 24 * 60 * 60);

/// Bytes read of a lock file to name its holder.
const HOLDER_BYTES_MAX: u64 = 256;

/// An open state directory. While it lives, no other master can open it.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    authority: Arc<Authority>,
    counters: Counters,
    redeemed: Redeemed,
    modules: ModuleStore,
    tenants: (TenantsFile, Tenants),
    drains: (DrainsFile, Drains),
    /// Released when it is closed.
    lock: File,
}

/// What a running master takes apart.
pub(crate) struct Parts {
    pub(crate) counters: Counters,
    pub(crate) redeemed: Redeemed,
    pub(crate) modules: ModuleStore,
    pub(crate) tenants: (TenantsFile, Tenants),
    pub(crate) drains: (DrainsFile, Drains),
    /// Keeps the directory locked.
    pub(crate) lock: File,
}

/// Why a state directory cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The directory cannot be made or entered.
    #[error("state directory {}: {source}; choose one that this user may write", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another master uses it.
    #[error("state directory {} is locked by {holder}; stop that master first", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Process and host, as far as known.
        holder: String,
    },
    /// A newer master has written it.
    #[error(
        "{}: written by format version {found}, this program knows up to {supported}; use the \
         newer program", path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
        /// What is known here.
        supported: u64,
    },
    /// Its files belong to different clusters.
    #[error(
        "{} is of cluster {found}, but the authority beside it is of {expected}; these files do \
         not belong together", path.display()
    )]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// The authority's cluster.
        expected: String,
        /// The file's.
        found: String,
    },
    /// A file is not what was written.
    #[error("{}, line {line}: {reason}; restore the file from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The file with those that are to leave is not what was written. What is true by now no
    /// backup knows.
    #[error(
        "{}, line {line}: {reason}; delete the file: then no worker is to leave, and \
         `offshoot drain` may say it again", path.display()
    )]
    DamagedDrains {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The authority cannot be opened.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The admin credential cannot be written.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The modules cannot be opened.
    #[error(transparent)]
    Modules(#[from] ModuleError),
}

// === impl State ===

impl State {
    /// Opens `directory`, or makes a new cluster in it, and begins a new epoch.
    pub fn open(directory: &Path, clock: &dyn Clock) -> Result<Self, StateError> {
        let unusable = |source| StateError::Directory { path: directory.to_owned(), source };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory).map_err(unusable)?;
        let lock = lock(directory)?;
        let now = clock.now();
        let authority = Authority::open_or_create(directory, now)?;
        let mut counters = Counters::open(directory, authority.cluster())?;
        counters.begin_epoch()?;
        let redeemed = Redeemed::open(directory, now)?;
        let modules = ModuleStore::open(&directory.join("modules"))?;
        let tenants = TenantsFile::open(directory)?;
        let drains = DrainsFile::open(directory)?;
        let state = Self {
            directory: directory.to_owned(),
            authority: Arc::new(authority),
            counters,
            redeemed,
            modules,
            tenants,
            drains,
            lock,
        };
        state.keep_admin_credential(now)?;
        Ok(state)
    }

    /// The cluster's authority.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// Where the credential of tenant `admin` is.
    pub fn admin_credential(&self) -> PathBuf {
        self.directory.join("admin.credential")
    }

    pub(crate) fn into_parts(self) -> Parts {
        Parts {
            counters: self.counters,
            redeemed: self.redeemed,
            modules: self.modules,
            tenants: self.tenants,
            drains: self.drains,
            lock: self.lock,
        }
    }

    /// Writes the admin credential unless there is one that is good for long enough.
    fn keep_admin_credential(&self, now: SystemTime) -> Result<(), StateError> {
        let path = self.admin_credential();
        let good = Credential::load(&path).is_ok_and(|credential| {
            let ours = credential.authority() == self.authority.certificate();
            let ends = credential.not_after();
            ours && ends.is_ok_and(|end| end >= now + ADMIN_LIFE_LEFT_MIN)
        });
        if !good {
            let role = Role::Tenant(ADMIN.to_owned());
            let credential = self.authority.mint(&role, Validity::of_tenant(now))?;
            credential.save(&path)?;
        }
        Ok(())
    }
}

/// Takes the directory for this process, and says so in the lock file.
fn lock(directory: &Path) -> Result<File, StateError> {
    let path = directory.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options
        .open(&path)
        .map_err(|source| StateError::Directory { path: directory.to_owned(), source })?;
    let failed = |doing, source| StateError::File { doing, path: path.clone(), source };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(StateError::Locked { path: directory.to_owned(), holder: holder(&file) });
        }
        Err(error) => return Err(failed("lock", error.into())),
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let text = format!("process {} on {}\n", std::process::id(), host.trim());
    file.set_len(0)
        .and_then(|()| file.write_all(text.as_bytes()))
        .map_err(|source| failed("write", source))?;
    Ok(file)
}

fn holder(file: &File) -> String {
    let mut text = String::new();
    let read = file.take(HOLDER_BYTES_MAX).read_to_string(&mut text);
    match (read, text.trim()) {
        (Ok(_), holder) if !holder.is_empty() => holder.escape_debug().to_string(),
        _ => "another process".to_owned(),
    }
}

/// Replaces a file as a whole, durably: after a crash it is the old or the new one.
fn replace(path: &Path, text: &str) -> Result<(), StateError> {
    let staged = path.with_extension("staged");
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&staged)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&staged, path)?;
        sync_directory(path)
    };
    write().map_err(|source| StateError::File { doing: "write", path: path.to_owned(), source })
}

/// Makes the entry of `path` in its directory durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads a file that may not be there yet.
fn read(path: &Path) -> Result<Option<String>, StateError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::File { doing: "read", path: path.to_owned(), source }),
    }
}
