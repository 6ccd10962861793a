//! The one task that owns the state machine: an event in, actions out, never waiting for a peer.

use super::Config;
use super::guests::Guests;
use super::launches::Launches;
use super::outbox::{Outbox, Overflow};
use crate::cluster::{Action, Cluster, DrainOrder, Event, Order, Origin, SessionId, Tenants};
use crate::modules::ModuleStore;
use crate::ports::{Clock, Ports};
use crate::state::{Counters, Drains, DrainsFile, TenantsFile};
use offshoot_net::{Authority, AuthorityError, Role, Validity};
use offshoot_proto::cluster::{ToClient, ToWorker};
use offshoot_proto::frame;
use offshoot_proto::id::{AppId, WorkerId};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Life of the certificates of a driver and its executors: they cannot be renewed, so this is how
/// long an application may run.
const APP_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The core wakes up at least this often, to notice when the process has stood still.
const TICK: Duration = Duration::from_millis(500);

/// What could not be written is written again after so long.
const SAVE_AGAIN: Duration = Duration::from_secs(10);

/// Inputs that are taken before executors are launched again.
const INPUTS_A_TURN: usize = 256;

/// A step that comes later than this after the one before found the process standing still
/// (suspended, or starved). That time counts for no lease: nobody could have been heard.
const STALL_MIN: Duration = Duration::from_secs(2);

/// What the core is told.
#[derive(Debug)]
pub(super) enum Input {
    /// A control connection; its events follow.
    Opened {
        /// Its number.
        session: SessionId,
        /// Where words for the peer go.
        outbox: Outbox,
    },
    /// For the state machine.
    Event(Event),
}

/// What earlier lives of the master have left.
pub(super) struct Known<'a> {
    pub(super) counters: Counters,
    pub(super) modules: &'a ModuleStore,
    pub(super) tenants: (TenantsFile, Tenants),
    pub(super) drains: (DrainsFile, Drains),
    pub(super) guests: Guests,
}

/// The state machine and its hands.
pub(super) struct Core {
    cluster: Cluster,
    clock: LeaseClock,
    outboxes: BTreeMap<SessionId, Outbox>,
    counters: Counters,
    tenants: TenantsFile,
    drains: DrainsFile,
    /// Who is to leave, if the file says something else, and when that is to be mended.
    drains_unsaved: Option<(Instant, Drains)>,
    guests: Guests,
    authority: Arc<Authority>,
    wall: Arc<dyn Clock>,
    inputs: mpsc::Receiver<Input>,
    launches: Launches,
    /// What carrying out actions has brought about.
    consequences: VecDeque<Event>,
}

/// The state machine's clock. It stands still while the process does.
#[derive(Debug)]
struct LeaseClock {
    zero: Instant,
    last: Instant,
}

// === impl Core ===

impl Core {
    pub(super) fn new(
        known: Known<'_>,
        authority: Arc<Authority>,
        config: &Config,
        ports: &Ports,
        inputs: mpsc::Receiver<Input>,
    ) -> Self {
        let Known { counters, modules, tenants, drains, guests } = known;
        let ((tenants_file, tenants), (drains_file, drains)) = (tenants, drains);
        let wall = ports.clock.now();
        let since_epoch = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let origin = Origin {
            epoch: counters.epoch(),
            first_app: counters.next_app(),
            unix_millis: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        };
        let Config { leases, policy, .. } = *config;
        let cluster = Cluster::new(origin, leases, policy, modules.hashes(), tenants);
        Self {
            cluster: cluster.with_drains(drains.left(wall)),
            clock: LeaseClock::start(Instant::now()),
            outboxes: BTreeMap::new(),
            counters,
            tenants: tenants_file,
            drains: drains_file,
            drains_unsaved: None,
            guests,
            authority,
            wall: ports.clock.clone(),
            inputs,
            launches: Launches::default(),
            consequences: VecDeque::new(),
        }
    }

    /// Runs until nobody can tell it anything more.
    pub(super) async fn run(mut self) {
        loop {
            let wake = Instant::now() + TICK;
            let due = self.cluster.next_timeout().map(|due| self.clock.instant(due));
            let due = match self.launches.is_empty() {
                true => due.map_or(wake, |due| due.min(wake)),
                false => Instant::now(),
            };
            tokio::select! {
                biased;
                input = self.inputs.recv() => match input {
                    Some(input) => self.take_all(input),
                    None => return,
                },
                () = sleep_until(due) => {}
            }
            self.run_timeouts();
            self.save_drains();
            self.run_launches();
        }
    }

