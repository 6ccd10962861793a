//! The driver's connection to the master: registers, uploads the module, hears of executors.
//!
//! A master that goes away later stops only new executors: the link tries again for as long as the
//! application runs, and what runs goes on.

use crate::{Cluster, DriverError};
use offshoot_net::{
    Accepts, ConnectError, Credential, Endpoint, FrameStream, Network, NewKey, RoleKind,
    StreamError,
};
use offshoot_proto::cluster::{AppSpec, FromClient, ModuleReply, ModuleRequest, ToClient};
use offshoot_proto::hello::Purpose;
use offshoot_proto::id::AppId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How often the driver says that it is here.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// A master that is silent for so long is gone.
const LEASE: Duration = Duration::from_secs(4);

/// How long the driver waits before it dials a lost master again.
const RETRY: Duration = Duration::from_secs(1);

/// How long the end of the application waits for the master to have heard of it.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long a closing connection may take for its last packet to leave.
const LAST_WORDS: Duration = Duration::from_millis(5);

/// A registered application.
pub(crate) struct MasterLink {
    /// Where the master is.
    pub(crate) address: SocketAddr,
    /// Its id.
    pub(crate) app: AppId,
    /// The driver's own credential, for executors.
    pub(crate) credential: Credential,
    /// What the master says from now on.
    pub(crate) events: mpsc::UnboundedReceiver<MasterEvent>,
    orders: mpsc::UnboundedSender<FromClient>,
    task: tokio::task::JoinHandle<()>,
}

/// What the master says, or what becomes of it.
#[derive(Debug)]
pub(crate) enum MasterEvent {
    /// A frame.
    Frame(ToClient),
    /// The connection has ended; another one is tried for.
    Lost(String),
    /// There is a connection again. A master that was restarted knows no applications: this one
    /// may have another id now, and executors accept only who is certified for theirs.
    Back(Identity),
}

/// Who the driver is to executors.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) app: AppId,
    pub(crate) credential: Credential,
}

/// What is needed to register, again if need be.
struct Registration {
    endpoint: Endpoint,
    master: SocketAddr,
    authority: Vec<u8>,
    idempotency_key: u128,
    app: AppSpec,
    module: Vec<u8>,
}

/// Any port of the interface that reaches `peer`.
pub(crate) fn any_address(peer: SocketAddr) -> SocketAddr {
    let ip = match peer.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(ip) if ip.is_loopback() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}

/// Registers an application and uploads its module.
pub(crate) async fn register(
    network: &dyn Network,
    cluster: &Cluster,
    app: AppSpec,
    module: Vec<u8>,
) -> Result<MasterLink, DriverError> {
    let local = |error: &dyn std::fmt::Display| DriverError::Local(error.to_string());
    let master = cluster.master;
    let authority = cluster.credential.authority().to_vec();
    let address = any_address(master);
    let endpoint =
        Endpoint::bind(network, address, cluster.credential.clone(), Accepts::Nothing).await;
    let endpoint = endpoint.map_err(|error| local(&error))?;
    let idempotency_key = cluster.idempotency_key;
    let registration = Registration { endpoint, master, authority, idempotency_key, app, module };
    let registration = Arc::new(registration);
    let (stream, Identity { app, credential }) = registration.register().await?;
    let (events_in, events) = mpsc::unbounded_channel();
    let (orders, orders_out) = mpsc::unbounded_channel();
    let task = tokio::spawn(registration.serve(stream, events_in, orders_out));
    Ok(MasterLink { address: master, app, credential, events, orders, task })
}

// === impl MasterLink ===

impl MasterLink {
    pub(crate) fn send(&self, order: FromClient) {
        // A link that has ended has nobody to tell.
        let _ = self.orders.send(order);
    }

    /// Tells the master that the application has ended, and waits until it knows.
    pub(crate) async fn finish(self, succeeded: bool) {
        let _ = self.orders.send(FromClient::Finished { succeeded });
        drop(self.orders);
        let _ = tokio::time::timeout(FAREWELL, self.task).await;
    }
}

// === impl Registration ===

impl Registration {
    fn unreachable(&self, error: &dyn std::fmt::Display) -> DriverError {
        DriverError::Master { address: self.master, reason: error.to_string() }
    }

