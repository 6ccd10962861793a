//! The hash that decides which reducer gets a key. It never changes within an ABI version: two
//! attempts of a task, on any machine, must send a key to the same reducer.
//!
//! ```text
//!   round(h, w) = rotate_left(h ^ (w * 0x9E3779B97F4A7C15), 31) * 0xD6E8FEB86659FD93    (mod 2^64)
//!   h = 0x2545F4914F6CDD1D ^ length
//!   for each whole little-endian word of 8 bytes:  h = round(h, word)
//!   the rest, 4-7 bytes:  h = round(h, first 4 | last 4 << 32)
//!   the rest, 1-3 bytes:  h = round(h, first | middle << 8 | last << 16)
//!   h = h ^ (h >> 32);  h = h * 0x9E3779B97F4A7C15;  hash = h ^ (h >> 29)
//!   reducer = (hash >> 32) * reducers >> 32
//! ```
//!
//! Two 64-bit multiplications per eight bytes, one of them off the critical path: WebAssembly has
//! no wider one, and with one alone a change of a word's upper bits can be undone by the next
//! word. It is no defence against chosen keys, which slow down only the job that chooses them.

const SEED: u64 = 0x2545_F491_4F6C_DD1D;
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
const MIX: u64 = 0xD6E8_FEB8_6659_FD93;

/// The stable 64-bit hash of a key's encoding.
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = SEED ^ bytes.len() as u64;
    for word in words {
        hash = round(hash, u64::from_le_bytes(*word));
    }
    if let (Some(first), Some(last)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        let first = u64::from(u32::from_le_bytes(*first));
        hash = round(hash, first | u64::from(u32::from_le_bytes(*last)) << 32);
    } else if let (Some(first), Some(last)) = (rest.first(), rest.last()) {
        let middle = u64::from(rest[rest.len() / 2]);
        hash = round(hash, u64::from(*first) | middle << 8 | u64::from(*last) << 16);
    }
    hash = (hash ^ (hash >> 32)).wrapping_mul(SPREAD);
    hash ^ (hash >> 29)
}

/// The reducer of a key: the hash's upper half, scaled.
#[inline]
pub fn reducer_of(hash: u64, reducers: u32) -> u32 {
    let scaled = ((hash >> 32) * u64::from(reducers)) >> 32;
    scaled as u32
}

#[inline]
fn round(hash: u64, word: u64) -> u64 {
    (hash ^ word.wrapping_mul(SPREAD)).rotate_left(31).wrapping_mul(MIX)
}

#[cfg(test)]
mod tests {
    use super::{hash_bytes, reducer_of};
    use std::collections::BTreeSet;

    /// A change here sends keys to other reducers: it needs another ABI version.
    #[test]
    fn values_are_pinned() {
        let hashes =
            [&b""[..], b"a", b"abcd", b"abcdefgh", b"a somewhat longer key"].map(hash_bytes);
        assert_eq!(hashes, PINNED);
    }

    const PINNED: [u64; 5] = [
        5_214_267_912_916_717_628,
        3_478_051_353_636_862_413,
        13_843_042_053_949_915_888,
        17_211_078_641_672_256_596,
        16_611_384_036_896_784_110,
    ];

    #[test]
    fn lengths_and_single_bits_tell_keys_apart() {
        let mut seen = BTreeSet::new();
        for length in 0..40 {
            assert!(seen.insert(hash_bytes(&vec![0; length])), "zeros of length {length}");
            for bit in 0..length * 8 {
                let mut key = vec![0; length];
                key[bit / 8] |= 1 << (bit % 8);
                assert!(seen.insert(hash_bytes(&key)), "length {length}, bit {bit}");
            }
        }
    }

    #[test]
    fn reducers_get_equal_shares() {
        for reducers in [1, 2, 7, 64] {
            let mut counts = vec![0u32; reducers as usize];
            for key in 0..64_000u32 {
                counts[reducer_of(hash_bytes(&key.to_le_bytes()), reducers) as usize] += 1;
            }
            let fair = 64_000 / reducers;
            let most = counts.iter().max().copied().unwrap_or(0);
            let least = counts.iter().min().copied().unwrap_or(0);
            assert!(least > fair * 8 / 10 && most < fair * 12 / 10, "{reducers}: {counts:?}");
        }
    }
}
