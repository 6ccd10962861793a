//! `cargo xtask test`: all tests, on the runner that is installed.

use crate::artifacts::Guests;
use crate::toolchain::{cargo, has_cargo_command, run as run_command};
use anyhow::Result;
use std::ffi::OsString;

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Passed to the test runner
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    arguments: Vec<OsString>,
}

/// Builds the jobs that tests submit, then runs the tests of the workspace. Replaying the fuzz
/// corpora is one of them.
pub(crate) fn run(options: &Options) -> Result<()> {
    Guests::build()?;
    let mut command = cargo();
    if has_cargo_command("nextest") {
        command.args(["nextest", "run", "--workspace", "--locked"]);
    } else {
        command.args(["test", "--workspace", "--locked"]);
    }
    run_command(command.args(&options.arguments))
}
