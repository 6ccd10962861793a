//! What a worker or an application may claim, and the sentence that refuses the rest.

use crate::placement::Policy;
use offshoot_proto::cluster::{AppSpec, ResourceRequest, WorkerInfo};
use offshoot_proto::grants::Grants;
use offshoot_proto::id::WorkerId;
use offshoot_proto::limits::{ARGUMENTS_BYTES_MAX, PARTITIONS_MAX};
use offshoot_proto::settings::{Settings, TASK_DISK_BYTES, format_size};
use offshoot_proto::tenant::TenantRules;
use std::time::Duration;

/// Silence after which a worker is lost, unless set otherwise; it beats each second.
pub const WORKER_LEASE: Duration = Duration::from_secs(8);

/// Silence after which a driver is lost, unless set otherwise; it beats twice a second.
pub const DRIVER_LEASE: Duration = Duration::from_secs(4);

/// Cores of one worker or of one executor: more than any machine has, so that sums fit 32 bits.
pub const CORES_MAX: u32 = 4096;

/// Memory below which no executor starts: its own 20 MiB and one small fork.
pub const MEMORY_BYTES_MIN: u64 = 64 << 20;

/// Memory of one worker: more than any machine has, so that sums fit 64 bits.
pub const MEMORY_BYTES_MAX: u64 = 1 << 50;

/// Cores of one application: those of 10,000 of the largest workers.
pub const TOTAL_CORES_MAX: u32 = CORES_MAX * 10_000;

/// Executors of one application: as many as it may have cores.
pub const EXECUTORS_MAX: u32 = TOTAL_CORES_MAX;

/// Bytes of an application's name; it is a column of a table.
pub const APP_NAME_BYTES_MAX: usize = 256;

/// Paths that one application may be granted.
pub const GRANTS_MAX: usize = 256;

/// Bytes of all granted paths; with arguments and environment they fit a launch order.
pub const GRANTS_BYTES_MAX: usize = 256 << 10;

/// Applications that may be alive at once; every change of the cluster looks at each of them.
pub const APPS_LIVE_MAX: usize = 1000;

/// Tenants of a cluster.
pub const TENANTS_MAX: usize = 1000;

/// Bytes of a tenant's name; it is a column of a table and the name of a file.
pub const TENANT_NAME_BYTES_MAX: usize = 64;

/// The weight of a tenant at most.
pub const WEIGHT_MAX: u32 = 1000;

/// Ended applications that `offshoot apps` still shows.
pub const APPS_ENDED_KEPT: usize = 200;

/// Lost workers that `offshoot workers` still shows.
pub const WORKERS_LOST_KEPT: usize = 200;

/// How long an application waits for others before it is told who they are. A job in a shell is
/// often shorter than this.
pub const BUSY_AFTER: Duration = Duration::from_secs(2);

/// How long an application that was told of others waits to hear that they are others now.
pub const BUSY_AGAIN: Duration = Duration::from_secs(30);

/// Applications that a waiting one is told of by name: they fit a line.
pub const HOLDERS_MAX: usize = 3;

/// How long after its start a restarted master calls nothing impossible: a worker takes 8 s to
/// notice that the old one is gone, and dials every 4 s then.
pub const RECOVERY: Duration = Duration::from_secs(15);

/// Executors of one application that may fail, one after the other, before they listen. Spark's
/// `spark.deploy.maxExecutorRetries`.
pub const LAUNCH_FAILURES_MAX: u32 = 10;