    /// Takes an input, and others that are there already: few enough to launch something meanwhile.
    fn take_all(&mut self, first: Input) {
        self.take(first);
        for _ in 1..INPUTS_A_TURN {
            match self.inputs.try_recv() {
                Ok(input) => self.take(input),
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Opened { session, outbox } => {
                self.outboxes.insert(session, outbox);
            }
            Input::Event(event) => self.handle(event),
        }
    }

    /// Takes an event and all that comes of it.
    fn handle(&mut self, event: Event) {
        self.consequences.push_back(event);
        self.run_consequences();
    }

    fn run_consequences(&mut self) {
        while let Some(event) = self.consequences.pop_front() {
            self.step(event);
        }
    }

    fn step(&mut self, event: Event) {
        if !self.is_current(&event) {
            return;
        }
        if let Event::Closed { session } = &event
            && let Some(outbox) = self.outboxes.remove(session)
        {
            outbox.finish();
        }
        let mut actions = Vec::new();
        let now = self.clock.now(Instant::now());
        self.cluster.handle(now, event, &mut actions);
        self.run_actions(actions);
    }

    /// Whether an event is not the echo of a session that is over.
    fn is_current(&self, event: &Event) -> bool {
        match event {
            Event::FromWorker { session, .. } | Event::FromClient { session, .. } => {
                self.outboxes.contains_key(session)
            }
            _ => true,
        }
    }

    fn run_timeouts(&mut self) {
        let now = self.clock.now(Instant::now());
        if self.cluster.next_timeout().is_some_and(|due| due <= now) {
            let mut actions = Vec::new();
            self.cluster.handle_timeout(now, &mut actions);
            self.run_actions(actions);
            self.run_consequences();
        }
    }

    fn run_actions(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.run_action(action);
        }
    }

    fn run_action(&mut self, action: Action) {
        match action {
            Action::ToWorker { session, message } => self.say(session, &message),
            Action::ToClient { session, message } => self.say(session, &message),
            Action::Launch { session, order } => self.launches.push(session, order),
            Action::Certify { session, app, signing_request, wants_module } => {
                self.run_certify(session, app, &signing_request, wants_module)
            }
            Action::Renew { session, worker, signing_request } => {
                self.run_renew(session, worker, &signing_request)
            }
            Action::SaveTenants { session, tenants, before, added } => {
                self.run_save_tenants(session, &tenants, before, added)
            }
            Action::SaveDrains { drains, order } => self.run_save_drains(drains, order),
            Action::Close { session } => {
                if let Some(outbox) = self.outboxes.remove(&session) {
                    outbox.finish();
                }
            }
            Action::Note(note) => tracing::info!("{note}"),
        }
    }

    fn say<T: Serialize>(&mut self, session: SessionId, message: &T) {
        let Some(outbox) = self.outboxes.get(&session) else {
            return;
        };
        if let Err(Overflow) = outbox.push(message) {
            self.outboxes.remove(&session);
            self.consequences.push_back(Event::Closed { session });
        }
    }

    fn run_launches(&mut self) {
        for (session, order) in self.launches.next() {
            match self.cluster.is_to_launch(order.executor) {
                Some(true) => self.run_launch(session, order),
                // It was told to stop before it was launched.
                Some(false) => self.consequences.push_back(Event::LaunchFailed {
                    executor: order.executor,
                    reason: "it is not wanted any more".to_owned(),
                }),
                None => {}
            }
        }
        self.run_consequences();
    }

    fn run_launch(&mut self, session: SessionId, order: Order) {
        if !self.outboxes.contains_key(&session) {
            return;
        }
        let role = Role::Executor(order.executor);
        match self.authority.mint(&role, self.app_validity()) {
            Ok(credential) => {
                let order = order.with(frame::to_bytes(&credential));
                self.say(session, &ToWorker::Launch(Box::new(order)));
            }
            Err(error) => self.consequences.push_back(Event::LaunchFailed {
                executor: order.executor,
                reason: format!("the master cannot make its credential: {error}"),
            }),
        }
    }

    fn run_certify(
        &mut self,
        session: SessionId,
        app: AppId,
        signing_request: &[u8],
        wants_module: bool,
    ) {
        let used = self.counters.use_app(app).map_err(|error| error.to_string());
        let certificate = used.and_then(|()| {
            let role = Role::Driver(app);
            let issued = self.authority.issue(&role, signing_request, self.app_validity());
            issued.map_err(|error| error.to_string())
        });
        match certificate {
            Ok(certificate) => {
                let message = ToClient::Registered { app, certificate, wants_module };
                self.say(session, &message);
            }
            Err(error) => self.consequences.push_back(Event::CertificateRefused {
                session,
                app,
                reason: format!("cannot register {app}: {error}"),
            }),
        }
    }

