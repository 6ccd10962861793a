//! `offshoot token`.

use crate::failure::Failure;
use clap::{Args, Subcommand};
use offshoot_net::{Authority, JoinToken, RoleKind, TOKEN_LIFETIME};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

/// Flags of `offshoot token`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// A token for one worker, good for an hour.
    Worker {
        /// The master's directory, with the cluster's key. Nothing is written there.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Role::Worker { dir } = &arguments.role;
    let authority = Authority::open(dir).map_err(Failure::usage)?;
    let token = JoinToken::mint(&authority, RoleKind::Worker, SystemTime::now(), TOKEN_LIFETIME);
    println!("{}", token.map_err(Failure::local)?);
    Ok(ExitCode::SUCCESS)
}
