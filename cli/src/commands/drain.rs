//! `offshoot drain`: lets a worker leave without losing anything.

use crate::client::{self, ClusterArguments, Unanswered};
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

/// How long executors may take to stop after the deadline, and the worker to end; or a restarted
/// master to know what there is, and the worker to end then.
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
    wait(&arguments.cluster, &worker, arguments.within)?;
    eprintln!("worker {worker} has left");
    Ok(ExitCode::SUCCESS)
}

/// Waits until the worker has left. A master that is restarted meanwhile knows the order: while it
/// is away there is nothing to do but to ask again.
fn wait(cluster: &ClusterArguments, worker: &WorkerId, within: Duration) -> Result<(), Failure> {
    let mut deadline = Instant::now() + within + GRACE;
    let (mut told, mut away) = (None, None);
    loop {
        match row(cluster, worker) {
            Ok(row) => {
                if away.take().is_some() {
                    eprintln!("the master is back");
                    // It waits for those of its life before, too.
                    deadline = deadline.max(Instant::now() + GRACE);
                }
                if look(worker, row.as_ref(), &mut told)? {
                    return Ok(());
                }
            }
            Err(Unanswered::Absent(why)) => {
                if away.is_none() {
                    eprintln!("waiting: the master is gone ({why})");
                }
                away = Some(why);
            }
            Err(Unanswered::Failed(failure)) => return Err(failure),
        }
        if Instant::now() > deadline {
            let why = away.map_or("see its log".to_owned(), |why| format!("and {why}"));
            return Err(Failure::cluster(format!(
                "worker {worker} has not left, {} s and more after it was told to; {why}",
                within.as_secs()
            )));
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether the worker has left, which ends the wait, as does that it will not.
fn look(
    worker: &WorkerId,
    row: Option<&WorkerRow>,
    told: &mut Option<u32>,
) -> Result<bool, Failure> {
    let Some(row) = row else {
        return Ok(true);
    };
    match row.state {
        WorkerState::Lost => {
            Err(Failure::cluster(format!("worker {worker} was lost before it left")))
        }
        WorkerState::Alive => Err(Failure::cluster(format!(
            "worker {worker} is given work again: it has come back after it left or was lost; \
             drain it again if it is to leave"
        ))),
        WorkerState::Draining => {
            if *told != Some(row.cores_used) {
                *told = Some(row.cores_used);
                eprintln!("worker {worker}: {} cores in use", row.cores_used);
            }
            Ok(false)
        }
    }
}

fn row(cluster: &ClusterArguments, worker: &WorkerId) -> Result<Option<WorkerRow>, Unanswered> {
    match client::try_ask(cluster, &FromClient::ListWorkers)? {
        ToClient::Workers(rows) => Ok(rows.into_iter().find(|row| row.id == *worker)),
        _ => Err(Failure::cluster("the master gave another answer").into()),
    }
}
