//! One UDP socket that dials and listens.
//!
//! A process has one endpoint. Accepting never waits for a peer: [`Endpoint::accept`] hands out
//! handshakes that have not begun, and the caller runs each in a task of its own.

use crate::admission::{
    CONNECTIONS_PER_ADDRESS_MAX, CONNECTIONS_PER_IDENTITY_MAX, Caps, HANDSHAKES_MAX, Permit,
};
use crate::complaints::Complaints;
use crate::connection::{CloseCode, Connection};
use crate::credential::Credential;
use crate::error::{BindError, ConnectError, HandshakeError};
use crate::handshake::{self, Listener};
use crate::join::{JOINS_CONCURRENT_MAX, Joining};
use crate::network::Network;
use crate::role::{Expected, Role};
use crate::tls::Tls;
use crate::transport::{
    self, INCOMING_BUFFER_BYTES, INCOMING_BUFFERS_BYTES, INCOMING_MAX, Mark, StartIds,
};
use crate::windows::{RECEIVE_WINDOWS_BYTES_MAX, WindowBudget, WindowSize};
use offshoot_proto::hello::Purpose;
use offshoot_proto::limits::HANDSHAKE_DEADLINE;
use quinn::{ClientConfig, EndpointConfig, ServerConfig, ValidationTokenConfig, VarInt};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long a closing endpoint repeats itself to peers that go on talking. QUIC would do so for
/// three times its estimate of a round trip, which after a partition is as long as that was.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(2);

/// Whom an endpoint lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// Nobody: it only dials.
    Nothing,
    /// Members of the cluster.
    Members,
    /// Members, and processes that want to become one with a token. Only the master.
    MembersAndJoins,
}

/// A process's place on the network.
pub struct Endpoint {
    quinn: quinn::Endpoint,
    accepts: Accepts,
    tls: Mutex<Arc<Tls>>,
    start_ids: Arc<StartIds>,
    budget: Arc<WindowBudget>,
    addresses: Arc<Caps<IpAddr>>,
    identities: Arc<Caps<Role>>,
    handshakes: Arc<Semaphore>,
    joins: Arc<Semaphore>,
    complaints: Complaints,
}

/// Somebody who dialled this endpoint.
#[derive(Debug)]
pub enum Arrival {
    /// A peer that claims to be a member.
    Member(Incoming),
    /// A process that wants to become one. Only for [`Accepts::MembersAndJoins`].
    Joining(Joining),
}

/// A handshake that has not begun. Dropping it refuses the connection.
#[derive(Debug)]
pub struct Incoming {
    quinn: quinn::Incoming,
    config: Arc<ServerConfig>,
    listener: Listener,
    _place: OwnedSemaphorePermit,
}

// === impl Endpoint ===

impl Endpoint {
    /// Binds `address` (port 0: any) and shows `credential` to everybody.
    pub async fn bind(
        network: &dyn Network,
        address: SocketAddr,
        credential: Credential,
        accepts: Accepts,
    ) -> Result<Self, BindError> {
        let tls = Arc::new(Tls::new(credential)?);
        let server = match accepts {
            Accepts::Nothing => None,
            Accepts::Members | Accepts::MembersAndJoins => Some(server_config(&tls)),
        };
        let seed = network.seed();
        let quinn = quinn_endpoint(network, seed, address, server)
            .await
            .map_err(|source| BindError::Socket { address, source })?;
        Ok(Self {
            quinn,
            accepts,
            tls: Mutex::new(tls),
            start_ids: Arc::new(StartIds::new(seed)),
            budget: WindowBudget::new(RECEIVE_WINDOWS_BYTES_MAX),
            addresses: Caps::new(CONNECTIONS_PER_ADDRESS_MAX),
            identities: Caps::new(CONNECTIONS_PER_IDENTITY_MAX),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            joins: Arc::new(Semaphore::new(JOINS_CONCURRENT_MAX)),
            complaints: Complaints::default(),
        })
    }

