//! The values of each key, from up to four sides: what every grouping and join reads.
//!
//! ```text
//!   table   key ──► a list for each side
//!   links   [ place of the value's encoding, next of the list ]
//!   values  encodings, one after the other
//! ```
//!
//! No allocation for a key or a value. When the bytes become too many, all lists go to a run,
//! ordered by (hash of the key, key, side), and the table starts again; in the end the runs are
//! merged. The values of a key and side keep the order in which they were added.

use super::runs::{Merge, Runs};
use crate::arena::{Arena, Span};
use crate::batch::decode_or_fail;
use crate::bytes;
use crate::external::Room;
use crate::hash::hash_bytes;
use crate::key_table::KeyTable;
use crate::key_table::ahead::TOGETHER;
use crate::record::Record;
use core::hint::black_box;
use core::marker::PhantomData;

/// Bytes of values at which a chunk ends: a hot key never has to be in memory at once.
const CHUNK_BYTES: usize = 16 << 10;

const NONE: u32 = u32::MAX;

/// Encoded values by key and side, spilling.
pub(crate) struct Groups<const N: usize> {
    lists: Lists<N>,
    runs: Runs,
    room: Room,
}

struct Lists<const N: usize> {
    table: KeyTable<[List; N]>,
    links: Vec<Link>,
    values: Arena,
    value_bytes: usize,
}

#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

#[derive(Clone, Copy)]
struct Link {
    value: Span,
    next: u32,
}

/// A place in a list of values.
#[derive(Clone, Copy)]
pub(crate) struct Cursor(u32);

/// Some values of a key: those of one side, all or a part.
#[derive(Clone, Copy)]
pub(crate) struct Chunk<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) side: usize,
    pub(crate) count: usize,
    /// Their encodings, one after the other.
    pub(crate) values: &'a [u8],
}

/// The chunks of all keys. Those of a key come together, ordered by side.
pub(crate) enum Chunks<const N: usize> {
    Held(Held<N>),
    Merged(Merge),
}

/// Chunks of what never left memory, keys in order of first appearance.
pub(crate) struct Held<const N: usize> {
    lists: Lists<N>,
    /// The key after the current one.
    next_key: u32,
    side: usize,
    link: u32,
    values: Vec<u8>,
}

/// Decoded values by side: `(Vec<A>, Vec<B>)` and its like.
pub(crate) trait Sides: Default + 'static {
    /// Adds the values of a chunk.
    fn add(&mut self, chunk: Chunk<'_>);
}

/// Each key with all its values.
pub(crate) struct Cogrouped<K, S, const N: usize> {
    chunks: Chunks<N>,
    /// Whether the current chunk belongs to the key that comes next.
    ahead: bool,
    key: Vec<u8>,
    kind: PhantomData<fn() -> (K, S)>,
}

// === impl Groups ===

impl<const N: usize> Groups<N> {
    pub(crate) fn new() -> Self {
        Self { lists: Lists::new(), runs: Runs::new(hash_bytes), room: Room::of_table() }
    }

    /// Adds a value, given by its encoding.
    pub(crate) fn add(&mut self, side: usize, key: &[u8], value: &[u8]) {
        self.lists.add(side, key, value);
        if self.lists.bytes() > self.room.bytes() {
            self.spill();
        }
    }

    /// Whether everything is in memory, so that [`find_all`](Self::find_all) finds all there is.
    pub(crate) fn is_held(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many keys [`find_all`](Self::find_all) should be given.
    pub(crate) fn together(&self) -> usize {
        if self.lists.table.is_large() { TOGETHER } else { 1 }
    }

    /// The values that each of some keys has in memory on a side, to be taken one after the other.
    pub(crate) fn find_all<'a>(
        &self,
        side: usize,
        keys: impl Iterator<Item = &'a [u8]> + Clone,
        cursors: &mut [Cursor],
    ) {
        let Lists { table, links, values, .. } = &self.lists;
        table.lookup_all(keys, |index, lists| {
            cursors[index] = lists.map_or(Cursor::END, |lists| Cursor(lists[side].first));
        });
        // As with the lookups: what is read in a loop is waited for once.
        let mut touched = 0;
        for cursor in cursors {
            let link = links.get(cursor.0 as usize);
            let value = link.and_then(|link| values.at(link.value).first());
            touched ^= value.copied().unwrap_or_default();
        }
        black_box(touched);
    }

    /// The value at the cursor, which moves on.
    pub(crate) fn take<V: Record>(&self, cursor: &mut Cursor) -> Option<V> {
        let Link { value, next } = self.lists.links.get(cursor.0 as usize)?;
        cursor.0 = *next;
        Some(decode_or_fail(&mut self.lists.values.at(*value)))
    }

    /// All chunks.
    pub(crate) fn into_chunks(mut self) -> Chunks<N> {
        if self.runs.is_empty() {
            return Chunks::Held(Held {
                lists: self.lists,
                next_key: 0,
                side: N,
                link: NONE,
                values: Vec::new(),
            });
        }
        self.spill();
        Chunks::Merged(self.runs.merge())
    }

    #[cold]
    #[inline(never)]
    fn spill(&mut self) {
        let lists = core::mem::replace(&mut self.lists, Lists::new());
        self.runs.write(&mut |run| {
            let mut chunk = Vec::new();
            for index in lists.table.sorted(hash_bytes) {
                let (key, sides) = lists.table.at(index);
                for (side, list) in (0..).zip(sides) {
                    let mut link = list.first;
                    while link != NONE {
                        lists.take_chunk(&mut link, &mut chunk);
                        run.entry(side, key, &chunk);
                    }
                }
            }
        });
    }
}

