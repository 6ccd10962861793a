//! A cluster with a clock that tests move, and builders for what peers send.

use crate::cluster::{Action, Cluster, Event, Leases, Note, Order, Origin, SessionId, Tenants};
use crate::placement::Policy;
use offshoot_proto::cluster::{
    AppSpec, AppState, FromClient, FromWorker, HeldExecutor, ResourceRequest, ToClient, ToWorker,
    WorkerInfo,
};
use offshoot_proto::grants::Grants;
use offshoot_proto::id::{AppId, Epoch, ExecutorId, ExecutorNumber, ModuleHash, WorkerId};
use offshoot_proto::settings::Settings;
use offshoot_proto::tenant::TenantRules;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const MODULE: ModuleHash = ModuleHash([7; 32]);
pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const CSR: &[u8] = b"signing request";

pub(crate) struct Env {
    pub(crate) cluster: Cluster,
    pub(crate) now: Duration,
    /// What is written down of those that are to leave: by when.
    pub(crate) drains: BTreeMap<WorkerId, Duration>,
}

impl Env {
    /// A cluster that knows [`MODULE`] and has no worker.
    pub(crate) fn new() -> Self {
        Self {
            cluster: Cluster::new(
                origin(),
                Leases::default(),
                Policy::default(),
                [MODULE],
                tenants(),
            ),
            now: Duration::from_secs(100),
            drains: BTreeMap::new(),
        }
    }

    /// The master is killed, and started again on what it has written down after so long.
    pub(crate) fn restart(&mut self, after: Duration) {
        let now = self.now + after;
        let left = std::mem::take(&mut self.drains).into_iter();
        let left: Vec<_> = left.map(|(id, until)| (id, until.saturating_sub(now))).collect();
        self.drains = left.iter().cloned().collect();
        let epoch = Epoch(self.cluster.origin.epoch.0 + 1);
        let origin = Origin { epoch, first_app: self.cluster.next_app, ..origin() };
        let cluster =
            Cluster::new(origin, Leases::default(), Policy::default(), [MODULE], tenants());
        (self.cluster, self.now) = (cluster.with_drains(left), Duration::ZERO);
    }

    /// The same under an operator's policy.
    pub(crate) fn with_policy(policy: Policy) -> Self {
        let mut env = Self::new();
        env.cluster = Cluster::new(origin(), Leases::default(), policy, [MODULE], tenants());
        env
    }

    pub(crate) fn handle(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.cluster.handle(self.now, event, &mut out);
        self.save(out)
    }

    /// Writes down what is to be: what comes of it stands where it was said.
    pub(crate) fn save(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let mut out = Vec::new();
        for action in actions {
            let Action::SaveDrains { drains, order } = action else {
                out.push(action);
                continue;
            };
            let until = drains.into_iter().map(|(id, left)| (id, self.now + left));
            self.drains = until.collect();
            if let Some(order) = order {
                out.extend(self.handle(Event::DrainSaved(order)));
            }
        }
        out
    }

    pub(crate) fn worker_says(
        &mut self,
        session: u64,
        id: &str,
        message: FromWorker,
    ) -> Vec<Action> {
        self.handle(Event::FromWorker {
            session: SessionId(session),
            identity: worker_id(id),
            message,
        })
    }

    pub(crate) fn client_says(
        &mut self,
        session: u64,
        tenant: &str,
        message: FromClient,
    ) -> Vec<Action> {
        self.handle(Event::FromClient {
            session: SessionId(session),
            tenant: tenant.to_owned(),
            message,
        })
    }

    pub(crate) fn register_worker(&mut self, session: u64, info: WorkerInfo) -> Vec<Action> {
        let id = info.id.0.clone();
        self.worker_says(session, &id, FromWorker::Register(info))
    }

    pub(crate) fn register_app(&mut self, session: u64, key: u128, app: AppSpec) -> Vec<Action> {
        self.client_says(session, "ada", register(key, app))
    }

    pub(crate) fn ready(&mut self, session: u64, worker: &str, id: ExecutorId) -> Vec<Action> {
        let message = FromWorker::ExecutorReady { executor: id, address: executor_address(id) };
        self.worker_says(session, worker, message)
    }

    pub(crate) fn gone(&mut self, session: u64, worker: &str, id: ExecutorId) -> Vec<Action> {
        let message = FromWorker::ExecutorGone { executor: id, reason: "it ended".to_owned() };
        self.worker_says(session, worker, message)
    }

    pub(crate) fn closed(&mut self, session: u64) -> Vec<Action> {
        let session = SessionId(session);
        self.handle(Event::Closed { session })
    }

