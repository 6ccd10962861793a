//! `offshoot build`: cargo build for the right target; prints the module's path.

use crate::failure::Failure;
use clap::Args;
use serde_json::Value;
use std::process::{Command, ExitCode, Stdio};

const TARGET: &str = "wasm32-wasip1";

/// Flags of `offshoot build`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Optimise.
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut command = Command::new("cargo");
    command.args(["build", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    if arguments.release {
        command.arg("--release");
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::local(format!("running cargo: {error}")))?;
    if !output.status.success() {
        return Err(Failure::local(format!(
            "cargo build failed (if the target is missing: rustup target add {TARGET})"
        )));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let modules: Vec<String> = text.lines().filter_map(module_of).collect();
    if modules.is_empty() {
        return Err(Failure::local("cargo built no program; a job has a src/main.rs"));
    }
    for module in modules {
        println!("{module}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The path of the module, if a line of cargo's messages tells of one.
fn module_of(line: &str) -> Option<String> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = message.get("executable")?.as_str()?;
    path.ends_with(".wasm").then(|| path.to_owned())
}
