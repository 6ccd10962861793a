//! `offshoot apps`.

use crate::client::{self, ClusterArguments};
use crate::failure::Failure;
use crate::table::{self, Align};
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

const COLUMNS: [(&str, Align); 6] = [
    ("ID", Align::Left),
    ("NAME", Align::Left),
    ("TENANT", Align::Left),
    ("STATE", Align::Left),
    ("CORES", Align::Right),
    ("EXECUTORS", Align::Right),
];

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let answer = client::ask(&arguments.cluster, &FromClient::ListApps)?;
    let ToClient::Apps(rows) = answer else {
        return Err(Failure::cluster("the master gave another answer"));
    };
    table::print(&rows, arguments.json, COLUMNS, cells, as_json);
    Ok(ExitCode::SUCCESS)
}

fn cells(row: &AppRow) -> [String; 6] {
    [
        row.id.to_string(),
        row.name.escape_debug().to_string(),
        row.tenant.to_string(),
        format!("{:?}", row.state).to_lowercase(),
        row.cores.to_string(),
        row.executors.len().to_string(),
    ]
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
