//! The worker around its state machine: waits for one thing, tells the machine, does what it says.

use super::directory::WorkDirectory;
use super::node::{Action, Event, Node, Note};
use super::ports::Ports;
use super::session::Session;
use super::supervise::{self, Command};
use super::{WorkerConfig, modules, peers};
use crate::shuffle_service::{ShuffleService, WorkerFiles};
use offshoot_net::{Arrival, Complaints, Credential, CredentialError, Endpoint, NewKey, Role};
use offshoot_proto::cluster::{FromWorker, LaunchExecutor};
use offshoot_proto::id::{AppId, ExecutorId, ModuleHash, WorkerId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Events on their way to the machine. When it is full, those who report wait.
const EVENTS_MAX: usize = 1024;

/// What every task of a worker may look at.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: WorkerConfig,
    pub(super) id: WorkerId,
    /// Where others find this worker; the address may be unspecified.
    pub(super) address: SocketAddr,
    pub(super) endpoint: Endpoint,
    pub(super) directory: WorkDirectory,
    pub(super) blocks: Arc<ShuffleService<WorkerFiles>>,
    pub(super) ports: Ports,
    pub(super) complaints: Complaints,
    /// Applications that have or had executors here and have not ended.
    apps: Mutex<BTreeSet<AppId>>,
}

/// Runs the actions of a [`Node`].
pub(super) struct Shell {
    shared: Arc<Shared>,
    node: Node,
    start: Instant,
    session: Option<Session>,
    executors: BTreeMap<ExecutorId, mpsc::UnboundedSender<Command>>,
    /// The key that the master is asked to certify.
    next_key: Option<NewKey>,
    events: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Event>,
    /// Events of the shell itself, which must not wait for room in its own inbox.
    own_events: VecDeque<Event>,
    tasks: JoinSet<()>,
    end: Option<Result<(), String>>,
    /// Whether the master has ever accepted the registration.
    registered: watch::Sender<bool>,
}

/// Why a renewed certificate is not used.
#[derive(Debug, Error)]
enum RenewalError {
    #[error("it came without having been asked for")]
    Unasked,
    #[error("it is for {found}")]
    OtherRole { found: Role },
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(transparent)]
    Endpoint(#[from] offshoot_net::BindError),
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(
        config: WorkerConfig,
        id: WorkerId,
        address: SocketAddr,
        endpoint: Endpoint,
        directory: WorkDirectory,
        ports: Ports,
    ) -> Self {
        Self {
            config,
            id,
            address,
            endpoint,
            blocks: Arc::new(ShuffleService::new(WorkerFiles::new(directory.apps()))),
            directory,
            ports,
            complaints: Complaints::default(),
            apps: Mutex::default(),
        }
    }

    /// Applications that have or had executors here and have not ended.
    pub(super) fn apps(&self) -> MutexGuard<'_, BTreeSet<AppId>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long until two thirds of what is left of the certificate's life are over.
    pub(super) fn renew_in(&self) -> Duration {
        let end = self.endpoint.credential().not_after();
        let left = end.map(|end| end.duration_since(self.ports.clock.now()));
        left.ok().and_then(Result::ok).unwrap_or_default() * 2 / 3
    }
}

// === impl Shell ===

impl Shell {
    pub(super) fn new(shared: Arc<Shared>, node: Node, registered: watch::Sender<bool>) -> Self {
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        Self {
            shared,
            node,
            start: Instant::now(),
            session: None,
            executors: BTreeMap::new(),
            next_key: None,
            events,
            inbox,
            own_events: VecDeque::new(),
            tasks: JoinSet::new(),
            end: None,
            registered,
        }
    }

    /// Runs until the worker has ended; returns why, if it was not told to.
    pub(super) async fn run(mut self, mut stopped: oneshot::Receiver<()>) -> Result<(), String> {
        let mut stopping = false;
        let end = loop {
            if let Some(end) = self.end.take() {
                break end;
            }
            let timeout = self.node.next_timeout();
            let due = self.start + timeout.unwrap_or_default();
            tokio::select! {
                biased;
                _ = &mut stopped, if !stopping => {
                    stopping = true;
                    self.handle(Event::Stop);
                }
                () = sleep_until(due), if timeout.is_some() => self.handle_timeout(),
                Some(event) = self.inbox.recv() => self.handle(event),
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => report(done),
                arrival = self.shared.endpoint.accept() => match arrival {
                    Some(Arrival::Member(incoming)) => {
                        self.tasks.spawn(peers::serve(self.shared.clone(), incoming));
                    }
                    // Only a master is joined.
                    Some(Arrival::Joining(_)) => {}
                    None => break Err("its endpoint has closed".to_owned()),
                },
            }
        };
        if let Some(session) = self.session.take() {
            session.finish().await;
        }
        self.shared.endpoint.close("the worker stops").await;
        self.tasks.shutdown().await;
        end
    }

    fn handle(&mut self, event: Event) {
        let mut actions = vec![];
        let now = self.start.elapsed();
        self.node.handle(now, event, &mut actions);
        self.run_all(actions);
    }

