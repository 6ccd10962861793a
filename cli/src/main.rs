//! `offshoot`: one self-contained binary, one file a subcommand.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 it worked, 1
//! the job failed, 2 usage, 3 the cluster cannot be reached or refused; `submit` ends with the
//! code of the job's `main` where that has one.
#![forbid(unsafe_code)]

mod client;
mod commands;
mod embedded;
mod failure;
mod grants;
mod observer;
mod parse;
mod signals;
mod table;
mod usage;

use clap::{Parser, Subcommand};
use commands::{
    apps, build, drain, explain, hidden, master, new, submit, tenant, token, worker, workers,
};
use failure::Failure;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// A cluster for WebAssembly tasks: every task is a copy-on-write fork of the driver.
#[derive(Debug, Parser)]
#[command(name = "offshoot", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the master of a cluster.
    Master(master::Arguments),
    /// Print a token with which one worker may join.
    Token(token::Arguments),
    /// Run the worker of this machine.
    Worker(Box<worker::Arguments>),
    /// Run a job: on a cluster, or on one made for it in this process.
    Submit(Box<submit::Arguments>),
    /// Make a directory with a job's template.
    New(new::Arguments),
    /// Build the job of this directory and print the path of its module.
    Build(build::Arguments),
    /// List the workers of a cluster.
    Workers(workers::Arguments),
    /// List the applications of a cluster.
    Apps(apps::Arguments),
    /// Let a worker leave when what it runs and has is elsewhere.
    Drain(drain::Arguments),
    /// Say why an application has no more executors, and why its tasks wait.
    Explain(explain::Arguments),
    /// Add, list, change and remove those who share a cluster.
    Tenant(Box<tenant::Arguments>),
}

fn main() -> ExitCode {
    // Processes that Offshoot starts itself must come up within milliseconds.
    if let Some(code) = hidden::run() {
        return code;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage::report(&error),
    };
    let level = match arguments.command {
        Command::Master(_) | Command::Worker(_) => "info",
        _ => "warn",
    };
    log_to_stderr(level);
    let result = match arguments.command {
        Command::Master(arguments) => master::run(arguments),
        Command::Token(arguments) => token::run(&arguments),
        Command::Worker(arguments) => worker::run(*arguments),
        Command::Submit(arguments) => submit::run(*arguments),
        Command::New(arguments) => new::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Workers(arguments) => workers::run(&arguments),
        Command::Apps(arguments) => apps::run(&arguments),
        Command::Drain(arguments) => drain::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Tenant(arguments) => tenant::run(*arguments),
    };
    match result {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// Logs, at `RUST_LOG`'s level if it is set.
pub(crate) fn log_to_stderr(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        // QUIC's own lines are for those who debug it.
        EnvFilter::new(format!("{level},quinn=warn,quinn_proto=warn"))
    });
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// The runtime of every role: one thread, so that nothing is decided by chance.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failure::local(format!("starting the runtime: {error}")))
}
