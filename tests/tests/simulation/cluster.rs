//! One simulation: a master, three workers, a driver, and a person who looks on.
//!
//! ```text
//!   master ◄═► w0, w1, w2 ◄═► driver: the job during the faults, the job again when all is healed
//!      ▲                                │ done
//!      └── person: looks at the tables ◄┘  then: all cores free, no file left ─► everybody ends
//! ```
//!
//! Every role is a client of turmoil, so a simulation ends only when every role has.

use crate::faults::{Faults, Plan, WORKERS, worker};
use crate::journal::Journal;
use crate::launch::SimLaunch;
use crate::network::{Datagram, SimNetwork, Wire};
use crate::person;
use crate::ports::{MachineModules, SimClock, SimEntropy};
use crate::slots::InPlaceSlots;
use crate::word_count::Job;
use offshoot_driver as driver;
use offshoot_host::worker as host;
use offshoot_master::{cluster::Leases, ports, server, state::State};
use offshoot_net::{Credential, Role, Validity};
use offshoot_proto::cluster::ResourceRequest;
use offshoot_proto::id::WorkerId;
use offshoot_proto::settings::Settings;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Where master and workers listen.
const PORT: u16 = 7000;

/// Virtual time after which a simulation has failed: no fault lasts so long, nor does any lease.
const DURATION_MAX: Duration = Duration::from_secs(240);

/// How far virtual time goes in one step.
const TICK: Duration = Duration::from_millis(1);

/// Bytes of a worker and of an executor.
const MEMORY_BYTES: u64 = 256 << 20;

/// Reduce partitions, and map tasks, of the job.
const PARALLELISM: u32 = 6;

/// Datagrams that wait at a socket; a real one has room for thousands, too.
const DATAGRAMS_WAITING_MAX: usize = 8192;

/// What came of one simulation.
pub(crate) struct Outcome {
    pub(crate) trace: Vec<Datagram>,
    pub(crate) journal: Journal,
    pub(crate) elapsed: Duration,
}

/// How far a simulation is. Each stage is announced to all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The driver runs.
    #[default]
    Jobs,
    /// The driver has ended; what it used is given back.
    Looking,
    /// Workers end.
    WorkersEnd,
    /// The master ends.
    MasterEnds,
}

/// What all roles of one simulation share.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) plan: Arc<Plan>,
    pub(crate) journal: Journal,
    pub(crate) master: SocketAddr,
    pub(crate) directory: PathBuf,
    pub(crate) stage: Arc<watch::Sender<Stage>>,
    wire: Arc<Wire>,
    slots: Arc<InPlaceSlots>,
    workers_ended: Arc<watch::Sender<usize>>,
}

/// Runs a simulation to its end in `directory`, which is made and removed. Its name is among what
/// the job computes with.
pub(crate) fn simulate(plan: &Plan, job: &Arc<Job>, directory: &Path) -> Result<Outcome, String> {
    let journal = Journal::default();
    journal.note(format_args!("{plan:?}"));
    let ended = fs::create_dir(directory).map_err(Box::from);
    let ended = ended.and_then(|()| run(plan, job, &journal, directory));
    if std::env::var("DBGT").is_ok() { if let _ = &ended { for d in LASTWIRE.lock().unwrap().take().unwrap().take_trace() { if d.at.as_secs_f64() > std::env::var("DBGT").unwrap().parse::<f64>().unwrap() {  eprintln!("{:?}", d); } } } }
    let (wire, elapsed) =
        ended.map_err(|error| format!("seed {}: {error}\n{journal}", plan.seed))?;
    fs::remove_dir_all(directory).map_err(|error| error.to_string())?;
    Ok(Outcome { trace: wire.take_trace(), journal, elapsed })
}

fn run(
    plan: &Plan,
    job: &Arc<Job>,
    journal: &Journal,
    directory: &Path,
) -> Result<(Arc<Wire>, Duration), Box<dyn std::error::Error>> {
    let mut sim = turmoil::Builder::new()
        .rng_seed(plan.seed)
        .simulation_duration(DURATION_MAX)
        .tick_duration(TICK)
        .min_message_latency(plan.latency.start)
        .max_message_latency(plan.latency.end)
        .udp_capacity(DATAGRAMS_WAITING_MAX)
        .build();
    let (a, b) = &plan.partition.between;
    let between = (sim.lookup(a.as_str()), sim.lookup(b.as_str()));
    let during = plan.partition.during.clone();
    let wire = Wire::new(plan.seed, Faults { loss: plan.loss, between, during });
    *LASTWIRE.lock().unwrap() = Some(wire.clone());
    let context = Context {
        plan: Arc::new(plan.clone()),
        journal: journal.clone(),
        master: (sim.lookup("master"), PORT).into(),
        directory: directory.to_owned(),
        stage: Arc::default(),
        wire: wire.clone(),
        slots: InPlaceSlots::new(plan.seed),
        workers_ended: Arc::default(),
    };
    let state = State::open(&directory.join("master"), &SimClock)?;
    let mint = |role: &Role| -> Result<Credential, Box<dyn std::error::Error>> {
        let now = ports::Clock::now(&SimClock);
        Ok(state.authority().mint(role, Validity::of_node(now))?)
    };
    let admin = mint(&Role::Tenant("admin".to_owned()))?;
    let ada = mint(&Role::Tenant("ada".to_owned()))?;
    let workers = (0..WORKERS).map(|number| mint(&Role::Worker(WorkerId(worker(number)))));
    for (number, credential) in workers.collect::<Result<Vec<_>, _>>()?.into_iter().enumerate() {
        let machine = sim.lookup(worker(number).as_str());
        sim.client(worker(number), run_worker(context.clone(), machine, number, credential));
    }
    let (driver, person) = (sim.lookup("driver"), sim.lookup("person"));
    sim.client("driver", run_driver(context.clone(), driver, job.clone(), ada));
    sim.client("person", person::run(context.clone(), context.network(person), admin));
    sim.client("master", run_master(context, state));
    sim.run()?;
    Ok((wire, sim.elapsed()))
}

