//! Indexes that were read lately.
//!
//! Every reducer asks for the output of every map, so each index would be read and checked once a
//! reducer. An attempt's output never changes, so what was read once stays true.

use crate::memory::BlockId;
use offshoot_proto::block::{Extent, ShuffleIndex};
use offshoot_proto::id::{AppId, AttemptId, NodeId, Partition};
use std::collections::BTreeMap;
use std::mem::size_of;
use std::sync::Arc;

/// Which map attempt's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockKey {
    /// Of which application.
    pub app: AppId,
    /// The shuffle.
    pub writer: NodeId,
    /// The map partition.
    pub map: Partition,
    /// Who computed it.
    pub attempt: AttemptId,
}

/// The indexes that were used last, as far as they fit.
#[derive(Debug)]
pub(super) struct IndexCache {
    entries: BTreeMap<BlockKey, Entry>,
    /// By when they were used; the oldest first.
    uses: BTreeMap<u64, BlockKey>,
    next_use: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    index: Arc<ShuffleIndex>,
    used: u64,
    bytes: usize,
}

// === impl BlockKey ===

impl BlockKey {
    /// Within its application.
    pub fn id(self) -> BlockId {
        let Self { writer, map, attempt, .. } = self;
        BlockId { writer, map, attempt }
    }
}

// === impl IndexCache ===

impl IndexCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { entries: BTreeMap::new(), uses: BTreeMap::new(), next_use: 0, bytes: 0, bytes_max }
    }

    pub(super) fn find(&mut self, key: BlockKey) -> Option<Arc<ShuffleIndex>> {
        let entry = self.entries.get_mut(&key)?;
        self.uses.remove(&entry.used);
        self.uses.insert(self.next_use, key);
        entry.used = self.next_use;
        self.next_use += 1;
        Some(entry.index.clone())
    }

    /// Keeps `index`, and forgets those that were not used for longest to make room.
    pub(super) fn keep(&mut self, key: BlockKey, index: Arc<ShuffleIndex>) {
        self.remove(key);
        let bytes = weight(&index);
        if bytes > self.bytes_max {
            return;
        }
        while self.bytes + bytes > self.bytes_max {
            let Some((_, oldest)) = self.uses.first_key_value() else {
                break;
            };
            self.remove(*oldest);
        }
        let used = self.next_use;
        self.next_use += 1;
        self.uses.insert(used, key);
        self.bytes += bytes;
        self.entries.insert(key, Entry { index, used, bytes });
    }

    pub(super) fn remove(&mut self, key: BlockKey) {
        if let Some(entry) = self.entries.remove(&key) {
            self.uses.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }

    /// Forgets all indexes of an application.
    pub(super) fn forget(&mut self, app: AppId) {
        let of_app = self.entries.keys().filter(|key| key.app == app);
        for key in of_app.copied().collect::<Vec<_>>() {
            self.remove(key);
        }
    }
}

/// Bytes of memory that an index takes, about.
fn weight(index: &ShuffleIndex) -> usize {
    let extents: usize = index.reducers.iter().map(Vec::len).sum();
    let lists = index.reducers.len() * size_of::<Vec<Extent>>();
    size_of::<(BlockKey, Entry, ShuffleIndex)>() + lists + extents * size_of::<Extent>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(app: u64, map: u32) -> BlockKey {
        BlockKey { app: AppId(app), writer: NodeId(0), map: Partition(map), attempt: AttemptId(0) }
    }

    fn index(reducers: usize) -> Arc<ShuffleIndex> {
        Arc::new(ShuffleIndex { reducers: vec![vec![Extent::default()]; reducers], data_bytes: 0 })
    }

    #[test]
    fn the_index_that_was_not_used_for_longest_makes_room() {
        let one = weight(&index(10));
        let mut cache = IndexCache::new(2 * one);
        cache.keep(key(1, 0), index(10));
        cache.keep(key(1, 1), index(10));
        assert!(cache.find(key(1, 0)).is_some());
        cache.keep(key(1, 2), index(10));
        assert!(cache.find(key(1, 1)).is_none());
        assert!(cache.find(key(1, 0)).is_some() && cache.find(key(1, 2)).is_some());
        assert_eq!(cache.bytes, 2 * one);
    }

    #[test]
    fn what_would_not_fit_alone_is_not_kept() {
        let mut cache = IndexCache::new(weight(&index(10)));
        cache.keep(key(1, 0), index(10));
        cache.keep(key(1, 1), index(11));
        assert!(cache.find(key(1, 1)).is_none() && cache.find(key(1, 0)).is_some());
    }

    #[test]
    fn an_application_is_forgotten_whole() {
        let mut cache = IndexCache::new(1 << 20);
        for (app, map) in [(1, 0), (1, 1), (2, 0)] {
            cache.keep(key(app, map), index(3));
        }
        cache.keep(key(1, 1), index(3));
        cache.forget(AppId(1));
        assert!(cache.find(key(2, 0)).is_some() && cache.find(key(1, 1)).is_none());
        assert_eq!(cache.bytes, weight(&index(3)));
        assert_eq!((cache.entries.len(), cache.uses.len()), (1, 1));
    }
}
