//! The jobs that are timed. Every time is that of a whole command, from its start to its end,
//! unless the figure says otherwise.

use super::Bench;
use super::memory::{Process, family};
use super::table::{Figure, Goal};
use crate::custom_section::with_custom_section;
use crate::text::text_of;
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Runs that are made before those that count.
pub(super) const WARM_UP: usize = 1;

/// Time for executors to run out of work: less than a driver's lease, which a stopped driver loses.
const SETTLE: Duration = Duration::from_millis(500);

/// Options for jobs whose driver holds a GiB.
const LARGE: [&str; 4] = ["--executor-memory", "3g", "--driver-memory", "4g"];

/// What a command said, and how long it took.
pub(super) struct Timed {
    pub(super) stdout: String,
    pub(super) seconds: f64,
}

// === impl Bench ===

impl Bench {
    /// Submits a job and waits for its end.
    fn job(&mut self, options: &[&OsStr], module: &Path, arguments: &[&OsStr]) -> Result<Timed> {
        let mut command = self.cluster.submit();
        self.timed(command.args(options).arg(module).args(arguments))
    }

    /// The same with an example job and without file grants.
    pub(super) fn example(
        &mut self,
        options: &[&str],
        name: &str,
        arguments: &[&str],
    ) -> Result<Timed> {
        let module = self.guests.module(name)?.to_owned();
        let options: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        self.job(&options, &module, &arguments).with_context(|| name.to_owned())
    }

    pub(super) fn timed(&mut self, command: &mut Command) -> Result<Timed> {
        let start = Instant::now();
        let stdout = self.cluster.run(command)?;
        Ok(Timed { stdout, seconds: start.elapsed().as_secs_f64() })
    }

    /// Samples after a warm-up.
    pub(super) fn sample(
        &mut self,
        mut once: impl FnMut(&mut Self) -> Result<f64>,
    ) -> Result<Vec<f64>> {
        for _ in 0..WARM_UP {
            once(self)?;
        }
        (0..self.scale.samples).map(|_| once(self)).collect()
    }
}

/// Two tasks: first with a module that nobody has compiled, then with the same again.
pub(super) fn submit(bench: &mut Bench) -> Result<Vec<Figure>> {
    let module = fs::read(bench.guests.module("pi")?).context("reading pi.wasm")?;
    let (mut first, mut cached) = (Vec::new(), Vec::new());
    for sample in 0..bench.scale.samples {
        let path = bench.cluster.directory().join(format!("pi-{sample}.wasm"));
        fs::write(&path, with_custom_section(&module, &sample.to_le_bytes()))?;
        let arguments = ["1000", "2"].map(OsStr::new);
        first.push(1e3 * bench.job(&[], &path, &arguments)?.seconds);
        cached.push(1e3 * bench.job(&[], &path, &arguments)?.seconds);
    }
    Ok(vec![
        Figure::new("submit, module not compiled yet", "ms", Goal::AtMost(150.0), first),
        Figure::new("submit, module cached", "ms", Goal::AtMost(50.0), cached),
    ])
}

