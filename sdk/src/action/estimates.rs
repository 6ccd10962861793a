//! Samples of a given size, and how many distinct records there are, about.

use super::ordering::Least;
use crate::dataset::Dataset;
use crate::error::Error;
use crate::hash::hash_bytes;
use crate::node::Origin;
use crate::random::Random;
use crate::record::{Record, Serde};
use core::cmp::Ordering;
use core::hash::{BuildHasher, Hasher};
use core::ops::RangeInclusive;
use hyperloglogplus::{HyperLogLog, HyperLogLogPlus};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// Numbers of bits of a hash that choose a register, as far as the library has constants.
const PRECISIONS: RangeInclusive<u8> = 4..=18;

/// The standard error of HyperLogLog times the root of the number of its registers.
const ERROR_CONSTANT: f64 = 1.04;

/// A record with its place in a random order.
struct Drawn<T> {
    priority: u64,
    record: T,
}

/// Leaves a hash as it is.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct AsItIs(u64);

type Sketch = HyperLogLogPlus<u64, AsItIs>;

impl<T: Record> Dataset<T> {
    /// Exactly so many different records at random, or all if there are fewer, in random order.
    /// Spark: `takeSample` without replacement.
    #[track_caller]
    pub fn take_sample(&self, count: usize, seed: u64) -> Result<Vec<T>, Error> {
        let origin = Origin::here("take_sample");
        // The records that come first in a random order of all of them.
        let action = self.each_partition(origin, move |partition, records| {
            let (mut random, mut first) = (Random::new(seed, partition), Least::new(count));
            records.for_each(|record| first.offer(Drawn { priority: random.number(), record }));
            let first = first.into_sorted().into_iter();
            first.map(|drawn| (drawn.priority, drawn.record)).collect::<Vec<_>>()
        });
        let mut first = Least::new(count);
        action.run(|_, part: Vec<(u64, T)>| {
            part.into_iter().for_each(|(priority, record)| first.offer(Drawn { priority, record }));
        })?;
        Ok(first.into_sorted().into_iter().map(|drawn| drawn.record).collect())
    }

    /// Exactly so many records at random, each drawn from all; none if there are none. Counts
    /// first, then computes the partitions that have some. Spark: `takeSample` with replacement.
    #[track_caller]
    pub fn take_sample_with_replacement(&self, count: usize, seed: u64) -> Result<Vec<T>, Error>
    where
        T: Clone,
    {
        let origin = Origin::here("take_sample_with_replacement");
        let counting = |_, records: crate::Records<T>| records.fold(0u64, |count, _| count + 1);
        let mut ends = Vec::new();
        let mut total = 0;
        self.each_partition(origin, counting).run(|_, records: u64| {
            total += records;
            ends.push(total);
        })?;
        if total == 0 {
            return Ok(Vec::new());
        }
        let mut random = Random::new(seed, 0);
        let mut places = vec![Vec::new(); ends.len()];
        for slot in 0..count as u64 {
            let place = random.below(total);
            let partition = ends.partition_point(|end| *end <= place);
            let start = partition.checked_sub(1).map_or(0, |before| ends[before]);
            places[partition].push((place - start, slot));
        }
        places.iter_mut().for_each(|places| places.sort_unstable());
        let chosen = (0..).zip(&places).filter(|(_, places)| !places.is_empty());
        let chosen: Vec<u32> = chosen.map(|(partition, _)| partition).collect();
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let places = Rc::new(places);
        let drawing = self.each_partition(origin, move |partition, records| {
            let mut wanted = places[partition as usize].iter().peekable();
            let mut drawn = Vec::new();
            for (place, record) in (0u64..).zip(records) {
                while let Some((_, slot)) = wanted.next_if(|wanted| wanted.0 == place) {
                    drawn.push((*slot, record.clone()));
                }
                if wanted.peek().is_none() {
                    break;
                }
            }
            drawn
        });
        let mut drawn: Vec<(u64, T)> = Vec::new();
        drawing.partitions(chosen).run(|_, part: Vec<(u64, T)>| drawn.extend(part))?;
        drawn.sort_unstable_by_key(|(slot, _)| *slot);
        Ok(drawn.into_iter().map(|(_, record)| record).collect())
    }

    /// How many distinct records there are, about: two thirds of all answers are nearer to the
    /// truth than `relative_error`, 95 % than twice that. From 0.0021 (200 KiB from each
    /// partition) to 0.26. The same answer however the records are partitioned (HyperLogLog++:
    /// Heule, Nunkesser, Hall). Spark: `countApproxDistinct`.
    ///
    /// # Panics
    /// If `relative_error` is not in that range.
    #[track_caller]
    pub fn count_approx_distinct(&self, relative_error: f64) -> Result<u64, Error> {
        let precision = precision(relative_error);
        let origin = Origin::here("count_approx_distinct");
        let action = self.each_partition(origin, move |_, records| {
            let (mut sketch, mut encoded) = (sketch(precision), Vec::new());
            records.for_each(|record| {
                encoded.clear();
                record.encode(&mut encoded);
                sketch.insert(&hash_bytes(&encoded));
            });
            Serde(sketch)
        });
        let mut total = sketch(precision);
        action.in_any_order().run(|_, Serde(part): Serde<Sketch>| {
            total.merge(&part).expect("all have the same precision");
        })?;
        Ok(total.count().round() as u64)
    }
}

/// The least number of bits for an error.
fn precision(relative_error: f64) -> u8 {
    let bits = (2.0 * (ERROR_CONSTANT / relative_error).log2()).ceil();
    let fits = PRECISIONS.contains(&(bits as u8)) && relative_error > 0.0;
    assert!(fits, "count_approx_distinct: no precision has an error of {relative_error}");
    bits as u8
}

fn sketch(precision: u8) -> Sketch {
    Sketch::new(precision, AsItIs(0)).expect("a precision in range")
}

// === impl Drawn ===

impl<T> Ord for Drawn<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.priority.cmp(&other.priority)
    }
}

impl<T> PartialOrd for Drawn<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Drawn<T> {
    fn eq(&self, other: &Self) -> bool {
        self.priority == other.priority
    }
}

impl<T> Eq for Drawn<T> {}

// === impl AsItIs ===

impl BuildHasher for AsItIs {
    type Hasher = Self;
    fn build_hasher(&self) -> Self {
        *self
    }
}

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash_bytes(bytes);
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
