//! What an application may touch outside its sandbox. Nothing is granted unless it is named.

use serde::{Deserialize, Serialize};
use std::path::Path;

/// The grants of one application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Files and directories that may be read, as `--allow-read` named them.
    pub read: Vec<PathGrant>,
    /// Files and directories that may be written and read, as `--allow-write` named them.
    pub write: Vec<PathGrant>,
    /// Environment of `main` and of its tasks.
    pub environment: Vec<(String, String)>,
}

/// How the URLs begin that stand beside local paths: object stores, and servers to read from.
const REMOTE: [&str; 3] = ["s3://", "http://", "https://"];

/// A path of the submitting machine and how the guest calls it, or a URL as both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathGrant {
    /// As the user wrote it: what a guest's path is compared with.
    pub guest: String,
    /// The same as an absolute path without `.` or `..`.
    pub host: String,
}

/// What a guest wants to do with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it or look at it.
    Read,
    /// Create, change or remove it.
    Write,
}

/// Whether a path is the URL of something that is no file of this machine.
pub fn is_remote(path: &str) -> bool {
    REMOTE.iter().any(|scheme| path.starts_with(scheme))
}

impl Access {
    /// The flag of `offshoot submit` that grants it.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Read => "--allow-read",
            Self::Write => "--allow-write",
        }
    }
}

impl Grants {
    /// The grant under which a guest may reach `path`, longest first, with the rest of the path.
    ///
    /// Compares whole components of lexical paths; the caller opens the rest beneath the grant
    /// so that links and `..` cannot leave it.
    pub fn find<'a>(&'a self, path: &'a str, access: Access) -> Option<(&'a PathGrant, &'a Path)> {
        let readable = match access {
            Access::Read => self.read.as_slice(),
            Access::Write => &[],
        };
        let beneath = |grant: &'a PathGrant| {
            let path = Path::new(path);
            let rest = path.strip_prefix(&grant.guest).or_else(|_| path.strip_prefix(&grant.host));
            rest.ok().map(|rest| (grant, rest))
        };
        self.write
            .iter()
            .chain(readable)
            .filter_map(beneath)
            .max_by_key(|(grant, _)| grant.host.len())
    }
}
