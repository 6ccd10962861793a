//! A scripted master, executors without processes, modules that are never compiled.

use crate::launch::test_support::{artifact, executor, order};
use crate::launch::{ExecutorStart, Launch, Launched};
use crate::worker::modules::PrepareModule;
use crate::worker::{Clock, Ports, Timing, Worker, WorkerConfig, serve};
use offshoot_net::{
    Accepts, Arrival, Authority, ClusterName, Connection, Credential, Endpoint, FrameStream, Role,
    UdpNetwork, Validity,
};
use offshoot_proto::cluster::{
    FromWorker, LaunchExecutor, ModuleReply, ModuleRequest, ToWorker, WorkerInfo,
};
use offshoot_proto::hello::Purpose;
use offshoot_proto::id::{Epoch, ExecutorId, ModuleHash, WorkerId};
use offshoot_sandbox::compile::{Artifact, CompileError};
use offshoot_sandbox::slots::PortFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Long enough for anything that should happen at all.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap()
}

pub(super) fn hash_of(bytes: &[u8]) -> ModuleHash {
    ModuleHash(*blake3::hash(bytes).as_bytes())
}

/// An order for an executor of the module `wasm`.
pub(super) fn order_of(id: ExecutorId, wasm: &[u8]) -> LaunchExecutor {
    let mut order = order(id, 0);
    order.app.module = hash_of(wasm);
    order
}

/// What a master does when the test says so. Modules it serves by itself.
pub(super) struct TestMaster {
    pub(super) authority: Authority,
    pub(super) modules: Arc<Mutex<BTreeMap<ModuleHash, Vec<u8>>>>,
    pub(super) directory: TempDir,
    address: SocketAddr,
    controls: mpsc::UnboundedReceiver<Connection>,
}

/// The master's end of a control connection.
pub(super) struct Control {
    _connection: Connection,
    stream: FrameStream,
}

/// What the executors of a test do.
pub(super) struct Stage {
    pub(super) worker: Worker,
    pub(super) executors: mpsc::UnboundedReceiver<Actor>,
    pub(super) clock: Arc<TestClock>,
}

/// An executor as the test plays it.
pub(super) struct Actor {
    pub(super) start: ExecutorStart,
    pub(super) ready: oneshot::Sender<Result<SocketAddr, String>>,
    pub(super) end: oneshot::Sender<String>,
    pub(super) told: mpsc::UnboundedReceiver<&'static str>,
}

#[derive(Debug)]
pub(super) struct TestClock(pub(super) Mutex<SystemTime>);

struct TestLaunch(mpsc::UnboundedSender<Actor>);

struct Puppet {
    ready: oneshot::Receiver<Result<SocketAddr, String>>,
    end: oneshot::Receiver<String>,
    how: Option<String>,
    told: mpsc::UnboundedSender<&'static str>,
}

#[derive(Default)]
struct TestModules(Mutex<BTreeSet<ModuleHash>>);

fn any() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

// === impl TestMaster ===

impl TestMaster {
    pub(super) async fn start() -> Self {
        let authority = Authority::generate(ClusterName::random(), SystemTime::now()).unwrap();
        let validity = Validity::of_node(SystemTime::now());
        let credential = authority.mint(&Role::Master, validity).unwrap();
        let bound = Endpoint::bind(&UdpNetwork, any(), credential, Accepts::Members);
        let endpoint = bound.await.unwrap();
        let address = endpoint.local_address().unwrap();
        let (sender, controls) = mpsc::unbounded_channel();
        let modules = Arc::new(Mutex::new(BTreeMap::new()));
        tokio::spawn(accept(endpoint, sender, modules.clone()));
        Self { authority, modules, directory: tempfile::tempdir().unwrap(), address, controls }
    }

    pub(super) fn credential(&self, role: &Role) -> Credential {
        let validity = Validity::of_node(SystemTime::now());
        self.authority.mint(role, validity).unwrap()
    }

    pub(super) fn add_module(&self, wasm: &[u8]) {
        let mut modules = self.modules.lock().unwrap();
        modules.insert(hash_of(wasm), wasm.to_vec());
    }