/// A claim that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not a name of a tenant.
    #[error(
        "tenant {name}: a name starts with a small letter or a digit and holds no more than those, \
         -, _ and ."
    )]
    TenantName {
        /// The name.
        name: String,
    },
    /// A number is out of its range.
    #[error("{field} is {value}; it must be from {min} to {max}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its value, with its unit.
        value: String,
        /// The least value.
        min: String,
        /// The greatest value.
        max: String,
    },
    /// A text or a list is too long.
    #[error("{field} takes {value} {unit}; the limit is {limit}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// How long it is.
        value: usize,
        /// What is counted.
        unit: &'static str,
        /// How long it may be.
        limit: usize,
    },
    /// A worker names itself otherwise than its certificate does.
    #[error("worker id is {claimed:?}, but the certificate is for {certified}")]
    WrongIdentity {
        /// What it said.
        claimed: String,
        /// What its certificate says.
        certified: WorkerId,
    },
    /// One field is over another that bounds it.
    #[error("{field} {value} is more than {other} {other_value}: {advice}")]
    Exceeds {
        /// One field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The field that bounds it.
        other: &'static str,
        /// Its value.
        other_value: String,
        /// What to do.
        advice: &'static str,
    },
    /// An address that nobody can dial.
    #[error("{field} is {value}; it must name a port that others can dial")]
    NoPort {
        /// The field.
        field: &'static str,
        /// The address.
        value: String,
    },
}

/// Whether a worker may register with what it claims.
pub fn validate_worker(identity: &WorkerId, info: &WorkerInfo) -> Result<(), RequestError> {
    if info.id != *identity {
        return Err(RequestError::WrongIdentity {
            claimed: info.id.0.chars().take(64).collect(),
            certified: identity.clone(),
        });
    }
    cores("cores", info.cores, CORES_MAX)?;
    memory("memory", info.memory_bytes)?;
    if info.address.port() == 0 {
        return Err(RequestError::NoPort { field: "address", value: info.address.to_string() });
    }
    let count = info.executors.len();
    at_most("executors", count, CORES_MAX as usize, "entries")?;
    let held = &info.executors;
    for executor in held {
        cores("cores of a held executor", executor.cores, CORES_MAX)?;
        memory("memory of a held executor", executor.memory_bytes)?;
    }
    let held_cores: u32 = held.iter().map(|executor| executor.cores).sum();
    let held_bytes: u64 = held.iter().map(|executor| executor.memory_bytes).sum();
    if held_cores > info.cores {
        let values = (held_cores.to_string(), info.cores.to_string());
        return Err(over("cores of held executors", "cores", values, STOP_EXECUTORS));
    }
    if held_bytes > info.memory_bytes {
        let values = (format_size(held_bytes), format_size(info.memory_bytes));
        return Err(over("memory of held executors", "memory", values, STOP_EXECUTORS));
    }
    Ok(())
}

/// Whether an application may be registered, whatever workers the cluster has.
pub fn validate_app(app: &AppSpec, policy: &Policy) -> Result<(), RequestError> {
    let name = app.name.len();
    at_most("name of the application", name, APP_NAME_BYTES_MAX, "bytes")?;
    if app.name.trim().is_empty() {
        return Err(RequestError::OutOfRange {
            field: "length of the application's name",
            value: name.to_string(),
            min: "1".to_owned(),
            max: APP_NAME_BYTES_MAX.to_string(),
        });
    }
    let arguments: usize = app.arguments.iter().map(|text| text.len() + 1).sum();
    let environment = app.grants.environment.iter();
    let environment: usize = environment.map(|(k, v)| k.len() + v.len() + 2).sum();
    let texts = arguments + environment;
    at_most("arguments and environment", texts, ARGUMENTS_BYTES_MAX, "bytes")?;
    validate_grants(&app.grants)?;
    validate_settings(&app.settings)?;
    let request = &app.request;
    memory("executor-memory", request.executor_memory_bytes)?;
    if let Some(value) = request.executor_cores {
        cores("executor-cores", value, CORES_MAX)?;
    }
    if let Some(value) = request.total_cores {
        cores("total-executor-cores", value, TOTAL_CORES_MAX)?;
    }
    if let Some(value) = request.executors_max {
        cores("num-executors", value, EXECUTORS_MAX)?;
    }
    validate_total(request, policy)
}

/// Whether the application's total holds an executor at all.
fn validate_total(request: &ResourceRequest, policy: &Policy) -> Result<(), RequestError> {
    let (total, name, advice) = match request.total_cores {
        Some(total) => (Some(total), "total-executor-cores", "raise the total"),
        None => (policy.default_cores, "the master's default-cores", NAME_TOTAL),
    };
    match (request.executor_cores, total) {
        (Some(one), Some(total)) if one > total => {
            Err(over("executor-cores", name, (one.to_string(), total.to_string()), advice))
        }
        _ => Ok(()),
    }
}

