//! `offshoot tenant`: who shares the cluster, and by what rules.

use crate::client::{self, ClusterArguments};
use crate::failure::Failure;
use crate::parse;
use crate::table::{self, Align};
use clap::{Args, Subcommand, ValueEnum};
use offshoot_net::Credential;
use offshoot_proto::cluster::{FromClient, ToClient};
use offshoot_proto::frame;
use offshoot_proto::settings::format_size;
use offshoot_proto::tenant::{TenantChange, TenantOrder, TenantPolicy, TenantRow, TenantRules};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Subcommands of `offshoot tenant`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let a tenant in, and write its credential to a file.
    Add {
        #[command(flatten)]
        cluster: ClusterArguments,
        /// Where to write the credential (NAME.credential). Never over another file.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        rules: Rules,
        /// Small letters, digits, -, _ and dots.
        name: String,
    },
    /// List tenants with their rules and what they use.
    List {
        #[command(flatten)]
        cluster: ClusterArguments,
        /// Print an array of objects.
        #[arg(long)]
        json: bool,
    },
    /// Change some of a tenant's rules. They hold at once.
    Set {
        #[command(flatten)]
        cluster: ClusterArguments,
        #[command(flatten)]
        rules: Rules,
        /// Which tenant.
        name: String,
    },
    /// Let a tenant in no more. It must have no applications.
    Remove {
        #[command(flatten)]
        cluster: ClusterArguments,
        /// Which tenant.
        name: String,
    },
}

#[derive(Debug, Args)]
struct Rules {
    /// Its part of the cluster against that of the others, 1 to 1,000 (1).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    weight: Option<u32>,
    /// How its applications share what it is given (fair).
    #[arg(long, value_name = "POLICY")]
    policy: Option<Policy>,
    /// Cores that it never has more of, or none for no limit.
    #[arg(long, value_name = "N", value_parser = limit)]
    max_cores: Option<Limit<u32>>,
    /// Memory of executors that it never has more of, or none for no limit.
    #[arg(long, value_name = "SIZE", value_parser = size_limit)]
    max_memory: Option<Limit<u64>>,
    /// Applications that have executors at once, or none for no limit.
    #[arg(long, value_name = "N", value_parser = limit)]
    max_running: Option<Limit<u32>>,
    /// Applications that are registered at once, or none for no limit.
    #[arg(long, value_name = "N", value_parser = limit)]
    max_submitted: Option<Limit<u32>>,
    /// Cores that it is given first and that nobody takes back (0).
    #[arg(long, value_name = "N")]
    guaranteed_cores: Option<u32>,
    /// Memory that it is given first and that nobody takes back (0).
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    guaranteed_memory: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Policy {
    Fair,
    Fifo,
}

/// A limit, or that there is none.
#[derive(Clone, Copy, Debug)]
struct Limit<T>(Option<T>);

fn limit(text: &str) -> Result<Limit<u32>, String> {
    match text {
        "none" => Ok(Limit(None)),
        _ => {
            let number = text.parse().map_err(|_| "write it as a whole number, or none");
            Ok(Limit(Some(number?)))
        }
    }
}

fn size_limit(text: &str) -> Result<Limit<u64>, String> {
    match text {
        "none" => Ok(Limit(None)),
        _ => Ok(Limit(Some(parse::size(text).map_err(|error| format!("{error}, or none"))?))),
    }
}

const COLUMNS: [(&str, Align); 8] = [
    ("NAME", Align::Left),
    ("WEIGHT", Align::Right),
    ("POLICY", Align::Left),
    ("CORES", Align::Right),
    ("MEMORY", Align::Right),
    ("GUARANTEED", Align::Left),
    ("RUNNING", Align::Right),
    ("SUBMITTED", Align::Right),
];

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    match arguments.command {
        Command::Add { cluster, out, rules, name } => add(&cluster, out, &rules, name)?,
        Command::List { cluster, json } => list(&cluster, json)?,
        Command::Set { cluster, rules, name } => {
            let rules = rules.change();
            if rules == TenantChange::default() {
                return Err(Failure::usage("nothing to set: name a rule, such as --weight 2"));
            }
            carry_out(&cluster, TenantOrder::Set { name, rules })?;
        }
        Command::Remove { cluster, name } => carry_out(&cluster, TenantOrder::Remove { name })?,
    }
    Ok(ExitCode::SUCCESS)
}

