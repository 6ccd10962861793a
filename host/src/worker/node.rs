//! What a worker decides: when to dial its master, what to launch, what to stop.
//!
//! ```text
//!   link       pausing ─► connecting ─► registering ─► registered ─┐
//!                 ▲────────────── lost, refused, silent ───────────┘
//!   executor   preparing ─► launching ─► running ─► ending ─► gone
//!              (module)     (process)   (listens)  (told to stop, then killed)
//! ```
//!
//! A lost master changes nothing for executors: they go on, and are named when the worker registers
//! again. Orders come only over a registration, and one with a master of an older life than any
//! seen before is refused, so old orders never count.
//!
//! Deliberately not here: clocks, connections, processes and files. The shell around this tells it
//! what happened and does what it says.

mod event;
mod executors;
mod link;
#[cfg(test)]
mod tests;

pub use event::{Action, Event, Note, SessionId};

use offshoot_proto::cluster::{FromWorker, HeldExecutor, LaunchExecutor, ToWorker, WorkerInfo};
use offshoot_proto::id::{AppId, Epoch, ExecutorId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// How long things may take. Tests set them short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often the worker says that it is here.
    pub heartbeat: Duration,
    /// Silence after which the master is lost; the master waits as long for the worker.
    pub master_lease: Duration,
    /// The pause after the first lost connection; it doubles with each that follows.
    pub pause_min: Duration,
    /// The longest pause: a master that is back has all workers soon.
    pub pause_max: Duration,
    /// How long an executor may take from its start until it listens.
    pub launch_deadline: Duration,
    /// How long an executor that was told to stop may take. Longer than it gives itself.
    pub stop_deadline: Duration,
    /// The pause after an attempt to renew the certificate.
    pub renewal_retry: Duration,
}

/// The worker's state machine.
#[derive(Debug)]
pub struct Node {
    /// What is registered; its `executors` stay empty here.
    offer: WorkerInfo,
    timing: Timing,
    link: Link,
    /// Sessions so far; the last one is the only one that counts.
    sessions: u64,
    /// Connections lost or refused since the last registration.
    failures: u32,
    /// The highest epoch of a registration.
    epoch: Option<Epoch>,
    executors: BTreeMap<ExecutorId, Executor>,
    /// Applications that ended while executors of theirs still do.
    forgotten: BTreeSet<AppId>,
    renew_at: Duration,
    jitter: Jitter,
    life: Life,
}

/// Whether the worker takes orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Serving,
    /// It was told to stop and waits for its executors.
    Stopping,
    /// It has nothing more to do.
    Over,
}

/// The connection to the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Pausing { until: Duration },
    Connecting { session: SessionId },
    Registering { session: SessionId, until: Duration },
    Registered { session: SessionId, until: Duration, beat_at: Duration },
}

#[derive(Debug)]
struct Executor {
    cores: u32,
    memory_bytes: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Its module is fetched and compiled.
    Preparing(Box<LaunchExecutor>),
    /// It has been started.
    Launching { until: Duration },
    /// It listens.
    Running { address: SocketAddr },
    /// It was told to stop; killed when its time is up.
    Ending { kill_at: Option<Duration>, why: String },
}

/// Spreads the moments at which many workers dial again. Seeded from outside (SplitMix64).
#[derive(Debug)]
struct Jitter(u64);

// === impl Timing ===

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            master_lease: Duration::from_secs(8),
            pause_min: Duration::from_millis(500),
            pause_max: Duration::from_secs(4),
            launch_deadline: Duration::from_secs(30),
            stop_deadline: Duration::from_secs(5),
            renewal_retry: Duration::from_secs(60),
        }
    }
}

// === impl Node ===

impl Node {
    /// A worker that offers what `offer` says and dials at once. `renew_in` is when its certificate
    /// has to be renewed, and `seed` a number that no other worker has.
    pub fn new(offer: WorkerInfo, timing: Timing, renew_in: Duration, seed: u64) -> Self {
        Self {
            offer,
            timing,
            link: Link::Pausing { until: Duration::ZERO },
            sessions: 0,
            failures: 0,
            epoch: None,
            executors: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            renew_at: renew_in,
            jitter: Jitter(seed),
            life: Life::Serving,
        }
    }

    /// Takes note of what happened at `now`, which never goes back, and says what to do.
    pub fn handle(&mut self, now: Duration, event: Event, out: &mut Vec<Action>) {
        if self.life == Life::Over {
            return;
        }
        match event {
            Event::Connected { session } => self.on_connected(now, session, out),
            Event::Disconnected { session, reason, hopeless } => {
                self.on_disconnected(now, session, reason, hopeless, out);
            }
            Event::FromMaster { session, message } => {
                if self.session() == Some(session) {
                    self.on_message(now, message, out);
                }
            }
            Event::Prepared { module, outcome } => self.on_prepared(now, module, outcome, out),
            Event::ExecutorReady { executor, address } => {
                self.on_executor_ready(executor, address, out);
            }
            Event::ExecutorEnded { executor, how } => self.on_executor_ended(executor, how, out),
            Event::CertificateInstalled { renew_in } => self.renew_at = now + renew_in,
            Event::Stop => self.on_stop(now, out),
        }
        self.check();
    }

