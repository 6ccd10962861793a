//! The Rust toolchain that runs this program: its cargo, and the target that jobs are built for.

use anyhow::{Context, Result, bail, ensure};
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What jobs are compiled for.
pub(crate) const GUEST_TARGET: &str = "wasm32-wasip1";

/// The top of the checkout.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the checkout")
}

/// The cargo that runs this program, in the checkout's top folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    command
}

/// The toolchain's own folder.
pub(crate) fn sysroot() -> Result<PathBuf> {
    rustc(&["--print", "sysroot"]).map(PathBuf::from)
}

/// Adds the target that jobs are built for, if it is missing, and says so.
pub(crate) fn ensure_guest_target() -> Result<()> {
    // A distribution's Rust may have the target without rustup: look at what rustc would use.
    let library = rustc(&["--print", "target-libdir", "--target", GUEST_TARGET])?;
    if Path::new(&library).is_dir() {
        return Ok(());
    }
    eprintln!("The toolchain has no {GUEST_TARGET}, which jobs are compiled for; adding it:");
    eprintln!("    rustup target add {GUEST_TARGET}");
    let added = Command::new("rustup")
        .args(["target", "add", GUEST_TARGET])
        .current_dir(repository())
        .status();
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("rustup target add {GUEST_TARGET}: {status}"),
        Err(error) => bail!(
            "cannot run rustup ({error}): install Rust from https://rustup.rs, or install the \
             standard library for {GUEST_TARGET} in another way"
        ),
    }
}

/// Whether `cargo NAME` is installed.
pub(crate) fn has_cargo_command(name: &str) -> bool {
    let file = format!("cargo-{name}");
    let mut folders: Vec<PathBuf> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
    folders.extend(cargo_home().map(|home| home.join("bin")));
    folders.iter().any(|folder| folder.join(&file).is_file())
}

/// Where cargo keeps what it has downloaded.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

/// Runs a command that shows its own progress; fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {}", describe(command)))?;
    ensure!(status.success(), "{}: {status}", describe(command));
    Ok(())
}

/// A command as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = [program].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn rustc(arguments: &[&str]) -> Result<String> {
    let program = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let mut command = Command::new(program);
    command.args(arguments).current_dir(repository()).stderr(Stdio::inherit());
    let output = command.output().context("starting rustc")?;
    ensure!(output.status.success(), "{}: {}", describe(&command), output.status);
    Ok(String::from_utf8(output.stdout).context("rustc's answer")?.trim().to_owned())
}