    /// The address that is bound, with the port that was chosen.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.quinn.local_addr()
    }

    /// The credential that new connections show.
    pub fn credential(&self) -> Credential {
        self.tls().credential.clone()
    }

    /// Shows a renewed credential from now on. Connections that exist are not touched.
    pub fn set_credential(&self, credential: Credential) -> Result<(), BindError> {
        let tls = Arc::new(Tls::new(credential)?);
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = tls;
        Ok(())
    }

    /// Dials `address` and is welcomed there by the expected peer, within 5 s.
    pub async fn connect(
        &self,
        address: SocketAddr,
        expected: impl Into<Expected>,
        purpose: Purpose,
    ) -> Result<Connection, ConnectError> {
        let expected = expected.into();
        let dialled = timeout(HANDSHAKE_DEADLINE, self.dial(address, &expected, purpose)).await;
        dialled.unwrap_or_else(|_| {
            let reason = format!("no answer within {} s", HANDSHAKE_DEADLINE.as_secs());
            Err(ConnectError::Unreachable { address, reason })
        })
    }

    async fn dial(
        &self,
        address: SocketAddr,
        expected: &Expected,
        purpose: Purpose,
    ) -> Result<Connection, ConnectError> {
        let total = self.budget.total();
        let exhausted = || ConnectError::WindowsExhausted { address, total };
        let (size, lease) = match purpose {
            Purpose::Control => (WindowSize::MIN, None),
            Purpose::Data => {
                let size = self.budget.next_size().ok_or_else(exhausted)?;
                (size, Some(self.budget.lease(size).ok_or_else(exhausted)?))
            }
        };
        let tls = self.tls();
        let local = |reason: String| ConnectError::Local { address, reason };
        let (crypto, note) = tls.client(expected).map_err(|error| local(error.to_string()))?;
        let mark = Mark::For(purpose);
        let mut config = ClientConfig::new(crypto);
        config.transport_config(transport::dialled(mark, size));
        let start_ids = self.start_ids.clone();
        config.initial_dst_cid_provider(Arc::new(move || start_ids.next(mark)));
        let server_name = expected.kind().server_name();
        let connecting = self
            .quinn
            .connect_with(config, address, server_name)
            .map_err(|error| local(error.to_string()))?;
        let quinn = connecting.await.map_err(|error| match note.take() {
            Some(rejection) => ConnectError::rejected(address, expected, rejection),
            None => ConnectError::ended(address, error.into()),
        })?;
        handshake::greet(quinn, tls.credential.cluster(), purpose, lease).await
    }

    /// The next peer that dials, or `None` once the endpoint is closed. May be dropped and called
    /// again.
    pub async fn accept(&self) -> Option<Arrival> {
        loop {
            let incoming = self.quinn.accept().await?;
            if let Some(arrival) = self.admit(incoming) {
                return Some(arrival);
            }
        }
    }

    fn admit(&self, incoming: quinn::Incoming) -> Option<Arrival> {
        let address = incoming.remote_address().ip().to_canonical();
        if !incoming.remote_address_validated() && !address.is_loopback() {
            // An error says that the peer has been asked already, and is not told twice.
            let _ = incoming.retry();
            return None;
        }
        let mark = Mark::of(&incoming.orig_dst_cid());
        let Some((permit, place)) = self.places(mark, address) else {
            self.complaints.warn(format_args!("too many connections, refused one from {address}"));
            incoming.refuse();
            return None;
        };
        let tls = self.tls();
        match mark {
            Mark::Join => {
                let config = accept_config(&tls, mark, WindowSize::MIN);
                Some(Arrival::Joining(Joining::new(incoming, config, permit, place)))
            }
            Mark::For(marked) => {
                let size = self.budget.next_size().unwrap_or(WindowSize::MIN);
                let config = accept_config(&tls, mark, size);
                let listener = Listener {
                    cluster: tls.credential.cluster().clone(),
                    marked,
                    size,
                    budget: self.budget.clone(),
                    identities: self.identities.clone(),
                    address: permit,
                };
                Some(Arrival::Member(Incoming { quinn: incoming, config, listener, _place: place }))
            }
        }
    }

    /// Places for a handshake; `None` if there are none, or for a join that nobody serves.
    fn places(
        &self,
        mark: Mark,
        address: IpAddr,
    ) -> Option<(Permit<IpAddr>, OwnedSemaphorePermit)> {
        let places = match (mark, self.accepts) {
            (Mark::Join, Accepts::MembersAndJoins) => &self.joins,
            (Mark::Join, Accepts::Members | Accepts::Nothing) => return None,
            (Mark::For(_), _) => &self.handshakes,
        };
        let place = places.clone().try_acquire_owned().ok()?;
        Some((self.addresses.take(address)?, place))
    }

    /// Closes every connection and waits until the peers have been told, or could have been.
    pub async fn close(&self, reason: &str) {
        self.quinn.close(VarInt::from_u32(CloseCode::Shutdown as u32), reason.as_bytes());
        // Idle or not: nobody else is there to be told.
        let _ = timeout(CLOSE_WAIT_MAX, self.quinn.wait_idle()).await;
    }

    fn tls(&self) -> Arc<Tls> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("address", &self.quinn.local_addr())
            .field("accepts", &self.accepts)
            .field("window_bytes_left", &self.budget.left())
            .finish_non_exhaustive()
    }
}

