//! `offshoot drain`: lets a worker leave without losing anything.

use crate::client::{self, ClusterArguments};
use crate::failure::Failure;
use crate::parse;
use clap::Args;
use offshoot_proto::cluster::{FromClient, ToClient, WorkerRow, WorkerState};
use offshoot_proto::id::WorkerId;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Flags of `offshoot drain`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// After so long it leaves in any case: tasks that still run there run again elsewhere.
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, default_value = "10min")]
    within: Duration,
    /// Do not wait until it has left.
    #[arg(long)]
    no_wait: bool,
    /// Which worker, as `offshoot workers` names it.
    worker: String,
}

/// How often the master is asked whether the worker has left.
const LOOK: Duration = Duration::from_millis(200);

/// How long executors may take to stop after the deadline, and the worker to end.
const GRACE: Duration = Duration::from_secs(30);

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let worker = WorkerId(arguments.worker.clone());
    let within_millis = u64::try_from(arguments.within.as_millis()).unwrap_or(u64::MAX);
    let order = FromClient::Drain { worker: worker.clone(), within_millis };
    let ToClient::Done = client::ask(&arguments.cluster, &order)? else {
        return Err(Failure::cluster("the master gave another answer"));
    };
    if arguments.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    let deadline = Instant::now() + arguments.within + GRACE;
    let mut told = None;
    loop {
        match row(&arguments.cluster, &worker)? {
            None => break,
            Some(row) if row.state == WorkerState::Lost => {
                return Err(Failure::cluster(format!("worker {worker} was lost before it left")));
            }
            Some(row) if told != Some(row.cores_used) => {
                told = Some(row.cores_used);
                eprintln!("worker {worker}: {} cores in use", row.cores_used);
            }
            Some(_) => {}
        }
        if Instant::now() > deadline {
            return Err(Failure::cluster(format!(
                "worker {worker} has not left, {} s and more after it was told to; see its log",
                arguments.within.as_secs()
            )));
        }
        std::thread::sleep(LOOK);
    }
    eprintln!("worker {worker} has left");
    Ok(ExitCode::SUCCESS)
}

fn row(cluster: &ClusterArguments, worker: &WorkerId) -> Result<Option<WorkerRow>, Failure> {
    match client::ask(cluster, &FromClient::ListWorkers)? {
        ToClient::Workers(rows) => Ok(rows.into_iter().find(|row| row.id == *worker)),
        _ => Err(Failure::cluster("the master gave another answer")),
    }
}
