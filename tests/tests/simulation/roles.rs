//! The roles of a simulation: the real thing each, on ports of the simulation.

use crate::cluster::{Context, Stage};
use crate::launch::SimLaunch;
use crate::ports::{MachineModules, SimClock, SimEntropy};
use crate::word_count::{self, Job};
use offshoot_driver as driver;
use offshoot_host::worker as host;
use offshoot_master::{cluster::Leases, ports, server, state::State};
use offshoot_net::Credential;
use offshoot_proto::cluster::ResourceRequest;
use offshoot_proto::settings::Settings;
use offshoot_sandbox::compile::CompileError;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Where master and workers listen.
pub(crate) const PORT: u16 = 7000;

/// Bytes of a worker and of an executor.
const MEMORY_BYTES: u64 = 256 << 20;

/// Reduce partitions, and map tasks, of the job.
const PARALLELISM: u32 = 6;

/// Times that a job is submitted: with many datagrams lost, a handshake may not end in time.
const SUBMITS_MAX: u32 = 4;

pub(crate) async fn run_master(context: Context, state: State) -> turmoil::Result {
    let ports = ports::Ports {
        network: Arc::new(context.network(context.master.ip())),
        clock: Arc::new(SimClock),
        entropy: Arc::new(SimEntropy::new(context.plan.seed)),
    };
    let config = server::Config {
        listen: anywhere(PORT),
        leases: Leases::default(),
        policy: Default::default(),
    };
    let master = server::serve(state, config, ports).await?;
    context.reached(Stage::MasterEnds).await;
    master.shutdown().await;
    Ok(())
}

pub(crate) async fn run_worker(
    context: Context,
    machine: IpAddr,
    number: usize,
    job: Arc<Job>,
    credential: Credential,
) -> turmoil::Result {
    let config = host::WorkerConfig {
        master: context.master,
        credential,
        credential_file: None,
        listen: anywhere(PORT),
        advertise: None,
        cores: context.plan.cores[number],
        memory_bytes: MEMORY_BYTES,
        directory: context.worker_directory(number),
        executor_ports: None,
        timing: host::Timing::default(),
    };
    let network = context.network(machine);
    let slots = context.slots.clone();
    let ports = host::Ports {
        network: Arc::new(network.clone()),
        launch: Arc::new(SimLaunch { network, slots, store: context.store.clone() }),
        modules: Arc::new(MachineModules::new(job.cache.clone())),
        clock: Arc::new(SimClock),
        seed: context.plan.seed ^ number as u64,
    };
    let worker = host::serve(config, ports).await?;
    context.reached(Stage::WorkersEnd).await;
    worker.shutdown().await?;
    context.workers_ended.send_modify(|ended| *ended += 1);
    Ok(())
}

pub(crate) async fn run_driver(
    context: Context,
    machine: IpAddr,
    job: Arc<Job>,
    credential: Credential,
) -> turmoil::Result {
    if job_is_remote(&context) {
        context.store.put_input("in/text", job.input()?).await?;
    }
    for round in 0..2 {
        let output = format!("output-{round}");
        let mut tries = 1;
        let end = loop {
            let cluster = driver::Cluster {
                master: context.master,
                credential: credential.clone(),
                idempotency_key: u128::from(context.plan.seed) << 8 | round,
            };
            match submit(&context, machine, &job, &output, cluster).await {
                // The person tries again: to the master it is the same application.
                Err(error @ driver::DriverError::Master { .. }) if tries < SUBMITS_MAX => {
                    context.journal.note(error);
                    context.journal.count(|rare| rare.submits_repeated += 1);
                    tries += 1;
                }
                ended => break ended?,
            }
        };
        context.journal.note(format_args!("job {round} has ended: {end:?}"));
        if end != driver::End::Exit(0) {
            return Err(format!("job {round} failed: {end:?}").into());
        }
        let saved = match job_is_remote(&context) {
            true => word_count::read_objects(&context.store, &output).await?,
            false => word_count::read_output(&context.directory.join(output))?,
        };
        job.check(&context.journal.take_output(), &saved)?;
        let healed = context.plan.partition.during.end;
        tokio::time::sleep(healed.saturating_sub(turmoil::elapsed())).await;
    }
    // What a killed executor has begun stays until the bucket's rule removes it.
    let left = context.store.uploads_left();
    if left > 0 && context.journal.rare().executors_lost == 0 {
        return Err(format!("{left} uploads are left").into());
    }
    context.announce(Stage::Looking);
    Ok(())
}

/// Every other seed reads from a store and saves to it.
fn job_is_remote(context: &Context) -> bool {
    context.plan.seed % 2 == 1
}

async fn submit(
    context: &Context,
    machine: IpAddr,
    job: &Job,
    output: &str,
    cluster: driver::Cluster,
) -> Result<driver::End, driver::DriverError> {
    let failed = |error: CompileError| driver::DriverError::Local(error.to_string());
    let config = driver::Config {
        cluster: Some(cluster),
        name: "word-count".to_owned(),
        module: job.wasm.clone(),
        hash: job.hash,
        artifact: job.cache.get(job.hash, &job.wasm).map_err(failed)?,
        arguments: job.arguments(output, job_is_remote(context)),
        grants: job.grants(&context.directory),
        settings: Settings { shuffle_partitions: PARALLELISM, ..Settings::default() },
        request: ResourceRequest {
            executor_cores: None,
            executor_memory_bytes: MEMORY_BYTES,
            total_cores: None,
            executors_max: None,
            executors_wanted: None,
        },
        wait: true,
        store: Default::default(),
        driver_memory_bytes: MEMORY_BYTES,
    };
    let ports = driver::Ports {
        network: Arc::new(context.network(machine)),
        slots: context.slots.clone(),
        stores: Arc::new(context.store.clone()),
        observer: context.journal.observer(),
        stop: Box::pin(std::future::pending()),
    };
    driver::run(config, ports).await
}

/// Every interface: the only one that turmoil has.
fn anywhere(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}
