//! Spark with the same text, where it is installed: the whole command on two threads, as ours.

use super::Bench;
use super::table::{Figure, Goal};
use crate::text::text_of;
use anyhow::{Context, Result};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What Spark runs.
const SCRIPT: &str = include_str!("spark_job.py");

/// Runs of each job: the machine is warm, and Spark takes its time.
const SAMPLES: usize = 3;

/// Word count and sort with Spark; nothing, and a line that says so, where it is not installed.
pub(super) fn spark(bench: &mut Bench) -> Result<Vec<Figure>> {
    let Some(runner) = runner() else {
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

/// What runs a script of Spark: its own launcher, or a Python that has it.
fn runner() -> Option<PathBuf> {
    let home = env::var_os("SPARK_HOME").filter(|home| !home.is_empty());
    let launcher = home.map(|home| Path::new(&home).join("bin/spark-submit"));
    if let Some(launcher) = launcher.filter(|launcher| launcher.is_file()) {
        return Some(launcher);
    }
    let python = PathBuf::from("python3");
    let mut command = Command::new(&python);
    command.args(["-c", "import pyspark"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success()).then_some(python)
}
