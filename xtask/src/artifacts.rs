//! Builds what the other tasks run: the `offshoot` program and the example jobs.

use crate::toolchain::{GUEST_TARGET, cargo, describe, ensure_guest_target, repository};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Jobs that use features of the SDK, which others built with them would get, too.
const WITH_FEATURES: [&str; 4] = ["-p", "sales", "-p", "tables"];

/// The example jobs as modules, by name.
pub(crate) struct Guests(BTreeMap<String, PathBuf>);

// === impl Guests ===

impl Guests {
    /// Builds all of them, in release.
    pub(crate) fn build() -> Result<Self> {
        ensure_guest_target()?;
        let folder = repository().join("guest-examples");
        let mut files = Vec::new();
        for packages in [&[][..], &WITH_FEATURES] {
            let mut command = cargo();
            command
                .args(["build", "--release", "--locked", "--target", GUEST_TARGET])
                .current_dir(&folder)
                .arg("--target-dir")
                .arg(folder.join("target"))
                .args(packages);
            files.extend(built_files(&mut command)?);
        }
        let modules = files.into_iter().filter(|file| file.extension() == Some("wasm".as_ref()));
        let named = modules.filter_map(|file| {
            let name = file.file_stem()?.to_str()?.to_owned();
            Some((name, file))
        });
        Ok(Self(named.collect()))
    }

    /// The module of an example.
    pub(crate) fn module(&self, name: &str) -> Result<&Path> {
        let module = self.0.get(name).with_context(|| format!("guest-examples has no {name}"))?;
        Ok(module)
    }
}

/// Builds the `offshoot` program in release.
pub(crate) fn build_offshoot() -> Result<PathBuf> {
    build_program("offshoot-cli", "offshoot")
}

/// Builds a program of the workspace in release.
pub(crate) fn build_program(package: &str, name: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--package", package, "--bin", name]);
    let files = built_files(&mut command)?;
    let program = files.into_iter().find(|file| file.file_name() == Some(name.as_ref()));
    program.with_context(|| format!("cargo did not say where it put {name}"))
}

/// Every file that a cargo build made or found up to date.
fn built_files(command: &mut Command) -> Result<Vec<PathBuf>> {
    let output = command
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(output.status.success(), "{}: {}", describe(command), output.status);
    let mut files = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).context("reading cargo's messages")?;
        if message["reason"] == "compiler-artifact" {
            let names = message["filenames"].as_array().into_iter().flatten();
            files.extend(names.filter_map(Value::as_str).map(PathBuf::from));
        }
    }
    Ok(files)
}
