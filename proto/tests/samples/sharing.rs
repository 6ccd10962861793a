//! Messages about how the cluster is shared.

use super::{Sample, samples, variants};
use offshoot_proto::cluster::{AppState, FromClient, ToClient};
use offshoot_proto::explain::{
    Explanation, MissingExecutors, PendingTasks, StageWait, StageWaits, TaskWait,
};
use offshoot_proto::id::{AppId, ExecutorId, ExecutorNumber, JobId, NodeId, StageRunId, WorkerId};
use offshoot_proto::scheduling::PoolName;
use offshoot_proto::tenant::{TenantChange, TenantOrder, TenantPolicy, TenantRow, TenantRules};
use offshoot_proto::waiting::{Quota, Share, WaitReason};

variants!(TaskWait: Parents, NoExecutors, Retiring, SlotsBusy, Locality, Excluded);
variants!(TenantOrder: Add, Set, Remove, List);
variants!(TenantPolicy: Fair, Fifo);
variants!(Quota: Cores, Memory, Running);

/// Samples of what is part of messages only.
pub fn all() -> Vec<Sample> {
    let mut all = samples("TaskWait", &task_waits());
    all.extend(samples("TenantOrder", &orders()));
    all.extend(samples("TenantPolicy", &[TenantPolicy::Fair, TenantPolicy::Fifo]));
    all.extend(samples("Quota", &quotas()));
    all
}

/// Of drivers and tools.
pub fn from_client() -> Vec<FromClient> {
    let mut messages = vec![
        FromClient::Target { executors: 8 },
        FromClient::Release { executors: vec![executor(1), executor(2)] },
        FromClient::Explained { query: 5, stages: stages() },
        FromClient::Explain(AppId(7)),
        FromClient::Drain { worker: worker(), within_millis: 30_000 },
        FromClient::Drained { worker: worker() },
    ];
    messages.extend(orders().into_iter().map(FromClient::Tenants));
    messages
}

/// To drivers and tools.
pub fn to_client() -> Vec<ToClient> {
    let reason = WaitReason::NoWorkers;
    let explanation = Explanation {
        app: AppId(7),
        name: "wordcount".into(),
        tenant: "ada".into(),
        state: AppState::Running,
        running: 1,
        launching: 0,
        wanted: Some(3),
        missing: Some(MissingExecutors { executors: Some(2), reason }),
        stages: Some(stages()),
    };
    let row = TenantRow {
        name: "ada".into(),
        rules: rules(),
        cores_used: 4,
        memory_used_bytes: 4 << 30,
        running: 1,
        submitted: 2,
    };
    vec![
        ToClient::GiveBack { executors: vec![executor(1)] },
        ToClient::Draining { worker: worker(), left_millis: 20_000 },
        ToClient::Explain { query: 5 },
        ToClient::Explanation(Box::new(explanation)),
        ToClient::Tenants(vec![row]),
        ToClient::TenantAdded { credential: vec![1, 2] },
        ToClient::Done,
    ]
}

/// Why applications of a tenant wait.
pub fn wait_reasons() -> Vec<WaitReason> {
    let mut reasons: Vec<_> = quotas().into_iter().map(WaitReason::Quota).collect();
    reasons.push(WaitReason::Share(Share { held_cores: 2, owed: 1 }));
    reasons.push(WaitReason::Unready);
    reasons
}

fn quotas() -> Vec<Quota> {
    vec![
        Quota::Cores { used: 8, max: 8 },
        Quota::Memory { used_bytes: 8 << 30, max_bytes: 8 << 30 },
        Quota::Running { max: 2 },
    ]
}

fn rules() -> TenantRules {
    TenantRules {
        weight: 3,
        policy: TenantPolicy::Fifo,
        cores_max: Some(8),
        memory_bytes_max: None,
        running_max: Some(2),
        submitted_max: None,
        cores_guaranteed: 1,
        memory_bytes_guaranteed: 1 << 30,
    }
}

fn orders() -> Vec<TenantOrder> {
    let name = || "ada".to_owned();
    let rules = TenantChange {
        weight: Some(3),
        cores_max: Some(Some(8)),
        memory_bytes_max: Some(None),
        ..TenantChange::default()
    };
    vec![
        TenantOrder::Add { name: name(), rules: TenantChange::default() },
        TenantOrder::Set { name: name(), rules },
        TenantOrder::Remove { name: name() },
        TenantOrder::List,
    ]
}

fn stages() -> StageWaits {
    let pending = task_waits().into_iter().map(|reason| PendingTasks { tasks: 3, reason });
    let stage = StageWait {
        job: JobId(1),
        stage: Some(StageRunId(4)),
        node: NodeId(6),
        name: "map".into(),
        source: "job.rs:3".into(),
        pool: PoolName::default(),
        running: 2,
        pending: pending.collect(),
    };
    StageWaits { stages: vec![stage], more: 1 }
}

fn task_waits() -> Vec<TaskWait> {
    vec![
        TaskWait::Parents { nodes: vec![NodeId(3)], count: 2 },
        TaskWait::NoExecutors,
        TaskWait::Retiring,
        TaskWait::SlotsBusy { slots: 8 },
        TaskWait::Locality { near: vec![executor(1)], left_millis: 80 },
        TaskWait::Excluded { executors: vec![executor(1)] },
    ]
}

fn executor(number: u32) -> ExecutorId {
    ExecutorId { app: AppId(7), number: ExecutorNumber(number) }
}

fn worker() -> WorkerId {
    WorkerId("w1".into())
}
