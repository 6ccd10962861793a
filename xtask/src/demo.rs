//! `cargo xtask demo`: from a clean clone to a real job on a real cluster.

use crate::artifacts::{Guests, build_offshoot};
use crate::cluster::LocalCluster;
use crate::text::text_of;
use crate::toolchain::ensure_guest_target;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Instant;

/// Text that is counted where none is named: some seconds of work for two cores.
const TEXT_BYTES: u64 = 256 << 20;

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Text to count the words of: a file or a directory [default: 256 MiB of text that this
    /// machine has]
    #[arg(long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Workers to start
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32)
        .range(1..=64))]
    workers: u32,
    /// Cores of each worker [default: this machine's, shared between the workers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cores: Option<u32>,
}

/// Builds, starts, submits, stops.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure_guest_target()?;
    let input = options.input.as_ref().map(|input| {
        fs::canonicalize(input).with_context(|| format!("--input {}", input.display()))
    });
    let input = input.transpose()?;
    eprintln!("Building the cluster's program and the example jobs");
    let offshoot = build_offshoot()?;
    let guests = Guests::build()?;
    let input = input.map_or_else(|| text_of(TEXT_BYTES), Ok)?;

    let cores = options.cores.unwrap_or_else(|| cores_each(options.workers));
    let mut cluster = LocalCluster::start(&offshoot, options.workers, cores)?;
    let started =
        cluster.members().iter().map(|member| format!("{} (process {})", member.name, member.pid));
    eprintln!("Started {}", started.collect::<Vec<_>>().join(", "));
    let plural = if cores == 1 { "" } else { "s" };
    eprintln!("    master at {}, {cores} core{plural} a worker", cluster.master());

    let module = guests.module("wordcount")?;
    let mut command = cluster.submit();
    command.arg("--name").arg("demo").arg("--allow-read").arg(&input).arg(module).arg(&input);
    eprintln!("    offshoot submit --allow-read INPUT wordcount.wasm INPUT");
    eprintln!("    where INPUT is {}", input.display());
    eprintln!("Its most frequent words, markup included:");
    let start = Instant::now();
    let job = cluster.spawn(&mut command)?;
    let counted = cluster.wait(job);
    let seconds = start.elapsed().as_secs_f64();
    let directory = cluster.directory().to_owned();
    drop(cluster);
    counted?;
    ensure!(!directory.exists(), "{} could not be removed", directory.display());
    eprintln!("Counted in {seconds:.2} s, from the start of the command to its end;");
    eprintln!("all processes have ended and their files are gone.");
    Ok(())
}

/// This machine's cores, shared between the workers.
fn cores_each(workers: u32) -> u32 {
    let cores = available_parallelism().map_or(1, |cores| cores.get() as u32);
    (cores / workers).max(1)
}