    async fn register(&self) -> Result<(FrameStream, Identity), DriverError> {
        let local = |error: &dyn std::fmt::Display| DriverError::Local(error.to_string());
        let key = NewKey::generate().map_err(|error| local(&error))?;
        let register = FromClient::Register {
            idempotency_key: self.idempotency_key,
            app: Box::new(self.app.clone()),
            signing_request: key.signing_request().map_err(|error| local(&error))?,
        };
        let connected =
            self.endpoint.connect(self.master, RoleKind::Master, Purpose::Control).await;
        let mut connection = connected.map_err(|error| match error {
            ConnectError::Refused { reason, .. } => DriverError::Refused(reason),
            other => self.unreachable(&other),
        })?;
        let stream = connection.take_control();
        let mut stream = stream.expect("a control connection has its stream");
        let broken = |error: StreamError| self.unreachable(&error);
        stream.sender.send(&register).await.map_err(broken)?;
        let reply = stream.receiver.recv::<ToClient>().await.map_err(broken)?;
        match reply {
            Some(ToClient::Registered { app, certificate, wants_module }) => {
                if wants_module {
                    self.upload().await?;
                }
                let credential = key.into_credential(certificate, self.authority.clone());
                let credential = credential.map_err(|error| local(&error))?;
                Ok((stream, Identity { app, credential }))
            }
            Some(ToClient::Refused { reason }) => Err(DriverError::Refused(reason)),
            Some(_) => Err(self.unreachable(&"it answered with another frame")),
            None => Err(self.unreachable(&"it ended the connection")),
        }
    }

    async fn upload(&self) -> Result<(), DriverError> {
        let connected = self.endpoint.connect(self.master, RoleKind::Master, Purpose::Data).await;
        let connection = connected.map_err(|error| self.unreachable(&error))?;
        let broken = |error: StreamError| self.unreachable(&error);
        let mut stream = connection.open().await.map_err(broken)?;
        let length = self.module.len() as u64;
        let put = ModuleRequest::Put { hash: self.app.module, length };
        stream.sender.send(&put).await.map_err(broken)?;
        // A master that has it by now stops reading; what it answers counts.
        let sent = stream.sender.send_chunk(self.module.clone().into()).await;
        let _ = sent.is_ok() && stream.sender.finish().await.is_ok();
        match stream.receiver.recv::<ModuleReply>().await.map_err(broken)? {
            Some(ModuleReply::Ok { .. }) => Ok(()),
            Some(ModuleReply::Refused { reason }) => Err(DriverError::Refused(reason)),
            None => Err(self.unreachable(&"it did not answer the upload")),
        }
    }

    /// Passes frames until the application ends; dials again when the master is lost.
    async fn serve(
        self: Arc<Self>,
        stream: FrameStream,
        events: mpsc::UnboundedSender<MasterEvent>,
        mut orders: mpsc::UnboundedReceiver<FromClient>,
    ) {
        let mut stream = Some(stream);
        loop {
            if let Some(stream) = stream.take() {
                match pass(stream, &events, &mut orders).await {
                    Passed::Finished => break,
                    Passed::Lost(reason) => {
                        let _ = events.send(MasterEvent::Lost(reason));
                    }
                }
            }
            if events.is_closed() || orders.is_closed() {
                break;
            }
            tokio::time::sleep(RETRY).await;
            match self.register().await {
                Ok((again, identity)) => {
                    let _ = events.send(MasterEvent::Back(identity));
                    stream = Some(again);
                }
                Err(DriverError::Refused(reason)) => {
                    let _ = events.send(MasterEvent::Frame(ToClient::Refused { reason }));
                    break;
                }
                Err(_) => {}
            }
        }
        let closing = self.endpoint.close("the application has ended");
        let _ = tokio::time::timeout(LAST_WORDS, closing).await;
    }
}

enum Passed {
    Finished,
    Lost(String),
}

async fn pass(
    stream: FrameStream,
    events: &mpsc::UnboundedSender<MasterEvent>,
    orders: &mut mpsc::UnboundedReceiver<FromClient>,
) -> Passed {
    let FrameStream { mut sender, mut receiver } = stream;
    let mut beat = tokio::time::interval(HEARTBEAT);
    let mut finished = false;
    let mut heard = Instant::now();
    loop {
        let sent = tokio::select! {
            biased;
            frame = receiver.recv::<ToClient>() => match frame {
                Ok(Some(frame)) => {
                    heard = Instant::now();
                    if !matches!(frame, ToClient::Heartbeat) {
                        let _ = events.send(MasterEvent::Frame(frame));
                    }
                    Ok(())
                }
                Ok(None) if finished => return Passed::Finished,
                Ok(None) => return Passed::Lost("it closed the stream".to_owned()),
                Err(_) if finished => return Passed::Finished,
                Err(error) => return Passed::Lost(error.to_string()),
            },
            () = tokio::time::sleep_until(heard + LEASE), if !finished => {
                return Passed::Lost(format!("it was silent for {} s", LEASE.as_secs()));
            }
            order = orders.recv(), if !finished => match order {
                Some(order) => {
                    finished |= matches!(order, FromClient::Finished { .. });
                    sender.send(&order).await
                }
                None => return Passed::Finished,
            },
            _ = beat.tick() => sender.send(&FromClient::Heartbeat).await,
        };
        if let Err(error) = sent {
            return if finished { Passed::Finished } else { Passed::Lost(error.to_string()) };
        }
    }
}
