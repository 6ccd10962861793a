//! Looking at byte strings eight at a time. WebAssembly's C library compares byte by byte.

use core::cmp::Ordering;

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Where the first `\n` is.
#[inline]
pub(crate) fn find_newline(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        // A byte of `matched` is zero where the text has a newline; the sum borrows out of the
        // first zero byte, and only what lies above it can be marked wrongly.
        let matched = u64::from_le_bytes(*word) ^ (LOW_BITS * u64::from(b'\n'));
        let marks = matched.wrapping_sub(LOW_BITS) & !matched & HIGH_BITS;
        if marks != 0 {
            return Some(index * 8 + marks.trailing_zeros() as usize / 8);
        }
    }
    let place = rest.iter().position(|byte| *byte == b'\n')?;
    Some(words.len() * 8 + place)
}

/// Whether two byte strings are the same.
#[inline]
pub(crate) fn equal(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let (left_words, left_rest) = left.as_chunks::<8>();
    let (right_words, right_rest) = right.as_chunks::<8>();
    let mut words = left_words.iter().zip(right_words);
    words.all(|(left, right)| u64::from_le_bytes(*left) == u64::from_le_bytes(*right))
        && left_rest.iter().zip(right_rest).all(|(left, right)| left == right)
}

/// The order of two byte strings.
#[inline]
pub(crate) fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let common = left.len().min(right.len());
    let (left_words, left_rest) = left[..common].as_chunks::<8>();
    let (right_words, right_rest) = right[..common].as_chunks::<8>();
    for (left, right) in left_words.iter().zip(right_words) {
        if left != right {
            return u64::from_be_bytes(*left).cmp(&u64::from_be_bytes(*right));
        }
    }
    for (left, right) in left_rest.iter().zip(right_rest) {
        if left != right {
            return left.cmp(right);
        }
    }
    left.len().cmp(&right.len())
}

/// The first eight bytes as a number that orders like the string; zeros stand for what is missing.
#[inline]
pub(crate) fn prefix(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(word) => u64::from_be_bytes(*word),
        None => {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(word)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{compare, equal, find_newline, prefix};
    use proptest::prelude::*;

    /// Few distinct bytes, so that equal stretches and newlines are common.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(b'\n'), Just(0x0b), Just(0x8a), Just(0), Just(b'a'), Just(255)];
        proptest::collection::vec(byte, 0..40)
    }

    proptest! {
        #[test]
        fn like_the_standard_library(left in text(), right in text(), common in text()) {
            prop_assert_eq!(find_newline(&left), left.iter().position(|byte| *byte == b'\n'));
            let left = [common.clone(), left].concat();
            let right = [common, right].concat();
            prop_assert_eq!(compare(&left, &right), left.cmp(&right));
            prop_assert_eq!(equal(&left, &right), left == right);
            prop_assert!(equal(&left, &left.clone()));
            if prefix(&left) != prefix(&right) {
                prop_assert_eq!(prefix(&left).cmp(&prefix(&right)), left.cmp(&right));
            }
        }
    }
}
