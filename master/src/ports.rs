//! What the master takes from the world outside, so that a simulation can give it something else.

use offshoot_net::{Network, UdpNetwork};
use rand::RngCore;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// The time of day. Intervals are measured with tokio's clock, which a simulation controls too.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time of day, for certificates, tokens and tables.
    fn now(&self) -> SystemTime;
}

/// Random numbers.
pub trait Entropy: fmt::Debug + Send + Sync {
    /// Fills `bytes` with numbers that nobody can guess.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// A generator seeded by the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

/// All ports of a master.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Datagrams, timers and tasks of connections.
    pub network: Arc<dyn Network>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub entropy: Arc<dyn Entropy>,
}

impl Ports {
    /// The real ones.
    pub fn system() -> Self {
        Self {
            network: Arc::new(UdpNetwork),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}
