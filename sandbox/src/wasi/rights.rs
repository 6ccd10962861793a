//! Rights of descriptors, and the other flag words of preview-1.
//!
//! What a guest may do with files is decided by its grants, where a path is opened; a rights word
//! can only take away from that. A directory therefore reports every right as inheritable:
//! wasi-libc masks what it asks for with that word, and a write that is not granted must reach the
//! trusted side to be refused with the flag that would allow it.

use super::errno::Errno;

/// A rights word. Bits that preview-1 does not define are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights(u64);

/// `fdflags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DescriptorFlags(u16);

// === impl Rights ===

impl Rights {
    pub(super) const FD_DATASYNC: Self = Self(1 << 0);
    pub(super) const FD_READ: Self = Self(1 << 1);
    pub(super) const FD_SEEK: Self = Self(1 << 2);
    const FD_FDSTAT_SET_FLAGS: Self = Self(1 << 3);
    pub(super) const FD_SYNC: Self = Self(1 << 4);
    pub(super) const FD_TELL: Self = Self(1 << 5);
    pub(super) const FD_WRITE: Self = Self(1 << 6);
    const FD_ADVISE: Self = Self(1 << 7);
    const FD_ALLOCATE: Self = Self(1 << 8);
    /// From `path_create_directory` to `path_filestat_set_times`, `fd_readdir` among them.
    const PATHS: Self = Self(0b11_1111_1111 << 9 | 1 << 19 | 1 << 20);
    pub(super) const PATH_OPEN: Self = Self(1 << 13);
    const FD_FILESTAT_GET: Self = Self(1 << 21);
    pub(super) const FD_FILESTAT_SET_SIZE: Self = Self(1 << 22);
    pub(super) const FD_FILESTAT_SET_TIMES: Self = Self(1 << 23);
    /// `path_symlink`, `path_remove_directory`, `path_unlink_file`.
    const PATHS_MORE: Self = Self(0b111 << 24);
    const POLL: Self = Self(1 << 27);

    /// Everything that preview-1 defines, but for sockets.
    pub(super) const ALL: Self = Self((1 << 28) - 1);

    /// What a standard stream can do.
    pub(super) const STREAM: Self =
        Self(Self::FD_READ.0 | Self::FD_WRITE.0 | Self::FD_FILESTAT_GET.0 | Self::POLL.0);

    /// What a directory can do.
    pub(super) const DIRECTORY: Self = Self(
        Self::PATHS.0
            | Self::PATHS_MORE.0
            | Self::FD_FDSTAT_SET_FLAGS.0
            | Self::FD_SYNC.0
            | Self::FD_DATASYNC.0
            | Self::FD_FILESTAT_GET.0
            | Self::FD_FILESTAT_SET_TIMES.0,
    );

    /// What a file can do.
    pub(super) const FILE: Self = Self(
        Self::FD_DATASYNC.0
            | Self::FD_READ.0
            | Self::FD_SEEK.0
            | Self::FD_FDSTAT_SET_FLAGS.0
            | Self::FD_SYNC.0
            | Self::FD_TELL.0
            | Self::FD_WRITE.0
            | Self::FD_ADVISE.0
            | Self::FD_ALLOCATE.0
            | Self::FD_FILESTAT_GET.0
            | Self::FD_FILESTAT_SET_SIZE.0
            | Self::FD_FILESTAT_SET_TIMES.0
            | Self::POLL.0,
    );

    /// What only a file that is open for writing can do.
    const NEEDS_WRITING: Self = Self(
        Self::FD_WRITE.0
            | Self::FD_ALLOCATE.0
            | Self::FD_FILESTAT_SET_SIZE.0
            | Self::FD_FILESTAT_SET_TIMES.0,
    );

    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    pub(super) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those of a file that was opened for reading, writing or both.
    pub(super) fn of_file(read: bool, write: bool) -> Self {
        let unread = if read { 0 } else { Self::FD_READ.0 };
        let unwritten = if write { 0 } else { Self::NEEDS_WRITING.0 };
        Self(Self::FILE.0 & !unread & !unwritten)
    }

    /// Fails as POSIX has it for reading and writing, as preview-1 has it for the rest.
    pub(super) fn require(self, right: Self) -> Result<(), Errno> {
        if self.contains(right) {
            Ok(())
        } else if right == Self::FD_READ || right == Self::FD_WRITE {
            Err(Errno::BADF)
        } else {
            Err(Errno::NOTCAPABLE)
        }
    }
}

// === impl DescriptorFlags ===

impl DescriptorFlags {
    const APPEND: u16 = 1;
    const NONBLOCK: u16 = 1 << 2;
    const KNOWN: u16 = (1 << 5) - 1;

    pub(super) fn from_bits(bits: u32) -> Result<Self, Errno> {
        match u16::try_from(bits) {
            Ok(bits) if bits & !Self::KNOWN == 0 => Ok(Self(bits)),
            _ => Err(Errno::INVAL),
        }
    }

    pub(super) fn bits(self) -> u16 {
        self.0
    }

    pub(super) fn append(self) -> bool {
        self.0 & Self::APPEND != 0
    }

    /// Whether every write must be on the disk before it returns.
    pub(super) fn synchronous(self) -> bool {
        self.0 & !(Self::APPEND | Self::NONBLOCK) != 0
    }

    /// Whether going from one to the other needs nothing of the file: files never block.
    pub(super) fn differs_only_in_blocking(self, other: Self) -> bool {
        (self.0 ^ other.0) & !Self::NONBLOCK == 0
    }
}
