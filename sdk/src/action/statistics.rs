//! Numbers about numbers, and about partitions.

use crate::dataset::Dataset;
use crate::error::Error;
use crate::node::Origin;
use crate::record::Record;
use core::iter::Sum;

/// A number that statistics are made of.
pub trait Number: Record + Copy {
    /// As a float; integers above 2^53 are rounded.
    fn to_f64(self) -> f64;
}

/// Count, mean, variance and extremes of numbers. Spark: `StatCounter`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// How many numbers there are.
    pub count: u64,
    /// Their mean; 0 if there are none.
    pub mean: f64,
    /// The sum of the squares of their distances from the mean.
    pub squares: f64,
    /// The least; infinity if there are none.
    pub min: f64,
    /// The greatest; minus infinity if there are none.
    pub max: f64,
}

/// How many numbers lie in each of several intervals.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Where the intervals begin and end, ascending; one more than there are counts.
    pub bounds: Vec<f64>,
    /// How many numbers lie in each: an interval has its begin and not its end, the last has both.
    pub counts: Vec<u64>,
}

/// How much a partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStats {
    /// Its number.
    pub partition: u32,
    /// How many records it has.
    pub records: u64,
    /// Bytes of their encodings.
    pub bytes: u64,
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Number for $type {
            fn to_f64(self) -> f64 {
                self as f64
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64);

// === impl Stats ===

impl Default for Stats {
    fn default() -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { count: 0, mean: 0.0, squares: 0.0, min, max }
    }
}

impl Stats {
    /// Adds a number (Welford's method: no difference of large sums).
    pub fn add(&mut self, number: f64) {
        self.count += 1;
        let distance = number - self.mean;
        self.mean += distance / self.count as f64;
        self.squares += distance * (number - self.mean);
        self.min = self.min.min(number);
        self.max = self.max.max(number);
    }

    /// Adds the numbers of another one (Chan, Golub, LeVeque).
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let (here, there) = (self.count as f64, other.count as f64);
        let (all, distance) = (here + there, other.mean - self.mean);
        self.mean += distance * there / all;
        self.squares += other.squares + distance * distance * here * there / all;
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The sum of the numbers.
    pub fn sum(&self) -> f64 {
        self.mean * self.count as f64
    }

    /// The variance of the numbers; not a number if there are none. Spark: `variance`.
    pub fn variance(&self) -> f64 {
        self.squares / self.count as f64
    }

    /// The variance that a sample suggests for what it was taken from; not a number if there are
    /// fewer than two. Spark: `sampleVariance`.
    pub fn sample_variance(&self) -> f64 {
        if self.count < 2 { f64::NAN } else { self.squares / (self.count - 1) as f64 }
    }

    /// The root of the variance. Spark: `stdev`.
    pub fn deviation(&self) -> f64 {
        self.variance().sqrt()
    }

    /// The root of the sample's variance. Spark: `sampleStdev`.
    pub fn sample_deviation(&self) -> f64 {
        self.sample_variance().sqrt()
    }
}

// === actions ===

impl<T: Number> Dataset<T> {
    /// The sum, in the type of the numbers. Spark: `sum`.
    #[track_caller]
    pub fn sum(&self) -> Result<T, Error>
    where
        T: Sum,
    {
        let action = self.each_partition(Origin::here("sum"), |_, records| records.sum::<T>());
        let mut parts = Vec::new();
        action.run(|_, part: T| parts.push(part))?;
        Ok(parts.into_iter().sum())
    }

    /// The mean; nothing if there are no numbers. Spark: `mean`.
    #[track_caller]
    pub fn mean(&self) -> Result<Option<f64>, Error> {
        let stats = self.stats_from(Origin::here("mean"))?;
        Ok((stats.count > 0).then_some(stats.mean))
    }

    /// Count, mean, variance and extremes in one pass. Spark: `stats`.
    #[track_caller]
    pub fn stats(&self) -> Result<Stats, Error> {
        self.stats_from(Origin::here("stats"))
    }

