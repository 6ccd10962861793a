//! The descriptors of a guest.
//!
//! ```text
//!   0 1 2 │ 3 .. 3+p │ 3+p .. first │ first ..
//!   ──────┼──────────┼──────────────┼──────────────────────
//!   std   │ preopens │ main's own   │ opened by this guest
//! ```
//!
//! The third part is empty in `main` (`first` is `3 + p`). In a task it holds every number that
//! `main` has ever used, and nothing is there: a file that `main` opened is not the task's. The
//! first two parts are the same everywhere, because wasi-libc's list of preopens lies in the memory
//! that a task starts with; so their numbers are neither given out again nor renumbered.
//!
//! A new table is no allocation, so a task's is made by assignment.

use super::errno::Errno;
use super::rights::{DescriptorFlags, Rights};
use offshoot_proto::link::PathStat;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// Descriptors that one guest may have open, well below what a slot process may.
const OPEN_MAX: usize = 512;

/// Directories whose entries are held at a time: a recursive walk has one a level.
const LISTINGS_MAX: usize = 64;

/// The highest number of a first descriptor: preview-1's numbers end at 2^31.
const NUMBER_MAX: u32 = (1 << 31) - 1 - OPEN_MAX as u32;

/// The number of standard streams.
pub(super) const STREAMS: u32 = 3;

/// The descriptors of a guest.
#[derive(Debug)]
pub(super) struct Table {
    preopens: u32,
    first: u32,
    opened: Vec<Option<Opened>>,
    /// Of the first two parts, those that were closed.
    closed: Vec<u32>,
    /// What `fd_readdir` reads, by descriptor, from its first call on.
    listings: BTreeMap<u32, Vec<(String, PathStat)>>,
}

/// What a guest opened.
#[derive(Debug)]
pub(super) enum Opened {
    File(File),
    Directory(Directory),
}

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) descriptor: OwnedFd,
    /// Where the next read or write begins; the descriptor's own offset is not used.
    pub(super) offset: u64,
    pub(super) rights: Rights,
    pub(super) flags: DescriptorFlags,
}

/// An open directory: a name, not a descriptor of the system, so that a slot holds none from
/// which paths could be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directory {
    /// Index of the preopen.
    pub(super) preopen: u32,
    /// Path beneath it, empty for itself.
    pub(super) path: String,
    /// Its number, or 0 if it was not asked for yet.
    pub(super) inode: u64,
    pub(super) rights: Rights,
}

