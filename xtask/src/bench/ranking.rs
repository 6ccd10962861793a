//! PageRank: an iterative job over kept links, alone and beside Spark.

use super::table::{Figure, Goal};
use super::{Bench, peers};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::process::Command;

/// Iterations of a run.
const ITERATIONS: u32 = 10;

/// Memory for the links.
const OPTIONS: [&str; 4] = ["--executor-memory", "2g", "--driver-memory", "2g"];

/// What Spark runs.
const SCRIPT: &str = include_str!("spark_pagerank.scala");

// === impl Bench ===

impl Bench {
    /// Seconds of a command that ranks, and the sum of the ranks.
    fn rank(&mut self, iterations: u32) -> Result<(f64, f64)> {
        let (pages, iterations) = (self.scale.pages.to_string(), iterations.to_string());
        let job = self.example(&OPTIONS, "pagerank", &[&pages, "8", &iterations, "2"])?;
        let total = job.stdout.lines().last().and_then(|line| line.strip_prefix("total\t"));
        let total = total.context("the job said no total")?.parse()?;
        Ok((job.seconds, total))
    }

    /// Seconds of all iterations: what a command takes longer with them than without.
    fn iterate(&mut self) -> Result<f64> {
        let ((without, _), (with, total)) = (self.rank(0)?, self.rank(ITERATIONS)?);
        ensure!((total - self.scale.pages as f64).abs() < 1.0, "ranks of {total} in all");
        Ok(with - without)
    }
}

/// An iteration, alone.
pub(super) fn pagerank(bench: &mut Bench) -> Result<Vec<Figure>> {
    let seconds = bench.sample(Bench::iterate)?;
    let samples = seconds.iter().map(|seconds| seconds / f64::from(ITERATIONS)).collect();
    let name = format!("an iteration over {} pages", bench.scale.pages);
    Ok(vec![Figure::new(&name, "s", Goal::Open, samples)])
}

/// The same iterations with a program of Spark's RDDs, whose start and warm-up do not count.
pub(super) fn spark(bench: &mut Bench) -> Result<Vec<Figure>> {
    let Some(shell) = peers::home().map(|home| home.join("bin/spark-shell")) else {
        return Ok(Vec::new());
    };
    let script = bench.cluster.directory().join("spark_pagerank.scala");
    fs::write(&script, SCRIPT).context("writing Spark's program")?;
    let runs = peers::SAMPLES.min(bench.scale.samples);
    let mut command = Command::new(shell);
    command.args(["--master", "local[2]", "--driver-memory", "6g"]);
    command.args(["--conf", "spark.ui.enabled=false", "-I"]).arg(&script);
    command.env("NODES", bench.scale.pages.to_string()).env("RUNS", runs.to_string());
    let stdout = bench.timed(&mut command)?.stdout;
    let theirs = seconds_of(&stdout);
    ensure!(theirs.len() == runs + 1, "Spark's program told of {} runs", theirs.len());
    let theirs = theirs[1..].to_vec();
    let mut ratios = Vec::new();
    for seconds in &theirs {
        ratios.push(seconds / bench.iterate()?);
    }
    let name = format!("{ITERATIONS} iterations over {} pages, Spark local[2]", bench.scale.pages);
    Ok(vec![
        Figure::new(&name, "s", Goal::Open, theirs),
        Figure::new("iterations: Spark to Offshoot", "ratio", Goal::AtLeast(10.0), ratios),
    ])
}

/// The numbers at the ends of lines like `ranked 500000.000 in 1.250`.
fn seconds_of(stdout: &str) -> Vec<f64> {
    let lines = stdout.lines().filter_map(|line| line.strip_prefix("ranked "));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::seconds_of;

    #[test]
    fn sparks_runs_are_found_among_what_its_shell_says() {
        let stdout =
            "scala> run(1)\n\nranked 500.000 in 3.5\nval x = 1\nranked 500.000 in 42.125\n";
        assert_eq!(seconds_of(stdout), [3.5, 42.125]);
    }
}
