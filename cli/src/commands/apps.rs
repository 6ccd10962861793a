//! `offshoot apps`.

use crate::client::{self, ClusterArguments};
use crate::failure::Failure;
use clap::Args;
use offshoot_proto::cluster::{AppRow, FromClient, ToClient};
use serde_json::json;
use std::process::ExitCode;

/// Flags of `offshoot apps`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Print an array of objects.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let answer = client::ask(&arguments.cluster, &FromClient::ListApps)?;
    let ToClient::Apps(rows) = answer else {
        return Err(Failure::cluster("the master gave another answer"));
    };
    if arguments.json {
        let rows: Vec<_> = rows.iter().map(as_json).collect();
        println!("{:#}", json!(rows));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<8} {:<24} {:<12} {:<9} {:>5} EXECUTORS", "ID", "NAME", "TENANT", "STATE", "CORES");
    for row in rows {
        let (id, name) = (row.id.to_string(), row.name.escape_debug().to_string());
        let state = format!("{:?}", row.state).to_lowercase();
        let (tenant, cores) = (&row.tenant, row.cores);
        println!("{id:<8} {name:<24} {tenant:<12} {state:<9} {cores:>5} {}", row.executors.len());
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(row: &AppRow) -> serde_json::Value {
    let executors: Vec<_> = row
        .executors
        .iter()
        .map(|executor| {
            json!({
                "id": executor.id.to_string(),
                "worker": executor.worker.to_string(),
                "cores": executor.cores,
                "state": executor.state,
            })
        })
        .collect();
    json!({
        "id": row.id.to_string(),
        "name": row.name,
        "tenant": row.tenant,
        "state": row.state,
        "submitted": row.submitted,
        "cores": row.cores,
        "executors": executors,
    })
}
