//! What goes wrong in one simulation, all of it decided by the seed.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

/// How many workers a simulated cluster has.
pub(crate) const WORKERS: usize = 3;

/// What one seed stands for.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Cores of each worker.
    pub(crate) cores: [u32; WORKERS],
    /// Share of datagrams that are lost.
    pub(crate) loss: f64,
    /// How long a datagram is on its way.
    pub(crate) latency: Range<Duration>,
    /// Two hosts that cannot reach each other for some time.
    pub(crate) partition: Partition,
}

/// Two hosts that cannot reach each other for some time.
#[derive(Clone, Debug)]
pub(crate) struct Partition {
    pub(crate) between: (String, String),
    pub(crate) during: Range<Duration>,
}

/// The faults that datagrams meet.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    pub(crate) loss: f64,
    pub(crate) between: (IpAddr, IpAddr),
    pub(crate) during: Range<Duration>,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is on its way.
    Sent,
    /// Lost by chance.
    Lost,
    /// Lost in the partition.
    CutOff,
}

// === impl Plan ===

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let latency_min = Duration::from_micros(rng.random_range(100..2_000));
        let latency_max = latency_min + Duration::from_millis(rng.random_range(1..40));
        let first = rng.random_range(0..WORKERS);
        let other = match rng.random_range(0..3) {
            0 => "driver".to_owned(),
            1 => "master".to_owned(),
            _ => worker((first + rng.random_range(1..WORKERS)) % WORKERS),
        };
        let start = Duration::from_millis(rng.random_range(100..5_000));
        let length = Duration::from_millis(rng.random_range(500..12_000));
        Self {
            seed,
            cores: std::array::from_fn(|_| rng.random_range(1..=2)),
            loss: [0.0, 0.002, 0.01, 0.03][rng.random_range(0..4)],
            latency: latency_min..latency_max,
            partition: Partition { between: (worker(first), other), during: start..start + length },
        }
    }
}

/// The host of a worker.
pub(crate) fn worker(number: usize) -> String {
    format!("w{number}")
}

// === impl Faults ===

impl Faults {
    /// What becomes of a datagram; `draw` is from 0 to 1.
    pub(crate) fn fate(&self, at: Duration, from: IpAddr, to: IpAddr, draw: f64) -> Fate {
        let (a, b) = self.between;
        let cut = (from, to) == (a, b) || (from, to) == (b, a);
        if cut && self.during.contains(&at) {
            Fate::CutOff
        } else if draw < self.loss {
            Fate::Lost
        } else {
            Fate::Sent
        }
    }
}
