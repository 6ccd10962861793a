//! `offshoot explain`: why an application has no more executors, and why its tasks wait.

use crate::client::{self, ClusterArguments};
use crate::failure::Failure;
use clap::Args;
use offshoot_proto::cluster::{FromClient, ToClient};
use offshoot_proto::explain::{Explanation, PendingTasks, StageWait, TaskWait};
use offshoot_proto::id::{AppId, ExecutorId};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::process::ExitCode;

/// Flags of `offshoot explain`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The application, as `offshoot apps` lists it.
    #[arg(value_name = "APP")]
    app: AppId,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Print an object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let answer = client::ask(&arguments.cluster, &FromClient::Explain(arguments.app))?;
    let ToClient::Explanation(explanation) = answer else {
        return Err(Failure::cluster("the master gave another answer"));
    };
    let text = if arguments.json {
        format!("{:#}\n", as_json(&explanation))
    } else {
        format!("{explanation}\n")
    };
    // Whoever reads it may have seen enough.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn as_json(explanation: &Explanation) -> Value {
    let missing = explanation.missing.as_ref().map(|missing| {
        json!({
            "executors": missing.executors,
            "reason": missing.reason.kind(),
            "text": missing.reason.to_string(),
        })
    });
    let stages = explanation.stages.as_ref();
    let more = stages.map(|stages| stages.more);
    let stages = stages.map(|waits| waits.stages.iter().map(stage).collect::<Vec<_>>());
    json!({
        "id": explanation.app.to_string(),
        "name": explanation.name,
        "tenant": explanation.tenant,
        "state": explanation.state,
        "executors_running": explanation.running,
        "executors_launching": explanation.launching,
        "executors_wanted": explanation.wanted,
        "missing": missing,
        "stages": stages,
        "stages_more": more,
    })
}

fn stage(stage: &StageWait) -> Value {
    json!({
        "job": stage.job.0,
        "stage": stage.stage.map(|stage| stage.0),
        "node": stage.node.0,
        "name": stage.name,
        "source": stage.source,
        "pool": stage.pool.as_str(),
        "running": stage.running,
        "pending": stage.pending.iter().map(pending).collect::<Vec<_>>(),
    })
}

fn pending(PendingTasks { tasks, reason }: &PendingTasks) -> Value {
    let ids = |ids: &[ExecutorId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut object = json!({
        "tasks": tasks,
        "reason": reason.kind(),
        "text": reason.to_string(),
    });
    let details = match reason {
        TaskWait::NoExecutors | TaskWait::Retiring => json!({}),
        TaskWait::Parents { nodes, count } => {
            let nodes: Vec<u32> = nodes.iter().map(|node| node.0).collect();
            json!({ "nodes": nodes, "nodes_total": count })
        }
        TaskWait::SlotsBusy { slots } => json!({ "slots": slots }),
        TaskWait::Locality { near, left_millis } => {
            json!({ "near": ids(near), "left_millis": left_millis })
        }
        TaskWait::Excluded { executors } => json!({ "executors": ids(executors) }),
    };
    if let (Some(object), Value::Object(details)) = (object.as_object_mut(), details) {
        object.extend(details);
    }
    object
}

#[cfg(test)]
mod tests;