// === impl Cursor ===

impl Cursor {
    /// Where there is no value.
    pub(crate) const END: Self = Self(NONE);

    /// Whether there is no further value.
    #[inline]
    pub(crate) fn is_at_end(&self) -> bool {
        self.0 == NONE
    }
}

// === impl Lists ===

impl<const N: usize> Lists<N> {
    fn new() -> Self {
        Self { table: KeyTable::new(), links: Vec::new(), values: Arena::default(), value_bytes: 0 }
    }

    fn bytes(&self) -> usize {
        // A vector that doubles holds its items up to three times while it grows.
        self.table.heap_bytes() + self.value_bytes + 2 * self.links.len() * size_of::<Link>()
    }

    fn add(&mut self, side: usize, key: &[u8], value: &[u8]) {
        let place = self.links.len() as u32;
        let value_bytes = value.len();
        let value = self.values.add(value);
        self.links.push(Link { value, next: NONE });
        self.value_bytes += value_bytes;
        let none = List { first: NONE, last: NONE };
        let list = &mut self.table.entry(key, hash_bytes(key), || [none; N])[side];
        match self.links.get_mut(list.last as usize) {
            Some(last) => last.next = place,
            None => list.first = place,
        }
        list.last = place;
    }

    /// Fills `chunk` with values from `link` on: their number, and their encodings.
    fn take_chunk(&self, link: &mut u32, chunk: &mut Vec<u8>) {
        let (mut end, mut count, mut bytes) = (*link, 0usize, 0);
        while let Some(Link { value, next }) = self.links.get(end as usize) {
            (end, count) = (*next, count + 1);
            bytes += self.values.at(*value).len();
            if bytes >= CHUNK_BYTES || count >= CHUNK_BYTES {
                break;
            }
        }
        chunk.clear();
        count.encode(chunk);
        while *link != end {
            let Link { value, next } = self.links[*link as usize];
            chunk.extend_from_slice(self.values.at(value));
            *link = next;
        }
    }
}

// === impl Chunks ===

impl<const N: usize> Chunks<N> {
    /// Goes to the next chunk; `false` if there is none.
    pub(crate) fn advance(&mut self) -> bool {
        match self {
            Self::Held(held) => held.advance(),
            Self::Merged(merge) => merge.advance(),
        }
    }

    /// The current chunk, after [`advance`](Self::advance) said that there is one.
    pub(crate) fn chunk(&self) -> Chunk<'_> {
        let (side, key, mut values) = match self {
            Self::Held(held) => {
                (held.side, held.lists.table.at(held.next_key - 1).0, &held.values[..])
            }
            Self::Merged(merge) => {
                let entry = merge.entry();
                (usize::from(entry.side), entry.key, entry.payload)
            }
        };
        let count = decode_or_fail(&mut values);
        Chunk { key, side, count, values }
    }
}

impl<const N: usize> Held<N> {
    fn advance(&mut self) -> bool {
        while self.link == NONE {
            self.side += 1;
            if self.side >= N {
                if self.next_key as usize == self.lists.table.len() {
                    return false;
                }
                (self.next_key, self.side) = (self.next_key + 1, 0);
            }
            self.link = self.lists.table.at(self.next_key - 1).1[self.side].first;
        }
        self.lists.take_chunk(&mut self.link, &mut self.values);
        true
    }
}

// === impl Chunk ===

impl Chunk<'_> {
    /// The values.
    pub(crate) fn decode<V: Record>(&self) -> impl Iterator<Item = V> {
        let mut values = self.values;
        (0..self.count).map(move |_| decode_or_fail(&mut values))
    }
}

// === impl Cogrouped ===

impl<K: Record, S: Sides, const N: usize> Cogrouped<K, S, N> {
    pub(crate) fn new(chunks: Chunks<N>) -> Self {
        Self { chunks, ahead: false, key: Vec::new(), kind: PhantomData }
    }
}

impl<K: Record, S: Sides, const N: usize> Iterator for Cogrouped<K, S, N> {
    type Item = (K, S);

    fn next(&mut self) -> Option<(K, S)> {
        if !core::mem::take(&mut self.ahead) && !self.chunks.advance() {
            return None;
        }
        let mut sides = S::default();
        let chunk = self.chunks.chunk();
        self.key.clear();
        self.key.extend_from_slice(chunk.key);
        sides.add(chunk);
        while self.chunks.advance() {
            let chunk = self.chunks.chunk();
            if !bytes::equal(chunk.key, &self.key) {
                self.ahead = true;
                break;
            }
            sides.add(chunk);
        }
        Some((decode_or_fail(&mut &self.key[..]), sides))
    }
}

macro_rules! sides {
    ($(($($name:ident $index:tt),+))*) => {$(
        impl<$($name: Record),+> Sides for ($(Vec<$name>,)+) {
            fn add(&mut self, chunk: Chunk<'_>) {
                match chunk.side {
                    $($index => self.$index.extend(chunk.decode::<$name>()),)+
                    side => unreachable!("side {side}"),
                }
            }
        }
    )*};
}
sides! { (A 0) (A 0, B 1) (A 0, B 1, C 2) (A 0, B 1, C 2, D 3) }