    pub(super) fn config(&self) -> WorkerConfig {
        let role = Role::Worker(WorkerId("w1".to_owned()));
        let timing = Timing { pause_min: Duration::from_millis(10), ..Timing::default() };
        WorkerConfig {
            master: self.address,
            credential: self.credential(&role),
            credential_file: None,
            listen: any(),
            advertise: None,
            cores: 4,
            memory_bytes: 1 << 30,
            directory: self.directory.path().join("work"),
            executor_ports: Some((4001, 4010)),
            timing,
        }
    }

    /// The directory of an application at the worker.
    pub(super) fn app_directory(&self, app: u64) -> std::path::PathBuf {
        let apps = self.directory.path().join("work/apps");
        apps.canonicalize().unwrap().join(format!("app-{app}"))
    }

    /// The next connection of the worker.
    pub(super) async fn control(&mut self) -> Control {
        let mut connection = soon(self.controls.recv()).await.unwrap();
        let stream = connection.take_control().unwrap();
        Control { _connection: connection, stream }
    }

    /// The next connection of the worker, registered; and what it registered.
    pub(super) async fn registered(&mut self) -> (Control, WorkerInfo) {
        let mut control = self.control().await;
        let FromWorker::Register(info) = control.hear().await else {
            panic!("the first frame registers")
        };
        control.say(&ToWorker::Registered { epoch: Epoch(1) }).await;
        (control, info)
    }

    /// A worker that is registered, and has executor `app-1/0` launched but not listening.
    pub(super) async fn launched(&mut self) -> (Stage, Control, Actor) {
        self.add_module(b"module");
        let mut stage = Stage::start(self.config()).await;
        let (mut control, _) = self.registered().await;
        control.launch(order_of(executor(1, 0), b"module")).await;
        let actor = soon(stage.executors.recv()).await.unwrap();
        (stage, control, actor)
    }
}

async fn accept(
    endpoint: Endpoint,
    controls: mpsc::UnboundedSender<Connection>,
    modules: Arc<Mutex<BTreeMap<ModuleHash, Vec<u8>>>>,
) {
    while let Some(Arrival::Member(incoming)) = endpoint.accept().await {
        let (controls, modules) = (controls.clone(), modules.clone());
        tokio::spawn(async move {
            let Ok(connection) = incoming.handshake(|_, _| Ok(())).await else {
                return;
            };
            match connection.purpose() {
                Purpose::Control => drop(controls.send(connection)),
                Purpose::Data => serve_modules(connection, &modules).await,
            }
        });
    }
}

async fn serve_modules(connection: Connection, modules: &Mutex<BTreeMap<ModuleHash, Vec<u8>>>) {
    while let Ok(mut stream) = connection.accept().await {
        let request = stream.receiver.recv::<ModuleRequest>().await.unwrap();
        let Some(ModuleRequest::Get { hash }) = request else { panic!("{request:?}") };
        let wasm = modules.lock().unwrap().get(&hash).cloned();
        let reply = match &wasm {
            Some(wasm) => ModuleReply::Ok { length: wasm.len() as u64 },
            None => ModuleReply::Refused { reason: "upload it first".to_owned() },
        };
        // The worker may leave as soon as it knows enough.
        let _ = stream.sender.send(&reply).await;
        let _ = stream.sender.send_chunk(wasm.unwrap_or_default().into()).await;
        let _ = stream.sender.finish().await;
    }
}

// === impl Control ===

impl Control {
    pub(super) async fn say(&mut self, message: &ToWorker) {
        self.stream.sender.send(message).await.unwrap();
    }

    pub(super) async fn launch(&mut self, order: LaunchExecutor) {
        self.say(&ToWorker::Launch(Box::new(order))).await;
    }

    /// The next frame that is no heartbeat.
    pub(super) async fn hear(&mut self) -> FromWorker {
        loop {
            let received = soon(self.stream.receiver.recv::<FromWorker>()).await;
            match received.unwrap().unwrap() {
                FromWorker::Heartbeat => {}
                other => return other,
            }
        }
    }