    /// When [`Node::handle_timeout`] has to be called next, if nothing happens before.
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.life == Life::Over {
            return None;
        }
        let executors = self.executors.values().filter_map(|executor| executor.phase.timeout());
        self.link_timeout().into_iter().chain(executors).min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Duration, out: &mut Vec<Action>) {
        if self.life == Life::Over {
            return;
        }
        self.on_executor_timeouts(now, out);
        self.on_link_timeout(now, out);
        self.check();
    }

    fn on_message(&mut self, now: Duration, message: ToWorker, out: &mut Vec<Action>) {
        self.hear(now);
        let registered = matches!(self.link, Link::Registered { .. });
        match message {
            ToWorker::Heartbeat => {}
            ToWorker::Registered { epoch } => self.on_registered(now, epoch, out),
            ToWorker::Refused { reason } => self.on_refused(now, reason, out),
            ToWorker::Renewed { certificate } => out.push(Action::Install { certificate }),
            ToWorker::Launch(_) | ToWorker::Kill(_) | ToWorker::Forget(_) | ToWorker::Leave
                if !registered =>
            {
                let reason = "the master gave orders before it accepted the registration";
                self.lose(now, reason.to_owned(), out);
            }
            ToWorker::Launch(order) => self.on_launch(order, out),
            ToWorker::Kill(executor) => self.on_kill(now, executor, out),
            ToWorker::Forget(app) => self.on_forget(now, app, out),
            ToWorker::Leave => {
                out.push(Action::Note(Note::Drained));
                self.on_stop(now, out);
            }
        }
    }

    fn on_stop(&mut self, now: Duration, out: &mut Vec<Action>) {
        if self.life != Life::Serving {
            return;
        }
        self.life = Life::Stopping;
        for executor in self.executors.keys().copied().collect::<Vec<_>>() {
            self.end(now, executor, "its worker stops", out);
        }
        self.finish_if_empty(out);
    }

    fn finish_if_empty(&mut self, out: &mut Vec<Action>) {
        if self.life == Life::Stopping && self.executors.is_empty() {
            self.life = Life::Over;
            out.push(Action::Exit { error: None });
        }
    }

    /// Sends to the master, if it has or will have the registration.
    fn tell(&self, message: FromWorker, out: &mut Vec<Action>) {
        if matches!(self.link, Link::Registering { .. } | Link::Registered { .. }) {
            out.push(Action::Send(message));
        }
    }

    fn info(&self) -> WorkerInfo {
        let held = self.executors.iter().map(|(id, executor)| HeldExecutor {
            id: *id,
            cores: executor.cores,
            memory_bytes: executor.memory_bytes,
            address: executor.phase.address(),
        });
        WorkerInfo { executors: held.collect(), ..self.offer.clone() }
    }

    fn cores_free(&self) -> u32 {
        let used: u32 = self.executors.values().map(|executor| executor.cores).sum();
        self.offer.cores - used
    }

    fn memory_free(&self) -> u64 {
        let used: u64 = self.executors.values().map(|executor| executor.memory_bytes).sum();
        self.offer.memory_bytes - used
    }

    /// What must always hold.
    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let (cores, memory) = (self.offer.cores, self.offer.memory_bytes);
        debug_assert!(self.cores_free() <= cores, "a core is granted twice");
        debug_assert!(self.memory_free() <= memory, "memory is granted twice");
        for app in &self.forgotten {
            let of_app = self.executors.iter().filter(|(id, _)| id.app == *app);
            let mut phases = of_app.map(|(_, executor)| &executor.phase).peekable();
            debug_assert!(phases.peek().is_some(), "{app} is never deleted");
            debug_assert!(phases.all(|phase| matches!(phase, Phase::Ending { .. })));
        }
        debug_assert!(self.life != Life::Over || self.executors.is_empty());
    }
}

// === impl Phase ===

impl Phase {
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Running { address } => Some(*address),
            Self::Preparing(_) | Self::Launching { .. } | Self::Ending { .. } => None,
        }
    }

    fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Launching { until } => Some(*until),
            Self::Ending { kill_at, .. } => *kill_at,
            Self::Preparing(_) | Self::Running { .. } => None,
        }
    }
}

// === impl Jitter ===

impl Jitter {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From half of `pause` up to all of it.
    fn spread(&mut self, pause: Duration) -> Duration {
        let half = pause / 2;
        let nanoseconds = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(self.next() % nanoseconds)
    }
}
