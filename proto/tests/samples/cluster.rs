//! Messages of the master.

use super::{Sample, samples, sharing, variants};
use offshoot_proto::cluster::{
    AppRow, AppSpec, AppState, ExecutorInfo, ExecutorRow, ExecutorState, FromClient, FromWorker,
    HeldExecutor, LaunchExecutor, ModuleReply, ModuleRequest, ResourceRequest, ToClient, ToWorker,
    WorkerInfo, WorkerRow, WorkerState,
};
use offshoot_proto::grants::{Grants, PathGrant};
use offshoot_proto::id::{AppId, Epoch, ExecutorId, ExecutorNumber, ModuleHash, WorkerId};
use offshoot_proto::settings::Settings;
use offshoot_proto::store::StoreOptions;
use offshoot_proto::waiting::{Busy, Holder, Shortage, Size, TooLarge, WaitReason};
use std::net::SocketAddr;

variants!(FromWorker: Register, Heartbeat, ExecutorReady, ExecutorGone, Renew);
variants!(ToWorker: Registered, Heartbeat, Launch, Kill, Forget, Leave, Refused, Renewed);
variants!(
    FromClient: Register, Heartbeat, Finished, Target, Release, Explained, ListWorkers, ListApps,
    Explain, Tenants, Drain, Drained
);
variants!(
    ToClient: Registered, Refused, Heartbeat, ExecutorAdded, ExecutorGone, Waiting, GiveBack,
    Draining, Explain, Explanation, Tenants, TenantAdded, Done, Workers, Apps
);
variants!(
    WaitReason: NoWorkers, Recovering, TooLarge, Busy, OutOfReach, Quota, Share, Unready
);
variants!(WorkerState: Alive, Draining, Lost);
variants!(AppState: Waiting, Running, Finished, Failed, Lost);
variants!(ExecutorState: Launching, Running, Stopping);
variants!(ModuleRequest: Put, Get);
variants!(ModuleReply: Ok, Refused);

/// Samples of every message.
pub fn all() -> Vec<Sample> {
    let states = [WorkerState::Alive, WorkerState::Draining, WorkerState::Lost];
    let mut all = samples("FromWorker", &from_worker());
    all.extend(samples("ToWorker", &to_worker()));
    all.extend(samples("FromClient", &from_client()));
    all.extend(samples("ToClient", &to_client()));
    all.extend(samples("WaitReason", &wait_reasons()));
    all.extend(sharing::all());
    all.extend(samples("WorkerState", &states));
    all.extend(samples("AppState", &app_states()));
    all.extend(samples("ExecutorState", &executor_states()));
    all.extend(samples("ModuleRequest", &module_requests()));
    all.extend(samples("ModuleReply", &module_replies()));
    all
}

/// Of workers.
pub fn from_worker() -> Vec<FromWorker> {
    let held = |address| HeldExecutor { id: executor(), cores: 2, memory_bytes: 1 << 30, address };
    let info = WorkerInfo {
        id: worker(),
        address: address(),
        cores: 8,
        memory_bytes: 16 << 30,
        executors: vec![held(Some(address())), held(None)],
    };
    vec![
        FromWorker::Register(info),
        FromWorker::Heartbeat,
        FromWorker::ExecutorReady { executor: executor(), address: address() },
        FromWorker::ExecutorGone { executor: executor(), reason: "killed".into() },
        FromWorker::Renew { signing_request: vec![1, 2, 3] },
    ]
}

/// To workers.
pub fn to_worker() -> Vec<ToWorker> {
    let launch = LaunchExecutor {
        executor: executor(),
        cores: 2,
        memory_bytes: 1 << 30,
        app: app(),
        credential: vec![9, 8, 7],
    };
    vec![
        ToWorker::Registered { epoch: Epoch(3) },
        ToWorker::Heartbeat,
        ToWorker::Launch(Box::new(launch)),
        ToWorker::Kill(executor()),
        ToWorker::Forget(AppId(7)),
        ToWorker::Leave,
        ToWorker::Refused { reason: "no".into() },
        ToWorker::Renewed { certificate: vec![4, 5] },
    ]
}

/// Of drivers and tools.
pub fn from_client() -> Vec<FromClient> {
    let mut messages = sharing::from_client();
    messages.extend([
        FromClient::Register {
            idempotency_key: 1 << 100,
            app: Box::new(app()),
            signing_request: vec![1, 2, 3],
        },
        FromClient::Heartbeat,
        FromClient::Finished { succeeded: true },
        FromClient::Finished { succeeded: false },
        FromClient::ListWorkers,
        FromClient::ListApps,
    ]);
    messages
}

