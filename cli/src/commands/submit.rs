//! `offshoot submit`.

use super::worker::compiler;
use crate::client::ClusterArguments;
use crate::embedded::Embedded;
use crate::failure::Failure;
use crate::grants;
use crate::observer::Terminal;
use crate::parse;
use crate::settings::{Settings, Table};
use crate::signals::Stop;
use clap::Args;
use offshoot_driver::{Cluster, Config, DriverError, End, Ports};
use offshoot_net::UdpNetwork;
use offshoot_proto::cluster::ResourceRequest;
use offshoot_proto::id::ModuleHash;
use offshoot_proto::store::StoreOptions;
use offshoot_sandbox::compile::{CompileError, ModuleCache};
use offshoot_sandbox::slots::ProcessSlots;
use offshoot_store::SystemStores;
use rustix::rand::{GetRandomFlags, getrandom};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Flags of `offshoot submit`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// What the application is called (the module's file name).
    #[arg(long)]
    name: Option<String>,
    /// Cores of one executor (all free cores of its worker).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    executor_cores: Option<u32>,
    /// Memory of one executor.
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    executor_memory: u64,
    /// Memory that main may have, at most 4 GiB.
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    driver_memory: u64,
    /// Cores of the whole application (the master's --default-cores, or all that are free).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    total_executor_cores: Option<u32>,
    /// Executors that the application starts with (those of dynamic allocation); without dynamic
    /// allocation, executors that it has at most (all that fit).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    num_executors: Option<u32>,
    /// Wait for a worker that is large enough, when none is, instead of ending.
    #[arg(long)]
    wait: bool,
    /// A setting of the job (docs/settings.md, [submit.conf]).
    #[arg(long, value_name = "KEY=VALUE")]
    conf: Vec<String>,
    /// A file or directory that the job may read, or s3://BUCKET/PREFIX, or http(s)://HOST/PATH.
    #[arg(long, value_name = "PATH")]
    allow_read: Vec<PathBuf>,
    /// A file or directory that the job may write, or s3://BUCKET/PREFIX.
    #[arg(long, value_name = "PATH")]
    allow_write: Vec<PathBuf>,
    /// The job.
    #[arg(value_name = "APP.wasm")]
    module: PathBuf,
    /// Arguments of its main.
    #[arg(value_name = "ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: Arguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let config = config(&arguments, settings)?;
    // Before anything else starts: it keeps nothing of this process but a socket.
    let slots = ProcessSlots::new(&config.name)
        .map_err(|error| Failure::local(format!("starting the spawner: {error}")))?;
    crate::runtime()?.block_on(async {
        let mut stop = Stop::listen()?;
        let (config, embedded) = tokio::select! {
            biased;
            () = stop.asked() => return Err(Failure::local("stopped")),
            joined = join(&arguments, settings, config) => joined?,
        };
        let ports = Ports {
            network: Arc::new(UdpNetwork),
            slots,
            stores: Arc::new(SystemStores),
            observer: Box::new(Terminal::new(embedded.is_none())),
            stop: Box::pin(async move { stop.asked().await }),
        };
        let result = Box::pin(offshoot_driver::run(config, ports)).await;
        if let Some(embedded) = embedded {
            embedded.shutdown().await;
        }
        ended(result, arguments.cluster.master.is_some())
    })
}

/// The exit code. `can_wait` is whether the cluster could get other workers.
fn ended(result: Result<End, DriverError>, can_wait: bool) -> Result<ExitCode, Failure> {
    match result {
        Err(error @ DriverError::TooLarge(_)) if can_wait => {
            let advice = "or wait for a larger worker with --wait";
            Err(Failure::cluster(format!("{error}, {advice}")))
        }
        Err(error @ DriverError::TooLarge(_)) => Err(Failure::cluster(error)),
        // As a shell sees it: the low eight bits.
        Ok(End::Exit(code)) => Ok(ExitCode::from(code as u8)),
        Ok(End::Failed(failure)) => Err(Failure::local(format!("main {failure}"))),
        Err(error @ (DriverError::Master { .. } | DriverError::Refused(_))) => {
            Err(Failure::cluster(error))
        }
        Err(error) => Err(Failure::local(error)),
    }
}

/// Everything that can be wrong on this machine is found here.
fn config(arguments: &Arguments, settings: &Settings) -> Result<Config, Failure> {
    let mut settings = settings.application().clone();
    let executors_max = match settings.allocation.enabled {
        true => {
            let initial = &mut settings.allocation.executors_initial;
            *initial = (*initial).max(arguments.num_executors.unwrap_or(0));
            settings.allocation.executors_max
        }
        false => arguments.num_executors,
    };
    let grants = grants::grants(&arguments.allow_read, &arguments.allow_write)?;
    // Nobody gets credentials who has no use for them.
    let store = match grants::any_remote(&grants) {
        true => StoreOptions::from_environment(|name| std::env::var(name).ok()),
        false => StoreOptions::default(),
    };
    let path = &arguments.module;
    let shown = path.display();
    let module =
        std::fs::read(path).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    let hash = ModuleHash(*blake3::hash(&module).as_bytes());
    let cache = open_cache()?;
    let artifact = cache.get(hash, &module).map_err(|error| match error {
        CompileError::Cache { .. } | CompileError::Child(_) => Failure::local(error),
        refused => Failure::usage(format!("{shown}: {refused}")),
    })?;
    let stem = path.file_stem().map_or_else(|| "job".into(), |stem| stem.to_string_lossy());
    let program = path.file_name().map_or_else(|| "job".into(), |name| name.to_string_lossy());
    Ok(Config {
        cluster: None,
        name: arguments.name.clone().unwrap_or_else(|| stem.into_owned()),
        module,
        hash,
        artifact,
        arguments: std::iter::once(program.into_owned())
            .chain(arguments.arguments.iter().cloned())
            .collect(),
        grants,
        request: ResourceRequest {
            executor_cores: arguments.executor_cores,
            executor_memory_bytes: arguments.executor_memory,
            total_cores: arguments.total_executor_cores,
            executors_max,
            executors_wanted: None,
        },
        settings,
        wait: arguments.wait,
        store,
        driver_memory_bytes: arguments.driver_memory,
    })
}

fn open_cache() -> Result<ModuleCache, Failure> {
    ModuleCache::open(&parse::cache_directory()?, compiler()).map_err(Failure::local)
}

/// Finds the cluster, or makes one. A module that calls nothing of Offshoot needs none.
async fn join(
    arguments: &Arguments,
    settings: &Settings,
    mut config: Config,
) -> Result<(Config, Option<Embedded>), Failure> {
    if !config.artifact.info.is_job {
        return Ok((config, None));
    }
    let mut key = [0; 16];
    getrandom(&mut key, GetRandomFlags::empty()).map_err(Failure::local)?;
    let idempotency_key = u128::from_le_bytes(key);
    if let Some(master) = arguments.cluster.master {
        let credential = parse::credential(arguments.cluster.credential.as_deref())?;
        config.cluster = Some(Cluster { master, credential, idempotency_key });
        return Ok((config, None));
    }
    if arguments.wait {
        let place = settings.setting(Table::Submit, "wait").map(|wait| wait.place.to_string());
        return Err(Failure::usage(format!(
            "{}: a cluster in this process gets no other workers; add --master ADDR:PORT",
            place.unwrap_or_default()
        )));
    }
    let embedded = Box::pin(Embedded::start(open_cache()?)).await?;
    config.cluster = Some(embedded.cluster(idempotency_key)?);
    Ok((config, Some(embedded)))
}
