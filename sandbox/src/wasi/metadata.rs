//! What a descriptor is, and changes of it that move no bytes.

use super::WasiHost;
use super::errno::Errno;
use super::linker::Call;
use super::rights::{DescriptorFlags, Rights};
use super::stat::{
    FDSTAT_BYTES, FILESTAT_BYTES, GuestFileType, NewTimes, encode_fdstat, encode_filestat,
    path_stat,
};
use super::table::{Descriptor, STREAMS};
use offshoot_proto::link::{PathOperation, PathStat};

/// The largest `advice` of preview-1: `noreuse`.
const ADVICE_MAX: u32 = 5;

/// `prestat` of a directory: its tag, 0, and where the length of its name is.
const PRESTAT_TAG: u32 = 0;
const PRESTAT_LENGTH_AT: u32 = 4;
const PRESTAT_BYTES: u32 = 8;

impl<T: WasiHost> Call<'_, T> {
    /// Advice is taken note of, and that is all that POSIX asks for.
    pub(super) fn fd_advise(
        &mut self,
        fd: u32,
        _offset: u64,
        _length: u64,
        advice: u32,
    ) -> Result<(), Errno> {
        self.wasi().file(fd, Errno::SPIPE)?;
        if advice > ADVICE_MAX {
            return Err(Errno::INVAL);
        }
        Ok(())
    }

    /// Not here: what a guest may write is bounded by bytes written, not reserved.
    pub(super) fn fd_allocate(&mut self, fd: u32, _offset: u64, _length: u64) -> Result<(), Errno> {
        self.wasi().file(fd, Errno::SPIPE)?;
        Err(Errno::NOTSUP)
    }

    pub(super) fn fd_close(&mut self, fd: u32) -> Result<(), Errno> {
        let wasi = self.wasi();
        wasi.descriptor(fd)?;
        wasi.table.close(fd)
    }

    pub(super) fn fd_renumber(&mut self, from: u32, to: u32) -> Result<(), Errno> {
        let wasi = self.wasi();
        wasi.descriptor(from)?;
        wasi.descriptor(to)?;
        wasi.table.renumber(from, to)
    }

    pub(super) fn fd_fdstat_get(&mut self, fd: u32, out: u32) -> Result<(), Errno> {
        let none = DescriptorFlags::default();
        let all = Rights::ALL.bits();
        let encoded: [u8; FDSTAT_BYTES] = match self.wasi().descriptor(fd)? {
            Descriptor::Stream(_) => {
                encode_fdstat(GuestFileType::Unknown, none, Rights::STREAM.bits(), 0)
            }
            Descriptor::Preopen(_) => {
                encode_fdstat(GuestFileType::Directory, none, Rights::DIRECTORY.bits(), all)
            }
            Descriptor::Directory(directory) => {
                encode_fdstat(GuestFileType::Directory, none, directory.rights.bits(), all)
            }
            Descriptor::File(file) => {
                let kind = GuestFileType::RegularFile;
                encode_fdstat(kind, file.flags, file.rights.bits(), 0)
            }
        };
        self.memory.write(out, &encoded)
    }

    /// Only blocking can be changed, and means nothing here.
    pub(super) fn fd_fdstat_set_flags(&mut self, fd: u32, flags: u32) -> Result<(), Errno> {
        let wanted = DescriptorFlags::from_bits(flags)?;
        let mut none = DescriptorFlags::default();
        let current = match self.wasi().descriptor(fd)? {
            Descriptor::File(file) => &mut file.flags,
            _ => &mut none,
        };
        if !current.differs_only_in_blocking(wanted) {
            return Err(Errno::NOTSUP);
        }
        *current = wanted;
        Ok(())
    }

    /// Rights can be given up, never gained.
    pub(super) fn fd_fdstat_set_rights(
        &mut self,
        fd: u32,
        base: u64,
        _inheriting: u64,
    ) -> Result<(), Errno> {
        let wanted = Rights::from_bits(base);
        let current = match self.wasi().descriptor(fd)? {
            Descriptor::File(file) => &mut file.rights,
            Descriptor::Directory(directory) => &mut directory.rights,
            Descriptor::Stream(_) | Descriptor::Preopen(_) => return Err(Errno::NOTSUP),
        };
        if !current.contains(wanted) {
            return Err(Errno::NOTCAPABLE);
        }
        *current = wanted;
        Ok(())
    }

    pub(super) fn fd_filestat_get(&mut self, fd: u32, out: u32) -> Result<(), Errno> {
        self.memory.write(out, &[0; FILESTAT_BYTES])?;
        let stat = match self.wasi().descriptor(fd)? {
            Descriptor::Stream(_) => PathStat::default(),
            Descriptor::File(file) => path_stat(&rustix::fs::fstat(&file.descriptor)?),
            Descriptor::Preopen(_) | Descriptor::Directory(_) => {
                let directory = self.wasi().directory(fd)?;
                self.stat_path(directory.preopen, directory.own_path(), true)?
            }
        };
        self.memory.write(out, &encode_filestat(&stat))
    }

    pub(super) fn fd_filestat_set_size(&mut self, fd: u32, length: u64) -> Result<(), Errno> {
        let file = self.wasi().file(fd, Errno::INVAL)?;
        file.rights.require(Rights::FD_FILESTAT_SET_SIZE)?;
        if i64::try_from(length).is_err() {
            return Err(Errno::FBIG);
        }
        Ok(rustix::fs::ftruncate(&file.descriptor, length)?)
    }

    pub(super) fn fd_filestat_set_times(
        &mut self,
        fd: u32,
        accessed: u64,
        modified: u64,
        flags: u32,
    ) -> Result<(), Errno> {
        let now = self.wasi().clock.realtime_nanos();
        let times = NewTimes::new(accessed, modified, flags, now)?;
        match self.wasi().descriptor(fd)? {
            Descriptor::Stream(_) => Err(Errno::INVAL),
            Descriptor::File(file) => {
                file.rights.require(Rights::FD_FILESTAT_SET_TIMES)?;
                Ok(rustix::fs::futimens(&file.descriptor, &times.to_system())?)
            }
            Descriptor::Preopen(_) | Descriptor::Directory(_) => {
                let directory = self.wasi().directory(fd)?;
                let operation = PathOperation::SetTimes {
                    accessed_nanos: times.accessed_nanos,
                    modified_nanos: times.modified_nanos,
                };
                self.change(directory.preopen, directory.own_path(), operation)
            }
        }
    }

    pub(super) fn fd_prestat_get(&mut self, fd: u32, out: u32) -> Result<(), Errno> {
        let length = self.preopen_name(fd)?.len() as u32;
        self.memory.check_array(out, 1, PRESTAT_BYTES)?;
        self.memory.write_u32(out, PRESTAT_TAG)?;
        self.memory.write_u32(out + PRESTAT_LENGTH_AT, length)
    }

    pub(super) fn fd_prestat_dir_name(
        &mut self,
        fd: u32,
        pointer: u32,
        length: u32,
    ) -> Result<(), Errno> {
        let name = self.preopen_name(fd)?;
        if (length as usize) < name.len() {
            return Err(Errno::NAMETOOLONG);
        }
        self.memory.write(pointer, name.as_bytes())
    }

    /// Asked of every number from 3 on by wasi-libc until one is `EBADF`; so that is no use of
    /// a descriptor that `main` opened.
    fn preopen_name(&mut self, fd: u32) -> Result<String, Errno> {
        let wasi = self.wasi();
        match wasi.table.descriptor(fd)? {
            Descriptor::Preopen(_) => {
                let names = &wasi.settings.preopens;
                let index = fd.saturating_sub(STREAMS) as usize;
                names.get(index).cloned().ok_or(Errno::BADF)
            }
            _ => Err(Errno::BADF),
        }
    }
}
