//! The master as a process: accepts connections and lets the cluster's state machine decide.
//!
//! ```text
//!   endpoint ─► accept ─┬► session (control) ── Input ──► core ── Action ──► outbox ─► session
//!                       ├► bulk (data): modules ─ Input ──►│
//!                       └► joining: tokens                 └ timers
//! ```
//!
//! One task, `core`, owns the state machine and never waits for a peer. Whatever it says to one
//! goes into that peer's outbox; a peer whose outbox overflows is cut.

mod bulk;
mod core;
mod guests;
mod joining;
mod launches;
mod outbox;
mod session;

use self::core::{Core, Input, Known};
use self::guests::Guests;
use self::joining::Registrar;
use crate::cluster::{Leases, SessionId};
use crate::modules::ModuleStore;
use crate::placement::Policy;
use crate::ports::Ports;
use crate::state::State;
use offshoot_net::{
    Accepts, Arrival, Authority, AuthorityError, BindError, Complaints, Connection, Credential,
    Endpoint, Incoming, Role, Validity,
};
use offshoot_proto::hello::Purpose;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// Frames on their way to the core, of all peers. When it is full, peers wait.
const INPUTS_MAX: usize = 1024;

/// How often the master renews its own certificate: at two thirds of its day.
const RENEWAL_PERIOD: Duration = Duration::from_secs(16 * 60 * 60);

/// How long a renewal that failed waits for the next try.
const RENEWAL_RETRY: Duration = Duration::from_secs(60);

/// What an operator sets.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Where to listen; port 0 for any.
    pub listen: SocketAddr,
    /// After how much silence peers are lost.
    pub leases: Leases,
    /// How applications are placed.
    pub policy: Policy,
}

