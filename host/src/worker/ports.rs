//! What a worker takes from the world outside, so that a simulation can give it something else.

use super::modules::{PrepareModule, ThreadedModules};
use crate::launch::{Launch, ProcessLaunch};
use offshoot_net::{Network, UdpNetwork};
use offshoot_sandbox::compile::ModuleCache;
use rustix::rand::{GetRandomFlags, getrandom};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// The time of day, for certificates. Intervals are measured with tokio's clock, which a
/// simulation controls too.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time of day.
    fn now(&self) -> SystemTime;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// All ports of a worker.
#[derive(Clone)]
pub struct Ports {
    /// Datagrams, timers and tasks of connections.
    pub network: Arc<dyn Network>,
    /// Starts executors.
    pub launch: Arc<dyn Launch>,
    /// Compiled modules.
    pub modules: Arc<dyn PrepareModule>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Spreads the moments at which workers dial a master that is back: another for each worker.
    pub seed: u64,
}

// === impl Ports ===

impl Ports {
    /// The real ones, with the modules that `cache` holds. Executors log as `RUST_LOG` says, or at
    /// `log_level`.
    pub fn system(cache: ModuleCache, log_level: &str) -> Self {
        let mut seed = [0; 8];
        // Without randomness workers dial together, which is slower and not wrong.
        let _ = getrandom(&mut seed, GetRandomFlags::empty());
        Self {
            network: Arc::new(UdpNetwork),
            launch: Arc::new(ProcessLaunch::from_environment(log_level)),
            modules: Arc::new(ThreadedModules::new(cache)),
            clock: Arc::new(SystemClock),
            seed: u64::from_le_bytes(seed),
        }
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports")
            .field("network", &self.network)
            .field("clock", &self.clock)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

// === impl SystemClock ===

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}
