//! `offshoot workers`.

use crate::client::{self, ClusterArguments};
use crate::failure::Failure;
use clap::Args;
use offshoot_proto::cluster::{FromClient, ToClient, WorkerRow};
use offshoot_proto::settings::format_size;
use serde_json::json;
use std::process::ExitCode;

/// Flags of `offshoot workers`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Print an array of objects.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let answer = client::ask(&arguments.cluster, &FromClient::ListWorkers)?;
    let ToClient::Workers(rows) = answer else {
        return Err(Failure::cluster("the master gave another answer"));
    };
    if arguments.json {
        let rows: Vec<_> = rows.iter().map(as_json).collect();
        println!("{:#}", json!(rows));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<18} {:<22} {:<6} {:>9} {:>22}", "ID", "ADDRESS", "STATE", "CORES", "MEMORY");
    for row in rows {
        let cores = format!("{}/{}", row.cores_used, row.cores);
        let (used, all) = (format_size(row.memory_used_bytes), format_size(row.memory_bytes));
        let (id, address) = (row.id.to_string(), row.address.to_string());
        let state = format!("{:?}", row.state).to_lowercase();
        println!("{id:<18} {address:<22} {state:<6} {cores:>9} {:>22}", format!("{used}/{all}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(row: &WorkerRow) -> serde_json::Value {
    json!({
        "id": row.id.to_string(),
        "address": row.address.to_string(),
        "state": row.state,
        "cores": row.cores,
        "cores_used": row.cores_used,
        "memory_bytes": row.memory_bytes,
        "memory_used_bytes": row.memory_used_bytes,
    })
}
