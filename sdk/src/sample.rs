//! Samples of partitions, from which a sort takes its ranges (see [`crate::ranges`]).

use crate::random::Random;

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
    use super::{Reservoir, samples_per_partition};
    use crate::ranges::{Ranges, cuts};

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
        let cuts = cuts(samples, reducers, u64::cmp);
        assert_eq!(cuts.0.len(), 7);
        let mut counts = [0; 8];
        for (number, keys) in (0..).zip(partitions) {
            let mut ranges = Ranges::new(cuts.clone(), number);
            keys.for_each(|key| counts[ranges.range_of(|bound| bound.cmp(&key)) as usize] += 1);
        }
        assert!(counts.iter().all(|count| (6_000..14_000).contains(count)), "{counts:?}");
    }
}