/// What a task costs with a small and with a large driver.
pub(super) fn lookup(bench: &mut Bench) -> Result<Vec<Figure>> {
    let tasks = bench.scale.lookup_tasks.to_string();
    let mut figures = Vec::new();
    let mut first_jobs = Vec::new();
    for (flag, what, factor) in [(None, "reads", 2.0), (Some("--write"), "writes", 10.0)] {
        let (mut small, mut large, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.scale.samples {
            let mut arguments = vec!["1", &tasks];
            arguments.extend(flag);
            let stdout = bench.example(&LARGE, "lookup", &arguments)?.stdout;
            let with_small = last_number(&stdout, "")?;
            arguments[0] = "1024";
            let stdout = bench.example(&LARGE, "lookup", &arguments)?.stdout;
            let with_large = last_number(&stdout, "")?;
            first_jobs.push(first_run(&stdout)?);
            small.push(1e6 * with_small);
            large.push(1e6 * with_large);
            ratios.push(with_large / with_small);
        }
        let name = |size: &str| format!("a task that {what} 16 places of {size}");
        figures.push(Figure::new(&name("1 MiB"), "µs", Goal::Open, small));
        figures.push(Figure::new(&name("1 GiB"), "µs", Goal::Open, large));
        let name = format!("{what}: 1 GiB to 1 MiB");
        figures.push(Figure::new(&name, "ratio", Goal::AtMost(factor), ratios));
    }
    figures.push(Figure::new("first job of a 1 GiB driver", "s", Goal::AtMost(2.0), first_jobs));
    Ok(figures)
}

/// The whole command against a native program that does the same on two threads.
pub(super) fn word_count(bench: &mut Bench) -> Result<Vec<Figure>> {
    let input = text_of(bench.scale.text_bytes)?;
    let grant = [OsStr::new("--allow-read"), input.as_os_str()];
    let module = bench.guests.module("wordcount")?.to_owned();
    let (mut ours, mut native, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for sample in 0..WARM_UP + bench.scale.samples {
        let mut command = Command::new(&bench.native);
        let theirs = bench.timed(command.arg("wordcount").arg(&input))?;
        let job = bench.job(&grant, &module, &[input.as_os_str()])?;
        ensure!(job.stdout == theirs.stdout, "the job and the native program count differently");
        if sample >= WARM_UP {
            ours.push(job.seconds);
            native.push(theirs.seconds);
            ratios.push(job.seconds / theirs.seconds);
        }
    }
    let name = |who: &str| format!("word count of {} MiB, {who}", bench.scale.text_bytes >> 20);
    Ok(vec![
        Figure::new(&name("Offshoot"), "s", Goal::Open, ours),
        Figure::new(&name("native"), "s", Goal::Open, native),
        Figure::new("word count: Offshoot to native", "ratio", Goal::AtMost(0.8), ratios),
    ])
}

/// The same with sorting; both write the sorted lines to the same disk.
pub(super) fn sort(bench: &mut Bench) -> Result<Vec<Figure>> {
    let input = text_of(bench.scale.text_bytes)?;
    let output = bench.cluster.directory().join("sorted");
    fs::create_dir(&output).context("making a folder for sorted lines")?;
    let module = bench.guests.module("sort")?.to_owned();
    let options =
        ["--allow-read".as_ref(), input.as_os_str(), "--allow-write".as_ref(), output.as_os_str()];
    let (ours_at, native_at) = (output.join("offshoot"), output.join("native"));
    let (mut ours, mut native, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for sample in 0..WARM_UP + bench.scale.samples {
        let mut command = Command::new(&bench.native);
        let theirs = bench.timed(command.arg("sort").args([&input, &native_at]))?;
        let arguments = [input.as_os_str(), ours_at.as_os_str()];
        let job = bench.job(&options, &module, &arguments)?;
        ensure!(part_bytes(&ours_at)? == part_bytes(&native_at)?, "different lengths were written");
        fs::remove_dir_all(&ours_at)?;
        fs::remove_dir_all(&native_at)?;
        if sample >= WARM_UP {
            ours.push(job.seconds);
            native.push(theirs.seconds);
            ratios.push(job.seconds / theirs.seconds);
        }
    }
    let name = |who: &str| format!("sort of {} MiB, {who}", bench.scale.text_bytes >> 20);
    Ok(vec![
        Figure::new(&name("Offshoot"), "s", Goal::Open, ours),
        Figure::new(&name("native"), "s", Goal::Open, native),
        Figure::new("sort: Offshoot to native", "ratio", Goal::Open, ratios),
    ])
}

/// What a record of a kept dataset costs each further use of it, as the job itself counts it.
pub(super) fn kept_numbers(bench: &mut Bench) -> Result<Vec<Figure>> {
    let numbers = bench.scale.kept_numbers.to_string();
    let uses = ["sum", "map", "slice"];
    let mut nanos = uses.map(|_| Vec::new());
    for _ in 0..bench.scale.samples {
        let options = ["--executor-memory", "2GiB"];
        let stdout = bench.example(&options, "numbers", &[&numbers, "8", "3"])?.stdout;
        for (use_, nanos) in uses.iter().zip(&mut nanos) {
            let line = stdout.lines().find(|line| line.starts_with(use_));
            nanos.push(last_number(line.context("the job left out a use")?, "")?);
        }
    }
    let name = |use_: &str| format!("{numbers} kept numbers, {use_}, a record");
    let figure = |(use_, nanos): (&str, _)| Figure::new(&name(use_), "ns", Goal::Open, nanos);
    Ok(uses.into_iter().zip(nanos).map(figure).collect())
}

/// A job is stopped in its tracks for a moment, so that its executors and slots have nothing to
/// do and are still there.
pub(super) fn idle_memory(bench: &mut Bench) -> Result<Vec<Figure>> {
    let module = bench.guests.module("noop")?.to_owned();
    let mut command = bench.cluster.submit();
    command.arg(&module).args(["1000", "1000000"]).stdout(Stdio::null()).stderr(Stdio::null());
    let job = bench.cluster.spawn(&mut command)?;
    sleep(SETTLE * 2);
    let pid = Pid::from_raw(bench.cluster.pid(job) as i32).context("a process has an id")?;
    kill_process(pid, Signal::STOP).context("stopping the job")?;
    sleep(SETTLE);
    let families: Result<Vec<_>> =
        bench.cluster.members().iter().map(|member| family(member.pid)).collect();
    bench.cluster.kill(job)?;
    let processes: Vec<Process> = families?.into_iter().flatten().collect();
    let of = |role: &str, size: fn(&Process) -> f64| -> Result<Vec<f64>> {
        let named = |process: &&Process| process.arguments.first().is_some_and(|a| a == role);
        let sizes: Vec<f64> = processes.iter().filter(named).map(size).collect();
        ensure!(!sizes.is_empty(), "no process is called offshoot {role}");
        Ok(sizes)
    };
    let resident: fn(&Process) -> f64 = |process| process.resident_mib;
    let private: fn(&Process) -> f64 = |process| process.private_mib;
    let figure =
        |name: &str, mib: f64, samples| Figure::new(name, "MiB", Goal::AtMost(mib), samples);
    Ok(vec![
        figure("idle master, resident", 20.0, of("master", resident)?),
        figure("idle worker, resident", 20.0, of("worker", resident)?),
        figure("idle executor, resident", 20.0, of("executor", resident)?),
        figure("idle slot, private", 6.0, of("slot", private)?),
    ])
}

/// The number at the end of the last line, after its last space and before `unit`.
pub(super) fn last_number(stdout: &str, unit: &str) -> Result<f64> {
    let line = stdout.lines().last().unwrap_or_default();
    let number = line.strip_suffix(unit).and_then(|rest| rest.rsplit(' ').next());
    let number = number.and_then(|number| number.parse().ok());
    number.with_context(|| format!("expected a number before {unit:?} in {line:?}"))
}

/// The seconds in `first run: 0.123 s`.
fn first_run(stdout: &str) -> Result<f64> {
    let line = stdout.lines().find_map(|line| line.strip_prefix("first run: "));
    last_number(line.context("the job said nothing of its first run")?, " s")
}

/// Bytes of all part files in a folder.
fn part_bytes(folder: &PathBuf) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b"part-") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_are_found_where_the_jobs_print_them() {
        let noop = "0\nround 1: 100 tasks/s\nround 2: 212345 tasks/s\n";
        assert_eq!(last_number(noop, " tasks/s").unwrap(), 212_345.0);
        let lookup = "0 wrong\nfirst run: 0.250 s\nsecond run: 0.100 s\n0.000005000\n";
        assert_eq!(last_number(lookup, "").unwrap(), 5e-6);
        assert_eq!(first_run(lookup).unwrap(), 0.25);
        assert!(last_number("", "").is_err());
    }
}
