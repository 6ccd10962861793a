//! [`Partitioner`]: which partition gets a key.
//!
//! A dataset of pairs that came out of a shuffle knows by which rule. An operation by key that
//! wants the same rule reads such a dataset where it is, without a shuffle.

use crate::hash::{hash_bytes, reducer_of};
use crate::record::Record;
use crate::{context, task};
use core::fmt;
use std::rc::Rc;

/// Which partition gets a key. Spark: `Partitioner`.
///
/// Two hash partitioners with as many partitions are the same; any other one is the same as its
/// clones only.
///
/// ```no_run
/// # use offshoot::prelude::*;
/// # let context = Context::new();
/// let by_name = Partitioner::new(26, |name: &String| {
///     u32::from(name.bytes().next().unwrap_or(b'a').to_ascii_lowercase().wrapping_sub(b'a') % 26)
/// });
/// let names = context.parallelize([("ada".to_owned(), 1815), ("grace".to_owned(), 1906)], 1);
/// let names = names.partition_by(&by_name);
/// assert!(names.partitioner() == Some(by_name));
/// ```
pub struct Partitioner<K: 'static> {
    partitions: u32,
    rule: Rule<K>,
}

enum Rule<K: 'static> {
    /// By the hash of the key's encoding.
    Hash,
    /// By a function of the job.
    Own(Rc<dyn Fn(&K) -> u32>),
    /// In ranges of a sort, whose bounds only its tasks know.
    Ranges(Rc<()>),
}

// === impl Partitioner ===

impl<K: Record> Partitioner<K> {
    /// By the hash of the key's encoding. Spark: `HashPartitioner`.
    pub fn hash(partitions: u32) -> Self {
        Self { partitions, rule: Rule::Hash }
    }

    /// By a function from keys to partitions, the first of which is 0. It must depend on nothing
    /// but the key; a result that is no partition fails the task.
    pub fn new(partitions: u32, partition_of: impl Fn(&K) -> u32 + 'static) -> Self {
        Self { partitions, rule: Rule::Own(Rc::new(partition_of)) }
    }

    /// Into ranges that only a dataset which is already so can have.
    pub(crate) fn ranges(partitions: u32) -> Self {
        Self { partitions, rule: Rule::Ranges(Rc::new(())) }
    }

    /// Where the job names nothing: by hash, into `parallelism` partitions.
    pub(crate) fn default_hash() -> Self {
        Self::hash(context::parallelism())
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Whether any dataset can be partitioned so.
    pub(crate) fn is_general(&self) -> bool {
        !matches!(self.rule, Rule::Ranges(_))
    }

    /// The partition of a key that is there both ways.
    #[inline]
    pub(crate) fn partition_of(&self, key: &K, encoded: &[u8]) -> u32 {
        match &self.rule {
            Rule::Own(partition_of) => self.checked(partition_of(key)),
            Rule::Hash | Rule::Ranges(_) => reducer_of(hash_bytes(encoded), self.partitions),
        }
    }

    /// The partition of a key that is there as its encoding.
    #[inline]
    pub(crate) fn partition_of_encoded(&self, mut encoded: &[u8]) -> u32 {
        match &self.rule {
            Rule::Own(partition_of) => {
                self.checked(partition_of(&crate::batch::decode_or_fail(&mut encoded)))
            }
            Rule::Hash | Rule::Ranges(_) => reducer_of(hash_bytes(encoded), self.partitions),
        }
    }

    fn checked(&self, partition: u32) -> u32 {
        let partitions = self.partitions;
        if partition >= partitions {
            task::fail(format_args!(
                "the partitioner answered partition {partition}; there are {partitions}, from 0"
            ));
        }
        partition
    }
}

impl<K> Clone for Partitioner<K> {
    fn clone(&self) -> Self {
        let rule = match &self.rule {
            Rule::Hash => Rule::Hash,
            Rule::Own(partition_of) => Rule::Own(Rc::clone(partition_of)),
            Rule::Ranges(identity) => Rule::Ranges(Rc::clone(identity)),
        };
        Self { partitions: self.partitions, rule }
    }
}

impl<K> PartialEq for Partitioner<K> {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.rule, &other.rule) {
            (Rule::Hash, Rule::Hash) => true,
            (Rule::Own(left), Rule::Own(right)) => Rc::ptr_eq(left, right),
            (Rule::Ranges(left), Rule::Ranges(right)) => Rc::ptr_eq(left, right),
            _ => false,
        };
        same && self.partitions == other.partitions
    }
}

impl<K> fmt::Debug for Partitioner<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.rule {
            Rule::Hash => "hash",
            Rule::Own(_) => "own",
            Rule::Ranges(_) => "ranges",
        };
        write!(f, "Partitioner({rule}, {} partitions)", self.partitions)
    }
}
