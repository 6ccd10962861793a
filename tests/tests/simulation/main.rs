//! The whole cluster in one process, under virtual time: real master, workers, executors, driver
//! and guests, real QUIC with real certificates, and a network that delays, loses and parts.
//!
//! ```text
//!   seed ─► plan (faults) ─► cluster ─► verdict: right answers, nothing left, all ended
//!                               └─► trace of datagrams: the same for the same seed
//! ```
//!
//! What is not the real thing is here and nowhere else: [`network`] for sockets and timers,
//! [`slots`] and [`launch`] for processes, [`store`] for stores, [`ports`] for time,
//! chance and the module cache.
#![forbid(unsafe_code)]

mod cluster;
mod faults;
mod journal;
mod launch;
mod network;
mod person;
mod ports;
mod roles;
mod slots;
mod store;
mod word_count;

use cluster::{Outcome, simulate};
use faults::{Fate, Plan};
use journal::Rare;
use network::Datagram;
use std::cell::Cell;
use std::num::NonZero;
use std::ops::Range;
use std::sync::{Arc, Mutex, Once};
use std::thread;
use word_count::Job;

/// Seeds of every test run.
const SEEDS: u64 = 50;

/// Seeds that are run twice.
const REPEATED: u64 = 3;

thread_local! {
    /// Panics on this thread, which runs all tasks of its simulations. tokio keeps them from
    /// reaching anybody.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

fn count_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            previous(panic);
        }));
    });
}

fn job() -> Arc<Job> {
    count_panics();
    Arc::new(Job::new().expect("the job can be prepared"))
}

/// The seeds that somebody wants to look at: `OFFSHOOT_SEEDS=18..19 cargo test -p offshoot-tests
/// --test simulation chosen -- --nocapture`.
fn chosen_seeds() -> Option<Range<u64>> {
    let seeds = std::env::var("OFFSHOOT_SEEDS").ok()?;
    let (first, end) = seeds.split_once("..").expect("OFFSHOOT_SEEDS is FIRST..END");
    let number = |text: &str| text.parse().expect("OFFSHOOT_SEEDS is FIRST..END");
    Some(number(first)..number(end))
}

/// Runs one seed; the error has its journal.
fn run(seed: u64, job: &Arc<Job>) -> Result<Outcome, String> {
    let before = PANICS.get();
    let outcome = simulate(&Plan::of(seed), job, &job.directory(seed))?;
    match PANICS.get() - before {
        0 => Ok(outcome),
        count => Err(format!("seed {seed}: {count} tasks panicked\n{}", outcome.journal)),
    }
}

/// Runs seeds, as many at once as there are cores.
fn run_all(seeds: Range<u64>, job: &Arc<Job>) -> (Rare, Vec<String>) {
    let seeds = Mutex::new(seeds);
    let results = Mutex::new((Rare::default(), Vec::new()));
    let next = || seeds.lock().expect("no holder panics").next();
    let work = || {
        while let Some(seed) = next() {
            let outcome = run(seed, job);
            let mut results = results.lock().expect("no holder panics");
            match outcome {
                Ok(outcome) => {
                    let rare = rare(&outcome);
                    let digest = digest(&outcome.trace);
                    println!("seed {seed}: trace {digest}, {:?}, {rare:?}", outcome.elapsed);
                    results.0 += rare;
                }
                Err(error) => results.1.push(error),
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    results.into_inner().expect("no holder panics")
}

/// A number for a whole trace: two runs with the same one sent the same datagrams.
fn digest(trace: &[Datagram]) -> String {
    let mut hasher = blake3::Hasher::new();
    for datagram in trace {
        hasher.update(format!("{datagram:?}").as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
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
    let (total, errors) = run_all(0..SEEDS, &job);
    println!("all {SEEDS} seeds: {total:?}");
    assert!(errors.is_empty(), "{} seeds failed:\n{}", errors.len(), errors.join("\n"));
    assert!(total.datagrams_lost > 0, "no datagram was ever lost by chance");
    assert!(total.datagrams_cut_off > 0, "no partition ever stopped a datagram");
    assert!(total.executors_lost > 0, "no partition ever cost a driver an executor");
    assert!(total.workers_lost > 0, "no partition ever cost the master a worker");
    assert!(total.stages_resumed > 0, "no partition ever made a stage run again");
}

#[test]
fn chosen_seeds_tell_what_happens() {
    let seeds = chosen_seeds().unwrap_or(0..1);
    let job = job();
    if seeds.clone().count() == 1 {
        let outcome = run(seeds.start, &job).unwrap_or_else(|error| panic!("{error}"));
        println!("{}trace {}", outcome.journal, digest(&outcome.trace));
        return println!("{:?}", rare(&outcome));
    }
    let (total, errors) = run_all(seeds, &job);
    println!("{total:?}");
    assert!(errors.is_empty(), "{} seeds failed:\n{}", errors.len(), errors.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let job = job();
    let run = |seed| run(seed, &job).unwrap_or_else(|error| panic!("{error}"));
    for seed in 0..REPEATED {
        let (first, second) = (run(seed), run(seed));
        let pairs = first.trace.iter().zip(&second.trace);
        if let Some((number, (one, two))) = pairs.enumerate().find(|(_, (one, two))| one != two) {
            panic!(
                "seed {seed}: datagram {number} is {one:?} once and {two:?} then\n{}\n{}",
                first.journal, second.journal
            );
        }
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
    }
    let (one, other) = (run(0), run(REPEATED));
    assert_ne!(one.trace, other.trace, "seeds make no difference");
}
