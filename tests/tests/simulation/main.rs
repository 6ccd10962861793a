//! The whole cluster in one process, under virtual time: real master, workers, executors, driver
//! and guests, real QUIC with real certificates, and a network that delays, loses and parts.
//!
//! ```text
//!   seed ─► plan (faults) ─► cluster ─► verdict: right answers, nothing left, all ended
//!                               └─► trace of datagrams: the same for the same seed
//! ```
//!
//! What is not the real thing is here and nowhere else: [`network`] for sockets and timers,
//! [`slots`] and [`launch`] for processes, [`ports`] for time, chance and the module cache.
#![forbid(unsafe_code)]

mod cluster;
mod faults;
mod journal;
mod launch;
mod network;
mod person;
mod ports;
mod slots;
mod word_count;

use cluster::{Outcome, simulate};
use faults::{Fate, Plan};
use journal::Rare;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use word_count::Job;

/// Seeds of every test run.
const SEEDS: u64 = 50;

/// Seeds that are run twice.
const REPEATED: u64 = 3;

/// Panics of any task or slot. tokio keeps them from reaching anybody.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            previous(panic);
        }));
    });
}

fn job() -> Arc<Job> {
    count_panics();
    Arc::new(Job::new().expect("the job can be prepared"))
}

/// The seed to look at, if somebody is looking at one: `OFFSHOOT_SEED=18 cargo test -p
/// offshoot-tests --test simulation fifty -- --nocapture`.
fn chosen_seed() -> Option<u64> {
    let seed = std::env::var("OFFSHOOT_SEED").ok()?;
    Some(seed.parse().expect("OFFSHOOT_SEED is a number"))
}

/// Runs one seed; panics with its journal if it fails.
fn run(seed: u64, job: &Arc<Job>) -> Outcome {
    let outcome = simulate(&Plan::of(seed), job, &job.directory(seed));
    let outcome = outcome.unwrap_or_else(|error| panic!("{error}"));
    let panics = PANICS.load(Ordering::Relaxed);
    assert_eq!(panics, 0, "a task panicked by the end of seed {seed}\n{}", outcome.journal);
    outcome
}

fn rare(outcome: &Outcome) -> Rare {
    let count = |fate| outcome.trace.iter().filter(|datagram| datagram.fate == fate).count();
    Rare {
        datagrams_lost: count(Fate::Lost) as u64,
        datagrams_cut_off: count(Fate::CutOff) as u64,
        ..outcome.journal.rare()
    }
}

#[test]
fn fifty_seeds_count_words_right_and_leave_nothing() {
    let job = job();
    if let Some(seed) = chosen_seed() {
        return println!("{}", run(seed, &job).journal);
    }
    let seeds = Mutex::new(0..SEEDS);
    let total = Mutex::new(Rare::default());
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(seed) = seeds.lock().expect("no holder panics").next() else { return };
                    let outcome = run(seed, &job);
                    let rare = rare(&outcome);
                    println!("seed {seed}: {:?} {rare:?}", outcome.elapsed);
                    *total.lock().expect("no holder panics") += rare;
                }
            });
        }
    });
    let total = *total.lock().expect("no holder panics");
    println!("all {SEEDS} seeds: {total:?}");
    assert!(total.datagrams_lost > 0, "no datagram was ever lost by chance");
    assert!(total.datagrams_cut_off > 0, "no partition ever stopped a datagram");
    assert!(total.executors_lost > 0, "no partition ever cost a driver an executor");
    assert!(total.workers_lost > 0, "no partition ever cost the master a worker");
    assert!(total.partitions_redone > 0, "no task was ever run again after it was done");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let job = job();
    for seed in 0..REPEATED {
        let (first, second) = (run(seed, &job), run(seed, &job));
        let pairs = first.trace.iter().zip(&second.trace);
        if let Some((number, (one, two))) = pairs.enumerate().find(|(_, (one, two))| one != two) {
            panic!(
                "seed {seed}: datagram {number} is {one:?} once and {two:?} then\n{}\n{}",
                first.journal, second.journal
            );
        }
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
    }
    let (one, other) = (run(0, &job), run(REPEATED, &job));
    assert_ne!(one.trace, other.trace, "seeds make no difference");
}