    /// Lets a tenant in.
    pub(crate) fn admit(&mut self, tenant: &str, rules: TenantRules) {
        self.cluster.shares.set_rules(tenant, rules);
    }

    /// Moves the clock from timeout to timeout until something comes of one. Returns how far.
    pub(crate) fn run_timeout(&mut self) -> (Duration, Vec<Action>) {
        let (from, mut out) = (self.now, Vec::new());
        while out.is_empty() {
            let due = self.cluster.next_timeout().expect("something is due");
            self.now = self.now.max(due);
            self.cluster.handle_timeout(self.now, &mut out);
            out = self.save(out);
        }
        (self.now - from, out)
    }
}

/// Ada, Bob and the admin.
pub(crate) fn tenants() -> Tenants {
    Tenants::new(["ada", "bob"].map(|name| (name.to_owned(), Default::default())), [])
}

pub(crate) fn origin() -> Origin {
    Origin { epoch: Epoch(3), first_app: AppId(10), unix_millis: 1_000_000 }
}

pub(crate) fn worker_id(id: &str) -> WorkerId {
    WorkerId(id.to_owned())
}

pub(crate) fn executor(app: u64, number: u32) -> ExecutorId {
    ExecutorId { app: AppId(app), number: ExecutorNumber(number) }
}

pub(crate) fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub(crate) fn executor_address(id: ExecutorId) -> SocketAddr {
    address(20_000 + id.number.0 as u16)
}

/// A worker with one GiB a core and no executors.
pub(crate) fn worker(id: &str, cores: u32) -> WorkerInfo {
    WorkerInfo {
        id: worker_id(id),
        address: address(7000),
        cores,
        memory_bytes: u64::from(cores) * GIB,
        executors: Vec::new(),
    }
}

pub(crate) fn holding(mut worker: WorkerInfo, held: &[(ExecutorId, u32)]) -> WorkerInfo {
    let held = held.iter().map(|(id, cores)| HeldExecutor {
        id: *id,
        cores: *cores,
        memory_bytes: GIB,
        address: Some(executor_address(*id)),
    });
    worker.executors = held.collect();
    worker
}

/// An application whose executors take one GiB.
pub(crate) fn app(executor_cores: Option<u32>, total_cores: Option<u32>) -> AppSpec {
    AppSpec {
        name: "word-count".to_owned(),
        module: MODULE,
        arguments: vec!["word-count".to_owned()],
        grants: Grants::default(),
        settings: Settings::default(),
        request: ResourceRequest {
            executor_cores,
            executor_memory_bytes: GIB,
            total_cores,
            executors_max: None,
            executors_wanted: None,
        },
        store: Default::default(),
    }
}

pub(crate) fn register(key: u128, app: AppSpec) -> FromClient {
    FromClient::Register { idempotency_key: key, app: Box::new(app), signing_request: CSR.to_vec() }
}

pub(crate) fn to_worker(session: u64, message: ToWorker) -> Action {
    Action::ToWorker { session: SessionId(session), message }
}

pub(crate) fn to_client(session: u64, message: ToClient) -> Action {
    Action::ToClient { session: SessionId(session), message }
}

pub(crate) fn close(session: u64) -> Action {
    Action::Close { session: SessionId(session) }
}

pub(crate) fn launch(session: u64, id: ExecutorId, cores: u32, app: &AppSpec) -> Action {
    Action::Launch {
        session: SessionId(session),
        order: Order { executor: id, cores, memory_bytes: GIB, app: Arc::new(app.clone()) },
    }
}

pub(crate) fn certify(session: u64, app: u64, wants_module: bool) -> Action {
    Action::Certify {
        session: SessionId(session),
        app: AppId(app),
        signing_request: CSR.to_vec(),
        wants_module,
    }
}

pub(crate) fn registered(session: u64) -> Action {
    to_worker(session, ToWorker::Registered { epoch: Epoch(3) })
}

pub(crate) fn worker_note(id: &str, cores: u32) -> Action {
    Action::Note(Note::WorkerRegistered {
        worker: worker_id(id),
        cores,
        memory_bytes: u64::from(cores) * GIB,
    })
}

pub(crate) fn app_note(app: u64) -> Action {
    Action::Note(Note::AppRegistered { app: AppId(app), tenant: "ada".to_owned() })
}

pub(crate) fn ended_note(app: u64, state: AppState) -> Action {
    let app = AppId(app);
    Action::Note(Note::AppEnded { app, state })
}

pub(crate) fn gone_message(session: u64, id: ExecutorId, reason: &str) -> Action {
    let reason = reason.to_owned();
    to_client(session, ToClient::ExecutorGone { executor: id, reason })
}