/// A running master. Dropping it stops the master.
#[derive(Debug)]
pub struct Master {
    address: SocketAddr,
    authority: Arc<Authority>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Why a master did not start.
#[derive(Debug, Error)]
pub enum ServeError {
    /// It cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its own certificate was not made.
    #[error("cannot make the master's certificate: {0}")]
    Certificate(#[from] AuthorityError),
    /// The address that was bound is not known.
    #[error("cannot read the address that was bound: {0}")]
    Address(#[from] std::io::Error),
}

/// What every connection needs.
struct Server {
    endpoint: Endpoint,
    authority: Arc<Authority>,
    ports: Ports,
    modules: ModuleStore,
    registrar: Registrar,
    guests: Guests,
    inputs: mpsc::Sender<Input>,
    complaints: Complaints,
    /// Keeps the state directory locked.
    _lock: File,
}

/// Starts a master on the state that `state` holds. Must run inside a tokio runtime.
pub async fn serve(state: State, config: Config, ports: Ports) -> Result<Master, ServeError> {
    let authority = state.authority().clone();
    let credential = own_credential(&authority, &ports)?;
    let network = ports.network.clone();
    let accepts = Accepts::MembersAndJoins;
    let endpoint = Endpoint::bind(&*network, config.listen, credential, accepts).await?;
    let address = endpoint.local_address()?;
    let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
    let parts = state.into_parts();
    let modules = parts.modules;
    let guests = Guests::default();
    guests.set(&parts.tenants.1);
    let known = Known {
        counters: parts.counters,
        modules: &modules,
        tenants: parts.tenants,
        drains: parts.drains,
        guests: guests.clone(),
    };
    let core = Core::new(known, authority.clone(), &config, &ports, receiver);
    let server = Arc::new(Server {
        endpoint,
        authority: authority.clone(),
        guests,
        registrar: Registrar::new(parts.redeemed, ports.entropy.clone()),
        ports,
        modules,
        inputs,
        complaints: Complaints::default(),
        _lock: parts.lock,
    });
    let (stop, stopped) = oneshot::channel();
    tracing::info!("master of cluster {} listens on {address}", authority.cluster());
    Ok(Master {
        address,
        authority,
        stop: Some(stop),
        task: tokio::spawn(run(server, core, stopped)),
    })
}

/// The certificate that peers see, for a day.
fn own_credential(authority: &Authority, ports: &Ports) -> Result<Credential, AuthorityError> {
    authority.mint(&Role::Master, Validity::of_node(ports.clock.now()))
}

/// Whether a peer may have a connection at all; the error is what it is told.
fn authorise(guests: &Guests, role: &Role) -> Result<(), String> {
    match role {
        Role::Tenant(name) if !guests.knows(name) => Err(format!(
            "permission denied: tenant {} is not let in; it was removed, or this credential is of \
             another life of the cluster: ask the operator for a new one",
            name.escape_debug()
        )),
        Role::Worker(_) | Role::Tenant(_) => Ok(()),
        Role::Master | Role::Driver(_) | Role::Executor(_) => {
            let kind = role.kind();
            Err(format!("permission denied: role {kind} may not connect to a master"))
        }
    }
}

async fn run(server: Arc<Server>, core: Core, mut stopped: oneshot::Receiver<()>) {
    let mut core = tokio::spawn(core.run());
    let mut peers = JoinSet::new();
    let mut sessions = 0;
    let mut renewal = Box::pin(sleep(RENEWAL_PERIOD));
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            ended = &mut core => {
                tracing::error!("the master's core has ended: {ended:?}");
                break;
            }
            Some(_) = peers.join_next(), if !peers.is_empty() => {}
            () = &mut renewal => renewal.set(sleep(server.renew())),
            arrival = server.endpoint.accept() => match arrival {
                Some(Arrival::Member(incoming)) => {
                    sessions += 1;
                    peers.spawn(serve_member(server.clone(), incoming, SessionId(sessions)));
                }
                Some(Arrival::Joining(joining)) => {
                    peers.spawn(joining::serve(server.clone(), joining));
                }
                None => break,
            },
        }
    }
    server.endpoint.close("the master stops").await;
    if !core.is_finished() {
        core.abort();
        let _ = core.await;
    }
    peers.shutdown().await;
}

async fn serve_member(server: Arc<Server>, incoming: Incoming, session: SessionId) {
    let connection = match incoming.handshake(|role, _| authorise(&server.guests, role)).await {
        Ok(connection) => connection,
        Err(error) => return server.complaints.warn(format_args!("{error}")),
    };
    let expiry = server.time_left(&connection);
    match connection.purpose() {
        Purpose::Control => session::run(&server, connection, session, expiry).await,
        Purpose::Data => bulk::run(&server, connection, expiry).await,
    }
}

// === impl Server ===

impl Server {
    /// How long the peer's certificate still holds.
    fn time_left(&self, connection: &Connection) -> Duration {
        let end = connection.peer_not_after();
        end.duration_since(self.ports.clock.now()).unwrap_or_default()
    }

    /// Renews the master's own certificate. Returns when to do so next.
    fn renew(&self) -> Duration {
        let renewed = own_credential(&self.authority, &self.ports).map_err(ServeError::from);
        let set = |credential| Ok(self.endpoint.set_credential(credential)?);
        match renewed.and_then(set) {
            Ok(()) => RENEWAL_PERIOD,
            Err(error) => {
                tracing::error!("{error}; trying again in {} s", RENEWAL_RETRY.as_secs());
                RENEWAL_RETRY
            }
        }
    }
}

// === impl Master ===

impl Master {
    /// Where it listens, with the port that was chosen.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The cluster's authority, for credentials and tokens of the same process.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// Waits until the master has ended by itself, which only an error makes it do.
    pub async fn ended(&mut self) {
        let _ = (&mut self.task).await;
    }

    /// Stops the master and waits until its peers have been told and its directory is free.
    pub async fn shutdown(mut self) {
        drop(self.stop.take());
        self.ended().await;
    }
}
