//! A part of the records, at random. Seeds are the job's, so that two runs draw the same, and every
//! partition draws on its own.

use crate::dataset::Dataset;
use crate::node::Origin;
use crate::random::Random;
use crate::records::Records;
use std::rc::Rc;

impl<T: 'static> Dataset<T> {
    /// Each record with probability `fraction`. Spark: `sample` without replacement.
    ///
    /// # Panics
    /// If `fraction` is not from 0 to 1.
    #[track_caller]
    pub fn sample(&self, fraction: f64, seed: u64) -> Self {
        assert!((0.0..=1.0).contains(&fraction), "sample: {fraction} is not from 0 to 1");
        self.narrow_keeping_keys(Origin::here("sample"), move |partition, records| {
            let mut random = Random::new(seed, partition);
            Records::new(records.filter(move |_| random.unit() < fraction))
        })
    }

    /// Each record any number of times, `mean` times on average (Poisson distributed). Spark:
    /// `sample` with replacement.
    ///
    /// # Panics
    /// If `mean` is negative or no number.
    #[track_caller]
    pub fn sample_with_replacement(&self, mean: f64, seed: u64) -> Self
    where
        T: Clone,
    {
        assert!((0.0..f64::INFINITY).contains(&mean), "sample_with_replacement: {mean}");
        let origin = Origin::here("sample_with_replacement");
        self.narrow_keeping_keys(origin, move |partition, records| {
            let mut random = Random::new(seed, partition);
            Records::new(records.flat_map(move |record| {
                let times = random.poisson(mean);
                core::iter::repeat_n(record, usize::try_from(times).unwrap_or(usize::MAX))
            }))
        })
    }

    /// Every record in one of several datasets, with probabilities in the proportion of the
    /// weights. Each computes this dataset. Spark: `randomSplit`.
    ///
    /// # Panics
    /// If a weight is negative or no number, or their sum is not above 0.
    #[track_caller]
    pub fn random_split(&self, weights: &[f64], seed: u64) -> Vec<Self> {
        let total: f64 = weights.iter().sum();
        let fit = weights.iter().all(|weight| *weight >= 0.0) && total > 0.0 && total.is_finite();
        assert!(fit, "random_split: {weights:?} are no weights");
        let (origin, last) = (Origin::here("random_split"), weights.len() - 1);
        let mut passed = 0.0;
        let ends = weights.iter().enumerate().map(|(index, weight)| {
            passed += weight;
            // The sum of rounded numbers may fall short of the whole.
            if index == last { f64::INFINITY } else { passed / total }
        });
        let ends: Vec<f64> = ends.collect();
        let starts = core::iter::once(0.0).chain(ends.iter().copied());
        starts
            .zip(&ends)
            .map(|(start, end)| {
                let cell = start..*end;
                self.narrow_keeping_keys(origin, move |partition, records| {
                    let (mut random, cell) = (Random::new(seed, partition), cell.clone());
                    Records::new(records.filter(move |_| cell.contains(&random.unit())))
                })
            })
            .collect()
    }
}

impl<K: 'static, V: 'static> Dataset<(K, V)> {
    /// Each pair with the probability that `fraction` has for its key. Spark: `sampleByKey`
    /// without replacement.
    #[track_caller]
    pub fn sample_by_key(&self, fraction: impl Fn(&K) -> f64 + 'static, seed: u64) -> Self {
        let fraction = Rc::new(fraction);
        self.narrow_keeping_keys(Origin::here("sample_by_key"), move |partition, records| {
            let (mut random, fraction) = (Random::new(seed, partition), Rc::clone(&fraction));
            Records::new(records.filter(move |(key, _)| random.unit() < fraction(key)))
        })
    }
}
