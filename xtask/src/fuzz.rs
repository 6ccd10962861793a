//! `cargo xtask fuzz`: random bytes against the decoders, for as long as one likes.

use crate::toolchain::{has_cargo_command, repository, run as run_command};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::process::Command;

/// Arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to fuzz [default: every target, one after the other]
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
}

/// Runs cargo-fuzz, or says what is missing. What it finds of new paths goes to a folder that is
/// not committed; the committed corpus is only read.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !has_cargo_command("fuzz") {
        bail!("cargo-fuzz is not installed: cargo install cargo-fuzz --locked");
    }
    let nightly = Command::new("rustup").args(["run", "nightly", "rustc", "--version"]).output();
    if !nightly.is_ok_and(|output| output.status.success()) {
        bail!("fuzzing needs a nightly toolchain: rustup toolchain install nightly");
    }
    let all = targets()?;
    let chosen = match &options.target {
        None => all,
        Some(name) => {
            ensure!(all.contains(name), "no fuzz target {name}; there are {}", all.join(", "));
            vec![name.clone()]
        }
    };
    for target in chosen {
        eprintln!("Fuzzing {target} for {} s", options.seconds);
        fuzz(&target, options.seconds)?;
    }
    Ok(())
}

fn fuzz(target: &str, seconds: u64) -> Result<()> {
    let folder = repository().join("proto/fuzz");
    let found = folder.join("target/found").join(target);
    fs::create_dir_all(&found).with_context(|| format!("making {}", found.display()))?;
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz", "run", target]).arg(&found);
    command.arg(folder.join("corpus").join(target));
    command.args(["--", &format!("-max_total_time={seconds}"), "-max_len=65536"]);
    // These would send cargo back to the toolchain that runs this program.
    command.current_dir(repository().join("proto"));
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    run_command(&mut command)
}

/// The targets: one file each.
fn targets() -> Result<Vec<String>> {
    let folder = repository().join("proto/fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}
