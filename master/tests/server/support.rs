//! A master in a directory of its own, and peers to talk to it.

use offshoot_master::cluster::{ADMIN, Leases};
use offshoot_master::placement::Policy;
use offshoot_master::ports::{Ports, SystemClock};
use offshoot_master::server::{Config, Master, serve};
use offshoot_master::state::State;
use offshoot_net::{
    Accepts, Connection, Credential, Endpoint, FrameStream, JoinToken, NewKey, Role, RoleKind,
    UdpNetwork, Validity,
};
use offshoot_proto::cluster::{
    AppSpec, FromClient, FromWorker, LaunchExecutor, ResourceRequest, ToClient, ToWorker,
    WorkerInfo,
};
use offshoot_proto::grants::Grants;
use offshoot_proto::hello::Purpose;
use offshoot_proto::id::{AppId, ModuleHash, WorkerId};
use offshoot_proto::settings::Settings;
use offshoot_proto::tenant::{TenantChange, TenantOrder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::time::timeout;

/// A test that waits for longer than this waits for ever.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const GIB: u64 = 1 << 30;

pub(crate) struct TestMaster {
    pub(crate) directory: TempDir,
    pub(crate) master: Master,
}

/// A peer with an endpoint of its own.
pub(crate) struct Peer {
    pub(crate) endpoint: Endpoint,
    master: SocketAddr,
}

/// A control connection.
pub(crate) struct Control {
    pub(crate) stream: FrameStream,
    pub(crate) connection: Connection,
}

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub(crate) async fn start_in(directory: TempDir, leases: Leases) -> TestMaster {
    let state = State::open(directory.path(), &SystemClock).unwrap();
    let listen = loopback();
    let master =
        serve(state, Config { listen, leases, policy: Policy::default() }, Ports::system())
            .await
            .unwrap();
    TestMaster { directory, master }
}

// === impl TestMaster ===

impl TestMaster {
    pub(crate) async fn start() -> Self {
        start_in(tempfile::tempdir().unwrap(), Leases::default()).await
    }

    /// Stops the master and starts one in the same directory.
    pub(crate) async fn restart(self) -> Self {
        self.master.shutdown().await;
        start_in(self.directory, Leases::default()).await
    }

    pub(crate) fn credential(&self, role: Role) -> Credential {
        let validity = Validity::of_node(SystemTime::now());
        self.master.authority().mint(&role, validity).unwrap()
    }

    pub(crate) fn token(&self) -> JoinToken {
        let lifetime = Duration::from_secs(60);
        let authority = self.master.authority();
        JoinToken::mint(authority, RoleKind::Worker, SystemTime::now(), lifetime).unwrap()
    }

    pub(crate) async fn peer(&self, role: Role) -> Peer {
        Peer::bind(self, self.credential(role)).await
    }

    /// A tenant, which the admin adds unless there is one of this name.
    pub(crate) async fn tenant(&self, name: &str) -> Peer {
        if name != ADMIN {
            let (rules, name) = (TenantChange::default(), name.to_owned());
            self.order(TenantOrder::Add { name, rules }).await;
        }
        self.peer(Role::Tenant(name.to_owned())).await
    }

    /// An order of the admin, and the answer.
    pub(crate) async fn order(&self, order: TenantOrder) -> ToClient {
        let mut admin = self.peer(Role::Tenant(ADMIN.to_owned())).await.control().await;
        admin.send(&FromClient::Tenants(order)).await;
        admin.recv::<ToClient>().await
    }

    /// A worker with 4 cores that has registered.
    pub(crate) async fn worker(&self, id: &str) -> (Peer, Control) {
        let peer = self.peer(Role::Worker(worker_id(id))).await;
        let mut control = peer.control().await;
        control.send(&FromWorker::Register(worker_info(id))).await;
        assert!(matches!(control.recv::<ToWorker>().await, ToWorker::Registered { .. }));
        (peer, control)
    }
}

// === impl Peer ===

impl Peer {
    pub(crate) async fn bind(master: &TestMaster, credential: Credential) -> Self {
        let endpoint = Endpoint::bind(&UdpNetwork, loopback(), credential, Accepts::Nothing);
        Self { endpoint: endpoint.await.unwrap(), master: master.master.local_address() }
    }

    pub(crate) async fn connect(&self, purpose: Purpose) -> Connection {
        let connected = self.endpoint.connect(self.master, RoleKind::Master, purpose);
        connected.await.unwrap()
    }

    pub(crate) async fn refusal(&self, purpose: Purpose) -> String {
        let connected = self.endpoint.connect(self.master, RoleKind::Master, purpose);
        connected.await.unwrap_err().to_string()
    }

    pub(crate) async fn control(&self) -> Control {
        let mut connection = self.connect(Purpose::Control).await;
        let stream = connection.take_control().unwrap();
        Control { stream, connection }
    }
}

// === impl Control ===

impl Control {
    pub(crate) async fn send<T: Serialize>(&mut self, message: &T) {
        self.stream.sender.send(message).await.unwrap();
    }

    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        let message = timeout(PATIENCE, self.stream.receiver.recv());
        message.await.expect("the master has something to say").unwrap()
    }

    pub(crate) async fn recv<T: DeserializeOwned>(&mut self) -> T {
        self.next().await.expect("the master goes on talking")
    }

    pub(crate) async fn ask(&mut self, message: FromClient) -> ToClient {
        self.send(&message).await;
        self.recv().await
    }

    /// Registers an application, and says what it is and whether its module is wanted.
    pub(crate) async fn register(&mut self, key: u128, app: AppSpec) -> (AppId, bool) {
        let driver = NewKey::generate().unwrap();
        let signing_request = driver.signing_request().unwrap();
        match self.ask(register(key, app, signing_request)).await {
            ToClient::Registered { app, wants_module, .. } => (app, wants_module),
            other => panic!("{other:?}"),
        }
    }

    /// The next order to launch.
    pub(crate) async fn launch(&mut self) -> LaunchExecutor {
        match self.recv().await {
            ToWorker::Launch(order) => *order,
            other => panic!("{other:?}"),
        }
    }

    /// What the master refuses with, after which it says nothing more.
    pub(crate) async fn refused(&mut self) -> String {
        let reason = match self.recv().await {
            ToClient::Refused { reason } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(self.next::<ToClient>().await, None);
        reason
    }
}

pub(crate) fn worker_id(id: &str) -> WorkerId {
    WorkerId(id.to_owned())
}

/// A worker that listens on every interface.
pub(crate) fn worker_info(id: &str) -> WorkerInfo {
    WorkerInfo {
        id: worker_id(id),
        address: (Ipv4Addr::UNSPECIFIED, 7000).into(),
        cores: 4,
        memory_bytes: 4 * GIB,
        executors: Vec::new(),
    }
}

pub(crate) fn hash_of(module: &[u8]) -> ModuleHash {
    ModuleHash(*blake3::hash(module).as_bytes())
}

pub(crate) fn app(module: &[u8]) -> AppSpec {
    AppSpec {
        name: "word-count".to_owned(),
        module: hash_of(module),
        arguments: vec!["word-count".to_owned()],
        grants: Grants::default(),
        settings: Settings::default(),
        request: ResourceRequest {
            executor_cores: None,
            executor_memory_bytes: GIB,
            total_cores: None,
            executors_max: None,
            executors_wanted: None,
        },
        store: Default::default(),
    }
}

pub(crate) fn register(key: u128, app: AppSpec, signing_request: Vec<u8>) -> FromClient {
    FromClient::Register { idempotency_key: key, app: Box::new(app), signing_request }
}