fn add(
    cluster: &ClusterArguments,
    out: Option<PathBuf>,
    rules: &Rules,
    name: String,
) -> Result<(), Failure> {
    let path = out.unwrap_or_else(|| PathBuf::from(format!("{name}.credential")));
    let shown = path.display();
    if path.exists() {
        return Err(Failure::usage(format!("{shown}: is there already; name another with --out")));
    }
    let order = TenantOrder::Add { name: name.clone(), rules: rules.change() };
    match client::ask(cluster, &FromClient::Tenants(order))? {
        ToClient::TenantAdded { credential } => {
            let credential: Credential = frame::from_bytes(&credential)
                .map_err(|error| Failure::cluster(format!("the credential: {error}")))?;
            credential.save(&path).map_err(|error| {
                Failure::local(format!(
                    "{error}; tenant {name} was added, and nobody else has its credential: remove \
                     it, and add one of another name"
                ))
            })?;
            eprintln!("tenant {name} added; its credential is {shown}: give it to nobody else");
            Ok(())
        }
        _ => Err(Failure::cluster("the master gave another answer")),
    }
}

fn list(cluster: &ClusterArguments, json: bool) -> Result<(), Failure> {
    match client::ask(cluster, &FromClient::Tenants(TenantOrder::List))? {
        ToClient::Tenants(rows) => {
            table::print(&rows, json, COLUMNS, cells, as_json);
            Ok(())
        }
        _ => Err(Failure::cluster("the master gave another answer")),
    }
}

fn carry_out(cluster: &ClusterArguments, order: TenantOrder) -> Result<(), Failure> {
    match client::ask(cluster, &FromClient::Tenants(order))? {
        ToClient::Done => Ok(()),
        _ => Err(Failure::cluster("the master gave another answer")),
    }
}

/// What is used, and of how much if that is limited.
fn of<T>(used: String, limit: Option<T>, text: impl Fn(T) -> String) -> String {
    limit.map_or_else(|| used.clone(), |limit| format!("{used}/{}", text(limit)))
}

fn guaranteed(rules: &TenantRules) -> String {
    match (rules.cores_guaranteed, rules.memory_bytes_guaranteed) {
        (0, 0) => "-".to_owned(),
        (cores, 0) => format!("{cores} cores"),
        (cores, bytes) => format!("{cores} cores, {}", format_size(bytes)),
    }
}

fn cells(row: &TenantRow) -> [String; 8] {
    let rules = &row.rules;
    let number = |number: u32| number.to_string();
    [
        row.name.clone(),
        rules.weight.to_string(),
        rules.policy.to_string(),
        of(row.cores_used.to_string(), rules.cores_max, number),
        of(format_size(row.memory_used_bytes), rules.memory_bytes_max, format_size),
        guaranteed(rules),
        of(row.running.to_string(), rules.running_max, number),
        of(row.submitted.to_string(), rules.submitted_max, number),
    ]
}

fn as_json(row: &TenantRow) -> serde_json::Value {
    let rules = &row.rules;
    json!({
        "name": row.name,
        "weight": rules.weight,
        "policy": rules.policy,
        "max_cores": rules.cores_max,
        "max_memory_bytes": rules.memory_bytes_max,
        "max_running": rules.running_max,
        "max_submitted": rules.submitted_max,
        "guaranteed_cores": rules.cores_guaranteed,
        "guaranteed_memory_bytes": rules.memory_bytes_guaranteed,
        "cores_used": row.cores_used,
        "memory_used_bytes": row.memory_used_bytes,
        "running": row.running,
        "submitted": row.submitted,
    })
}

// === impl Rules ===

impl Rules {
    fn change(&self) -> TenantChange {
        TenantChange {
            weight: self.weight,
            policy: self.policy.map(Into::into),
            cores_max: self.max_cores.map(|limit| limit.0),
            memory_bytes_max: self.max_memory.map(|limit| limit.0),
            running_max: self.max_running.map(|limit| limit.0),
            submitted_max: self.max_submitted.map(|limit| limit.0),
            cores_guaranteed: self.guaranteed_cores,
            memory_bytes_guaranteed: self.guaranteed_memory,
        }
    }
}

// === impl Policy ===

impl From<Policy> for TenantPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Fair => Self::Fair,
            Policy::Fifo => Self::Fifo,
        }
    }
}
