//! `offshoot new`: a directory that builds with one cargo command.

use crate::failure::Failure;
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Flags of `offshoot new`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The directory to make; its name becomes the job's.
    name: PathBuf,
}

const MAIN: &str = r#"//! Counts the even numbers below a million, a task a slice of them.

use offshoot::prelude::*;

fn main() -> Result<(), Error> {
    let context = Context::new();
    let even = context.range(0..1_000_000, 8).filter(|number| number % 2 == 0).count()?;
    println!("{even} of 1000000 numbers are even");
    Ok(())
}
"#;

/// The SDK of the sources that this program was built from; a released program uses its version.
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk");

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let directory = &arguments.name;
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) || !name.starts_with(|c: char| c.is_alphabetic())
    {
        return Err(Failure::usage(format!(
            "{}: a job's name has letters, digits, - and _ and starts with a letter",
            directory.display()
        )));
    }
    let sdk = match Path::new(SDK).canonicalize() {
        Ok(path) => format!("{{ path = {path:?} }}"),
        Err(_) => format!("{:?}", env!("CARGO_PKG_VERSION")),
    };
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [dependencies]\noffshoot = {sdk}\n\n\
         # Names and lines in the errors of tasks; optimised across crates.\n\
         [profile.release]\ndebug = \"line-tables-only\"\nlto = true\ncodegen-units = 1\n\
         panic = \"abort\"\n\n[workspace]\n"
    );
    let config = "[build]\ntarget = \"wasm32-wasip1\"\n";
    let failed =
        |path: &Path, error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
    fs::create_dir(directory).map_err(|error| failed(directory, error))?;
    for (file, content) in [
        ("Cargo.toml", manifest.as_str()),
        ("src/main.rs", MAIN),
        (".cargo/config.toml", config),
        (".gitignore", "target/\n"),
    ] {
        let path = directory.join(file);
        let parent = path.parent().unwrap_or(directory);
        fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
        fs::write(&path, content).map_err(|error| failed(&path, error))?;
    }
    eprintln!(
        "made {0}; now\n  cd {0}\n  offshoot submit $(offshoot build --release)",
        directory.display()
    );
    Ok(ExitCode::SUCCESS)
}
