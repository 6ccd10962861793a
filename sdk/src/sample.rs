//! Range partitioning: samples of partitions, and the bounds that they suggest.

use crate::random::Random;
use core::cmp::Ordering;

/// Samples for each reduce partition: with 60, one partition in a hundred is a third larger than
/// the mean.
const SAMPLES_PER_REDUCER: usize = 60;

/// Fewest samples of all partitions, so that few ranges come out equal: two of 800 differ by 4 %.
const SAMPLES_MIN: usize = 800;

/// Fewest samples of a partition, so that a small one is heard.
const SAMPLES_PER_PARTITION_MIN: usize = 8;

/// Equally likely ones of all items offered. Which ones depends on the partition and their order
/// only.
pub(crate) struct Reservoir<T> {
    items: Vec<T>,
    seen: u64,
    capacity: usize,
    random: Random,
}

/// How many items to ask of each of `partitions`, to cut into `reducers` ranges.
pub(crate) fn samples_per_partition(partitions: u32, reducers: u32) -> usize {
    let all = (SAMPLES_PER_REDUCER * reducers as usize).max(SAMPLES_MIN);
    all.div_ceil((partitions as usize).max(1)).max(SAMPLES_PER_PARTITION_MIN)
}

/// At most `reducers - 1` ascending bounds that cut what the samples stand for into equal parts.
/// A sample comes with the weight that its items share. Range `i` ends with bound `i` itself.
pub(crate) fn bounds<T>(
    samples: Vec<(Vec<T>, u64)>,
    reducers: u32,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Vec<T> {
    let total: f64 = samples.iter().filter(|s| !s.0.is_empty()).map(|s| s.1 as f64).sum();
    let weighted = samples.into_iter().flat_map(|(items, weight)| {
        let weight = weight as f64 / items.len().max(1) as f64;
        items.into_iter().map(move |item| (item, weight))
    });
    let mut items: Vec<(T, f64)> = weighted.collect();
    items.sort_by(|left, right| compare(&left.0, &right.0));
    let mut bounds: Vec<T> = Vec::new();
    let (mut passed, mut cuts) = (0.0, 1);
    for (item, weight) in items {
        passed += weight;
        if cuts < reducers && passed >= total * f64::from(cuts) / f64::from(reducers) {
            while cuts < reducers && passed >= total * f64::from(cuts) / f64::from(reducers) {
                cuts += 1;
            }
            let last = bounds.last();
            if last.is_none_or(|last| compare(last, &item) == Ordering::Less) {
                bounds.push(item);
            }
        }
    }
    bounds
}

/// The range of a key.
#[inline]
pub(crate) fn range_of<T>(bounds: &[T], compare: impl Fn(&T) -> Ordering) -> u32 {
    bounds.partition_point(|bound| compare(bound) == Ordering::Less) as u32
}

// === impl Reservoir ===

impl<T> Reservoir<T> {
    pub(crate) fn new(capacity: usize, partition: u32) -> Self {
        Self { items: Vec::new(), seen: 0, capacity, random: Random::new(0, partition) }
    }

    /// Offers an item, made only if it is kept.
    #[inline]
    pub(crate) fn offer(&mut self, make: impl FnOnce() -> T) {
        self.seen += 1;
        if self.items.len() < self.capacity {
            self.items.push(make());
            return;
        }
        let place = self.random.below(self.seen);
        if let Some(item) = self.items.get_mut(usize::try_from(place).unwrap_or(usize::MAX)) {
            *item = make();
        }
    }

    /// The items kept, and how many were offered.
    pub(crate) fn into_sample(self) -> (Vec<T>, u64) {
        (self.items, self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::{Reservoir, bounds, range_of, samples_per_partition};
    use proptest::prelude::*;

    fn sample(items: impl Iterator<Item = u64>, capacity: usize, seed: u32) -> (Vec<u64>, u64) {
        let mut reservoir = Reservoir::new(capacity, seed);
        items.for_each(|item| reservoir.offer(|| item));
        reservoir.into_sample()
    }

    #[test]
    fn a_reservoir_keeps_equal_shares_and_is_repeatable() {
        let (kept, seen) = sample(0..10_000, 1000, 3);
        assert_eq!((kept.len(), seen), (1000, 10_000));
        let early = kept.iter().filter(|item| **item < 5000).count();
        assert!((400..600).contains(&early), "{early} of the first half");
        assert_eq!(sample(0..10_000, 1000, 3).0, kept);
        assert_ne!(sample(0..10_000, 1000, 4).0, kept);
        assert_eq!(sample(0..5, 1000, 0), (vec![0, 1, 2, 3, 4], 5));
    }

    /// One partition of many small keys, one of few large ones: the ranges get equal numbers.
    #[test]
    fn bounds_cut_equal_parts() {
        let (reducers, partitions) = (8, [0..70_000u64, 70_000..80_000, 0..0]);
        let count = samples_per_partition(partitions.len() as u32, reducers);
        let samples = partitions.clone().map(|keys| sample(keys, count, 1)).to_vec();
        let bounds = bounds(samples, reducers, u64::cmp);
        assert_eq!(bounds.len(), 7);
        let mut counts = [0; 8];
        for key in partitions.into_iter().flatten() {
            counts[range_of(&bounds, |bound| bound.cmp(&key)) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (6_000..14_000).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_key_that_is_everywhere_has_one_range() {
        let samples = vec![(vec![5; 100], 1000), (vec![1, 9], 2)];
        assert_eq!(bounds(samples, 4, u64::cmp), [5]);
        assert!(bounds(Vec::<(Vec<u64>, u64)>::new(), 4, u64::cmp).is_empty());
        assert!(bounds(vec![(vec![1], 1)], 1, u64::cmp).is_empty());
    }

    proptest! {
        #[test]
        fn ranges_are_in_order(mut keys: Vec<u8>, sampled: Vec<u8>, reducers in 1u32..9) {
            let bounds = bounds(vec![(sampled, 100)], reducers, u8::cmp);
            prop_assert!(bounds.len() < reducers as usize);
            prop_assert!(bounds.is_sorted_by(|a, b| a < b));
            keys.sort_unstable();
            let ranges: Vec<_> = keys.iter().map(|k| range_of(&bounds, |b| b.cmp(k))).collect();
            prop_assert!(ranges.is_sorted());
            prop_assert!(ranges.iter().all(|range| *range < reducers));
        }
    }
}
