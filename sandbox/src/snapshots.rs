//! The snapshots of one application as an owner keeps them: a base and what changed since.
//!
//! ```text
//!   base (memory file)  ◄── layer 2 ◄── layer 3 ◄── ...      each: pages that differ from before
//! ```
//!
//! [`SnapshotStore::image`] says how a slot gets from the snapshot that it has mapped to another
//! one; its cost is linear in the pages that differ. A snapshot that is dropped is merged into the
//! one after it, so the chain is never longer than the snapshots that are needed.

mod layer;
mod transfer;

use layer::{Layer, Pages, push_page};
use offshoot_proto::id::SnapshotId;
use offshoot_proto::limits::PAGE_BYTES;
use offshoot_proto::link::ForkImage;
use offshoot_proto::snapshot::{PageRun, SnapshotHeader};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Bound::{Excluded, Included};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

pub use transfer::Transfer;

/// Dropped layers that wait to be merged.
const DROPPED_LAYERS_MAX: usize = 4;

/// Layers that are kept as they were pushed.
const FRESH_LAYERS_MAX: usize = 8;

const PAGE: u64 = PAGE_BYTES as u64;

const TOO_FEW_PAGES: &str = "it has fewer pages than runs";

/// The snapshots that an owner has.
#[derive(Debug)]
pub struct SnapshotStore {
    base: Arc<File>,
    base_pages: Pages,
    base_id: SnapshotId,
    headers: BTreeMap<SnapshotId, SnapshotHeader>,
    /// Every snapshot after the base.
    layers: BTreeMap<SnapshotId, Layer>,
    dropped: BTreeSet<SnapshotId>,
    /// The newest layers as they were pushed, each with the snapshot that it follows: the way from
    /// one snapshot to the next stays short however much was merged.
    fresh: BTreeMap<SnapshotId, (SnapshotId, Layer)>,
}

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is not here.
    #[error("snapshot {0} is not here")]
    Unknown(SnapshotId),
    /// It does not follow the last one, or its pages are not what its header says.
    #[error("snapshot {id} is malformed: {reason}")]
    Malformed {
        /// Which.
        id: SnapshotId,
        /// What is wrong.
        reason: &'static str,
    },
    /// The system's word.
    #[error("keeping a snapshot: {0}")]
    Io(#[from] io::Error),
}

// === impl SnapshotStore ===

impl SnapshotStore {
    /// A store whose first snapshot lies in a memory file, its pages at their own offsets.
    pub fn new(header: SnapshotHeader, base: OwnedFd) -> Result<Self, SnapshotError> {
        check(&header)?;
        let id = header.id;
        let base = Arc::new(File::from(base));
        let end = header.runs.last().map_or(0, |run| u64::from(run.page + run.count) * PAGE);
        if base.metadata()?.len() < end {
            return Err(SnapshotError::Malformed { id, reason: TOO_FEW_PAGES });
        }
        Ok(Self {
            base_pages: Pages::File(base.clone()),
            base,
            headers: BTreeMap::from([(id, header)]),
            layers: BTreeMap::new(),
            base_id: id,
            dropped: BTreeSet::new(),
            fresh: BTreeMap::new(),
        })
    }

    /// The newest snapshot.
    pub fn last(&self) -> SnapshotId {
        *self.headers.keys().next_back().expect("the base is always there")
    }

    /// Snapshots that were not dropped, oldest first.
    pub fn live(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        self.headers.keys().copied().filter(|id| !self.dropped.contains(id))
    }

    /// Bytes that the store holds: the pages of the base, and those of every layer.
    pub fn bytes(&self) -> u64 {
        let pages = self.layers.values().flat_map(|layer| &layer.runs).map(|run| run.count);
        (self.base().0.pages() + pages.map(u64::from).sum::<u64>()) * PAGE
    }

    /// The first snapshot and its file, which all later ones rest on.
    pub fn base(&self) -> (&SnapshotHeader, &File) {
        (&self.headers[&self.base_id], &self.base)
    }

    /// Whether a snapshot can be forked.
    pub fn contains(&self, id: SnapshotId) -> bool {
        self.headers.contains_key(&id)
    }

    /// The description of a snapshot; its runs are those that differ from the one before.
    pub fn header(&self, id: SnapshotId) -> Option<&SnapshotHeader> {
        self.headers.get(&id)
    }

    /// Adds a snapshot that follows the last one: `pages` are its changed pages in their order.
    pub fn push(&mut self, header: SnapshotHeader, pages: Vec<u8>) -> Result<(), SnapshotError> {
        let expected = header.pages() as usize * PAGE_BYTES;
        self.push_layer(header, Pages::new(pages)?, expected)
    }

    /// The same, with the pages in a memory file.
    pub fn push_file(
        &mut self,
        header: SnapshotHeader,
        file: OwnedFd,
    ) -> Result<(), SnapshotError> {
        let expected = header.pages() as usize * PAGE_BYTES;
        self.push_layer(header, Pages::File(Arc::new(file.into())), expected)
    }

