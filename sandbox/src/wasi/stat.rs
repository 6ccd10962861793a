//! `filestat` and the times in it, as the system, the link and preview-1 write them.

use super::errno::Errno;
use super::rights::DescriptorFlags;
use offshoot_proto::link::{PathKind, PathStat};
use rustix::fs::{FileType, Stat, Timespec, Timestamps, UTIME_OMIT};

/// Bytes of preview-1's `filestat`.
pub(super) const FILESTAT_BYTES: usize = 64;

/// Bytes of preview-1's `fdstat`.
pub(super) const FDSTAT_BYTES: usize = 24;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// `fstflags`.
mod times {
    pub(super) const ACCESSED: u32 = 1;
    pub(super) const ACCESSED_NOW: u32 = 1 << 1;
    pub(super) const MODIFIED: u32 = 1 << 2;
    pub(super) const MODIFIED_NOW: u32 = 1 << 3;
    pub(super) const KNOWN: u32 = (1 << 4) - 1;
}

/// `filetype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum GuestFileType {
    Unknown = 0,
    Directory = 3,
    RegularFile = 4,
    SymbolicLink = 7,
}

/// Times to set: access and modification; none leaves it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewTimes {
    pub(super) accessed_nanos: Option<u64>,
    pub(super) modified_nanos: Option<u64>,
}

/// What preview-1 needs of the system's `stat`. Times before 1970 become 0.
pub fn path_stat(stat: &Stat) -> PathStat {
    let nanos = |seconds: i64, nanos: u64| {
        u64::try_from(i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos))
            .unwrap_or(0)
    };
    PathStat {
        inode: stat.st_ino,
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => PathKind::File,
            FileType::Directory => PathKind::Directory,
            FileType::Symlink => PathKind::Link,
            _ => PathKind::Other,
        },
        links: stat.st_nlink,
        length: u64::try_from(stat.st_size).unwrap_or(0),
        accessed_nanos: nanos(stat.st_atime, stat.st_atime_nsec),
        modified_nanos: nanos(stat.st_mtime, stat.st_mtime_nsec),
        changed_nanos: nanos(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// The time of last modification as listings carry it, in nanoseconds since 1970.
pub fn modified_nanos(stat: &Stat) -> i64 {
    stat.st_mtime
        .saturating_mul(NANOS_PER_SECOND as i64)
        .saturating_add_unsigned(stat.st_mtime_nsec)
}

pub(super) fn encode_filestat(stat: &PathStat) -> [u8; FILESTAT_BYTES] {
    let device = 0;
    let words = [
        device,
        stat.inode,
        u64::from(GuestFileType::from(stat.kind) as u8),
        stat.links,
        stat.length,
        stat.accessed_nanos,
        stat.modified_nanos,
        stat.changed_nanos,
    ];
    let mut bytes = [0; FILESTAT_BYTES];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

pub(super) fn encode_fdstat(
    kind: GuestFileType,
    flags: DescriptorFlags,
    base: u64,
    inheriting: u64,
) -> [u8; FDSTAT_BYTES] {
    let mut bytes = [0; FDSTAT_BYTES];
    bytes[0] = kind as u8;
    bytes[2..4].copy_from_slice(&flags.bits().to_le_bytes());
    bytes[8..16].copy_from_slice(&base.to_le_bytes());
    bytes[16..24].copy_from_slice(&inheriting.to_le_bytes());
    bytes
}

// === impl GuestFileType ===

impl From<PathKind> for GuestFileType {
    fn from(kind: PathKind) -> Self {
        match kind {
            PathKind::Other => Self::Unknown,
            PathKind::File => Self::RegularFile,
            PathKind::Directory => Self::Directory,
            PathKind::Link => Self::SymbolicLink,
        }
    }
}

// === impl NewTimes ===

impl NewTimes {
    /// From the arguments of a `set_times` call; *now* is the guest's now.
    pub(super) fn new(accessed: u64, modified: u64, flags: u32, now: u64) -> Result<Self, Errno> {
        if flags & !times::KNOWN != 0 {
            return Err(Errno::INVAL);
        }
        let one = |given: u32, given_now: u32, nanos: u64| match (
            flags & given != 0,
            flags & given_now != 0,
        ) {
            (true, true) => Err(Errno::INVAL),
            (true, false) => Ok(Some(nanos)),
            (false, true) => Ok(Some(now)),
            (false, false) => Ok(None),
        };
        Ok(Self {
            accessed_nanos: one(times::ACCESSED, times::ACCESSED_NOW, accessed)?,
            modified_nanos: one(times::MODIFIED, times::MODIFIED_NOW, modified)?,
        })
    }

    pub(super) fn to_system(self) -> Timestamps {
        Timestamps {
            last_access: timespec(self.accessed_nanos),
            last_modification: timespec(self.modified_nanos),
        }
    }
}

fn timespec(nanos: Option<u64>) -> Timespec {
    match nanos {
        Some(nanos) => Timespec {
            tv_sec: (nanos / NANOS_PER_SECOND) as i64,
            tv_nsec: (nanos % NANOS_PER_SECOND) as i64,
        },
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    }
}
