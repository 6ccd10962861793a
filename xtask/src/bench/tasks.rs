//! Tasks that do nothing: how many a second, whether each was a fork, how long one takes, with an
//! executor and without one.

use super::Bench;
use super::forks::{Forks, Logs};
use super::jobs::{WARM_UP, last_number};
use super::table::{Figure, Goal};
use anyhow::{Context, Result, ensure};

/// Rounds of a job whose last one counts.
const ROUNDS: u32 = 3;

/// Times that an executor comes back to an application.
const COMES_BACK_SAMPLES: usize = 20;

/// An executor is released well before `noop --rest` begins its next round.
const RELEASED_SOON: &str = "dynamic-allocation.executor-idle-timeout=50ms";

/// As the job itself counts them: the last of three rounds, with ever more tasks in the queue.
pub(super) fn empty_tasks(bench: &mut Bench) -> Result<Vec<Figure>> {
    let all = bench.scale.empty_tasks;
    let queues = [1000, 10_000, 100_000, 1_000_000].into_iter().filter(|tasks| *tasks <= all);
    let mut figures = Vec::new();
    for tasks in queues.collect::<Vec<_>>() {
        let (count, rounds) = (tasks.to_string(), ROUNDS.to_string());
        let speeds = bench.sample(|bench| {
            let stdout = bench.example(&[], "noop", &[&count, &rounds])?.stdout;
            last_number(&stdout, " tasks/s")
        })?;
        // A guest's clock has steps of a millisecond: what few tasks take is too short for it.
        let goal = if tasks < 100_000 { Goal::Open } else { Goal::AtLeast(200_000.0) };
        figures.push(Figure::new(&format!("empty tasks, {tasks} queued"), "1/s", goal, speeds));
    }
    Ok(figures)
}

/// The slots of all executors have made as many forks as the application had attempts. Nothing
/// fails in it, so these are its tasks.
pub(super) fn forks(bench: &mut Bench) -> Result<Vec<Figure>> {
    let tasks = bench.scale.empty_tasks / 10;
    let logs = Logs::from_now(bench.cluster.members())?;
    bench.example(&[], "noop", &[&tasks.to_string(), &ROUNDS.to_string()])?;
    let executors = bench.cluster.members().len() as u64 - 1;
    let Forks { forks, attempts, .. } = logs.forks(bench.cluster.members(), executors)?;
    let wanted = u64::from(tasks) * u64::from(ROUNDS);
    ensure!(
        forks == attempts && attempts == wanted,
        "{forks} forks were counted by the slots for {attempts} attempts that executors saw end, \
         and the application had {wanted} tasks: these must be equal"
    );
    Ok(vec![
        Figure::new("attempts of an application", "count", Goal::Open, vec![wanted as f64]),
        Figure::new("forks that its slots counted", "count", Goal::Open, vec![forks as f64]),
    ])
}

/// One task, submitted and waited for, over and over; the job says when each round has ended, and
/// the time from line to line is taken here, because a guest's clock is too coarse.
pub(super) fn round_trip(bench: &mut Bench) -> Result<Vec<Figure>> {
    let module = bench.guests.module("noop")?.to_owned();
    let rounds = bench.scale.rounds.to_string();
    let (mut halves, mut nineties) = (Vec::new(), Vec::new());
    for sample in 0..WARM_UP + bench.scale.samples {
        let mut command = bench.cluster.submit();
        command.arg(&module).args(["1", &rounds, "--each"]);
        let times = bench.cluster.run_timing_lines(&mut command).context("noop")?;
        let pairs = times.iter().zip(times.iter().skip(1));
        let mut trips: Vec<f64> =
            pairs.map(|(start, end)| 1e3 * (*end - *start).as_secs_f64()).collect();
        ensure!(trips.len() + 1 >= bench.scale.rounds as usize, "noop printed too few lines");
        trips.sort_unstable_by(f64::total_cmp);
        if sample >= WARM_UP {
            halves.push(trips[trips.len() / 2]);
            nineties.push(trips[trips.len() * 9 / 10]);
        }
    }
    let name = |share: &str| format!("one task, submit to result, {share} of {rounds}");
    Ok(vec![
        Figure::new(&name("p50"), "ms", Goal::AtMost(0.15), halves),
        Figure::new(&name("p90"), "ms", Goal::Open, nineties),
    ])
}

/// One task of an application that runs and has no executor left: from the action to its result.
/// That an executor was started for each round is checked. The workers have compiled the module:
/// [`forks`] comes before.
pub(super) fn comes_back(bench: &mut Bench) -> Result<Vec<Figure>> {
    let module = bench.guests.module("noop")?.to_owned();
    let rounds = WARM_UP + COMES_BACK_SAMPLES;
    let logs = Logs::from_now(bench.cluster.members())?;
    let mut command = bench.cluster.submit();
    command.args(["--conf", RELEASED_SOON]).arg(&module);
    command.args(["1", &rounds.to_string(), "--each", "--rest"]);
    let times = bench.cluster.run_timing_lines(&mut command).context("noop")?;
    let executors = logs.forks(bench.cluster.members(), rounds as u64)?.executors;
    ensure!(
        executors == rounds as u64,
        "{executors} executors were started for {rounds} rounds: there must be one for each"
    );
    // A line when a round begins and one when it has ended; then the sum.
    let trips = times.chunks_exact(2).skip(WARM_UP);
    let trips: Vec<f64> = trips
        .map(|pair| 1e3 * (pair[1] - pair[0]).as_secs_f64())
        .take(COMES_BACK_SAMPLES)
        .collect();
    let name = "one task, no executor left, module cached";
    Ok(vec![Figure::new(name, "ms", Goal::AtMost(50.0), trips)])
}
