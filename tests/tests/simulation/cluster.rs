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
use crate::network::{Datagram, SimNetwork, Wire};
use crate::ports::SimClock;
use crate::slots::InPlaceSlots;
use crate::store::SimStore;
use crate::word_count::Job;
use crate::{person, roles};
use offshoot_master::ports::Clock;
use offshoot_master::state::State;
use offshoot_net::{Role, Validity};
use offshoot_proto::id::WorkerId;
use std::error::Error;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Virtual time after which a simulation has failed: no fault lasts so long, nor does any lease.
const DURATION_MAX: Duration = Duration::from_secs(240);

/// How far virtual time goes in one step.
const TICK: Duration = Duration::from_millis(1);

/// How long the end may take once everybody is told to end: two waits for the last datagrams.
const END_MAX: Duration = Duration::from_secs(6);

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
    pub(crate) slots: Arc<InPlaceSlots>,
    pub(crate) store: SimStore,
    pub(crate) workers_ended: Arc<watch::Sender<usize>>,
    wire: Arc<Wire>,
    /// When everybody was told to end.
    ending: Arc<watch::Sender<Duration>>,
}

/// Runs a simulation to its end in `directory`, which is made and removed. Its name is among what
/// the job computes with.
pub(crate) fn simulate(plan: &Plan, job: &Arc<Job>, directory: &Path) -> Result<Outcome, String> {
    let journal = Journal::default();
    journal.note(format_args!("{plan:?}"));
    let ended = fs::create_dir(directory).map_err(Box::from);
    let ended = ended.and_then(|()| run(plan, job, &journal, directory));
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
) -> Result<(Arc<Wire>, Duration), Box<dyn Error>> {
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
    let (loss, during) = (plan.loss, plan.partition.during.clone());
    let faults = Faults { loss, between, during };
    let wire = Wire::new(plan.seed, faults);
    let context = Context {
        plan: Arc::new(plan.clone()),
        journal: journal.clone(),
        master: (sim.lookup("master"), roles::PORT).into(),
        directory: directory.to_owned(),
        stage: Arc::default(),
        slots: InPlaceSlots::new(plan.seed),
        store: SimStore::new(plan.seed),
        workers_ended: Arc::default(),
        wire: wire.clone(),
        ending: Arc::default(),
    };
    start_roles(&mut sim, &context, job)?;
    sim.run()?;
    let ending = sim.elapsed().saturating_sub(*context.ending.borrow());
    if ending > END_MAX {
        return Err(format!("the roles took {ending:?} to end").into());
    }
    Ok((wire, sim.elapsed()))
}

fn start_roles(
    sim: &mut turmoil::Sim<'_>,
    context: &Context,
    job: &Arc<Job>,
) -> Result<(), Box<dyn Error>> {
    let state = State::open(&context.directory.join("master"), &SimClock)?;
    let mint = |role| {
        let validity = Validity::of_node(SimClock.now());
        state.authority().mint(&role, validity)
    };
    for number in 0..WORKERS {
        let name = worker(number);
        let credential = mint(Role::Worker(WorkerId(name.clone())))?;
        let machine = sim.lookup(name.as_str());
        let role = roles::run_worker(context.clone(), machine, number, job.clone(), credential);
        sim.client(name, role);
    }
    let (ada, machine) = (mint(Role::Tenant("admin".to_owned()))?, sim.lookup("driver"));
    let role = roles::run_driver(context.clone(), machine, job.clone(), ada);
    sim.client("driver", role);
    let (admin, machine) = (mint(Role::Tenant("admin".to_owned()))?, sim.lookup("person"));
    let role = person::run(context.clone(), context.network(machine), admin);
    sim.client("person", role);
    sim.client("master", roles::run_master(context.clone(), state));
    Ok(())
}

// === impl Context ===

impl Context {
    pub(crate) fn network(&self, machine: IpAddr) -> SimNetwork {
        self.wire.network(machine)
    }

    pub(crate) fn worker_directory(&self, number: usize) -> PathBuf {
        self.directory.join(worker(number))
    }

    /// Tells all roles how far the simulation is.
    pub(crate) fn announce(&self, stage: Stage) {
        self.journal.note(format_args!("{stage:?}"));
        self.stage.send_replace(stage);
        if stage == Stage::WorkersEnd {
            self.ending.send_replace(turmoil::sim_elapsed().unwrap_or_default());
        }
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
