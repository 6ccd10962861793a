//! The one generator of the SDK: samples, splits and reservoirs.
//!
//! Seeded with a number of the job's and a partition, never by the system, so that every attempt
//! of a task draws the same.

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
#[derive(Clone)]
pub(crate) struct Random(u64);

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

// === impl Random ===

impl Random {
    /// A generator for one partition. Seeds and partitions that are near each other start far
    /// apart.
    pub(crate) fn new(seed: u64, partition: u32) -> Self {
        Self(mix(mix(seed.wrapping_add(STEP)) ^ u64::from(partition).wrapping_mul(STEP)))
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// From 0 to 1, below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Below `limit`, which is not 0. The upper half of a product: no division, and a bias of at
    /// most `limit` in 2^64.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(limit)) >> 64) as u64
    }

    /// How often something happens that happens `mean` times on average (Knuth's method, in
    /// pieces that do not underflow).
    pub(crate) fn poisson(&mut self, mean: f64) -> u64 {
        const PIECE: f64 = 16.0;
        let (mut count, mut rest) = (0, mean);
        while rest > 0.0 {
            let limit = (-rest.min(PIECE)).exp();
            rest -= PIECE;
            let mut product = self.unit();
            while product > limit {
                count += 1;
                product *= self.unit();
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn draws_have_the_mean_that_they_should() {
        for seed in 0..20 {
            let mut random = Random::new(seed, 3);
            let mean: f64 = (0..10_000).map(|_| random.unit()).sum::<f64>() / 10_000.0;
            assert!((0.485..0.515).contains(&mean), "seed {seed}: {mean}");
            let below: u64 = (0..10_000).map(|_| random.below(7)).sum();
            assert!((29_000..31_000).contains(&below), "seed {seed}: {below}");
            for mean in [0.0, 0.3, 2.0, 40.0] {
                let drawn: u64 = (0..10_000).map(|_| random.poisson(mean)).sum();
                let error = (drawn as f64 / 10_000.0 - mean).abs();
                // Five standard errors of the mean.
                assert!(error <= 5.0 * (mean / 10_000.0).sqrt(), "seed {seed}: {error} at {mean}");
            }
        }
    }

    #[test]
    fn neighbouring_seeds_and_partitions_differ() {
        let first = |seed, partition| Random::new(seed, partition).number();
        let mut numbers: Vec<_> =
            (0..30).flat_map(|seed| (0..30).map(move |p| first(seed, p))).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 900);
    }
}
