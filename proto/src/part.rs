//! How the part files of an output are called.
//!
//! A job names them with [`OutputSpec::prefix`](crate::abi::OutputSpec): `part-` makes
//! `part-00000`, and `part-*.csv.gz` makes `part-00000.csv.gz`. It is a guest's word: whoever
//! makes a path of it has looked at it with [`PartNames::new`].

use crate::id::Partition;
use core::fmt;

/// Bytes of the pattern: a file's name may have 255, and number and attempt are added.
const PATTERN_BYTES_MAX: usize = 128;

/// Stands for the number of a part.
const NUMBER: char = '*';

/// Names of part files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartNames<'a> {
    before: &'a str,
    after: &'a str,
}

/// A pattern that makes no names: it has a slash or a control character, begins with a dot or `_`,
/// has two stars or more than 128 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPartNames {
    shown: String,
    reason: &'static str,
}

// === impl PartNames ===

impl<'a> PartNames<'a> {
    /// From a prefix, or from a pattern with one `*`.
    ///
    /// # Errors
    /// It could name something outside of the output, or nothing that a reader would list.
    pub fn new(pattern: &'a str) -> Result<Self, BadPartNames> {
        let (before, after) = pattern.split_once(NUMBER).unwrap_or((pattern, ""));
        let reason = if pattern.len() > PATTERN_BYTES_MAX {
            "it has more than 128 bytes"
        } else if pattern.contains(|c: char| c == '/' || c.is_control()) {
            "it has a slash or a control character"
        } else if before.starts_with(['.', '_']) {
            "it begins with a dot or an underscore, which hides files from listings"
        } else if after.contains(NUMBER) {
            "it has more than one star"
        } else {
            return Ok(Self { before, after });
        };
        let shown = pattern.chars().take(PATTERN_BYTES_MAX).collect();
        Err(BadPartNames { shown, reason })
    }

    /// The name of a partition's file.
    pub fn of(self, partition: Partition) -> String {
        format!("{}{:05}{}", self.before, partition.0, self.after)
    }
}

impl fmt::Display for BadPartNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shown, reason } = self;
        write!(f, "part files cannot be named by {shown:?}: {reason}")
    }
}

impl core::error::Error for BadPartNames {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::PartNames;
    use crate::id::Partition;

    #[test]
    fn a_prefix_or_a_pattern() {
        let name = |pattern| PartNames::new(pattern).unwrap().of(Partition(7));
        assert_eq!(name("part-"), "part-00007");
        assert_eq!(name("part-*.csv.gz"), "part-00007.csv.gz");
        assert_eq!(name("*"), "00007");
        assert_eq!(name(""), "00007");
    }

    #[test]
    fn nothing_leaves_the_output_or_hides_in_it() {
        let long = "x".repeat(129);
        for pattern in ["../part-", "a/b", "*/..", ".x", "_x", "a\0", "a\n", "*.*", &long] {
            let error = PartNames::new(pattern).unwrap_err().to_string();
            assert!(error.contains("cannot be named by"), "{error}");
        }
    }
}
