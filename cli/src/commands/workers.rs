//! `offshoot workers`.

use crate::client::{self, ClusterArguments};
use crate::failure::Failure;
use crate::table::{self, Align};
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

const COLUMNS: [(&str, Align); 5] = [
    ("ID", Align::Left),
    ("ADDRESS", Align::Left),
    ("STATE", Align::Left),
    ("CORES", Align::Right),
    ("MEMORY", Align::Right),
];

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let answer = client::ask(&arguments.cluster, &FromClient::ListWorkers)?;
    let ToClient::Workers(rows) = answer else {
        return Err(Failure::cluster("the master gave another answer"));
    };
    table::print(&rows, arguments.json, COLUMNS, cells, as_json);
    Ok(ExitCode::SUCCESS)
}

fn cells(row: &WorkerRow) -> [String; 5] {
    [
        row.id.to_string(),
        row.address.to_string(),
        format!("{:?}", row.state).to_lowercase(),
        format!("{}/{}", row.cores_used, row.cores),
        format!("{}/{}", format_size(row.memory_used_bytes), format_size(row.memory_bytes)),
    ]
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
