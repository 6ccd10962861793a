//! The trusted side of files: what a guest names, opened beneath what its application was granted.
//!
//! ```text
//!   guest: open("data/in.csv")
//!     │ wasi-libc: longest preopen is "data", the rest is "in.csv"
//!   slot: PathRequest { preopen: 0, path: "in.csv", Open { read } }
//!     │
//!   Broker: is it granted? ─► openat2("data", "in.csv", BENEATH | NO_MAGICLINKS) ─► descriptor
//! ```
//!
//! Every grant is a preopen of its own, files too: of a preopened file the guest asks for `.`. So
//! the list depends on the grants alone, never on what exists at the moment, and has the same
//! numbers in the driver and in every executor; a fork needs that, because wasi-libc keeps the list
//! in guest memory. And a grant of one file says nothing of its siblings.
//!
//! The last preopen is `/`, under which nothing is granted. Without it wasi-libc would answer
//! a path that no grant covers by itself, with *no such file*, and nobody could say which flag
//! is missing.
//!
//! What keeps a guest inside:
//! - The kernel resolves each path beneath the grant in one step, links and `..` included.
//! - The grant's own path is the submitter's word and may lead through links, except where a guest
//!   could have changed it: a grant inside a writable one is resolved beneath that.
//! - A guest makes no links, and moves none: one moved to where a grant begins would be followed.
//! - Devices, pipes and sockets are never opened for reading or writing (`O_PATH` only looks).
//!
//! Nothing is open between two requests. Directories never become descriptors of a slot.
#![forbid(unsafe_code)]

mod beneath;
mod error;
mod inputs;
mod operations;
mod place;
#[cfg(test)]
mod tests;

pub use error::BrokerError;

use offshoot_proto::grants::{Access, Grants, is_remote};
use offshoot_proto::link::{PathReply, PathRequest};
use place::{Place, Root, is_beneath, normal};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The preopen that stands for everything that is not granted.
const EVERYWHERE: &str = "/";

/// Opens files for the guests of one application.
#[derive(Clone, Debug)]
pub struct Broker {
    roots: Vec<Root>,
    side: Side,
}

/// Whose guest asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// `main`.
    Main,
    /// Tasks: any attempt of one may run twice or be given up, so it writes nothing but its output.
    Tasks,
}

// === impl Broker ===

impl Broker {
    /// For `main`. Opens nothing.
    pub fn new(grants: &Grants) -> Self {
        Self::with_side(grants, Side::Main)
    }

    /// For tasks, which may only read what `main` may write. Has the same preopens. Opens nothing.
    pub fn for_tasks(grants: &Grants) -> Self {
        Self::with_side(grants, Side::Tasks)
    }

    fn with_side(grants: &Grants, side: Side) -> Self {
        let read = grants.read.iter().map(|grant| (grant, false));
        let write = grants.write.iter().map(|grant| (grant, true));
        let mut roots = Vec::<Root>::new();
        // What is no file has no descriptor: `offshoot-store` looks at those grants.
        let local = read.chain(write).filter(|(grant, _)| !is_remote(&grant.guest));
        for (grant, writable) in local {
            // Listings name files by their absolute paths, so those must open too.
            for guest in [&grant.guest, &grant.host] {
                let guest = normal(guest);
                match roots.iter_mut().find(|root| root.guest == guest) {
                    Some(root) => root.writable |= writable,
                    None => roots.push(Root { guest, host: normal(&grant.host).into(), writable }),
                }
            }
        }
        Self { roots, side }
    }

    /// Guest paths of the preopens, in the order of their numbers, with whether this side may
    /// write beneath them.
    pub fn preopens(&self) -> Vec<(String, bool)> {
        let preopen = |root: &Root| (root.guest.clone(), root.writable && self.side == Side::Main);
        let everywhere = self.has_everywhere().then(|| (EVERYWHERE.to_owned(), false));
        self.roots.iter().map(preopen).chain(everywhere).collect()
    }

    /// For wasi-libc `/` and `.` are the same prefix; who is granted one of them needs no other.
    fn has_everywhere(&self) -> bool {
        let granted = |root: &Root| [EVERYWHERE, "."].contains(&root.guest.as_str());
        !self.roots.iter().any(granted)
    }

    /// Does what a slot asks for.
    ///
    /// A file that was opened comes as [`PathReply::Opened`] with its descriptor, a directory as
    /// [`PathReply::Stat`] without one. Whatever the request, nothing outside the grants is
    /// touched.
    pub fn handle(&self, request: &PathRequest) -> (PathReply, Option<OwnedFd>) {
        self.run(request).unwrap_or_else(|error| {
            let reply = PathReply::Errno { errno: error.errno().raw(), message: error.to_string() };
            (reply, None)
        })
    }

    /// The innermost grant that a path is in, as the guest or the host calls it.
    fn locate(&self, path: &str, access: Access) -> Result<Place<'_>, BrokerError> {
        Place::check_text(path)?;
        let wanted = normal(path);
        let allowed = |root: &&Root| access == Access::Read || root.writable;
        let beneath = |root| Some((root, rest_of(&wanted, root)?));
        // Reversed, because of equals the last is taken: the guest's own name comes first.
        let found = self.roots.iter().rev().filter(allowed).filter_map(beneath);
        let innermost = found.max_by_key(|(root, _)| root.host.as_os_str().len());
        let Some((root, rest)) = innermost else {
            return Err(BrokerError::NotGranted { access, path: path.to_owned() });
        };
        let place = Place::new(root, rest)?;
        self.check_access(&place, access)?;
        Ok(place)
    }

    fn check_access(&self, place: &Place<'_>, access: Access) -> Result<(), BrokerError> {
        if access == Access::Read {
            return Ok(());
        }
        let path = place.guest_path();
        match self.side {
            Side::Main if place.root.writable => Ok(()),
            Side::Tasks if place.root.writable => Err(BrokerError::WrittenByTask { path }),
            Side::Main | Side::Tasks => Err(BrokerError::NotGranted { access, path }),
        }
    }

    /// The outermost writable grant around this one, which decides how far its own path may lead.
    fn writable_around(&self, root: &Root) -> Option<&Root> {
        let around = |other: &&Root| other.writable && is_beneath(&root.host, &other.host);
        let outermost = self.roots.iter().filter(around);
        outermost.min_by_key(|other| other.host.as_os_str().len())
    }
}

/// What is left of a path beneath a grant, if it is there.
fn rest_of<'a>(path: &'a str, root: &Root) -> Option<&'a str> {
    let strip = |prefix: &Path| {
        let path = Path::new(path);
        // "." is a prefix of every relative path, and of those only.
        let same = path.is_absolute() == prefix.is_absolute();
        let prefix = prefix.strip_prefix(".").unwrap_or(prefix);
        let rest = path.strip_prefix(".").unwrap_or(path).strip_prefix(prefix).ok()?;
        rest.to_str().filter(|_| same)
    };
    strip(Path::new(&root.guest)).or_else(|| strip(&root.host))
}