// === impl Incoming ===

impl Incoming {
    /// Who dials.
    pub fn remote_address(&self) -> SocketAddr {
        self.quinn.remote_address()
    }

    /// Verifies the peer and asks `authorise` whether that role may have a connection for that
    /// purpose; its error is the sentence that the peer gets. Cut after 5 s.
    pub async fn handshake(
        self,
        authorise: impl FnOnce(&Role, Purpose) -> Result<(), String>,
    ) -> Result<Connection, HandshakeError> {
        let address = self.quinn.remote_address();
        let handshake = async {
            let failed = |error| handshake::tls_failed(address, error);
            let connecting = self.quinn.accept_with(self.config).map_err(failed)?;
            let quinn = connecting.await.map_err(failed)?;
            self.listener.receive(quinn, authorise).await
        };
        let done = timeout(HANDSHAKE_DEADLINE, handshake).await;
        done.unwrap_or(Err(HandshakeError::Deadline { address }))
    }
}

/// A quinn endpoint on a network.
pub(crate) async fn quinn_endpoint(
    network: &dyn Network,
    seed: Option<[u8; 32]>,
    address: SocketAddr,
    server: Option<ServerConfig>,
) -> io::Result<quinn::Endpoint> {
    let socket = network.bind(address).await?;
    let mut config = EndpointConfig::default();
    config.rng_seed(seed);
    let datagram = config.max_udp_payload_size(transport::DATAGRAM_BYTES_MAX);
    datagram.map_err(io::Error::other)?;
    quinn::Endpoint::new_with_abstract_socket(config, server, socket, network.runtime())
}

/// The configuration with which an endpoint listens; each connection gets one of its own.
fn server_config(tls: &Tls) -> ServerConfig {
    let mut validation = ValidationTokenConfig::default();
    validation.sent(0);
    let mut config = ServerConfig::with_crypto(tls.server.clone());
    config
        .migration(false)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFERS_BYTES)
        .validation_token_config(validation);
    config
}

fn accept_config(tls: &Tls, mark: Mark, size: WindowSize) -> Arc<ServerConfig> {
    let mut config = server_config(tls);
    if mark == Mark::Join {
        config.crypto = tls.join_server.clone();
    }
    config.transport_config(transport::accepted(mark, size));
    Arc::new(config)
}