/// What a descriptor is.
#[derive(Debug)]
pub(super) enum Descriptor<'a> {
    /// 0, 1 or 2.
    Stream(u8),
    /// This preopen.
    Preopen(u32),
    File(&'a mut File),
    Directory(&'a mut Directory),
}

// === impl Table ===

impl Table {
    /// A table with nothing opened, in which new numbers are `first` and above.
    pub(super) fn new(preopens: u32, first: u32) -> Self {
        Self {
            preopens,
            first: first.clamp(STREAMS + preopens, NUMBER_MAX),
            opened: Vec::new(),
            closed: Vec::new(),
            listings: BTreeMap::new(),
        }
    }

    /// The lowest number that has never been used.
    pub(super) fn first_free(&self) -> u32 {
        self.first + self.opened.len() as u32
    }

    /// Whether `main` may have used this number for something that it opened.
    pub(super) fn was_opened_by_main(&self, number: u32) -> bool {
        (STREAMS + self.preopens..self.first).contains(&number)
    }

    pub(super) fn descriptor(&mut self, number: u32) -> Result<Descriptor<'_>, Errno> {
        if number < STREAMS + self.preopens {
            if self.closed.contains(&number) {
                return Err(Errno::BADF);
            }
            return Ok(match number.checked_sub(STREAMS) {
                None => Descriptor::Stream(number as u8),
                Some(preopen) => Descriptor::Preopen(preopen),
            });
        }
        match self.opened_mut(number)? {
            Opened::File(file) => Ok(Descriptor::File(file)),
            Opened::Directory(directory) => Ok(Descriptor::Directory(directory)),
        }
    }

    fn index(&self, number: u32) -> Result<usize, Errno> {
        number
            .checked_sub(self.first)
            .map(|index| index as usize)
            .filter(|&index| self.opened.get(index).is_some_and(Option::is_some))
            .ok_or(Errno::BADF)
    }

    fn opened_mut(&mut self, number: u32) -> Result<&mut Opened, Errno> {
        let index = self.index(number)?;
        self.opened[index].as_mut().ok_or(Errno::BADF)
    }

    /// A file, or `other` if it is a stream.
    pub(super) fn file(&mut self, number: u32, other: Errno) -> Result<&mut File, Errno> {
        match self.descriptor(number)? {
            Descriptor::File(file) => Ok(file),
            Descriptor::Stream(_) => Err(other),
            Descriptor::Preopen(_) | Descriptor::Directory(_) => Err(Errno::ISDIR),
        }
    }

    /// A directory, opened or preopened.
    pub(super) fn directory(&mut self, number: u32) -> Result<Directory, Errno> {
        match self.descriptor(number)? {
            Descriptor::Preopen(preopen) => {
                Ok(Directory { preopen, path: String::new(), inode: 0, rights: Rights::DIRECTORY })
            }
            Descriptor::Directory(directory) => Ok(directory.clone()),
            Descriptor::Stream(_) | Descriptor::File(_) => Err(Errno::NOTDIR),
        }
    }

    /// Fails before a path is opened for which there would be no number.
    pub(super) fn check_room(&self) -> Result<(), Errno> {
        let full = self.opened.len() >= OPEN_MAX && self.opened.iter().all(Option::is_some);
        if full { Err(Errno::MFILE) } else { Ok(()) }
    }

    /// Gives it the lowest free number.
    pub(super) fn insert(&mut self, opened: Opened) -> Result<u32, Errno> {
        self.check_room()?;
        let index = match self.opened.iter().position(Option::is_none) {
            Some(index) => index,
            None => {
                self.opened.push(None);
                self.opened.len() - 1
            }
        };
        self.opened[index] = Some(opened);
        Ok(self.first + index as u32)
    }

    pub(super) fn close(&mut self, number: u32) -> Result<(), Errno> {
        self.descriptor(number)?;
        self.listings.remove(&number);
        match self.index(number) {
            Ok(index) => self.opened[index] = None,
            Err(_) => self.closed.push(number),
        }
        Ok(())
    }

    /// Makes `to` what `from` is, and closes what it was.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Result<(), Errno> {
        self.descriptor(from)?;
        self.descriptor(to)?;
        if from == to {
            return Ok(());
        }
        let (Ok(from_index), Ok(to_index)) = (self.index(from), self.index(to)) else {
            return Err(Errno::NOTSUP);
        };
        self.opened[to_index] = self.opened[from_index].take();
        self.listings.remove(&to);
        if let Some(listing) = self.listings.remove(&from) {
            self.listings.insert(to, listing);
        }
        Ok(())
    }

    /// The entries of a directory that is being read.
    pub(super) fn listing(&self, number: u32) -> Option<&[(String, PathStat)]> {
        self.listings.get(&number).map(Vec::as_slice)
    }

    pub(super) fn set_listing(
        &mut self,
        number: u32,
        entries: Vec<(String, PathStat)>,
    ) -> Result<(), Errno> {
        if self.listings.len() >= LISTINGS_MAX && !self.listings.contains_key(&number) {
            return Err(Errno::MFILE);
        }
        self.listings.insert(number, entries);
        Ok(())
    }
}

// === impl Directory ===

impl Directory {
    /// Its path as a request has it.
    pub(super) fn own_path(&self) -> String {
        if self.path.is_empty() { ".".to_owned() } else { self.path.clone() }
    }

