//! Spark with the same text, where it is installed: the whole command on two threads, as ours.

use super::Bench;
use super::table::{Figure, Goal};
use crate::text::text_of;
use anyhow::{Context, Result};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What Spark runs.
const SCRIPT: &str = include_str!("spark_job.py");

/// Runs of each job: the machine is warm, and Spark takes its time.
pub(super) const SAMPLES: usize = 3;

/// Word count and sort with Spark; nothing, and a line that says so, where it is not installed.
pub(super) fn spark(bench: &mut Bench) -> Result<Vec<Figure>> {
    let Some(runner) = home().map(|home| home.join("bin/spark-submit")) else {
        eprintln!("Spark is not installed (pip install pyspark, or set SPARK_HOME): not compared");
        return Ok(Vec::new());
    };
    let input = text_of(bench.scale.text_bytes)?;
    let script = bench.cluster.directory().join("spark_job.py");
    fs::write(&script, SCRIPT).context("writing Spark's job")?;
    let output = bench.cluster.directory().join("sorted-by-spark");
    let (mut count, mut sort) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES.min(bench.scale.samples) {
        let mut command = Command::new(&runner);
        count.push(bench.timed(command.arg(&script).arg("wordcount").arg(&input))?.seconds);
        let mut command = Command::new(&runner);
        command.arg(&script).arg("sort").arg(&input).arg(&output);
        sort.push(bench.timed(&mut command)?.seconds);
        fs::remove_dir_all(&output).context("removing what Spark has sorted")?;
    }
    let mib = bench.scale.text_bytes >> 20;
    let name = |what: &str| format!("{what} of {mib} MiB, Spark local[2]");
    Ok(vec![
        Figure::new(&name("word count"), "s", Goal::Open, count),
        Figure::new(&name("sort"), "s", Goal::Open, sort),
    ])
}

/// Where Spark is installed: by itself, or in a Python.
pub(super) fn home() -> Option<PathBuf> {
    let here = |home: &PathBuf| home.join("bin/spark-submit").is_file();
    let home = env::var_os("SPARK_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    home.filter(here).or_else(|| {
        let mut command = Command::new("python3");
        command.args(["-c", "import pyspark; print(pyspark.__path__[0])"]).stderr(Stdio::null());
        let output = command.output().ok().filter(|output| output.status.success())?;
        Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end())).filter(here)
    })
}