    fn push_layer(
        &mut self,
        header: SnapshotHeader,
        pages: Pages,
        expected: usize,
    ) -> Result<(), SnapshotError> {
        check(&header)?;
        let id = header.id;
        let last = self.last();
        if id <= last {
            return Err(SnapshotError::Malformed { id, reason: "it does not follow the last one" });
        }
        if pages.length()? < expected as u64 {
            return Err(SnapshotError::Malformed { id, reason: TOO_FEW_PAGES });
        }
        let layer = Layer { runs: header.runs.clone(), pages };
        self.fresh.insert(id, (last, layer.clone()));
        if self.fresh.len() > FRESH_LAYERS_MAX {
            self.fresh.pop_first();
        }
        self.layers.insert(id, layer);
        self.headers.insert(id, header);
        self.compact()
    }

    /// No slot needs this snapshot any more.
    pub fn drop_snapshot(&mut self, id: SnapshotId) -> Result<(), SnapshotError> {
        if self.headers.contains_key(&id) && self.dropped.insert(id) {
            self.compact()?;
        }
        Ok(())
    }

    /// Merges dropped layers when there are a few of them, the newest first: the oldest holds what
    /// all before it have come to, and is copied once.
    fn compact(&mut self) -> Result<(), SnapshotError> {
        if self.dropped.len() > DROPPED_LAYERS_MAX {
            let last = self.last();
            for id in self.dropped.range(..last).rev().copied().collect::<Vec<_>>() {
                self.merge(id)?;
            }
        }
        Ok(())
    }

    /// Merges a dropped layer into the next one, where the next one has nothing newer.
    fn merge(&mut self, id: SnapshotId) -> Result<(), SnapshotError> {
        if id == self.base_id {
            // The base stays: everything rests on it. Only its name is gone.
            return Ok(());
        }
        let Some(old) = self.layers.remove(&id) else {
            return Ok(());
        };
        self.headers.remove(&id);
        self.dropped.remove(&id);
        let (next_id, newer) = self.layers.range(id..).next().expect("a later one exists");
        let mut pages: BTreeMap<u32, (bool, u64)> = BTreeMap::new();
        for (newer, layer) in [(false, &old), (true, newer)] {
            for (page, offset) in layer.page_offsets() {
                pages.insert(page, (newer, offset));
            }
        }
        let mut runs = Vec::new();
        let mut bytes = Vec::with_capacity(pages.len() * PAGE_BYTES);
        for (page, (is_newer, offset)) in pages {
            let layer = if is_newer { newer } else { &old };
            let start = bytes.len();
            bytes.resize(start + PAGE_BYTES, 0);
            layer.pages.read(offset, &mut bytes[start..])?;
            push_page(&mut runs, page);
        }
        let merged = Layer::new(runs, bytes)?;
        let next_id = *next_id;
        if let Some(header) = self.headers.get_mut(&next_id) {
            header.runs = merged.runs.clone();
        }
        self.layers.insert(next_id, merged);
        Ok(())
    }

    /// How a slot that has `from` mapped gets to `to`.
    pub fn image(
        &self,
        from: Option<SnapshotId>,
        to: SnapshotId,
    ) -> Result<(ForkImage, Vec<OwnedFd>), SnapshotError> {
        let header = self.headers.get(&to).ok_or(SnapshotError::Unknown(to))?;
        let mut image = ForkImage {
            header: SnapshotHeader { runs: Vec::new(), ..header.clone() },
            base: from.is_none(),
            changes: Vec::new(),
        };
        let mut descriptors = Vec::new();
        if from.is_none() {
            descriptors.push(self.base.try_clone()?.into());
        }
        match from {
            Some(from) if from > to => self.changes_back(from, to, &mut image, &mut descriptors)?,
            _ if let Some(way) = from.and_then(|from| self.fresh_way(from, to)) => {
                for layer in way {
                    layer.add_to(&mut image, &mut descriptors)?;
                }
            }
            _ => {
                let after = from.unwrap_or(self.base_id);
                for (_, layer) in self.layers.range((Excluded(after), Included(to))) {
                    layer.add_to(&mut image, &mut descriptors)?;
                }
            }
        }
        Ok((image, descriptors))
    }

    /// The layers from one snapshot to a later one as they were pushed, if all are there.
    fn fresh_way(&self, from: SnapshotId, to: SnapshotId) -> Option<Vec<&Layer>> {
        let mut way = Vec::new();
        let mut at = to;
        while at > from {
            let (before, layer) = self.fresh.get(&at)?;
            way.push(layer);
            at = *before;
        }
        way.reverse();
        (at == from).then_some(way)
    }

