//! The person who looks on: asks the master for its tables all the time, and at the end sees to it
//! that nothing is left.

use crate::cluster::{Context, Stage};
use crate::faults::WORKERS;
use crate::network::SimNetwork;
use offshoot_net::{Accepts, Credential, Endpoint, FrameStream, RoleKind};
use offshoot_proto::cluster::{FromClient, ToClient, WorkerRow, WorkerState};
use offshoot_proto::hello::Purpose;
use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

/// How often the person looks.
const LOOK: Duration = Duration::from_millis(500);

/// How long everything may take to come to rest: workers find their master again within 4 s, and
/// executors end within 5.
const REST: Duration = Duration::from_secs(30);

/// Runs until everybody else has ended.
pub(crate) async fn run(
    context: Context,
    network: SimNetwork,
    credential: Credential,
) -> turmoil::Result {
    let address = (Ipv4Addr::UNSPECIFIED, 0).into();
    let endpoint = Endpoint::bind(&network, address, credential, Accepts::Nothing).await?;
    let mut control = connect(&endpoint, &context).await?;
    let mut lost = BTreeSet::new();
    let mut deadline = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let rows = list_workers(&mut control).await?;
        check(&rows)?;
        for row in &rows {
            let is_lost = row.state == WorkerState::Lost;
            if is_lost && lost.insert(row.id.clone()) {
                context.journal.note(format_args!("the master has lost {:?}", row.id));
                context.journal.count(|rare| rare.workers_lost += 1);
            } else if !is_lost {
                lost.remove(&row.id);
            }
        }
        if *context.stage.borrow() < Stage::Looking {
            continue;
        }
        let Some(reason) = unrest(&context, &rows)? else {
            break;
        };
        let deadline = *deadline.get_or_insert(turmoil::elapsed() + REST);
        if turmoil::elapsed() > deadline {
            return Err(format!("{REST:?} after the last job: {reason}").into());
        }
    }
    drop(control);
    context.announce(Stage::WorkersEnd);
    context.workers_have_ended().await;
    context.announce(Stage::MasterEnds);
    endpoint.close("the person goes home").await;
    Ok(())
}

/// A connection to the master, which may not listen yet.
async fn connect(endpoint: &Endpoint, context: &Context) -> Result<FrameStream, Box<dyn Error>> {
    loop {
        match endpoint.connect(context.master, RoleKind::Master, Purpose::Control).await {
            Ok(mut connection) => {
                return Ok(connection.take_control().expect("a control connection has its stream"));
            }
            Err(error) if turmoil::elapsed() > REST => return Err(error.into()),
            Err(_) => {}
        }
    }
}

async fn list_workers(control: &mut FrameStream) -> Result<Vec<WorkerRow>, Box<dyn Error>> {
    control.sender.send(&FromClient::ListWorkers).await?;
    match control.receiver.recv().await? {
        Some(ToClient::Workers(rows)) => Ok(rows),
        other => Err(format!("the master answers with {other:?}").into()),
    }
}

/// What must hold at any time.
fn check(rows: &[WorkerRow]) -> Result<(), String> {
    for row in rows {
        if row.cores_used > row.cores || row.memory_used_bytes > row.memory_bytes {
            return Err(format!("more is granted than there is: {row:?}"));
        }
    }
    Ok(())
}

/// What still keeps the cluster from being as it was before the jobs.
fn unrest(context: &Context, rows: &[WorkerRow]) -> std::io::Result<Option<String>> {
    if rows.len() != WORKERS {
        return Ok(Some(format!("the master knows {} workers", rows.len())));
    }
    let busy = |row: &&WorkerRow| row.state == WorkerState::Lost || row.cores_used > 0;
    if let Some(row) = rows.iter().find(busy) {
        return Ok(Some(format!("{row:?}")));
    }
    for number in 0..WORKERS {
        for part in ["apps", "trash"] {
            let path = context.worker_directory(number).join(part);
            if let Some(name) = first_entry(&path)? {
                return Ok(Some(format!("{} holds {name}", path.display())));
            }
        }
    }
    Ok(None)
}

fn first_entry(path: &Path) -> std::io::Result<Option<String>> {
    let entry = fs::read_dir(path)?.next().transpose()?;
    Ok(entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
}
