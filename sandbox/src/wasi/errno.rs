//! Error numbers of preview-1, and what the system's own become.

use core::fmt;

/// An error number of `wasi_snapshot_preview1`; never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(u16);

macro_rules! errnos {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Self = Self($value);)*
        }

        impl fmt::Display for Errno {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$name => f.write_str($text),)*
                    Self(other) => write!(f, "error number {other}"),
                }
            }
        }
    };
}

errnos! {
    TOO_BIG = 1, "argument list too long";
    ACCES = 2, "permission denied";
    AGAIN = 6, "resource unavailable, try again";
    BADF = 8, "bad descriptor";
    BUSY = 10, "device or resource busy";
    DQUOT = 19, "disk quota exceeded";
    EXIST = 20, "file exists";
    FAULT = 21, "bad address";
    FBIG = 22, "file too large";
    ILSEQ = 25, "not UTF-8";
    INTR = 27, "interrupted";
    INVAL = 28, "invalid argument";
    IO = 29, "input or output error";
    ISDIR = 31, "is a directory";
    LOOP = 32, "too many levels of symbolic links";
    MFILE = 33, "too many open files";
    MLINK = 34, "too many links";
    NAMETOOLONG = 37, "file name too long";
    NFILE = 41, "too many open files in the system";
    NODEV = 43, "no such device";
    NOENT = 44, "no such file or directory";
    NOMEM = 48, "not enough memory";
    NOSPC = 51, "no space left on device";
    NOTDIR = 54, "not a directory";
    NOTEMPTY = 55, "directory not empty";
    NOTSOCK = 57, "not a socket";
    NOTSUP = 58, "not supported";
    NXIO = 60, "no such device or address";
    OVERFLOW = 61, "value too large";
    PERM = 63, "operation not permitted";
    PIPE = 64, "broken pipe";
    ROFS = 69, "read-only file system";
    SPIPE = 70, "invalid seek";
    STALE = 72, "stale file handle";
    TXTBSY = 74, "text file busy";
    XDEV = 75, "crosses file systems";
    NOTCAPABLE = 76, "capabilities insufficient";
}

/// The largest number that preview-1 defines.
const LARGEST: u16 = Errno::NOTCAPABLE.0;

// === impl Errno ===

impl Errno {
    /// The number that a guest sees.
    pub fn raw(self) -> u16 {
        self.0
    }

    /// A number that came from elsewhere; what is none of preview-1's becomes [`Errno::IO`].
    pub fn from_raw(raw: u16) -> Self {
        if (1..=LARGEST).contains(&raw) { Self(raw) } else { Self::IO }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

impl core::error::Error for Errno {}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        use rustix::io::Errno as System;
        match errno {
            System::TOOBIG => Self::TOO_BIG,
            System::ACCESS => Self::ACCES,
            System::AGAIN => Self::AGAIN,
            System::BADF => Self::BADF,
            System::BUSY => Self::BUSY,
            System::DQUOT => Self::DQUOT,
            System::EXIST => Self::EXIST,
            System::FAULT => Self::FAULT,
            System::FBIG => Self::FBIG,
            System::ILSEQ => Self::ILSEQ,
            System::INTR => Self::INTR,
            System::INVAL => Self::INVAL,
            System::ISDIR => Self::ISDIR,
            System::LOOP => Self::LOOP,
            System::MFILE => Self::MFILE,
            System::MLINK => Self::MLINK,
            System::NAMETOOLONG => Self::NAMETOOLONG,
            System::NFILE => Self::NFILE,
            System::NODEV => Self::NODEV,
            System::NOENT => Self::NOENT,
            System::NOMEM => Self::NOMEM,
            System::NOSPC => Self::NOSPC,
            System::NOTDIR => Self::NOTDIR,
            System::NOTEMPTY => Self::NOTEMPTY,
            System::NOTSUP | System::NOSYS => Self::NOTSUP,
            System::NXIO => Self::NXIO,
            System::OVERFLOW => Self::OVERFLOW,
            System::PERM => Self::PERM,
            System::PIPE => Self::PIPE,
            System::ROFS => Self::ROFS,
            System::SPIPE => Self::SPIPE,
            System::STALE => Self::STALE,
            System::TXTBSY => Self::TXTBSY,
            System::XDEV => Self::XDEV,
            _ => Self::IO,
        }
    }
}
