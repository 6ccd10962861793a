//! The programs of `guest-examples`, built for the sandbox when a test first asks for one.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What the programs are built for.
const TARGET: &str = "wasm32-wasip1";

/// Programs that use features of the SDK, which others built with them would get, too.
const WITH_FEATURES: [&str; 4] = ["-p", "sales", "-p", "tables"];

/// Variables of the build that runs the tests and that have no say in the guests' own.
const FOREIGN_VARIABLES: [&str; 4] =
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTFLAGS"];

/// The compiled module of the guest program `name`, such as `wordcount`.
///
/// All of them are built at the first call of a process; cargo sees to it that two processes do
/// not build at once, and that nothing is built twice.
///
/// # Panics
///
/// If they cannot be built, or there is none of that name.
pub fn module(name: &str) -> PathBuf {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let directory = match BUILT.get_or_init(build) {
        Ok(directory) => directory,
        Err(error) => panic!("{error}"),
    };
    let path = directory.join(format!("{name}.wasm"));
    assert!(path.is_file(), "there is no guest program {name}: {} is missing", path.display());
    path
}

/// Builds them; returns where they are.
fn build() -> Result<PathBuf, String> {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-examples");
    let target = guests.join("target");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let failed = |why: &str| {
        format!(
            "the guest programs in {} cannot be built for {TARGET} (`cargo xtask test` adds this \
             target if it is missing, as does `rustup target add {TARGET}`): {why}",
            guests.display()
        )
    };
    for packages in [&[][..], &WITH_FEATURES] {
        let mut command = Command::new(&cargo);
        command
            .args(["build", "--quiet", "--release", "--target", TARGET, "--manifest-path"])
            .arg(guests.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .args(packages);
        for variable in FOREIGN_VARIABLES {
            command.env_remove(variable);
        }
        let output = command.output().map_err(|error| failed(&error.to_string()))?;
        if !output.status.success() {
            return Err(failed(&String::from_utf8_lossy(&output.stderr)));
        }
    }
    Ok(target.join(TARGET).join("release"))
}
