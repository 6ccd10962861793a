//! Pointers of a guest: every one is checked before it is used, and none makes the host allocate
//! more than a constant.
//!
//! Copies made here are ordinary stores, so a write-protected page of a fork faults and is opened
//! by the slot's handler. The kernel gets no such second chance: see [`super::WasiHost`].

use super::errno::Errno;
use core::ops::Range;

/// Buffers of one scattered read or write; the `IOV_MAX` of Linux.
const BUFFERS_MAX: u32 = 1024;

/// Bytes that one call transfers; a guest that asks for more gets a short count, as it may from
/// any system.
pub(super) const TRANSFER_BYTES_MAX: usize = 1 << 20;

/// Bytes of a path; the `PATH_MAX` of Linux.
pub(super) const PATH_BYTES_MAX: u32 = 4096;

/// Bytes of an `iovec`: pointer and length.
const BUFFER_BYTES: u32 = 8;

/// The linear memory of a guest that stands still.
pub(super) struct GuestMemory<'a> {
    bytes: &'a mut [u8],
}

// === impl GuestMemory ===

impl<'a> GuestMemory<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes at `pointer..pointer + length`, if all of them lie in the memory.
    pub(super) fn range(&self, pointer: u32, length: u32) -> Result<Range<usize>, Errno> {
        let start = pointer as usize;
        let end = start.checked_add(length as usize).ok_or(Errno::FAULT)?;
        if end > self.bytes.len() {
            return Err(Errno::FAULT);
        }
        Ok(start..end)
    }

    /// Bytes of a range that [`Self::range`] gave.
    pub(super) fn slice(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// The same, to be written.
    pub(super) fn slice_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.bytes[range]
    }

    pub(super) fn read<const N: usize>(&self, pointer: u32) -> Result<[u8; N], Errno> {
        let range = self.range(pointer, N as u32)?;
        let mut value = [0; N];
        value.copy_from_slice(&self.bytes[range]);
        Ok(value)
    }

    pub(super) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Errno> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::FAULT)?;
        let range = self.range(pointer, length)?;
        self.bytes[range].copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn write_u32(&mut self, pointer: u32, value: u32) -> Result<(), Errno> {
        self.write(pointer, &value.to_le_bytes())
    }

    pub(super) fn write_u64(&mut self, pointer: u32, value: u64) -> Result<(), Errno> {
        self.write(pointer, &value.to_le_bytes())
    }

    /// Whether `count` items of `size` bytes at `pointer` lie in the memory.
    pub(super) fn check_array(&self, pointer: u32, count: u32, size: u32) -> Result<(), Errno> {
        let length = count.checked_mul(size).ok_or(Errno::FAULT)?;
        self.range(pointer, length).map(drop)
    }

    /// A path: UTF-8 without NUL, at most [`PATH_BYTES_MAX`].
    pub(super) fn path(&self, pointer: u32, length: u32) -> Result<&str, Errno> {
        let range = self.range(pointer, length)?;
        if length > PATH_BYTES_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let path = core::str::from_utf8(&self.bytes[range]).map_err(|_| Errno::ILSEQ)?;
        if path.contains('\0') {
            return Err(Errno::INVAL);
        }
        Ok(path)
    }

    /// The buffers of a scattered read or write, all checked, together cut to
    /// [`TRANSFER_BYTES_MAX`]. They are copied out first, because a read may overwrite the array
    /// that names them.
    pub(super) fn buffers(&self, pointer: u32, count: u32) -> Result<Vec<Range<usize>>, Errno> {
        if count > BUFFERS_MAX {
            return Err(Errno::INVAL);
        }
        self.check_array(pointer, count, BUFFER_BYTES)?;
        let mut buffers = Vec::with_capacity(count as usize);
        let mut room = TRANSFER_BYTES_MAX;
        for index in 0..count {
            let [p0, p1, p2, p3, l0, l1, l2, l3] = self.read(pointer + index * BUFFER_BYTES)?;
            let start = u32::from_le_bytes([p0, p1, p2, p3]);
            let length = u32::from_le_bytes([l0, l1, l2, l3]);
            let mut range = self.range(start, length)?;
            range.end = range.start + range.len().min(room);
            room -= range.len();
            if !range.is_empty() {
                buffers.push(range);
            }
        }
        Ok(buffers)
    }
}
