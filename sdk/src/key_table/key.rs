//! What an entry of a table holds of its key: the key itself if it is short, else where it is.
//!
//! ```text
//!   up to 7 bytes   [ key, zeros            | 0x80 + length ]
//!   longer          [ position, 4 | length, 4: below 2^31   ]
//! ```
//!
//! Most keys are short: words, and numbers below 2^49. Comparing one with that of an entry is
//! comparing two numbers, without a look at the arena, which is one miss of the cache less.

use crate::arena::{Arena, Span};

/// Bytes of a key that is held in its entry.
const INLINE_BYTES: usize = 7;

/// In the last byte: the key is here. No string in a guest's memory is so long that its length has
/// this bit, for its table has more than the string in that memory.
const INLINE: u8 = 0x80;

/// A key, or its place in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key([u8; 8]);

// === impl Key ===

impl Key {
    /// A short key; `None` for a longer one.
    #[inline]
    pub(super) fn inline(bytes: &[u8]) -> Option<Self> {
        let length = bytes.len();
        if length > INLINE_BYTES {
            return None;
        }
        // No copy of a length that is not known: that would be a call and a loop.
        let mut word = (INLINE as u64 | length as u64) << 56;
        if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            let last = u64::from(u32::from_le_bytes(*last));
            word |= u64::from(u32::from_le_bytes(*first)) | last << (8 * (length - 4));
        } else if let (Some(first), Some(last)) = (bytes.first(), bytes.last()) {
            let middle = u64::from(bytes[length / 2]);
            word |= u64::from(*first) | middle << (8 * (length / 2));
            word |= u64::from(*last) << (8 * (length - 1));
        }
        Some(Self(word.to_le_bytes()))
    }

    /// A key, which goes to the arena if it is long.
    pub(super) fn add(bytes: &[u8], arena: &mut Arena) -> Self {
        Self::inline(bytes).unwrap_or_else(|| Self(arena.add(bytes).to_bytes()))
    }

    /// The place of a long key.
    #[inline]
    pub(super) fn span(self) -> Option<Span> {
        (self.0[7] & INLINE == 0).then(|| Span::from_bytes(self.0))
    }

    /// The key's bytes.
    #[inline]
    pub(super) fn bytes<'a>(&'a self, arena: &'a Arena) -> &'a [u8] {
        match self.span() {
            Some(span) => arena.at(span),
            None => &self.0[..usize::from(self.0[7] & !INLINE).min(INLINE_BYTES)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{INLINE_BYTES, Key};
    use crate::arena::Arena;

    #[test]
    fn every_key_comes_back() {
        let mut arena = Arena::default();
        for length in 0..40 {
            let bytes: Vec<u8> = (0..length).map(|byte| 0xff - byte).collect();
            let key = Key::add(&bytes, &mut arena);
            assert_eq!(key.bytes(&arena), bytes);
            assert_eq!(key.span().is_none(), bytes.len() <= INLINE_BYTES, "{length}");
        }
    }

    #[test]
    fn keys_that_differ_in_zeros_differ() {
        let keys = (0..=INLINE_BYTES).map(|length| Key::inline(&[0; INLINE_BYTES][..length]));
        let mut keys: Vec<_> = keys.map(|key| key.map(|key| key.0)).collect();
        keys.dedup();
        assert_eq!(keys.len(), INLINE_BYTES + 1);
        assert_eq!(Key::inline(&[0; INLINE_BYTES + 1]), None);
    }
}
