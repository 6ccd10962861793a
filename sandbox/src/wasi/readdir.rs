//! `fd_readdir`: the entries of a directory, asked for once and handed out by cookie.

use super::WasiHost;
use super::errno::Errno;
use super::linker::Call;
use super::stat::GuestFileType;
use super::table::Directory;
use core::ops::Range;
use offshoot_proto::link::{PathKind, PathOperation, PathReply, PathStat};

/// Bytes of a `dirent`, which the name follows.
const DIRENT_BYTES: usize = 24;

/// `.` and `..`, which listings leave out.
const DOTS: u64 = 2;

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
        let used = self.write_entries(fd, &directory, range, cookie)?;
        self.memory.write_u32(out, used)
    }

    /// Writes entries until the buffer is full; the last one may be cut, which tells the guest that
    /// there are more.
    fn write_entries(
        &mut self,
        fd: u32,
        directory: &Directory,
        buffer: Range<usize>,
        cookie: u64,
    ) -> Result<u32, Errno> {
        let mut at = buffer.start;
        let mut encoded = Vec::new();
        for number in cookie..=u64::MAX {
            let listing = self.host.wasi().table.listing(fd).unwrap_or(&[]);
            let Some((name, stat)) = entry(directory, listing, number) else { break };
            encode_entry(name, &stat, number.saturating_add(1), &mut encoded);
            self.host.may_write()?;
            let length = encoded.len().min(buffer.end - at);
            self.memory.slice_mut(at..at + length).copy_from_slice(&encoded[..length]);
            at += length;
            if at == buffer.end {
                break;
            }
        }
        Ok((at - buffer.start) as u32)
    }

    fn list(&mut self, directory: &Directory) -> Result<Vec<(String, PathStat)>, Errno> {
        let path = directory.own_path();
        match self.ask(directory.preopen, path, PathOperation::List)? {
            (PathReply::Entries(entries), _) => Ok(entries),
            _ => Err(Errno::IO),
        }
    }
}

/// The entry of a number: those of the directory itself come first.
fn entry<'a>(
    directory: &Directory,
    listing: &'a [(String, PathStat)],
    number: u64,
) -> Option<(&'a str, PathStat)> {
    let dot = PathStat { inode: directory.inode, kind: PathKind::Directory, ..PathStat::default() };
    match number {
        0 => Some((".", dot)),
        // The number of the parent is not the guest's to know; wasi-libc does not ask for it.
        1 => Some(("..", PathStat { inode: 0, ..dot })),
        _ => {
            let (name, stat) = listing.get(usize::try_from(number - DOTS).ok()?)?;
            Some((name, *stat))
        }
    }
}

fn encode_entry(name: &str, stat: &PathStat, next: u64, encoded: &mut Vec<u8>) {
    let mut header = [0; DIRENT_BYTES];
    header[..8].copy_from_slice(&next.to_le_bytes());
    header[8..16].copy_from_slice(&stat.inode.to_le_bytes());
    header[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
    header[20] = GuestFileType::from(stat.kind) as u8;
    encoded.clear();
    encoded.extend_from_slice(&header);
    encoded.extend_from_slice(name.as_bytes());
}
