//! Time, randomness and compiled modules of a simulation.

use offshoot_host::worker::{self, PrepareModule};
use offshoot_master::ports;
use offshoot_proto::id::ModuleHash;
use offshoot_sandbox::compile::{Artifact, CompileError, ModuleCache};
use offshoot_sandbox::slots::PortFuture;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Virtual time of day. It begins when the process first asks, because certificates are checked
/// against real time too, and is the same for every simulation of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimClock;

/// A generator.
#[derive(Debug)]
pub(crate) struct SimEntropy(Mutex<StdRng>);

/// The compiled modules of one machine: all machines share what is compiled, but each must first
/// have been given the module.
#[derive(Debug)]
pub(crate) struct MachineModules {
    cache: ModuleCache,
    known: Mutex<BTreeSet<ModuleHash>>,
}

/// Virtual time since 1970.
pub(crate) fn unix_time() -> Duration {
    static START: OnceLock<Duration> = OnceLock::new();
    let start = START.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Duration::from_secs(now.expect("it is past 1970").as_secs())
    });
    let elapsed = turmoil::in_simulation().then(turmoil::sim_elapsed).flatten();
    *start + elapsed.unwrap_or_default()
}

// === impl SimClock ===

impl ports::Clock for SimClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + unix_time()
    }
}

impl worker::Clock for SimClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + unix_time()
    }
}

// === impl SimEntropy ===

impl SimEntropy {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed ^ 0xe071_0971)))
    }
}

impl ports::Entropy for SimEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().expect("no holder of the lock panics").fill_bytes(bytes);
    }
}

// === impl MachineModules ===

impl MachineModules {
    pub(crate) fn new(cache: ModuleCache) -> Self {
        Self { cache, known: Mutex::default() }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeSet<ModuleHash>> {
        self.known.lock().expect("no holder of the lock panics")
    }
}

impl PrepareModule for MachineModules {
    fn lookup(&self, hash: ModuleHash) -> PortFuture<'_, Result<Option<Artifact>, CompileError>> {
        Box::pin(async move {
            if self.known().contains(&hash) { self.cache.lookup(hash) } else { Ok(None) }
        })
    }

    fn compile(
        &self,
        hash: ModuleHash,
        wasm: Vec<u8>,
    ) -> PortFuture<'_, Result<Artifact, CompileError>> {
        Box::pin(async move {
            self.known().insert(hash);
            self.cache.get(hash, &wasm)
        })
    }
}
