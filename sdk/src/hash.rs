//! The hash that decides which reducer gets a key. It never changes within an ABI version: two
//! attempts of a task, on any machine, must send a key to the same reducer.
//!
//! ```text
//!   mix(h, w) = let x = (h ^ w) * 0x9E3779B97F4A7C15;  x ^ (x >> 32)        (mod 2^64)
//!   h = mix(0x2545F4914F6CDD1D, length)
//!   length >= 8: h = mix(h, each whole little-endian word), then mix(h, the last 8 bytes)
//!   length 4-7:  h = mix(h, first 4 bytes | last 4 bytes << 32)
//!   length 1-3:  h = mix(h, first | middle << 8 | last << 16)
//!   hash = mix(h, 0xD6E8FEB86659FD93)
//!   reducer = (hash >> 32) * reducers >> 32
//! ```
//!
//! One 64-bit multiplication per eight bytes: WebAssembly has no wider one. It is no defence
//! against chosen keys, which could only slow down the job that chooses them.

const SEED: u64 = 0x2545_F491_4F6C_DD1D;
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
const FINISH: u64 = 0xD6E8_FEB8_6659_FD93;

/// The stable 64-bit hash of a key's encoding.
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let length = bytes.len();
    let mut hash = mix(SEED, length as u64);
    if let Some(last) = bytes.last_chunk::<8>() {
        // The last word is read whole and overlaps the one before it.
        for word in bytes[..length - 1].as_chunks::<8>().0 {
            hash = mix(hash, u64::from_le_bytes(*word));
        }
        hash = mix(hash, u64::from_le_bytes(*last));
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let first = u64::from(u32::from_le_bytes(*first));
        hash = mix(hash, first | u64::from(u32::from_le_bytes(*last)) << 32);
    } else if length > 0 {
        let (first, middle, last) = (bytes[0], bytes[length / 2], bytes[length - 1]);
        let word = u64::from(first) | u64::from(middle) << 8 | u64::from(last) << 16;
        hash = mix(hash, word);
    }
    mix(hash, FINISH)
}

/// The reducer of a key: the hash's upper half, scaled.
#[inline]
pub fn reducer_of(hash: u64, reducers: u32) -> u32 {
    let scaled = (hash >> 32) * u64::from(reducers) >> 32;
    scaled as u32
}

#[inline]
fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(MULTIPLIER);
    product ^ (product >> 32)
}

#[cfg(test)]
mod tests {
    use super::{hash_bytes, reducer_of};
    use std::collections::BTreeSet;

    /// A change here sends keys to other reducers: it needs another ABI version.
    #[test]
    fn values_are_pinned() {
        let hashes = [&b""[..], b"a", b"abcd", b"abcdefgh", b"a somewhat longer key"].map(hash_bytes);
        assert_eq!(hashes, PINNED);
    }

    const PINNED: [u64; 5] = [0, 0, 0, 0, 0];

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
