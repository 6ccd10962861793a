//! Snapshots as they come in: in order of their ids, whatever stream brings them.

use offshoot_proto::executor::DataChunk;
use offshoot_proto::id::SnapshotId;
use offshoot_proto::limits::PAGE_BYTES;
use offshoot_proto::link::ForkImage;
use offshoot_proto::snapshot::{PageRun, SnapshotHeader};
use offshoot_sandbox::data_chunk::unpack;
use offshoot_sandbox::memory::memory_file;
use offshoot_sandbox::snapshots::{SnapshotError, SnapshotStore};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// The pages of a snapshot.
#[derive(Debug)]
pub(super) enum ReceivedPages {
    /// Those that changed, one after the other.
    Changed {
        /// The pages, or
        bytes: Vec<u8>,
        /// how they differ from what they were.
        difference: bool,
    },
    /// The same in a memory file.
    ChangedFile(File),
    /// All, in a memory file, at their own offsets.
    Whole(File),
}

/// The store, and snapshots that wait for the one before them.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    store: Option<SnapshotStore>,
    early: BTreeMap<SnapshotId, Early>,
    dropped_early: BTreeSet<SnapshotId>,
}

/// A snapshot that has come, and which one it follows.
#[derive(Debug)]
struct Early {
    header: SnapshotHeader,
    after: Option<SnapshotId>,
    pages: ReceivedPages,
}

/// Takes the chunks of one snapshot from a stream.
#[derive(Debug)]
pub(super) struct PageSink {
    file: File,
    /// Where the next bytes go: runs that are not full yet, first page at the next byte.
    places: VecDeque<(u64, u64)>,
    whole: bool,
}

// === impl PageSink ===

impl PageSink {
    pub(super) fn new(header: &SnapshotHeader, whole: bool) -> io::Result<Self> {
        if !header.is_well_formed() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "malformed snapshot"));
        }
        let file = File::from(memory_file("snapshot")?);
        let page = PAGE_BYTES as u64;
        let places = if whole {
            file.set_len(header.memory_bytes)?;
            let place = |run: &PageRun| (u64::from(run.page) * page, u64::from(run.count) * page);
            header.runs.iter().map(place).collect()
        } else {
            VecDeque::from([(0, header.pages() * page)])
        };
        Ok(Self { file, places, whole })
    }

    /// Takes a piece.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let Some((offset, room)) = self.places.front_mut() else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "more pages than announced",
                ));
            };
            let count = bytes.len().min(*room as usize);
            let (now, later) = bytes.split_at(count);
            self.file.write_all_at(now, *offset)?;
            *offset += count as u64;
            *room -= count as u64;
            if *room == 0 {
                self.places.pop_front();
            }
            bytes = later;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<ReceivedPages> {
        if self.places.iter().any(|(_, room)| *room > 0) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "fewer pages than announced"));
        }
        let pages = if self.whole { ReceivedPages::Whole } else { ReceivedPages::ChangedFile };
        Ok(pages(self.file))
    }
}

// === impl Snapshots ===

impl Snapshots {
    /// Adds a snapshot whose pages came in a frame.
    pub(super) fn add_inline(
        &mut self,
        header: SnapshotHeader,
        after: Option<SnapshotId>,
        difference: bool,
        chunk: DataChunk,
    ) -> Result<Vec<SnapshotId>, SnapshotError> {
        let bytes = unpack(chunk)?;
        if after.is_some() {
            let pages = ReceivedPages::Changed { bytes, difference };
            return self.add(header, after, pages);
        }
        let mut sink = PageSink::new(&header, true)?;
        sink.push(&bytes)?;
        self.add(header, after, sink.finish()?)
    }

    /// Adds a snapshot; returns those that can be forked from now on.
    pub(super) fn add(
        &mut self,
        header: SnapshotHeader,
        after: Option<SnapshotId>,
        pages: ReceivedPages,
    ) -> Result<Vec<SnapshotId>, SnapshotError> {
        self.early.insert(header.id, Early { header, after, pages });
        let mut ready = Vec::new();
        while let Some(next) = self.next() {
            let Early { header, pages, .. } = self.early.remove(&next).expect("it is there");
            self.take(header, pages)?;
            if self.dropped_early.remove(&next) {
                self.drop_snapshot(next);
            } else {
                ready.push(next);
            }
        }
        Ok(ready)
    }

    /// The snapshot that can be taken next, if it is here: the whole one, then what follows.
    fn next(&self) -> Option<SnapshotId> {
        let last = self.store.as_ref().map(SnapshotStore::last);
        self.early.iter().find(|(_, early)| early.after == last).map(|(id, _)| *id)
    }

    fn take(&mut self, header: SnapshotHeader, pages: ReceivedPages) -> Result<(), SnapshotError> {
        match (&mut self.store, pages) {
            (Some(store), ReceivedPages::Changed { mut bytes, difference }) => {
                if difference {
                    store.difference(store.last(), &header.runs, &mut bytes)?;
                }
                store.push(header, bytes)
            }
            (Some(store), ReceivedPages::ChangedFile(file)) => store.push_file(header, file.into()),
            (None, ReceivedPages::Whole(file)) => {
                self.store = Some(SnapshotStore::new(header, file.into())?);
                Ok(())
            }
            _ => {
                let (id, reason) = (header.id, "a whole one is needed first, and only once");
                Err(SnapshotError::Malformed { id, reason })
            }
        }
    }

    pub(super) fn drop_snapshot(&mut self, id: SnapshotId) {
        match &mut self.store {
            Some(store) if store.contains(id) => {
                if let Err(error) = store.drop_snapshot(id) {
                    tracing::warn!(snapshot = id.0, %error, "a snapshot could not be freed");
                }
            }
            _ => {
                self.dropped_early.insert(id);
            }
        }
    }

    /// Bytes of memory that they take.
    pub(super) fn bytes(&self) -> u64 {
        self.store.as_ref().map_or(0, SnapshotStore::bytes)
    }

    pub(super) fn image(
        &self,
        from: Option<SnapshotId>,
        to: SnapshotId,
    ) -> Result<(ForkImage, Vec<OwnedFd>), SnapshotError> {
        self.store.as_ref().ok_or(SnapshotError::Unknown(to))?.image(from, to)
    }
}