    #[track_caller]
    fn stats_from(&self, origin: Origin) -> Result<Stats, Error> {
        type Parts = (u64, f64, f64, f64, f64);
        let action = self.each_partition(origin, |_, records| {
            let mut stats = Stats::default();
            records.for_each(|number| stats.add(number.to_f64()));
            (stats.count, stats.mean, stats.squares, stats.min, stats.max)
        });
        let mut total = Stats::default();
        action.run(|_, (count, mean, squares, min, max): Parts| {
            total.merge(&Stats { count, mean, squares, min, max });
        })?;
        Ok(total)
    }

    /// How many numbers lie in each of so many equal intervals from the least to the greatest;
    /// nothing if there are no numbers. A second job counts. Spark: `histogram` of a number of
    /// buckets.
    ///
    /// # Panics
    /// If `intervals` is 0.
    #[track_caller]
    pub fn histogram(&self, intervals: usize) -> Result<Option<Histogram>, Error> {
        assert!(intervals > 0, "histogram: no intervals");
        let origin = Origin::here("histogram");
        let stats = self.stats_from(origin)?;
        // Comparisons with what is no number are false.
        let ordered = stats.min <= stats.max;
        if stats.count == 0 || !ordered {
            return Ok(None);
        }
        let intervals = if stats.min == stats.max { 1 } else { intervals };
        let width = (stats.max - stats.min) / intervals as f64;
        let inner = (0..intervals).map(|index| stats.min + width * index as f64);
        let bounds = inner.chain([stats.max]).collect();
        self.histogram_from(origin, bounds).map(Some)
    }

    /// How many numbers lie between each two neighbouring bounds, which ascend. What lies outside
    /// is not counted. Spark: `histogram` of an array.
    ///
    /// # Panics
    /// If there are fewer than two bounds or they do not ascend.
    #[track_caller]
    pub fn histogram_with_bounds(&self, bounds: &[f64]) -> Result<Histogram, Error> {
        let ascending = bounds.len() >= 2 && bounds.is_sorted_by(|left, right| left < right);
        assert!(ascending, "histogram: {bounds:?} are no ascending bounds");
        self.histogram_from(Origin::here("histogram"), bounds.to_vec())
    }

    #[track_caller]
    fn histogram_from(&self, origin: Origin, bounds: Vec<f64>) -> Result<Histogram, Error> {
        let intervals = bounds.len() - 1;
        let in_task = bounds.clone();
        let action = self.each_partition(origin, move |_, records| {
            let mut counts = vec![0u64; intervals];
            records.for_each(|number| {
                let number = number.to_f64();
                let begun = in_task.partition_point(|bound| *bound <= number);
                if begun <= intervals {
                    if let Some(count) = begun.checked_sub(1).and_then(|n| counts.get_mut(n)) {
                        *count += 1;
                    }
                } else if number == in_task[intervals] {
                    counts[intervals - 1] += 1;
                }
            });
            counts
        });
        let mut counts = vec![0; intervals];
        action.in_any_order().run(|_, part: Vec<u64>| {
            counts.iter_mut().zip(part).for_each(|(count, more)| *count += more);
        })?;
        Ok(Histogram { bounds, counts })
    }
}

impl<T: Record> Dataset<T> {
    /// How many records and bytes each partition has, which shows whether a few have most of
    /// them: see the example `skew`. Spark shows the like in its web interface.
    #[track_caller]
    pub fn partition_stats(&self) -> Result<Vec<PartitionStats>, Error> {
        let action = self.each_partition(Origin::here("partition_stats"), |_, records| {
            let mut encoded = Vec::new();
            records.fold((0u64, 0u64), |(records, bytes), record| {
                encoded.clear();
                record.encode(&mut encoded);
                (records + 1, bytes + encoded.len() as u64)
            })
        });
        let mut stats = Vec::new();
        action.run(|partition, (records, bytes)| {
            stats.push(PartitionStats { partition, records, bytes });
        })?;
        Ok(stats)
    }
}