const NAME_TOTAL: &str = "name total-executor-cores, or lower executor-cores";

/// Whether a tenant may have this name.
pub fn validate_tenant(name: &str) -> Result<(), RequestError> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    at_most("name of the tenant", name.len(), TENANT_NAME_BYTES_MAX, "bytes")?;
    if starts && name.chars().all(fits) {
        return Ok(());
    }
    Err(RequestError::TenantName { name: name.escape_debug().to_string() })
}

/// Whether a tenant can be served by these rules.
pub fn validate_rules(rules: &TenantRules) -> Result<(), RequestError> {
    let text = |number: u64| number.to_string();
    in_range("weight", rules.weight.into(), 1, WEIGHT_MAX.into(), text)?;
    if let Some(value) = rules.cores_max {
        in_range("max-cores", value.into(), 0, TOTAL_CORES_MAX.into(), text)?;
    }
    let advice = "lower the guarantee, or raise the quota";
    if let Some(max) = rules.cores_max.filter(|max| *max < rules.cores_guaranteed) {
        let values = (rules.cores_guaranteed.to_string(), max.to_string());
        return Err(over("guaranteed-cores", "max-cores", values, advice));
    }
    let memory = rules.memory_bytes_guaranteed;
    if let Some(max) = rules.memory_bytes_max.filter(|max| *max < memory) {
        let values = (format_size(memory), format_size(max));
        return Err(over("guaranteed-memory", "max-memory", values, advice));
    }
    Ok(())
}

const STOP_EXECUTORS: &str = "stop executors first";

fn validate_grants(grants: &Grants) -> Result<(), RequestError> {
    let paths = || grants.read.iter().chain(&grants.write);
    let bytes: usize = paths().map(|path| path.guest.len() + path.host.len()).sum();
    at_most("granted paths", paths().count(), GRANTS_MAX, "entries")?;
    at_most("granted paths", bytes, GRANTS_BYTES_MAX, "bytes")
}

/// The ranges that [`Settings::set`] keeps, for clients that did not use it.
fn validate_settings(settings: &Settings) -> Result<(), RequestError> {
    let disk = (*TASK_DISK_BYTES.start(), *TASK_DISK_BYTES.end());
    let numbers = [
        ("task-memory", settings.task_memory_bytes, 1 << 20, 4 << 30),
        ("task-cores", u64::from(settings.task_cores), 1, u64::from(CORES_MAX)),
        ("task-max-failures", u64::from(settings.task_max_failures), 1, 1000),
        ("max-result-size", settings.max_result_bytes, 1, 1 << 40),
        (
            "shuffle-partitions",
            u64::from(settings.shuffle_partitions),
            0,
            u64::from(PARTITIONS_MAX),
        ),
        ("task-disk-max", settings.task_disk_bytes_max, disk.0, disk.1),
        ("app-disk-max", settings.app_disk_bytes_max, disk.0, disk.1),
    ];
    numbers.into_iter().try_for_each(|(field, value, min, max)| {
        in_range(field, value, min, max, |number| number.to_string())
    })
}

fn cores(field: &'static str, value: u32, max: u32) -> Result<(), RequestError> {
    let text = |number: u64| number.to_string();
    in_range(field, u64::from(value), 1, u64::from(max), text)
}

fn memory(field: &'static str, bytes: u64) -> Result<(), RequestError> {
    in_range(field, bytes, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX, format_size)
}

fn in_range(
    field: &'static str,
    value: u64,
    min: u64,
    max: u64,
    text: impl Fn(u64) -> String,
) -> Result<(), RequestError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(RequestError::OutOfRange { field, value: text(value), min: text(min), max: text(max) })
}

fn at_most(
    field: &'static str,
    value: usize,
    limit: usize,
    unit: &'static str,
) -> Result<(), RequestError> {
    if value <= limit {
        return Ok(());
    }
    Err(RequestError::TooLong { field, value, unit, limit })
}

fn over(
    field: &'static str,
    other: &'static str,
    values: (String, String),
    advice: &'static str,
) -> RequestError {
    RequestError::Exceeds { field, value: values.0, other, other_value: values.1, advice }
}