/// To drivers and tools.
pub fn to_client() -> Vec<ToClient> {
    let added = ExecutorInfo {
        id: executor(),
        address: address(),
        cores: 2,
        worker: worker(),
        worker_address: "[::1]:7002".parse().expect("an address"),
    };
    let mut messages = vec![
        ToClient::Registered { app: AppId(7), certificate: vec![4, 5], wants_module: true },
        ToClient::Refused { reason: "no".into() },
        ToClient::Heartbeat,
        ToClient::ExecutorAdded(added),
        ToClient::ExecutorGone { executor: executor(), reason: "killed".into() },
        ToClient::Workers(vec![worker_row()]),
        ToClient::Apps(vec![app_row()]),
    ];
    messages.extend(wait_reasons().into_iter().map(ToClient::Waiting));
    messages.extend(sharing::to_client());
    messages
}

fn worker_row() -> WorkerRow {
    WorkerRow {
        id: worker(),
        address: address(),
        state: WorkerState::Lost,
        cores: 8,
        cores_used: 2,
        memory_bytes: 16 << 30,
        memory_used_bytes: 1 << 30,
    }
}

fn app_row() -> AppRow {
    let executor =
        ExecutorRow { id: executor(), worker: worker(), cores: 2, state: ExecutorState::Running };
    AppRow {
        id: AppId(7),
        name: "wordcount".into(),
        tenant: "admin".into(),
        state: AppState::Running,
        submitted: 1_700_000_000_000,
        cores: 2,
        executors: vec![executor],
    }
}

fn wait_reasons() -> Vec<WaitReason> {
    let (asked, largest) = (size(10, 1), size(8, 16));
    let holder = |tenant: Option<&str>| Holder {
        app: AppId(6),
        tenant: tenant.map(Into::into),
        held: size(7, 3),
    };
    let busy = Busy {
        short: Shortage::Memory,
        asked,
        free: size(1, 2),
        holders: vec![holder(Some("ada")), holder(None)],
        others: 4,
    };
    let shortages = [Shortage::Cores, Shortage::Memory, Shortage::Both, Shortage::Together];
    let too_large = |short| WaitReason::TooLarge(TooLarge { short, asked, largest });
    let mut reasons = vec![
        WaitReason::NoWorkers,
        WaitReason::Recovering,
        WaitReason::Busy(busy),
        WaitReason::OutOfReach,
    ];
    reasons.extend(shortages.map(too_large));
    reasons.extend(sharing::wait_reasons());
    reasons
}

fn size(cores: u32, gib: u64) -> Size {
    Size { cores, memory_bytes: gib << 30 }
}

fn app_states() -> Vec<AppState> {
    vec![AppState::Waiting, AppState::Running, AppState::Finished, AppState::Failed, AppState::Lost]
}

fn executor_states() -> Vec<ExecutorState> {
    vec![ExecutorState::Launching, ExecutorState::Running, ExecutorState::Stopping]
}

fn module_requests() -> Vec<ModuleRequest> {
    vec![ModuleRequest::Put { hash: hash(), length: 1 << 20 }, ModuleRequest::Get { hash: hash() }]
}

fn module_replies() -> Vec<ModuleReply> {
    vec![ModuleReply::Ok { length: 1 << 20 }, ModuleReply::Refused { reason: "no".into() }]
}

fn app() -> AppSpec {
    let path = |path: &str| PathGrant { guest: path.into(), host: format!("/data/{path}") };
    AppSpec {
        name: "wordcount".into(),
        module: hash(),
        arguments: vec!["wordcount.wasm".into(), "in".into()],
        grants: Grants {
            read: vec![path("in")],
            write: vec![path("out")],
            environment: vec![("LANG".into(), "C".into())],
        },
        settings: Settings::default(),
        request: ResourceRequest {
            executor_cores: Some(2),
            executor_memory_bytes: 1 << 30,
            total_cores: None,
            executors_max: Some(3),
            executors_wanted: Some(2),
        },
        store: StoreOptions {
            access_key_id: Some("id".into()),
            secret_access_key: Some("secret".into()),
            session_token: None,
            region: Some("eu-1".into()),
            endpoint: Some("http://store:9000".into()),
        },
    }
}

fn hash() -> ModuleHash {
    ModuleHash(std::array::from_fn(|i| i as u8))
}

fn executor() -> ExecutorId {
    ExecutorId { app: AppId(7), number: ExecutorNumber(1) }
}

fn worker() -> WorkerId {
    WorkerId("w1".into())
}

fn address() -> SocketAddr {
    "10.1.2.3:7001".parse().expect("an address")
}