    fn run_renew(&mut self, session: SessionId, worker: WorkerId, signing_request: &[u8]) {
        let validity = Validity::of_node(self.wall.now());
        let role = Role::Worker(worker);
        let issued = self.authority.issue(&role, signing_request, validity);
        let message = match issued {
            Ok(certificate) => ToWorker::Renewed { certificate },
            Err(error @ AuthorityError::Request { .. }) => {
                ToWorker::Refused { reason: error.to_string() }
            }
            Err(error) => ToWorker::Refused {
                reason: format!("the master cannot renew the certificate: {error}"),
            },
        };
        self.say(session, &message);
        if matches!(message, ToWorker::Refused { .. }) {
            self.consequences.push_back(Event::Closed { session });
        }
    }

    fn run_save_tenants(
        &mut self,
        session: SessionId,
        tenants: &Tenants,
        before: Tenants,
        added: Option<String>,
    ) {
        let validity = Validity::of_tenant(self.wall.now());
        let credential = added.map(|name| self.authority.mint(&Role::Tenant(name), validity));
        let credential = credential.transpose().map_err(|error| error.to_string());
        let answer = credential.and_then(|credential| {
            self.tenants.save(tenants).map_err(|error| error.to_string())?;
            self.guests.set(tenants);
            Ok(match credential {
                Some(credential) => {
                    ToClient::TenantAdded { credential: frame::to_bytes(&credential) }
                }
                None => ToClient::Done,
            })
        });
        let message = answer.unwrap_or_else(|reason| {
            self.consequences.push_back(Event::TenantsUnsaved { tenants: before });
            ToClient::Refused { reason: format!("the tenants stay as they were: {reason}") }
        });
        self.say(session, &message);
    }

    /// An order is written before anything comes of it. That somebody is to leave no more is said
    /// to nobody, and many may leave at once: it is written at the end of the turn.
    fn run_save_drains(&mut self, left: BTreeMap<WorkerId, Duration>, order: Option<DrainOrder>) {
        let drains = Drains::until(left, self.wall.now());
        let Some(order) = order else {
            self.drains_unsaved = Some((Instant::now(), drains));
            return;
        };
        match self.drains.save(&drains) {
            Ok(()) => {
                self.drains_unsaved = None;
                self.consequences.push_back(Event::DrainSaved(order));
            }
            Err(error) => {
                let DrainOrder { session, worker, .. } = order;
                // It may have been written all the same.
                let drains = Drains::until(self.cluster.drains(), self.wall.now());
                self.drains_unsaved = Some((Instant::now(), drains));
                let reason = format!("worker {worker} is not drained: {error}");
                self.say(session, &ToClient::Refused { reason });
            }
        }
    }

    /// Writes what is not written yet.
    fn save_drains(&mut self) {
        let now = Instant::now();
        let Some((_, drains)) = self.drains_unsaved.take_if(|(due, _)| *due <= now) else {
            return;
        };
        if let Err(error) = self.drains.save(&drains) {
            tracing::error!(
                "{error}; until that succeeds (tried again in {} s) a master that is restarted has \
                 workers leave that have left before",
                SAVE_AGAIN.as_secs()
            );
            self.drains_unsaved = Some((now + SAVE_AGAIN, drains));
        }
    }

    fn app_validity(&self) -> Validity {
        Validity::lasting(APP_LIFETIME, self.wall.now())
    }
}

// === impl LeaseClock ===

impl LeaseClock {
    fn start(now: Instant) -> Self {
        Self { zero: now, last: now }
    }

    /// The time since the start without that in which the process stood still.
    fn now(&mut self, now: Instant) -> Duration {
        let step = now.duration_since(self.last);
        if step > STALL_MIN {
            tracing::warn!("the master stood still for {:.1} s", step.as_secs_f64());
            self.zero += step - TICK;
        }
        self.last = now;
        now.duration_since(self.zero)
    }

    /// When the state machine's clock shows `due`.
    fn instant(&self, due: Duration) -> Instant {
        self.zero + due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_process_stood_still_counts_for_no_lease() {
        let start = Instant::now();
        let mut leases = LeaseClock::start(start);
        let second = Duration::from_secs(1);
        assert_eq!(leases.now(start + second), second);
        assert_eq!(leases.now(start + 2 * second), 2 * second);
        assert_eq!(leases.now(start + 62 * second), 2 * second + TICK);
        assert_eq!(leases.now(start + 63 * second), 3 * second + TICK);
        let later = start + 64 * second;
        let shown = leases.now(later);
        assert_eq!(leases.instant(shown), later);
    }
}
