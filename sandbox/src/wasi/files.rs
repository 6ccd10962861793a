//! Bytes in and out of descriptors: `fd_read`, `fd_write` and their like.

use super::WasiHost;
use super::errno::Errno;
use super::linker::Call;
use super::rights::Rights;
use super::table::Descriptor;
use core::ops::Range;
use rustix::io::{pread, pwrite};

/// Reads below this go through a buffer on the stack: opening the pages for the kernel would cost
/// more than the copy.
const DIRECT_READ_BYTES: usize = 4096;

/// Guest memory that is made writable for one read of the kernel, so that a large buffer for a
/// short file does not make all of it the fork's own.
const READ_CHUNK_BYTES: usize = 64 << 10;

const WHENCE_SET: u32 = 0;
const WHENCE_CURRENT: u32 = 1;
const WHENCE_END: u32 = 2;

impl<T: WasiHost> Call<'_, T> {
    pub(super) fn fd_read(
        &mut self,
        fd: u32,
        buffers: u32,
        count: u32,
        out: u32,
    ) -> Result<(), Errno> {
        let buffers = self.memory.buffers(buffers, count)?;
        self.memory.write_u32(out, 0)?;
        let offset = match self.wasi().descriptor(fd)? {
            Descriptor::Stream(0) => return Ok(()),
            Descriptor::Stream(_) => return Err(Errno::BADF),
            Descriptor::Preopen(_) | Descriptor::Directory(_) => return Err(Errno::ISDIR),
            Descriptor::File(file) => file.offset,
        };
        let length = self.read_at(fd, &buffers, offset)?;
        self.wasi().file(fd, Errno::BADF)?.offset += length as u64;
        self.memory.write_u32(out, length as u32)
    }

    pub(super) fn fd_pread(
        &mut self,
        fd: u32,
        buffers: u32,
        count: u32,
        offset: u64,
        out: u32,
    ) -> Result<(), Errno> {
        let buffers = self.memory.buffers(buffers, count)?;
        self.memory.write_u32(out, 0)?;
        let rights = self.wasi().file(fd, Errno::SPIPE)?.rights;
        rights.require(Rights::FD_SEEK)?;
        let length = self.read_at(fd, &buffers, offset)?;
        self.memory.write_u32(out, length as u32)
    }

    pub(super) fn fd_write(
        &mut self,
        fd: u32,
        buffers: u32,
        count: u32,
        out: u32,
    ) -> Result<(), Errno> {
        let buffers = self.memory.buffers(buffers, count)?;
        self.memory.write_u32(out, 0)?;
        let length = match self.wasi().descriptor(fd)? {
            Descriptor::Stream(0) => return Err(Errno::BADF),
            Descriptor::Stream(stream) => self.output(stream, &buffers)?,
            Descriptor::Preopen(_) | Descriptor::Directory(_) => return Err(Errno::ISDIR),
            Descriptor::File(file) => {
                let offset = file.offset;
                let length = self.write_at(fd, &buffers, offset)?;
                self.advance_written(fd, length as u64)?;
                length
            }
        };
        self.memory.write_u32(out, length as u32)
    }

    pub(super) fn fd_pwrite(
        &mut self,
        fd: u32,
        buffers: u32,
        count: u32,
        offset: u64,
        out: u32,
    ) -> Result<(), Errno> {
        let buffers = self.memory.buffers(buffers, count)?;
        self.memory.write_u32(out, 0)?;
        let rights = self.wasi().file(fd, Errno::SPIPE)?.rights;
        rights.require(Rights::FD_SEEK)?;
        let length = self.write_at(fd, &buffers, offset)?;
        self.memory.write_u32(out, length as u32)
    }

    pub(super) fn fd_seek(
        &mut self,
        fd: u32,
        offset: i64,
        whence: u32,
        out: u32,
    ) -> Result<(), Errno> {
        self.memory.write_u64(out, 0)?;
        let file = self.wasi().file(fd, Errno::SPIPE)?;
        let only_asks = whence == WHENCE_CURRENT && offset == 0;
        file.rights.require(if only_asks { Rights::FD_TELL } else { Rights::FD_SEEK })?;
        let base = match whence {
            WHENCE_SET => 0,
            WHENCE_CURRENT => file.offset,
            WHENCE_END => super::path_stat(&rustix::fs::fstat(&file.descriptor)?).length,
            _ => return Err(Errno::INVAL),
        };
        let target = base.checked_add_signed(offset).ok_or(Errno::INVAL)?;
        file.offset = checked_offset(target)?;
        self.memory.write_u64(out, target)
    }

    pub(super) fn fd_tell(&mut self, fd: u32, out: u32) -> Result<(), Errno> {
        let file = self.wasi().file(fd, Errno::SPIPE)?;
        file.rights.require(Rights::FD_TELL)?;
        let offset = file.offset;
        self.memory.write_u64(out, offset)
    }

    pub(super) fn fd_sync(&mut self, fd: u32) -> Result<(), Errno> {
        match self.wasi().descriptor(fd)? {
            Descriptor::Stream(_) => Err(Errno::INVAL),
            Descriptor::Preopen(_) | Descriptor::Directory(_) => Ok(()),
            Descriptor::File(file) => {
                file.rights.require(Rights::FD_SYNC)?;
                Ok(rustix::fs::fsync(&file.descriptor)?)
            }
        }
    }

    pub(super) fn fd_datasync(&mut self, fd: u32) -> Result<(), Errno> {
        match self.wasi().descriptor(fd)? {
            Descriptor::Stream(_) => Err(Errno::INVAL),
            Descriptor::Preopen(_) | Descriptor::Directory(_) => Ok(()),
            Descriptor::File(file) => {
                file.rights.require(Rights::FD_DATASYNC)?;
                Ok(rustix::fs::fdatasync(&file.descriptor)?)
            }
        }
    }

    /// Fills the buffers in order until one comes back short. What was read before an error is
    /// reported; the error comes again in the next call.
    fn read_at(&mut self, fd: u32, buffers: &[Range<usize>], offset: u64) -> Result<usize, Errno> {
        let file = self.wasi().file(fd, Errno::SPIPE)?;
        file.rights.require(Rights::FD_READ)?;
        let mut total = 0;
        for chunk in buffers.iter().flat_map(chunks) {
            let wanted = chunk.len();
            let at = offset.saturating_add(total as u64);
            match self.host.may_write().and_then(|()| self.read_chunk(fd, chunk, at)) {
                Ok(length) => {
                    total += length;
                    if length < wanted {
                        break;
                    }
                }
                Err(errno) if total == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(total)
    }

    fn read_chunk(&mut self, fd: u32, chunk: Range<usize>, offset: u64) -> Result<usize, Errno> {
        let offset = checked_offset(offset)?;
        if chunk.len() >= DIRECT_READ_BYTES {
            self.host.make_writable(chunk.start, chunk.len());
            let file = self.host.wasi().file(fd, Errno::SPIPE)?;
            return Ok(pread(&file.descriptor, self.memory.slice_mut(chunk), offset)?);
        }
        let mut bytes = [0; DIRECT_READ_BYTES];
        let bytes = &mut bytes[..chunk.len()];
        let file = self.host.wasi().file(fd, Errno::SPIPE)?;
        let length = pread(&file.descriptor, &mut *bytes, offset)?;
        let target = chunk.start..chunk.start + length;
        self.memory.slice_mut(target).copy_from_slice(&bytes[..length]);
        Ok(length)
    }

    /// Writes the buffers in order until one is taken in part.
    fn write_at(&mut self, fd: u32, buffers: &[Range<usize>], offset: u64) -> Result<usize, Errno> {
        let file = self.host.wasi().file(fd, Errno::SPIPE)?;
        file.rights.require(Rights::FD_WRITE)?;
        let mut total = 0;
        for buffer in buffers {
            let at = checked_offset(offset.saturating_add(total as u64))?;
            match pwrite(&file.descriptor, self.memory.slice(buffer.clone()), at) {
                Ok(length) => {
                    total += length;
                    if length < buffer.len() {
                        break;
                    }
                }
                Err(errno) if total == 0 => return Err(errno.into()),
                Err(_) => break,
            }
        }
        Ok(total)
    }

    /// Moves on after a write; one that appends ends at the end of the file.
    fn advance_written(&mut self, fd: u32, length: u64) -> Result<(), Errno> {
        let file = self.wasi().file(fd, Errno::BADF)?;
        file.offset = if file.flags.append() {
            super::path_stat(&rustix::fs::fstat(&file.descriptor)?).length
        } else {
            file.offset + length
        };
        Ok(())
    }

    fn output(&mut self, stream: u8, buffers: &[Range<usize>]) -> Result<usize, Errno> {
        let mut total = 0;
        for buffer in buffers {
            match self.host.output(stream, self.memory.slice(buffer.clone())) {
                Ok(()) => total += buffer.len(),
                Err(errno) if total == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(total)
    }
}

/// A position that the system can have: its own offsets are signed.
fn checked_offset(offset: u64) -> Result<u64, Errno> {
    match i64::try_from(offset) {
        Ok(_) => Ok(offset),
        Err(_) => Err(Errno::INVAL),
    }
}

fn chunks(buffer: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let end = buffer.end;
    buffer
        .clone()
        .step_by(READ_CHUNK_BYTES)
        .map(move |start| start..end.min(start + READ_CHUNK_BYTES))
}