    /// Pages of an older snapshot that later ones have changed.
    fn changes_back(
        &self,
        from: SnapshotId,
        to: SnapshotId,
        image: &mut ForkImage,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<(), SnapshotError> {
        let limit = (image.header.memory_bytes / PAGE_BYTES as u64) as u32;
        // If `from` was dropped, its changes are in the next layer that is there.
        let newest = self.layers.range(from..).next().map_or(from, |(id, _)| *id);
        let changed: BTreeSet<u32> = self
            .layers
            .range((Excluded(to), Included(newest)))
            .flat_map(|(_, layer)| layer.page_offsets().map(|(page, _)| page))
            .filter(|page| *page < limit)
            .collect();
        let older: Vec<(&Layer, BTreeMap<u32, u64>)> = self
            .layers
            .range(..=to)
            .map(|(_, layer)| (layer, layer.page_offsets().collect()))
            .collect();
        let mut runs = Vec::new();
        let mut bytes = Vec::with_capacity(changed.len() * PAGE_BYTES);
        for page in changed {
            let start = bytes.len();
            bytes.resize(start + PAGE_BYTES, 0);
            let offset_in = |(layer, offsets): &(&'_ Layer, BTreeMap<u32, u64>)| {
                offsets.get(&page).map(|at| layer.pages.read(*at, &mut bytes[start..]))
            };
            let read = older.iter().rev().find_map(offset_in);
            read.unwrap_or_else(|| self.read_base(page, &mut bytes[start..]))?;
            push_page(&mut runs, page);
        }
        Ok(Layer::new(runs, bytes)?.add_to(image, descriptors)?)
    }

    /// A page of the base; zeros where it has none.
    fn read_base(&self, page: u32, out: &mut [u8]) -> io::Result<()> {
        out.fill(0);
        let offset = u64::from(page) * PAGE;
        let length = self.base.metadata()?.len();
        if offset + PAGE <= length { self.base.read_exact_at(out, offset) } else { Ok(()) }
    }

    /// Turns pages into their difference from what they are in snapshot `at`, and such a difference
    /// back into pages: an exclusive or, which is nearly all zeros where little has changed. False
    /// if the pages of `at` are no longer known by themselves.
    pub fn difference(
        &self,
        at: SnapshotId,
        runs: &[PageRun],
        pages: &mut [u8],
    ) -> Result<bool, SnapshotError> {
        if !self.headers.contains_key(&at) {
            return Ok(false);
        }
        let layers: Vec<&Layer> = self.layers.range(..=at).rev().map(|(_, layer)| layer).collect();
        let numbers = runs.iter().flat_map(|run| run.page..run.page + run.count);
        let mut before = [0; PAGE_BYTES];
        for (number, page) in numbers.zip(pages.chunks_exact_mut(PAGE_BYTES)) {
            let place = layers.iter().find_map(|layer| Some((layer, layer.offset_of(number)?)));
            match place {
                Some((layer, offset)) => layer.pages.read(offset, &mut before)?,
                None => self.read_base(number, &mut before)?,
            }
            page.iter_mut().zip(&before).for_each(|(byte, before)| *byte ^= before);
        }
        Ok(true)
    }

    /// A snapshot as another owner needs it: what changed since the newest one that it has, or all
    /// if it has none.
    pub fn transfer(
        &self,
        id: SnapshotId,
        after: Option<SnapshotId>,
    ) -> Result<Transfer, SnapshotError> {
        let header = self.headers.get(&id).ok_or(SnapshotError::Unknown(id))?;
        let mut transfer = Transfer { header: header.clone(), pieces: Vec::new() };
        let mut pages: Vec<(u32, &Pages, u64)> = Vec::new();
        if after.is_none() {
            // As its header says: a driver that goes on fills holes of the file with zero pages.
            let base = self.base().0.runs.iter().flat_map(|run| run.page..run.page + run.count);
            pages.extend(base.map(|page| (page, &self.base_pages, u64::from(page) * PAGE)));
        }
        let way = after.and_then(|after| self.fresh_way(after, id));
        let layers = way.unwrap_or_else(|| {
            let after = after.unwrap_or(self.base_id);
            self.layers.range((Excluded(after), Included(id))).map(|(_, layer)| layer).collect()
        });
        for layer in layers {
            pages.extend(layer.page_offsets().map(|(page, at)| (page, &layer.pages, at)));
        }
        // Stable: of several versions of a page, the newest is the last.
        pages.sort_by_key(|(page, ..)| *page);
        transfer.header.runs.clear();
        for (index, (page, source, mut offset)) in pages.iter().copied().enumerate() {
            let is_newest = pages.get(index + 1).is_none_or(|(next, ..)| *next > page);
            if is_newest && u64::from(page) * PAGE < header.memory_bytes {
                push_page(&mut transfer.header.runs, page);
                transfer.add(PageRun { page, count: 1 }, source, &mut offset);
            }
        }
        Ok(transfer)
    }
}

fn check(header: &SnapshotHeader) -> Result<(), SnapshotError> {
    if header.is_well_formed() && header.memory_bytes > 0 {
        return Ok(());
    }
    let reason = "its memory or its page runs are out of order";
    Err(SnapshotError::Malformed { id: header.id, reason })
}

#[cfg(test)]
mod tests;
