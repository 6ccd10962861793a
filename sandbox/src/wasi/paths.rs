//! Paths: checked for form here, resolved by the trusted side.

use super::errno::Errno;
use super::linker::Call;
use super::rights::{DescriptorFlags, Rights};
use super::stat::{FILESTAT_BYTES, NewTimes, encode_filestat};
use super::table::{Directory, File, Opened};
use super::{Refusal, WasiHost};
use offshoot_proto::link::{PathKind, PathOperation, PathReply, PathRequest, PathStat};
use std::os::fd::OwnedFd;

const LOOKUP_FOLLOW: u32 = 1;

/// `oflags`.
mod how {
    pub(super) const CREATE: u32 = 1;
    pub(super) const DIRECTORY: u32 = 1 << 1;
    pub(super) const EXCLUSIVE: u32 = 1 << 2;
    pub(super) const TRUNCATE: u32 = 1 << 3;
    pub(super) const KNOWN: u32 = (1 << 4) - 1;
}

/// A path as the trusted side wants it.
struct Place {
    preopen: u32,
    path: String,
}

/// What `path_open` was asked for.
struct OpenRequest {
    operation: PathOperation,
    wanted: Rights,
    flags: DescriptorFlags,
}

impl<T: WasiHost> Call<'_, T> {
    #[allow(clippy::too_many_arguments, reason = "preview-1 has it so")]
    pub(super) fn path_open(
        &mut self,
        fd: u32,
        lookup: u32,
        path: u32,
        length: u32,
        how: u32,
        base: u64,
        _inheriting: u64,
        flags: u32,
        out: u32,
    ) -> Result<(), Errno> {
        self.memory.write_u32(out, 0)?;
        let place = self.place(fd, path, length)?;
        let request = OpenRequest::new(lookup, how, base, flags)?;
        self.wasi().table.check_room()?;
        let operation = request.operation.clone();
        let opened = match self.ask(place.preopen, place.path.clone(), operation)? {
            (PathReply::Opened(_), Some(descriptor)) => Opened::File(File {
                descriptor,
                offset: 0,
                rights: request.wanted,
                flags: request.flags,
            }),
            (PathReply::Stat(stat), None) if stat.kind == PathKind::Directory => {
                Opened::Directory(Directory {
                    preopen: place.preopen,
                    path: place.path,
                    inode: stat.inode,
                    rights: Rights::DIRECTORY,
                })
            }
            _ => return Err(Errno::IO),
        };
        let number = self.wasi().table.insert(opened)?;
        self.memory.write_u32(out, number)
    }

    pub(super) fn path_filestat_get(
        &mut self,
        fd: u32,
        lookup: u32,
        path: u32,
        length: u32,
        out: u32,
    ) -> Result<(), Errno> {
        self.memory.write(out, &[0; FILESTAT_BYTES])?;
        let follow = follows(lookup)?;
        let place = self.place(fd, path, length)?;
        let stat = self.stat_path(place.preopen, place.path, follow)?;
        self.memory.write(out, &encode_filestat(&stat))
    }

    #[allow(clippy::too_many_arguments, reason = "preview-1 has it so")]
    pub(super) fn path_filestat_set_times(
        &mut self,
        fd: u32,
        lookup: u32,
        path: u32,
        length: u32,
        accessed: u64,
        modified: u64,
        flags: u32,
    ) -> Result<(), Errno> {
        let now = self.wasi().clock.realtime_nanos();
        let times = NewTimes::new(accessed, modified, flags, now)?;
        let follow = follows(lookup)?;
        let place = self.place(fd, path, length)?;
        if !follow {
            let stat = self.stat_path(place.preopen, place.path.clone(), false)?;
            if stat.kind == PathKind::Link {
                return Err(Errno::NOTSUP);
            }
        }
        let operation = PathOperation::SetTimes {
            accessed_nanos: times.accessed_nanos,
            modified_nanos: times.modified_nanos,
        };
        self.change(place.preopen, place.path, operation)
    }

    pub(super) fn path_create_directory(
        &mut self,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Result<(), Errno> {
        let place = self.place(fd, path, length)?;
        self.change(place.preopen, place.path, PathOperation::CreateDirectory)
    }

    pub(super) fn path_unlink_file(
        &mut self,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Result<(), Errno> {
        let place = self.place(fd, path, length)?;
        self.change(place.preopen, place.path, PathOperation::RemoveFile)
    }

    pub(super) fn path_remove_directory(
        &mut self,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Result<(), Errno> {
        let place = self.place(fd, path, length)?;
        self.change(place.preopen, place.path, PathOperation::RemoveDirectory)
    }

    pub(super) fn path_rename(
        &mut self,
        from_fd: u32,
        from: u32,
        from_length: u32,
        to_fd: u32,
        to: u32,
        to_length: u32,
    ) -> Result<(), Errno> {
        let from = self.place(from_fd, from, from_length)?;
        let to = self.place(to_fd, to, to_length)?;
        let operation = PathOperation::Rename { to_preopen: to.preopen, to_path: to.path };
        self.change(from.preopen, from.path, operation)
    }

    pub(super) fn path_readlink(
        &mut self,
        fd: u32,
        path: u32,
        length: u32,
        buffer: u32,
        capacity: u32,
        out: u32,
    ) -> Result<(), Errno> {
        let range = self.memory.range(buffer, capacity)?;
        self.memory.write_u32(out, 0)?;
        let place = self.place(fd, path, length)?;
        let reply = self.ask(place.preopen, place.path, PathOperation::ReadLink)?;
        let (PathReply::Link(target), _) = reply else {
            return Err(Errno::IO);
        };
        let length = target.len().min(range.len());
        self.write_long(buffer, &target.as_bytes()[..length])?;
        self.memory.write_u32(out, length as u32)
    }

    /// Not here: links are how paths leave the directory that was granted.
    #[allow(clippy::too_many_arguments, reason = "preview-1 has it so")]
    pub(super) fn path_link(
        &mut self,
        from_fd: u32,
        _lookup: u32,
        from: u32,
        from_length: u32,
        to_fd: u32,
        to: u32,
        to_length: u32,
    ) -> Result<(), Errno> {
        self.place(from_fd, from, from_length)?;
        self.place(to_fd, to, to_length)?;
        Err(Errno::NOTSUP)
    }

    /// Not here, as [`Self::path_link`].
    pub(super) fn path_symlink(
        &mut self,
        target: u32,
        target_length: u32,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Result<(), Errno> {
        self.memory.path(target, target_length)?;
        self.place(fd, path, length)?;
        Err(Errno::NOTSUP)
    }

    pub(super) fn stat_path(
        &mut self,
        preopen: u32,
        path: String,
        follow: bool,
    ) -> Result<PathStat, Errno> {
        match self.ask(preopen, path, PathOperation::Stat { follow })? {
            (PathReply::Stat(stat), _) => Ok(stat),
            _ => Err(Errno::IO),
        }
    }

    /// An operation that answers with nothing.
    pub(super) fn change(
        &mut self,
        preopen: u32,
        path: String,
        operation: PathOperation,
    ) -> Result<(), Errno> {
        match self.ask(preopen, path, operation)? {
            (PathReply::Done, _) => Ok(()),
            _ => Err(Errno::IO),
        }
    }

    pub(super) fn ask(
        &mut self,
        preopen: u32,
        path: String,
        operation: PathOperation,
    ) -> Result<(PathReply, Option<OwnedFd>), Errno> {
        let request = PathRequest { preopen, path, operation };
        let (reply, descriptor) = self.host.path(request)?;
        let PathReply::Errno { errno, message } = reply else {
            return Ok((reply, descriptor));
        };
        let errno = Errno::from_raw(errno);
        if [Errno::ACCES, Errno::PERM, Errno::NOTCAPABLE].contains(&errno) {
            self.wasi().refusal = Some(Refusal::Path { message });
        }
        Err(errno)
    }

    fn place(&mut self, fd: u32, path: u32, length: u32) -> Result<Place, Errno> {
        let directory = self.host.wasi().directory(fd)?;
        directory.rights.require(Rights::PATH_OPEN)?;
        let path = directory.join(self.memory.path(path, length)?)?;
        Ok(Place { preopen: directory.preopen, path })
    }
}

// === impl OpenRequest ===

impl OpenRequest {
    /// Reading and writing are asked for by rights; a file opened with neither is opened for
    /// reading, which its rights then do not allow.
    fn new(lookup: u32, how: u32, base: u64, flags: u32) -> Result<Self, Errno> {
        if how & !how::KNOWN != 0 {
            return Err(Errno::INVAL);
        }
        let base = Rights::from_bits(base);
        let flags = DescriptorFlags::from_bits(flags)?;
        if flags.synchronous() {
            return Err(Errno::NOTSUP);
        }
        let read = base.contains(Rights::FD_READ);
        let write = base.contains(Rights::FD_WRITE);
        let operation = PathOperation::Open {
            read: read || !write,
            write,
            create: how & how::CREATE != 0,
            exclusive: how & how::EXCLUSIVE != 0,
            truncate: how & how::TRUNCATE != 0,
            append: flags.append(),
            directory: how & how::DIRECTORY != 0,
            follow: follows(lookup)?,
        };
        Ok(Self { operation, wanted: Rights::of_file(read, write), flags })
    }
}

fn follows(lookup: u32) -> Result<bool, Errno> {
    if lookup & !LOOKUP_FOLLOW != 0 {
        return Err(Errno::INVAL);
    }
    Ok(lookup & LOOKUP_FOLLOW != 0)
}