    /// The path beneath the preopen of a path relative to this directory.
    ///
    /// An opened directory is no way out of itself; that a path stays beneath the *preopen* is for
    /// the trusted side to see to, which knows the links.
    pub(super) fn join(&self, path: &str) -> Result<String, Errno> {
        if self.path.is_empty() {
            return Ok(path.to_owned());
        }
        if path.starts_with('/') || climbs_out(path) {
            return Err(Errno::PERM);
        }
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        let joined = format!("{}/{path}", self.path.trim_end_matches('/'));
        if joined.len() > super::memory::PATH_BYTES_MAX as usize {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(joined)
    }
}

/// Whether a prefix of the path has more `..` than names.
fn climbs_out(path: &str) -> bool {
    let mut depth = 0_i32;
    path.split('/').any(|component| {
        match component {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        depth < 0
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn directory(path: &str) -> Directory {
        Directory { preopen: 0, path: path.to_owned(), inode: 0, rights: Rights::DIRECTORY }
    }

    #[test]
    fn numbers_of_main_are_not_a_tasks() {
        let mut main = Table::new(1, 0);
        assert_eq!(main.insert(Opened::Directory(directory("a"))), Ok(4));
        assert_eq!(main.insert(Opened::Directory(directory("b"))), Ok(5));
        main.close(5).unwrap();
        assert_eq!(main.first_free(), 6, "a number once used stays main's");

        let mut task = Table::new(1, main.first_free());
        assert!(task.was_opened_by_main(4) && task.was_opened_by_main(5));
        assert!(!task.was_opened_by_main(3) && !task.was_opened_by_main(6));
        assert_eq!(task.descriptor(4).err(), Some(Errno::BADF));
        assert_eq!(task.insert(Opened::Directory(directory("c"))), Ok(6));
    }

    #[test]
    fn fixed_numbers_are_not_given_out_again() {
        let mut table = Table::new(1, 0);
        table.close(3).unwrap();
        assert_eq!(table.close(3), Err(Errno::BADF));
        assert_eq!(table.insert(Opened::Directory(directory("a"))), Ok(4));
        assert_eq!(table.renumber(4, 1), Err(Errno::NOTSUP));
        assert_eq!(table.renumber(4, 3), Err(Errno::BADF));
        assert_eq!(table.renumber(4, u32::MAX), Err(Errno::BADF));
    }

    #[test]
    fn renumbering_takes_the_listing_along() {
        let mut table = Table::new(0, 0);
        assert_eq!(table.insert(Opened::Directory(directory("a"))), Ok(3));
        assert_eq!(table.insert(Opened::Directory(directory("b"))), Ok(4));
        table.set_listing(3, vec![("x".to_owned(), PathStat::default())]).unwrap();
        table.renumber(3, 4).unwrap();
        assert_eq!(table.directory(4).unwrap().path, "a");
        assert_eq!(table.listing(4).unwrap().len(), 1);
        assert_eq!(table.descriptor(3).err(), Some(Errno::BADF));
        table.close(4).unwrap();
        assert!(table.listing(4).is_none());
    }

    #[test]
    fn the_table_has_an_end() {
        let mut table = Table::new(0, 0);
        for _ in 0..OPEN_MAX {
            table.insert(Opened::Directory(directory("a"))).unwrap();
        }
        let full = table.insert(Opened::Directory(directory("a")));
        assert_eq!(full, Err(Errno::MFILE));
        table.close(17).unwrap();
        assert_eq!(table.insert(Opened::Directory(directory("a"))), Ok(17));
    }

    #[test]
    fn an_opened_directory_is_no_way_out_of_itself() {
        let sub = directory("sub");
        assert_eq!(sub.join("x/../y"), Ok("sub/x/../y".to_owned()));
        for path in ["..", "../x", "x/../../y", "./..", "/etc/passwd"] {
            assert_eq!(sub.join(path), Err(Errno::PERM), "{path}");
        }
        assert_eq!(directory("").join("../x"), Ok("../x".to_owned()), "the broker's to refuse");
        let long = "x".repeat(4096);
        assert_eq!(sub.join(&long), Err(Errno::NAMETOOLONG));
    }
}