async fn run_master(context: Context, state: State) -> turmoil::Result {
    let ports = ports::Ports {
        network: Arc::new(context.network(context.master.ip())),
        clock: Arc::new(SimClock),
        entropy: Arc::new(SimEntropy::new(context.plan.seed)),
    };
    let config = server::Config { listen: anywhere(PORT), leases: Leases::default() };
    let master = server::serve(state, config, ports).await?;
    context.reached(Stage::MasterEnds).await;
    master.shutdown().await;
    Ok(())
}

async fn run_worker(
    context: Context,
    machine: IpAddr,
    number: usize,
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
        launch: Arc::new(SimLaunch { network, slots }),
        modules: Arc::new(MachineModules::new(Job::cache()?)),
        clock: Arc::new(SimClock),
        seed: context.plan.seed ^ number as u64,
    };
    let worker = host::serve(config, ports).await?;
    context.reached(Stage::WorkersEnd).await;
    worker.shutdown().await?;
    context.workers_ended.send_modify(|ended| *ended += 1);
    Ok(())
}

async fn run_driver(
    context: Context,
    machine: IpAddr,
    job: Arc<Job>,
    credential: Credential,
) -> turmoil::Result {
    for round in 0..2 {
        let output = context.directory.join(format!("output-{round}"));
        let config = driver::Config {
            cluster: Some(driver::Cluster {
                master: context.master,
                credential: credential.clone(),
                idempotency_key: u128::from(context.plan.seed) << 8 | round,
            }),
            name: "word-count".to_owned(),
            module: job.wasm.clone(),
            hash: job.hash,
            artifact: Job::cache()?.get(job.hash, &job.wasm)?,
            arguments: job.arguments(&output),
            grants: job.grants(&context.directory),
            settings: Settings { shuffle_partitions: PARALLELISM, ..Settings::default() },
            request: ResourceRequest {
                executor_cores: None,
                executor_memory_bytes: MEMORY_BYTES,
                total_cores: None,
            },
            driver_memory_bytes: MEMORY_BYTES,
        };
        let ports = driver::Ports {
            network: Arc::new(context.network(machine)),
            slots: context.slots.clone(),
            observer: context.journal.teller(),
            stop: Box::pin(std::future::pending()),
        };
        let end = driver::run(config, ports).await?;
        context.journal.note(format_args!("job {round} has ended: {end:?}"));
        if end != driver::End::Exit(0) {
            return Err(format!("job {round} failed: {end:?}").into());
        }
        job.check(&context.journal.take_output(), &output)?;
        let healed = context.plan.partition.during.end;
        tokio::time::sleep(healed.saturating_sub(turmoil::elapsed())).await;
    }
    context.announce(Stage::Looking);
    Ok(())
}

/// Every interface: the only one that turmoil has.
fn anywhere(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

// === impl Context ===

impl Context {
    fn network(&self, machine: IpAddr) -> SimNetwork {
        self.wire.network(machine)
    }

    pub(crate) fn worker_directory(&self, number: usize) -> PathBuf {
        self.directory.join(worker(number))
    }

    /// Tells all roles how far the simulation is.
    pub(crate) fn announce(&self, stage: Stage) {
        self.journal.note(format_args!("{stage:?}"));
        self.stage.send_replace(stage);
    }

    /// Waits until the simulation is so far.
    pub(crate) async fn reached(&self, stage: Stage) {
        let mut announced = self.stage.subscribe();
        let reached = announced.wait_for(|now| *now >= stage).await;
        drop(reached.expect("the context holds the sender"));
    }

    /// Waits until every worker has ended.
    pub(crate) async fn workers_have_ended(&self) {
        let mut ended = self.workers_ended.subscribe();
        let all = ended.wait_for(|ended| *ended == WORKERS).await;
        drop(all.expect("the context holds the sender"));
    }
}

static LASTWIRE: std::sync::Mutex<Option<Arc<Wire>>> = std::sync::Mutex::new(None);