    /// The reason why `id` is gone, which must be what is said next.
    pub(super) async fn hear_gone(&mut self, id: ExecutorId) -> String {
        match self.hear().await {
            FromWorker::ExecutorGone { executor, reason } if executor == id => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the worker has followed every order so far.
    pub(super) async fn settle(&mut self) {
        let nobody = executor(99, 99);
        self.say(&ToWorker::Kill(nobody)).await;
        self.hear_gone(nobody).await;
    }
}

// === impl Stage ===

impl Stage {
    pub(super) async fn start(config: WorkerConfig) -> Self {
        Self::start_at(config, SystemTime::now()).await
    }

    pub(super) async fn start_at(config: WorkerConfig, now: SystemTime) -> Self {
        let (launched, executors) = mpsc::unbounded_channel();
        let clock = Arc::new(TestClock(Mutex::new(now)));
        let ports = ports(launched, clock.clone());
        Self { worker: serve(config, ports).await.unwrap(), executors, clock }
    }
}

fn ports(launched: mpsc::UnboundedSender<Actor>, clock: Arc<TestClock>) -> Ports {
    Ports {
        network: Arc::new(UdpNetwork),
        launch: Arc::new(TestLaunch(launched)),
        modules: Arc::new(TestModules::default()),
        clock,
        seed: 1,
    }
}

/// Ports of a worker that is not expected to use them.
pub(super) fn idle_ports() -> Ports {
    let clock = TestClock(Mutex::new(SystemTime::now()));
    ports(mpsc::unbounded_channel().0, Arc::new(clock))
}

pub(super) fn exists(path: &Path) -> bool {
    path.try_exists().unwrap()
}

// === impl Actor ===

impl Actor {
    /// The next thing that the worker wants of this executor.
    pub(super) async fn told(&mut self) -> &'static str {
        soon(self.told.recv()).await.unwrap()
    }
}

// === impl TestClock ===

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

// === impl TestLaunch ===

impl Launch for TestLaunch {
    fn launch(
        &self,
        start: ExecutorStart,
        _artifact: Artifact,
    ) -> PortFuture<'_, io::Result<Box<dyn Launched>>> {
        let (ready, ready_in) = oneshot::channel();
        let (end, end_in) = oneshot::channel();
        let (tell, told) = mpsc::unbounded_channel();
        let actor = Actor { start, ready, end, told };
        let puppet = Puppet { ready: ready_in, end: end_in, how: None, told: tell };
        let started = self.0.send(actor).map_err(|_| io::Error::other("no more executors"));
        Box::pin(async move { started.map(|()| Box::new(puppet) as Box<dyn Launched>) })
    }
}

// === impl Puppet ===

impl Launched for Puppet {
    fn ready(&mut self) -> PortFuture<'_, Result<SocketAddr, String>> {
        Box::pin(async {
            tokio::select! {
                biased;
                Ok(ready) = &mut self.ready => ready,
                end = &mut self.end => {
                    let how = end.unwrap();
                    self.how = Some(how.clone());
                    Err(how)
                }
            }
        })
    }

    fn stop(&mut self) {
        let _ = self.told.send("stop");
    }

    fn kill(&mut self) {
        let _ = self.told.send("kill");
    }

    fn ended(&mut self) -> PortFuture<'_, String> {
        Box::pin(async {
            match self.how.take() {
                Some(how) => how,
                None => (&mut self.end).await.unwrap(),
            }
        })
    }
}

// === impl TestModules ===

impl PrepareModule for TestModules {
    fn lookup(&self, hash: ModuleHash) -> PortFuture<'_, Result<Option<Artifact>, CompileError>> {
        let found = self.0.lock().unwrap().contains(&hash);
        Box::pin(async move { Ok(found.then(artifact)) })
    }

    fn compile(
        &self,
        hash: ModuleHash,
        wasm: Vec<u8>,
    ) -> PortFuture<'_, Result<Artifact, CompileError>> {
        assert_eq!(hash_of(&wasm), hash);
        self.0.lock().unwrap().insert(hash);
        Box::pin(async { Ok(artifact()) })
    }
}
