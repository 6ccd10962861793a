//! The ranges of a sort, among them those of one key that is everywhere.
//!
//! ```text
//!   bounds   a        k (three cuts of the sample fell on it)      p
//!   ranges   ..=a   a..k │ k, first half │ k, second half      k..=p      p..
//! ```
//!
//! A key on which several cuts fall would make one range as large as several. Its records are all
//! equal to the sort, so they can be divided by their place in the dataset instead, which keeps
//! their order: the sample says how many each partition has, about.

use core::cmp::Ordering;

/// What the sample suggests, as it is given to the tasks: bounds in ascending order; how many
/// ranges end with each, of which all but the first have it alone; and for each bound with several
/// where the records of every partition begin among all that are equal to it.
pub(crate) type Cuts<T> = (Vec<T>, Vec<u32>, Vec<Vec<u64>>);

/// Where a task's records go.
pub(crate) struct Ranges<T> {
    bounds: Vec<Bound<T>>,
    /// The range after the last bound.
    last: u32,
}

struct Bound<T> {
    key: T,
    /// The first range that ends with it.
    range: u32,
    hot: Option<Hot>,
}

/// A key that has several ranges for itself.
struct Hot {
    pieces: u32,
    /// Where the next record of this task lies among all equal ones, and where the last one does.
    next: u64,
    end: u64,
    total: u64,
}

/// Cuts what the samples of all partitions, in order, stand for into `reducers` equal parts.
/// A sample comes with the number of records that it stands for.
pub(crate) fn cuts<T: Clone>(
    samples: Vec<(Vec<T>, u64)>,
    reducers: u32,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Cuts<T> {
    let total: f64 = samples.iter().filter(|s| !s.0.is_empty()).map(|s| s.1 as f64).sum();
    let mut items: Vec<(&T, f64)> = Vec::new();
    for (sample, weight) in &samples {
        let weight = *weight as f64 / sample.len().max(1) as f64;
        items.extend(sample.iter().map(|item| (item, weight)));
    }
    items.sort_by(|left, right| compare(left.0, right.0));
    let (mut bounds, mut widths): (Vec<T>, Vec<u32>) = (Vec::new(), Vec::new());
    let (mut passed, mut cuts) = (0.0, 1);
    for (item, weight) in items {
        passed += weight;
        while cuts < reducers && passed >= total * f64::from(cuts) / f64::from(reducers) {
            cuts += 1;
            match (bounds.last(), widths.last_mut()) {
                (Some(last), Some(width)) if compare(last, item) == Ordering::Equal => *width += 1,
                _ => {
                    bounds.push(item.clone());
                    widths.push(1);
                }
            }
        }
    }
    let hot = bounds.iter().zip(&widths).filter(|(_, width)| **width > 1);
    let begins = hot.map(|(key, _)| begins(&samples, |item| compare(item, key).is_eq())).collect();
    (bounds, widths, begins)
}

/// Where the records of each partition begin among those that are wanted, and where the last end.
fn begins<T>(samples: &[(Vec<T>, u64)], is_wanted: impl Fn(&T) -> bool) -> Vec<u64> {
    let mut passed = 0;
    let mut begins = vec![0];
    for (sample, weight) in samples {
        let found = sample.iter().filter(|item| is_wanted(item)).count() as f64;
        passed += (found / sample.len().max(1) as f64 * *weight as f64) as u64;
        begins.push(passed);
    }
    begins
}

// === impl Ranges ===

impl<T> Ranges<T> {
    /// For the task of a partition.
    pub(crate) fn new((keys, widths, begins): Cuts<T>, partition: u32) -> Self {
        let (mut begins, mut range) = (begins.into_iter(), 0);
        let mut bounds = Vec::new();
        for (key, width) in keys.into_iter().zip(widths) {
            let begins = if width > 1 { begins.next() } else { None };
            let hot = begins.map(|begins| {
                let at = |place: usize| begins.get(place).copied().unwrap_or(0);
                let (next, end) = (at(partition as usize), at(partition as usize + 1));
                Hot { pieces: width - 1, next, end, total: at(begins.len().saturating_sub(1)) }
            });
            bounds.push(Bound { key, range, hot });
            range += width;
        }
        Self { bounds, last: range }
    }

    /// The range of the task's next record. `compare` compares a bound with its key.
    #[inline]
    pub(crate) fn range_of(&mut self, compare: impl Fn(&T) -> Ordering) -> u32 {
        let place = self.bounds.partition_point(|bound| compare(&bound.key) == Ordering::Less);
        let Some(bound) = self.bounds.get_mut(place) else { return self.last };
        match &mut bound.hot {
            Some(hot) if compare(&bound.key).is_eq() => bound.range + 1 + hot.piece(),
            _ => bound.range,
        }
    }
}

// === impl Hot ===

impl Hot {
    /// Ascending over the records of a partition, and from one partition to the next.
    fn piece(&mut self) -> u32 {
        let place = self.next.min(self.end);
        self.next = self.next.saturating_add(1);
        let piece = u128::from(place) * u128::from(self.pieces) / u128::from(self.total.max(1));
        (piece as u32).min(self.pieces - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ranges, cuts};
    use proptest::prelude::*;

    /// The ranges of all records of all partitions, in order.
    fn ranges(partitions: &[Vec<u8>], reducers: u32) -> Vec<(u32, u8)> {
        let samples = partitions.iter().map(|part| (part.clone(), part.len() as u64)).collect();
        let cuts = cuts(samples, reducers, u8::cmp);
        let of_partition = |(number, part): (u32, &Vec<u8>)| {
            let mut ranges = Ranges::new(cuts.clone(), number);
            part.iter().map(|key| (ranges.range_of(|b| b.cmp(key)), *key)).collect::<Vec<_>>()
        };
        (0..).zip(partitions).flat_map(of_partition).collect()
    }

    fn counts(ranges: &[(u32, u8)], reducers: u32) -> Vec<usize> {
        (0..reducers).map(|r| ranges.iter().filter(|(range, _)| *range == r).count()).collect()
    }

    #[test]
    fn a_key_that_is_everywhere_has_several_ranges() {
        // Half of all records, in each partition; and all of them in one.
        let mixed: Vec<u8> = (0..100).map(|n| if n % 2 == 0 { 50 } else { n }).collect();
        let apart = vec![(0..50).collect(), vec![50; 100], (51..101).collect()];
        for partitions in [vec![mixed; 2], apart] {
            let counts = counts(&ranges(&partitions, 10), 10);
            assert!(counts.iter().all(|count| *count <= 30), "{counts:?}");
        }
    }

    #[test]
    fn nothing_to_cut() {
        assert_eq!(cuts(Vec::<(Vec<u8>, u64)>::new(), 4, u8::cmp), Default::default());
        assert_eq!(cuts(vec![(vec![1], 1)], 1, u8::cmp), Default::default());
        assert_eq!(ranges(&[vec![], vec![7]], 3).len(), 1);
    }

    proptest! {
        #[test]
        fn the_order_is_kept(
            partitions in proptest::collection::vec(
                proptest::collection::vec(0u8..6, 0..30), 1..5,
            ),
            reducers in 1u32..9,
        ) {
            let mut found = ranges(&partitions, reducers);
            prop_assert!(found.iter().all(|(range, _)| *range < reducers));
            // Equal keys: never back to an earlier range.
            for key in 0..6 {
                let ranges = found.iter().filter(|(_, k)| *k == key).map(|(range, _)| *range);
                prop_assert!(ranges.is_sorted());
            }
            found.sort();
            prop_assert!(found.iter().map(|(_, key)| key).is_sorted(), "{:?}", found);
        }
    }
}
