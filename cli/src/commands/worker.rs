//! `offshoot worker`.

use crate::failure::Failure;
use crate::parse;
use crate::signals::Stop;
use clap::Args;
use offshoot_host::worker::{self, Ports, WorkerConfig};
use offshoot_net::{Credential, JoinToken, Role, UdpNetwork};
use offshoot_sandbox::compile::{Compiler, ModuleCache};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Flags of `offshoot worker`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The master.
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::address)]
    master: SocketAddr,
    /// What `offshoot token worker` printed. Not needed again in a directory that has joined.
    #[arg(long, value_name = "TOKEN")]
    token: Option<JoinToken>,
    /// Cores to give (all).
    #[arg(long, value_name = "N")]
    cores: Option<u32>,
    /// Memory to give (all but 1 GiB).
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    memory: Option<u64>,
    /// Where the worker keeps its identity and the files of applications.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where to listen (any port of the interface that reaches the master).
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::address)]
    listen: Option<SocketAddr>,
    /// The address that others reach this machine by.
    #[arg(long, value_name = "ADDR")]
    advertise: Option<IpAddr>,
    /// Ports that executors listen on.
    #[arg(long, value_name = "A-B", value_parser = parse::port_range)]
    executor_ports: Option<(u16, u16)>,
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let cache = ModuleCache::open(&parse::cache_directory()?, compiler());
    let ports = Ports::system(cache.map_err(Failure::local)?, "info");
    crate::runtime()?.block_on(async {
        let mut stop = Stop::listen()?;
        let credential_file = arguments.dir.join("worker.credential");
        let credential = tokio::select! {
            biased;
            () = stop.asked() => return Ok(ExitCode::SUCCESS),
            joined = identity(&arguments, &credential_file) => joined?,
        };
        let master = arguments.master;
        let config = WorkerConfig {
            master,
            credential,
            credential_file: Some(credential_file),
            listen: arguments.listen.unwrap_or_else(|| any_port(master)),
            advertise: arguments.advertise,
            cores: arguments.cores.unwrap_or_else(all_cores),
            memory_bytes: arguments.memory.unwrap_or_else(most_memory),
            directory: arguments.dir,
            executor_ports: arguments.executor_ports,
            timing: Default::default(),
        };
        let mut worker = worker::serve(config, ports).await.map_err(Failure::usage)?;
        let id = worker.id().clone();
        tokio::select! {
            biased;
            () = stop.asked() => worker.shutdown().await.map_err(Failure::cluster)?,
            ended = async {
                worker.registered().await;
                eprintln!("worker {id} registered with {master}");
                worker.ended().await
            } => ended.map_err(Failure::cluster)?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Who this worker is: what it was in this directory before, or what a token makes it.
async fn identity(arguments: &Arguments, file: &Path) -> Result<Credential, Failure> {
    if file.exists() {
        let credential = Credential::load(file).map_err(Failure::usage)?;
        let fresh = credential.not_after().is_ok_and(|end| end > std::time::SystemTime::now());
        if fresh && matches!(credential.role(), Role::Worker(_)) {
            return Ok(credential);
        }
    }
    let token = arguments.token.as_ref().ok_or_else(|| {
        Failure::usage(
            "this directory has not joined a cluster: add --token TOKEN (print one with offshoot \
             token worker --dir DIR, where the master's directory is)",
        )
    })?;
    let joined = offshoot_net::join(&UdpNetwork, arguments.master, token).await;
    let credential = joined.map_err(Failure::cluster)?;
    let failed = |error: std::io::Error| {
        Failure::usage(format!("--dir {}: {error}", arguments.dir.display()))
    };
    std::fs::create_dir_all(&arguments.dir).map_err(failed)?;
    credential.save(file).map_err(Failure::usage)?;
    Ok(credential)
}

/// The program that compiles modules: this one.
pub(crate) fn compiler() -> Compiler {
    Compiler::Child("/proc/self/exe".into())
}

fn any_port(master: SocketAddr) -> SocketAddr {
    let ip = match master.ip() {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}

/// Cores that this process may use.
pub(crate) fn all_cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

/// The machine's memory but for 1 GiB, and never less than half of it.
pub(crate) fn most_memory() -> u64 {
    let system = rustix::system::sysinfo();
    let total = system.totalram.saturating_mul(u64::from(system.mem_unit.max(1)));
    total.saturating_sub(1 << 30).max(total / 2)
}
