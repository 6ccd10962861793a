//! The path operations of preview-1.

use super::Broker;
use super::beneath::no_follow;
use super::error::BrokerError;
use super::place::Place;
use crate::wasi::{Errno, path_stat};
use offshoot_proto::grants::Access;
use offshoot_proto::link::{PathKind, PathOperation, PathReply, PathRequest, PathStat};
use rustix::fs::{
    AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, mkdirat, readlinkat, renameat, statat,
    unlinkat, utimensat,
};
use std::os::fd::OwnedFd;

/// Permissions of what a guest creates, before the umask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o777);

/// How a file is to be opened: the fields of [`PathOperation::Open`].
struct Opening {
    read: bool,
    write: bool,
    create: bool,
    exclusive: bool,
    truncate: bool,
    append: bool,
    directory: bool,
    follow: bool,
}

impl Broker {
    pub(super) fn run(
        &self,
        request: &PathRequest,
    ) -> Result<(PathReply, Option<OwnedFd>), BrokerError> {
        let access = access_of(&request.operation);
        let place = self.place(request.preopen, &request.path, access)?;
        let done = |()| (PathReply::Done, None);
        match &request.operation {
            PathOperation::Open { .. } => self.open(&place, &Opening::new(&request.operation)),
            PathOperation::Stat { follow } => {
                Ok((PathReply::Stat(self.stat(&place, *follow)?), None))
            }
            PathOperation::List => Ok((self.entries(&place)?, None)),
            PathOperation::ReadLink => Ok((PathReply::Link(self.read_link(&place)?), None)),
            PathOperation::CreateDirectory => self.create_directory(&place).map(done),
            PathOperation::RemoveFile => self.remove_file(&place).map(done),
            PathOperation::RemoveDirectory => self.remove_directory(&place).map(done),
            PathOperation::Rename { to_preopen, to_path } => {
                let to = self.place(*to_preopen, to_path, access)?;
                self.rename(&place, &to).map(done)
            }
            PathOperation::SetTimes { accessed_nanos, modified_nanos } => {
                let times = Timestamps {
                    last_access: timespec(*accessed_nanos),
                    last_modification: timespec(*modified_nanos),
                };
                self.set_times(&place, &times).map(done)
            }
        }
    }

    /// A place at which the access is granted.
    fn place(&self, preopen: u32, path: &str, access: Access) -> Result<Place<'_>, BrokerError> {
        Place::check_text(path)?;
        let index = preopen as usize;
        let Some(root) = self.roots.get(index) else {
            if index == self.roots.len() && self.has_everywhere() {
                let path = path.to_owned();
                return Err(BrokerError::NothingGranted { access, path });
            }
            let count = self.preopens().len();
            return Err(BrokerError::NoPreopen { preopen, count });
        };
        let place = Place::new(root, path)?;
        self.check_access(&place, access)?;
        if path.is_empty() {
            return Err(place.error(Errno::NOENT));
        }
        Ok(place)
    }

    fn open(
        &self,
        place: &Place<'_>,
        opening: &Opening,
    ) -> Result<(PathReply, Option<OwnedFd>), BrokerError> {
        let wants_directory = opening.directory || place.must_be_directory;
        if wants_directory && opening.create {
            return Err(place.error(Errno::INVAL));
        }
        let seen = match self.stat(place, opening.follow) {
            Ok(stat) if stat.kind == PathKind::Directory => {
                return opening.directory_reply(place, stat);
            }
            Ok(_) if wants_directory => return Err(place.error(Errno::NOTDIR)),
            Ok(stat) => Some(stat),
            Err(error) if opening.create && error.errno() == Errno::NOENT => None,
            Err(error) => return Err(error),
        };
        let (flags, mode) = (opening.flags(), opening.mode());
        let (file, stat) = self.open_file(place, seen.as_ref(), flags, mode)?;
        Ok((PathReply::Opened(path_stat(&stat)), Some(file)))
    }

    fn entries(&self, place: &Place<'_>) -> Result<PathReply, BrokerError> {
        let entries = self.list(place)?.into_iter().map(|entry| {
            let stat = PathStat { inode: entry.inode, kind: entry.kind, ..PathStat::default() };
            (entry.name, stat)
        });
        Ok(PathReply::Entries(entries.collect()))
    }

    fn read_link(&self, place: &Place<'_>) -> Result<String, BrokerError> {
        let link = self.open_at(place, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
        let link = link.map_err(|e| place.system(e))?;
        let stat = rustix::fs::fstat(&link).map_err(|e| place.system(e))?;
        if path_stat(&stat).kind != PathKind::Link {
            return Err(place.error(Errno::INVAL));
        }
        let target = readlinkat(&link, "", Vec::new()).map_err(|e| place.system(e))?;
        let target = target.into_string().map_err(|_| place.error(Errno::ILSEQ))?;
        if target.starts_with('/') {
            let path = place.guest_path();
            return Err(BrokerError::LeadsOut { path });
        }
        Ok(target)
    }

    fn create_directory(&self, place: &Place<'_>) -> Result<(), BrokerError> {
        let (parent, name) = self.open_parent(place)?;
        mkdirat(&parent, &name, DIRECTORY_MODE).map_err(|e| place.system(e))
    }

    fn remove_file(&self, place: &Place<'_>) -> Result<(), BrokerError> {
        let (parent, name) = self.open_parent(place)?;
        match self.kind(place, &parent, &name)? {
            PathKind::Directory => return Err(place.error(Errno::ISDIR)),
            _ if place.must_be_directory => return Err(place.error(Errno::NOTDIR)),
            _ => {}
        }
        unlinkat(&parent, &name, AtFlags::empty()).map_err(|e| place.system(e))
    }

    fn remove_directory(&self, place: &Place<'_>) -> Result<(), BrokerError> {
        let (parent, name) = self.open_parent(place)?;
        if place.is_root() && self.kind(place, &parent, &name)? == PathKind::Directory {
            return Err(unmovable(place, "the directory that is granted"));
        }
        unlinkat(&parent, &name, AtFlags::REMOVEDIR).map_err(|e| place.system(e))
    }

    fn rename(&self, from: &Place<'_>, to: &Place<'_>) -> Result<(), BrokerError> {
        let (from_parent, from_name) = self.open_parent(from)?;
        let (to_parent, to_name) = self.open_parent(to)?;
        match self.kind(from, &from_parent, &from_name)? {
            PathKind::Directory if from.is_root() => {
                return Err(unmovable(from, "the directory that is granted"));
            }
            PathKind::Directory => {}
            _ if from.must_be_directory || to.must_be_directory => {
                return Err(from.error(Errno::NOTDIR));
            }
            PathKind::File => {}
            PathKind::Link => return Err(unmovable(from, "a symbolic link")),
            PathKind::Other => return Err(unmovable(from, "a device, a pipe or a socket")),
        }
        // Not `Place::system`: here the two may really be on different file systems.
        renameat(&from_parent, &from_name, &to_parent, &to_name).map_err(|e| from.error(e.into()))
    }

    fn set_times(&self, place: &Place<'_>, times: &Timestamps) -> Result<(), BrokerError> {
        let opened = self.open_at(place, OFlags::PATH, Mode::empty());
        let opened = opened.map_err(|e| place.system(e))?;
        utimensat(&opened, "", times, AtFlags::EMPTY_PATH).map_err(|e| place.system(e))
    }

    fn kind(
        &self,
        place: &Place<'_>,
        parent: &OwnedFd,
        name: &str,
    ) -> Result<PathKind, BrokerError> {
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
        Ok(path_stat(&stat.map_err(|e| place.system(e))?).kind)
    }
}

