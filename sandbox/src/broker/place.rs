//! Where a request points, by the text of its path alone.

use super::error::BrokerError;
use crate::wasi::Errno;
use std::path::{Path, PathBuf};

/// Bytes of a path, the `PATH_MAX` of Linux: longer ones are refused before anything is done.
const PATH_BYTES_MAX: usize = 4096;

/// A granted path under one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// How the guest calls it: no trailing slash, no `.` but when it is one.
    pub(super) guest: String,
    /// Absolute path.
    pub(super) host: PathBuf,
    /// Whether `main` may write it.
    pub(super) writable: bool,
}

/// A path in a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) root: &'a Root,
    /// Without `.` and double slashes; empty for the grant itself. May have `..`.
    pub(super) rest: String,
    /// Whether it ended in a slash, and so can only be a directory.
    pub(super) must_be_directory: bool,
}

// === impl Place ===

impl<'a> Place<'a> {
    /// Refuses what can be seen to be wrong without looking at any file. That links lead out
    /// is for the kernel to see.
    pub(super) fn new(root: &'a Root, path: &str) -> Result<Self, BrokerError> {
        Self::check_text(path)?;
        if path.starts_with('/') {
            let path = path.to_owned();
            return Err(BrokerError::LeadsOut { path });
        }
        if climbs_out(path) {
            let path = format!("{}/{path}", root.guest.trim_end_matches('/'));
            return Err(BrokerError::LeadsOut { path });
        }
        Ok(Self {
            root,
            rest: components(path).collect::<Vec<_>>().join("/"),
            must_be_directory: path.ends_with('/'),
        })
    }

    /// Whether the text can be a path at all.
    pub(super) fn check_text(path: &str) -> Result<(), BrokerError> {
        let (what, errno) = if path.len() > PATH_BYTES_MAX {
            ("longer than the limit of 4096", Errno::NAMETOOLONG)
        } else if path.contains('\0') {
            ("malformed: it contains a NUL", Errno::INVAL)
        } else {
            return Ok(());
        };
        let length = path.len();
        Err(BrokerError::Malformed { what, length, errno })
    }

    /// Whether it is the grant, not something beneath it.
    pub(super) fn is_root(&self) -> bool {
        self.rest.is_empty()
    }

    /// The same place with one more name.
    pub(super) fn join(&self, name: &str) -> Self {
        let rest = match self.rest.as_str() {
            "" => name.to_owned(),
            rest => format!("{rest}/{name}"),
        };
        Self { root: self.root, rest, must_be_directory: false }
    }

    /// As the guest would write it.
    pub(super) fn guest_path(&self) -> String {
        match (self.root.guest.as_str(), self.rest.as_str()) {
            (guest, "") => guest.to_owned(),
            (".", rest) => rest.to_owned(),
            ("/", rest) => format!("/{rest}"),
            (guest, rest) => format!("{guest}/{rest}"),
        }
    }

    /// Absolute path on the host, links not followed.
    pub(super) fn host_path(&self) -> PathBuf {
        if self.is_root() { self.root.host.clone() } else { self.root.host.join(&self.rest) }
    }

    pub(super) fn system(&self, errno: rustix::io::Errno) -> BrokerError {
        let path = self.guest_path();
        // Beneath a directory, this is how the kernel says that a path leads out of it.
        if errno == rustix::io::Errno::XDEV {
            return BrokerError::LeadsOut { path };
        }
        let errno = errno.into();
        BrokerError::System { path, errno }
    }

    pub(super) fn error(&self, errno: Errno) -> BrokerError {
        let path = self.guest_path();
        BrokerError::System { path, errno }
    }
}

/// A path without trailing slash, double slashes and `.`; `.` if nothing is left.
pub(super) fn normal(path: &str) -> String {
    let joined = components(path).collect::<Vec<_>>().join("/");
    match (path.starts_with('/'), joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// Whether an absolute path is inside another, and not the same.
pub(super) fn is_beneath(path: &Path, directory: &Path) -> bool {
    path != directory && path.starts_with(directory)
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|component| !matches!(*component, "" | "."))
}

/// Whether a prefix of the path has more `..` than names.
fn climbs_out(path: &str) -> bool {
    let mut depth = 0_i32;
    components(path).any(|component| {
        depth += if component == ".." { -1 } else { 1 };
        depth < 0
    })
}
