//! `fd_readdir`: the entries of a directory, asked for once and handed out by cookie.

use super::WasiHost;
use super::errno::Errno;
use super::linker::Call;
use super::stat::GuestFileType;
use super::table::Directory;
use offshoot_proto::link::{PathKind, PathOperation, PathReply, PathStat};

/// Bytes of a `dirent`, which the name follows.
const DIRENT_BYTES: usize = 24;

/// `.` and `..`, which listings leave out.
const DOTS: u64 = 2;

/// Writes entries until the buffer is full; the last one may be cut, which tells the guest that
/// there are more.
struct EntryWriter<'a> {
    buffer: &'a mut [u8],
    used: usize,
}

impl<T: WasiHost> Call<'_, T> {
    /// Cookie 0 reads the directory anew, later ones go on in what was read then: a guest that
    /// removes entries while it reads misses none.
    pub(super) fn fd_readdir(
        &mut self,
        fd: u32,
        pointer: u32,
        length: u32,
        cookie: u64,
        out: u32,
    ) -> Result<(), Errno> {
        let range = self.memory.range(pointer, length)?;
        self.memory.write_u32(out, 0)?;
        let directory = self.wasi().directory(fd)?;
        if cookie == 0 || self.wasi().table.listing(fd).is_none() {
            let entries = self.list(&directory)?;
            self.wasi().table.set_listing(fd, entries)?;
        }
        let entries = self.host.wasi().table.listing(fd).unwrap_or(&[]);
        let mut writer = EntryWriter { buffer: self.memory.slice_mut(range), used: 0 };
        write_entries(&mut writer, &directory, entries, cookie);
        let used = writer.used as u32;
        self.memory.write_u32(out, used)
    }

    fn list(&mut self, directory: &Directory) -> Result<Vec<(String, PathStat)>, Errno> {
        let path = directory.own_path();
        match self.ask(directory.preopen, path, PathOperation::List)? {
            (PathReply::Entries(entries), _) => Ok(entries),
            _ => Err(Errno::IO),
        }
    }
}

fn write_entries(
    writer: &mut EntryWriter<'_>,
    directory: &Directory,
    entries: &[(String, PathStat)],
    cookie: u64,
) {
    let dot = PathStat { inode: directory.inode, kind: PathKind::Directory, ..PathStat::default() };
    // The number of the parent is not the guest's to know; wasi-libc does not ask for it either.
    let dots = [(".", dot), ("..", PathStat { inode: 0, ..dot })];
    let skipped = usize::try_from(cookie.saturating_sub(DOTS)).unwrap_or(usize::MAX);
    let entries = entries.iter().skip(skipped).map(|(name, stat)| (name.as_str(), *stat));
    let dots = dots.into_iter().skip(cookie.min(DOTS) as usize);
    for ((name, stat), next) in dots.chain(entries).zip(cookie.saturating_add(1)..) {
        if !writer.write(name, &stat, next) {
            break;
        }
    }
}

// === impl EntryWriter ===

impl EntryWriter<'_> {
    /// Whether there is room for more.
    fn write(&mut self, name: &str, stat: &PathStat, next: u64) -> bool {
        let mut header = [0; DIRENT_BYTES];
        header[..8].copy_from_slice(&next.to_le_bytes());
        header[8..16].copy_from_slice(&stat.inode.to_le_bytes());
        header[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
        header[20] = GuestFileType::from(stat.kind) as u8;
        self.push(&header) && self.push(name.as_bytes())
    }

    fn push(&mut self, bytes: &[u8]) -> bool {
        let room = &mut self.buffer[self.used..];
        let length = bytes.len().min(room.len());
        room[..length].copy_from_slice(&bytes[..length]);
        self.used += length;
        self.used < self.buffer.len()
    }
}