// === impl Opening ===

impl Opening {
    /// Of an operation that is not [`PathOperation::Open`], nothing.
    fn new(operation: &PathOperation) -> Self {
        let mut opening = Self {
            read: false,
            write: false,
            create: false,
            exclusive: false,
            truncate: false,
            append: false,
            directory: false,
            follow: false,
        };
        let PathOperation::Open {
            read,
            write,
            create,
            exclusive,
            truncate,
            append,
            directory,
            follow,
        } = *operation
        else {
            return opening;
        };
        opening.read = read;
        opening.write = write;
        opening.create = create;
        opening.exclusive = exclusive;
        opening.truncate = truncate;
        opening.append = append;
        opening.directory = directory;
        opening.follow = follow;
        opening
    }

    fn access(&self) -> Access {
        if self.write || self.create || self.truncate { Access::Write } else { Access::Read }
    }

    /// The answer where a directory is.
    fn directory_reply(
        &self,
        place: &Place<'_>,
        stat: PathStat,
    ) -> Result<(PathReply, Option<OwnedFd>), BrokerError> {
        if self.create && self.exclusive {
            Err(place.error(Errno::EXIST))
        } else if self.access() == Access::Write {
            Err(place.error(Errno::ISDIR))
        } else {
            Ok((PathReply::Stat(stat), None))
        }
    }

    fn flags(&self) -> OFlags {
        let access = match (self.read, self.write) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            (_, false) => OFlags::RDONLY,
        };
        let optional = [
            (self.create, OFlags::CREATE),
            (self.create && self.exclusive, OFlags::EXCL),
            (self.truncate, OFlags::TRUNC),
            (self.append, OFlags::APPEND),
            (!self.follow, no_follow(false)),
        ];
        let wanted = optional.into_iter().filter(|(wanted, _)| *wanted);
        wanted.fold(access, |flags, (_, flag)| flags | flag)
    }

    fn mode(&self) -> Mode {
        if self.create { FILE_MODE } else { Mode::empty() }
    }
}

fn access_of(operation: &PathOperation) -> Access {
    match operation {
        PathOperation::Open { .. } => Opening::new(operation).access(),
        PathOperation::Stat { .. } | PathOperation::List | PathOperation::ReadLink => Access::Read,
        PathOperation::CreateDirectory
        | PathOperation::RemoveFile
        | PathOperation::RemoveDirectory
        | PathOperation::Rename { .. }
        | PathOperation::SetTimes { .. } => Access::Write,
    }
}

fn unmovable(place: &Place<'_>, what: &'static str) -> BrokerError {
    let path = place.guest_path();
    BrokerError::Unmovable { path, what }
}

fn timespec(nanos: Option<u64>) -> Timespec {
    const NANOS_PER_SECOND: u64 = 1_000_000_000;
    match nanos {
        Some(nanos) => Timespec {
            tv_sec: (nanos / NANOS_PER_SECOND) as i64,
            tv_nsec: (nanos % NANOS_PER_SECOND) as i64,
        },
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    }
}
