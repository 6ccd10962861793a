//! The system calls: everything is opened relative to a grant, and nowhere else.

use super::Broker;
use super::error::BrokerError;
use super::place::Place;
use crate::wasi::{Errno, path_stat};
use offshoot_proto::link::{PathKind, PathStat};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Entries of one directory that are read at a time: 9 MB with the longest names, which fits
/// a frame of the link.
pub(super) const ENTRIES_MAX: usize = 32_768;

/// Tries of a path with `..` in it, which the kernel gives up when something is renamed meanwhile.
const RACE_TRIES: usize = 16;

/// An entry of a directory.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) inode: u64,
    pub(super) kind: PathKind,
}

impl Broker {
    /// Opens what a place names, never leaving its grant. A grant that is itself a link stands for
    /// what it leads to, as the submitter meant.
    pub(super) fn open_at(
        &self,
        place: &Place<'_>,
        flags: OFlags,
        mode: Mode,
    ) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if !place.is_root() {
            let grant = Place { rest: String::new(), ..place.clone() };
            let directory =
                self.open_at(&grant, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
            return open_beneath(&directory, &place.rest, flags, mode);
        }
        let flags = flags.difference(OFlags::NOFOLLOW);
        match self.seen_from_around(place) {
            Some(seen) => self.open_at(&seen, flags, mode),
            None => openat2(CWD, &place.root.host, flags, mode, ResolveFlags::NO_MAGICLINKS),
        }
    }

    /// The directory that holds the last name of a place, and that name.
    pub(super) fn open_parent(&self, place: &Place<'_>) -> Result<(OwnedFd, String), BrokerError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        if place.is_root() {
            if let Some(seen) = self.seen_from_around(place) {
                return self.open_parent(&seen);
            }
            let host = &place.root.host;
            let name = host.file_name().and_then(|name| name.to_str());
            let (Some(parent), Some(name)) = (host.parent(), name) else {
                return Err(place.error(Errno::BUSY));
            };
            let flags = flags | OFlags::CLOEXEC;
            let opened = openat2(CWD, parent, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
            return Ok((opened.map_err(|e| place.system(e))?, name.to_owned()));
        }
        let (parent, name) = place.rest.rsplit_once('/').unwrap_or(("", &place.rest));
        if name == ".." {
            return Err(place.error(Errno::INVAL));
        }
        let parent = Place { rest: parent.to_owned(), ..place.clone() };
        let opened = self.open_at(&parent, flags, Mode::empty());
        Ok((opened.map_err(|e| place.system(e))?, name.to_owned()))
    }

    /// A grant inside a writable one, as a path of that one.
    fn seen_from_around<'a>(&'a self, grant: &Place<'a>) -> Option<Place<'a>> {
        let around = self.writable_around(grant.root)?;
        let rest = grant.root.host.strip_prefix(&around.host).ok()?;
        Some(Place {
            root: around,
            rest: rest.to_str()?.to_owned(),
            must_be_directory: grant.must_be_directory,
        })
    }

    /// What is at a place, without opening it for anything.
    pub(super) fn stat(&self, place: &Place<'_>, follow: bool) -> Result<PathStat, BrokerError> {
        let stat = self.look(place, follow).map_err(|e| place.system(e))?;
        if place.must_be_directory && stat.kind != PathKind::Directory {
            return Err(place.error(Errno::NOTDIR));
        }
        Ok(stat)
    }

    fn look(&self, place: &Place<'_>, follow: bool) -> io::Result<PathStat> {
        let opened = self.open_at(place, OFlags::PATH | no_follow(follow), Mode::empty())?;
        Ok(path_stat(&fstat(&opened)?))
    }

    /// Opens a regular file for reading, and nothing else.
    pub(super) fn open_to_read(&self, place: &Place<'_>) -> Result<(OwnedFd, Stat), BrokerError> {
        let stat = self.stat(place, true)?;
        self.open_file(place, Some(&stat), OFlags::RDONLY, Mode::empty())
    }

    /// Opens a regular file and nothing else. What is there was looked at first, because opening
    /// a device can be an action; and is again afterwards, because it may have been replaced.
    pub(super) fn open_file(
        &self,
        place: &Place<'_>,
        seen: Option<&PathStat>,
        flags: OFlags,
        mode: Mode,
    ) -> Result<(OwnedFd, Stat), BrokerError> {
        let special = || BrokerError::Special { path: place.guest_path() };
        match seen.map(|stat| stat.kind) {
            Some(PathKind::Other) => return Err(special()),
            Some(PathKind::Link) => return Err(place.error(Errno::LOOP)),
            Some(PathKind::File | PathKind::Directory) | None => {}
        }
        let opened = self.open_at(place, flags | OFlags::NONBLOCK | OFlags::NOCTTY, mode);
        let opened = opened.map_err(|e| place.system(e))?;
        let stat = fstat(&opened).map_err(|e| place.system(e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((opened, stat)),
            FileType::Directory => Err(place.error(Errno::ISDIR)),
            _ => Err(special()),
        }
    }

    /// The entries of a directory, sorted by name. A name that is not UTF-8 cannot be told to
    /// a guest, and is left out.
    pub(super) fn list(&self, place: &Place<'_>) -> Result<Vec<Entry>, BrokerError> {
        let system = |errno| place.system(errno);
        let opened = self.open_at(place, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        let directory = Dir::new(opened.map_err(system)?).map_err(system)?;
        let mut entries = Vec::new();
        for entry in directory {
            let entry = entry.map_err(system)?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if matches!(name, "." | "..") {
                continue;
            }
            if entries.len() == ENTRIES_MAX {
                return Err(BrokerError::TooManyEntries {
                    path: place.guest_path(),
                    limit: ENTRIES_MAX,
                });
            }
            let kind = self.kind_of_entry(place, name, entry.file_type());
            entries.push(Entry { name: name.to_owned(), inode: entry.ino(), kind });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Some file systems do not keep kinds in directories.
    fn kind_of_entry(&self, place: &Place<'_>, name: &str, kind: FileType) -> PathKind {
        match kind {
            FileType::RegularFile => PathKind::File,
            FileType::Directory => PathKind::Directory,
            FileType::Symlink => PathKind::Link,
            FileType::Unknown => {
                let stat = self.look(&place.join(name), false);
                stat.map_or(PathKind::Other, |stat| stat.kind)
            }
            _ => PathKind::Other,
        }
    }
}

/// The flag for a last component that is a link.
pub(super) fn no_follow(follow: bool) -> OFlags {
    if follow { OFlags::empty() } else { OFlags::NOFOLLOW }
}

fn open_beneath(directory: &OwnedFd, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut tries = RACE_TRIES;
    loop {
        tries -= 1;
        match openat2(directory, Path::new(path), flags, mode, resolve) {
            Err(io::Errno::AGAIN) if tries > 0 => {}
            result => return result,
        }
    }
}
