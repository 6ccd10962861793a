//! What a developer of Offshoot types: `cargo xtask demo | test | bench | fuzz`.
//!
//! Everything here runs other programs: cargo, rustup, and the `offshoot` that it has just built.
//! Nothing of the cluster is linked in, so that this program is built in seconds and measures the
//! cluster only from outside.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod artifacts;
mod bench;
mod cluster;
mod custom_section;
mod demo;
mod fuzz;
mod keeper;
mod test;
mod text;
mod toolchain;

/// Builds, shows, tests and measures Offshoot.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything, start a cluster on this machine and count words on it
    Demo(demo::Options),
    /// Run all tests
    Test(test::Options),
    /// Measure the cluster and print a table
    Bench(bench::Options),
    /// Feed random bytes to the decoders (needs cargo-fuzz and a nightly toolchain)
    Fuzz(fuzz::Options),
    /// Stop what the standard input names, once it ends (used by the other tasks)
    #[command(hide = true)]
    Keeper,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Keeper => keeper::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
