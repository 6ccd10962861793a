//! `offshoot master`.

use crate::failure::Failure;
use crate::parse;
use crate::signals::Stop;
use clap::{Args, ValueEnum};
use offshoot_master::cluster::limits::TOTAL_CORES_MAX;
use offshoot_master::placement::{Policy, Rule, Selection, Sharing};
use offshoot_master::ports::{Ports, SystemClock};
use offshoot_master::server::{self, Config};
use offshoot_master::state::State;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Flags of `offshoot master`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where to listen; port 0 for any.
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::address)]
    listen: SocketAddr,
    /// The cluster's key, modules and state. Made at the first start; keep it private.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Cores of an application that names no --total-executor-cores (all that are free).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=CORES))]
    default_cores: Option<u32>,
    /// Place an application on as many workers as can be; the default.
    #[arg(long)]
    spread: bool,
    /// Place an application on as few workers as can be.
    #[arg(long)]
    consolidate: bool,
    /// Which workers come first.
    #[arg(long, value_name = "POLICY")]
    worker_selection_policy: SelectionPolicy,
    /// How long an application that has half of what it is owed waits until others are asked for
    /// the rest.
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    share_release_timeout: Duration,
    /// Take what was asked back and not given back, in the middle of a task.
    #[arg(long)]
    preemption: bool,
    /// After how long; needs --preemption.
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    preemption_timeout: Duration,
}

/// The names of Spark's `spark.deploy.workerSelectionPolicy`, as a flag writes them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SelectionPolicy {
    CoresFreeDesc,
    CoresFreeAsc,
    MemoryFreeDesc,
    MemoryFreeAsc,
    WorkerId,
}

const CORES: i64 = TOTAL_CORES_MAX as i64;

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let state = State::open(&arguments.dir, &SystemClock).map_err(Failure::usage)?;
    let credential = state.admin_credential();
    crate::runtime()?.block_on(async {
        let mut stop = Stop::listen()?;
        let policy = arguments.policy();
        let config = Config { listen: arguments.listen, leases: Default::default(), policy };
        let served = server::serve(state, config, Ports::system()).await;
        let mut master = served.map_err(Failure::usage)?;
        eprintln!("listening on {}", master.local_address());
        eprintln!("the first credential is {}", credential.display());
        tokio::select! {
            biased;
            () = stop.asked() => master.shutdown().await,
            () = master.ended() => return Err(Failure::local("the master has ended")),
        }
        Ok(ExitCode::SUCCESS)
    })
}

// === impl Arguments ===

impl Arguments {
    fn policy(&self) -> Policy {
        // `--spread` says what holds without it.
        let sharing = if self.consolidate { Sharing::Consolidate } else { Sharing::Spread };
        let selection = self.worker_selection_policy.into();
        Policy {
            rule: Rule { sharing, selection },
            default_cores: self.default_cores,
            share_release_timeout: self.share_release_timeout,
            preemption: self.preemption.then_some(self.preemption_timeout),
        }
    }
}

// === impl SelectionPolicy ===

impl From<SelectionPolicy> for Selection {
    fn from(policy: SelectionPolicy) -> Self {
        match policy {
            SelectionPolicy::CoresFreeDesc => Self::CoresFreeDesc,
            SelectionPolicy::CoresFreeAsc => Self::CoresFreeAsc,
            SelectionPolicy::MemoryFreeDesc => Self::MemoryFreeDesc,
            SelectionPolicy::MemoryFreeAsc => Self::MemoryFreeAsc,
            SelectionPolicy::WorkerId => Self::WorkerId,
        }
    }
}
