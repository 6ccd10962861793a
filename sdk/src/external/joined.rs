//! What joins and differences make of the chunks of two sides, a chunk at a time.
//!
//! Of each key the values of the first side are held, those of the second pass by: a hot key there
//! never has to be in memory at once.

use super::groups::{Chunk, Chunks};
use crate::batch::decode_or_fail;
use crate::bytes;
use crate::record::Record;
use core::marker::PhantomData;
use std::rc::Rc;

/// Values of one key on both sides, each of which belongs to each; `None` stands for a side that
/// has not got the key.
pub(crate) struct Matches<K, V, W> {
    pub(crate) key: K,
    pub(crate) here: Rc<[Option<V>]>,
    pub(crate) there: Vec<Option<W>>,
}

/// Which keys are wanted that only one side has.
#[derive(Clone, Copy)]
pub(crate) struct Outer {
    pub(crate) here: bool,
    pub(crate) there: bool,
}

/// The matches of all keys.
pub(crate) struct Joined<K, V, W> {
    chunks: Chunks<2>,
    outer: Outer,
    key: Option<Vec<u8>>,
    /// The values here of the key, as long as no value there has come.
    collecting: Vec<Option<V>>,
    /// All of them, once one has.
    here: Rc<[Option<V>]>,
    /// Whether the chunk that `chunks` is at begins the next key.
    ahead: bool,
    kind: PhantomData<fn() -> (K, W)>,
}

/// The pairs of the second side whose keys the first side has not.
pub(crate) struct Unmatched<K, V> {
    chunks: Chunks<2>,
    /// The last key that the first side has.
    excluded: Option<Vec<u8>>,
    kind: PhantomData<fn() -> (K, V)>,
}

// === impl Joined ===

impl<K: Record, V: Record, W: Record> Joined<K, V, W> {
    pub(crate) fn new(chunks: Chunks<2>, outer: Outer) -> Self {
        let (collecting, here) = (Vec::new(), Rc::new([]) as Rc<[Option<V>]>);
        Self { chunks, outer, key: None, collecting, here, ahead: false, kind: PhantomData }
    }

    /// What the key that ends here leaves: values that met none.
    fn end_key(&mut self) -> Option<Matches<K, V, W>> {
        let key = self.key.take()?;
        let alone = core::mem::take(&mut self.collecting);
        if alone.is_empty() || !self.outer.here {
            return None;
        }
        let key = decode_or_fail(&mut &key[..]);
        Some(Matches { key, here: alone.into(), there: vec![None] })
    }

    /// Takes the current chunk, which is of the current key.
    fn take_chunk(&mut self) -> Option<Matches<K, V, W>> {
        let chunk = self.chunks.chunk();
        if chunk.side == 0 {
            self.collecting.extend(chunk.decode().map(Some));
            return None;
        }
        if !self.collecting.is_empty() {
            self.here = core::mem::take(&mut self.collecting).into();
        } else if self.here.is_empty() && self.outer.there {
            self.here = Rc::new([None]);
        }
        if self.here.is_empty() {
            return None;
        }
        let there = chunk.decode().map(Some).collect();
        let key = decode_or_fail(&mut &chunk.key[..]);
        Some(Matches { key, here: Rc::clone(&self.here), there })
    }
}

fn is_of(chunk: Chunk<'_>, key: Option<&Vec<u8>>) -> bool {
    key.is_some_and(|key| bytes::equal(key, chunk.key))
}

impl<K: Record, V: Record, W: Record> Iterator for Joined<K, V, W> {
    type Item = Matches<K, V, W>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if !core::mem::take(&mut self.ahead) && !self.chunks.advance() {
                return self.end_key();
            }
            if !is_of(self.chunks.chunk(), self.key.as_ref()) {
                if let Some(alone) = self.end_key() {
                    self.ahead = true;
                    return Some(alone);
                }
                self.key = Some(self.chunks.chunk().key.to_vec());
                self.here = Rc::new([]);
            }
            if let Some(matches) = self.take_chunk() {
                return Some(matches);
            }
        }
    }
}

// === impl Unmatched ===

impl<K: Record, V: Record> Unmatched<K, V> {
    pub(crate) fn new(chunks: Chunks<2>) -> Self {
        Self { chunks, excluded: None, kind: PhantomData }
    }
}

impl<K: Record, V: Record> Iterator for Unmatched<K, V> {
    /// A key, and some of its values.
    type Item = (K, Vec<V>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.chunks.advance() {
            let chunk = self.chunks.chunk();
            if chunk.side == 0 {
                self.excluded = Some(chunk.key.to_vec());
            } else if !is_of(chunk, self.excluded.as_ref()) {
                return Some((decode_or_fail(&mut &chunk.key[..]), chunk.decode().collect()));
            }
        }
        None
    }
}