    fn handle_timeout(&mut self) {
        let mut actions = vec![];
        let now = self.start.elapsed();
        self.node.handle_timeout(now, &mut actions);
        self.run_all(actions);
    }

    fn run_all(&mut self, mut actions: Vec<Action>) {
        loop {
            for action in actions.drain(..) {
                self.run_action(action);
            }
            let Some(event) = self.own_events.pop_front() else {
                return;
            };
            let now = self.start.elapsed();
            self.node.handle(now, event, &mut actions);
        }
    }

    fn run_action(&mut self, action: Action) {
        match action {
            Action::Connect { session } => {
                let events = self.events.clone();
                self.session = Some(Session::dial(&self.shared, session, events));
            }
            Action::Disconnect => self.session = None,
            Action::Send(message) => self.run_send(message),
            Action::Prepare { module } => self.run_prepare(module),
            Action::Launch(order) => self.run_launch(*order),
            Action::StopExecutor(executor) => self.command(executor, Command::Stop),
            Action::KillExecutor(executor) => self.command(executor, Command::Kill),
            Action::Renew => self.run_renew(),
            Action::Install { certificate } => self.run_install(certificate),
            Action::Sweep => self.discard(None),
            Action::Delete(app) => self.discard(Some(app)),
            Action::Exit { error } => self.end = Some(error.map_or(Ok(()), Err)),
            Action::Note(note) => {
                if matches!(note, Note::Registered { .. }) {
                    self.registered.send_replace(true);
                }
                tracing::info!("{note}");
            }
        }
    }

    fn run_send(&mut self, message: FromWorker) {
        let Some(session) = &self.session else {
            return;
        };
        if session.send(message).is_err() {
            let event = Event::Disconnected {
                session: session.id(),
                reason: "it does not read what it is told".to_owned(),
                hopeless: false,
            };
            self.session = None;
            self.own_events.push_back(event);
        }
    }

    fn run_prepare(&mut self, module: ModuleHash) {
        let (shared, events) = (self.shared.clone(), self.events.clone());
        self.tasks.spawn(async move {
            let (ports, master) = (&shared.ports, shared.config.master);
            let done = modules::prepare(&*ports.modules, &shared.endpoint, master, module).await;
            let outcome = done.map_err(|error| error.to_string());
            // The events end only with the worker.
            let _ = events.send(Event::Prepared { module, outcome }).await;
        });
    }

    fn run_launch(&mut self, order: LaunchExecutor) {
        let (commands, receiver) = mpsc::unbounded_channel();
        self.executors.retain(|_, commands| !commands.is_closed());
        self.executors.insert(order.executor, commands);
        self.shared.apps().insert(order.executor.app);
        let (shared, events) = (self.shared.clone(), self.events.clone());
        self.tasks.spawn(supervise::run(shared, order, receiver, events));
    }

    fn command(&self, executor: ExecutorId, command: Command) {
        if let Some(commands) = self.executors.get(&executor) {
            // An executor that is gone says so itself.
            let _ = commands.send(command);
        }
    }

    fn run_renew(&mut self) {
        let key = NewKey::generate();
        match key.and_then(|key| Ok((key.signing_request()?, key))) {
            Ok((signing_request, key)) => {
                self.next_key = Some(key);
                self.run_send(FromWorker::Renew { signing_request });
            }
            Err(error) => tracing::error!("cannot make a key for the next certificate: {error}"),
        }
    }

    fn run_install(&mut self, certificate: Vec<u8>) {
        match self.install(certificate) {
            Ok(()) => {
                let renew_in = self.shared.renew_in();
                self.own_events.push_back(Event::CertificateInstalled { renew_in });
            }
            Err(error) => tracing::error!("the master's new certificate is not used: {error}"),
        }
    }

    fn install(&mut self, certificate: Vec<u8>) -> Result<(), RenewalError> {
        let endpoint = &self.shared.endpoint;
        let old = endpoint.credential();
        let key = self.next_key.take().ok_or(RenewalError::Unasked)?;
        let new: Credential = key.into_credential(certificate, old.authority().to_vec())?;
        if new.role() != old.role() {
            let found = new.role().clone();
            return Err(RenewalError::OtherRole { found });
        }
        endpoint.set_credential(new.clone())?;
        if let Some(path) = &self.shared.config.credential_file {
            new.save(path)?;
        }
        Ok(())
    }

    /// Deletes the directory of one application, or of all.
    fn discard(&mut self, app: Option<AppId>) {
        let shared = self.shared.clone();
        let discarded = match app {
            Some(app) => {
                shared.apps().remove(&app);
                shared.blocks.source().forget(app);
                shared.directory.discard(app)
            }
            None => shared.directory.discard_all(),
        };
        complain_of_deletion(discarded);
        self.tasks.spawn(async move {
            complain_of_deletion(shared.directory.empty().await);
        });
    }
}

fn complain_of_deletion(done: io::Result<()>) {
    if let Err(error) = done {
        tracing::error!("cannot delete files of ended applications: {error}");
    }
}

fn report(done: Result<(), JoinError>) {
    if let Err(error) = done {
        tracing::error!("a task of the worker has ended early: {error}");
    }
}
