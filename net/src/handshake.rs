//! What follows the TLS handshake: hello and welcome.
//!
//! ```text
//!   dialler                                   listener
//!      ── hello: version, cluster, purpose ──►   version? cluster? purpose as marked?
//!                                                may this role do this? windows left?
//!      ◄── welcome: accepted ─────────────────   and the stream goes on as the control stream
//!      ◄── welcome: refused, with a sentence ─   and the connection is closed
//! ```

use crate::admission::{Caps, Permit};
use crate::certificate::Identity;
use crate::connection::{CloseCode, Connection, FrameStream, Held, Shared, StreamGuard, close};
use crate::error::{ConnectError, HandshakeError, StreamError, peer_text};
use crate::role::{ClusterName, Role, RoleKind};
use crate::stream::ended_early;
use crate::transport::{self, Mark};
use crate::windows::{WindowBudget, WindowLease, WindowSize};
use offshoot_proto::frame;
use offshoot_proto::hello::{
    HELLO_FRAME_BYTES_MAX, Hello, PROTOCOL_VERSION, Purpose, Welcome, leading_version,
};
use quinn::rustls::pki_types::CertificateDer;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a refused peer may take to read the reason.
const REFUSAL_LINGER: Duration = Duration::from_secs(1);

/// What the listener's side of a handshake needs.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) cluster: ClusterName,
    pub(crate) marked: Purpose,
    pub(crate) size: WindowSize,
    pub(crate) budget: Arc<WindowBudget>,
    pub(crate) identities: Arc<Caps<Role>>,
    pub(crate) address: Permit<IpAddr>,
}

/// What a hello turned out to be.
enum Heard {
    Hello(Hello),
    OtherVersion(u32),
}

/// The certificate's word for who the peer of a finished TLS handshake is.
pub(crate) fn peer_certificate(quinn: &quinn::Connection) -> Option<CertificateDer<'static>> {
    let chain = quinn.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}

/// The dialler's side, after TLS.
pub(crate) async fn greet(
    quinn: quinn::Connection,
    cluster: &ClusterName,
    purpose: Purpose,
    lease: Option<WindowLease>,
) -> Result<Connection, ConnectError> {
    let address = quinn.remote_address();
    let identity =
        identify(&quinn, cluster).map_err(|reason| ConnectError::Untrusted { address, reason })?;
    let failed = |error| ConnectError::stream(address, error);
    let mut stream = open_hello(&quinn).await.map_err(failed)?;
    let hello = Hello { version: PROTOCOL_VERSION, cluster: cluster.to_string(), purpose };
    let sent = stream.sender.send(&hello).await;
    let welcome = match sent {
        Ok(()) => stream.receiver.recv().await.and_then(|it| it.ok_or_else(ended_early)),
        Err(error) => Err(error),
    };
    if let Welcome::Refused { reason } = welcome.map_err(failed)? {
        close(&quinn, CloseCode::Done, "");
        return Err(ConnectError::Refused { address, reason: peer_text(&reason) });
    }
    let shared = Shared::new(quinn, identity, purpose, Held { lease, ..Held::default() });
    welcomed(shared, stream).await.map_err(failed)
}

impl Listener {
    /// The listener's side, after TLS.
    pub(crate) async fn receive(
        self,
        quinn: quinn::Connection,
        authorise: impl FnOnce(&Role, Purpose) -> Result<(), String>,
    ) -> Result<Connection, HandshakeError> {
        let address = quinn.remote_address();
        let identity = identify(&quinn, &self.cluster)
            .map_err(|reason| HandshakeError::Tls { address, reason })?;
        let role = identity.role.clone();
        let failed =
            |source| HandshakeError::Stream { address, role: identity.role.clone(), source };
        let (mut stream, heard) = hear(&quinn).await.map_err(failed)?;
        let judged = self.judge(heard, &identity.role, authorise);
        let (purpose, held) = match judged {
            Ok(accepted) => accepted,
            Err(reason) => {
                refuse(&quinn, stream, &reason).await.map_err(failed)?;
                return Err(HandshakeError::Refused { address, role, reason });
            }
        };
        stream.sender.send(&Welcome::Accepted).await.map_err(failed)?;
        let window = match held.lease {
            None if purpose == Purpose::Data => transport::REQUESTS_WINDOW,
            _ => transport::connection_window(Mark::For(purpose), self.size),
        };
        quinn.set_receive_window(window);
        let held = Held { address: Some(self.address), ..held };
        let shared = Shared::new(quinn, identity, purpose, held);
        let failed = |source| HandshakeError::Stream { address, role, source };
        welcomed(shared, stream).await.map_err(failed)
    }

    fn judge(
        &self,
        heard: Heard,
        role: &Role,
        authorise: impl FnOnce(&Role, Purpose) -> Result<(), String>,
    ) -> Result<(Purpose, Held), String> {
        let hello = match heard {
            Heard::Hello(hello) => hello,
            Heard::OtherVersion(version) => return Err(other_version(version)),
        };
        if hello.cluster != self.cluster.as_str() {
            let found = peer_text(&hello.cluster);
            return Err(format!("this is cluster {}, not {found}", self.cluster));
        }
        if hello.purpose != self.marked {
            return Err("the hello's purpose is not the one that the handshake began with".into());
        }
        let identity = self.identities.take(role.clone());
        let identity = identity.ok_or_else(|| format!("{role} has too many connections"))?;
        authorise(role, hello.purpose)?;
        let lease = match hello.purpose {
            Purpose::Control => None,
            // Executors come to fetch: what they send is requests.
            Purpose::Data if role.kind() == RoleKind::Executor => None,
            Purpose::Data => Some(self.budget.lease(self.size).ok_or_else(|| {
                let total = self.budget.total();
                format!("all of its {total} bytes of receive windows are in use")
            })?),
        };
        Ok((hello.purpose, Held { lease, address: None, identity: Some(identity) }))
    }
}

/// The sentence for a peer of another version, in either protocol.
pub(crate) fn other_version(version: u32) -> String {
    format!(
        "it speaks version {PROTOCOL_VERSION} of the protocol, this side version {version}; run \
         the same release on both"
    )
}

fn identify(quinn: &quinn::Connection, cluster: &ClusterName) -> Result<Identity, String> {
    let certificate = peer_certificate(quinn).ok_or("no certificate")?;
    Identity::of(&certificate, cluster).map_err(|error| error.to_string())
}

async fn open_hello(quinn: &quinn::Connection) -> Result<FrameStream, StreamError> {
    let (send, receive) = quinn.open_bi().await?;
    let guard = StreamGuard::unproven(quinn);
    Ok(FrameStream::new(send, receive, HELLO_FRAME_BYTES_MAX, &guard))
}

async fn hear(quinn: &quinn::Connection) -> Result<(FrameStream, Heard), StreamError> {
    let (send, receive) = quinn.accept_bi().await?;
    let guard = StreamGuard::unproven(quinn);
    let mut stream = FrameStream::new(send, receive, HELLO_FRAME_BYTES_MAX, &guard);
    let heard = stream.receiver.recv_with(|payload| {
        Ok(match leading_version(payload)? {
            PROTOCOL_VERSION => Heard::Hello(frame::from_bytes(payload)?),
            other => Heard::OtherVersion(other),
        })
    });
    let heard = heard.await?.ok_or_else(ended_early)?;
    Ok((stream, heard))
}

/// Says no. A peer closes the connection when it has read why; one that does not is cut.
async fn refuse(
    quinn: &quinn::Connection,
    mut stream: FrameStream,
    reason: &str,
) -> Result<(), StreamError> {
    stream.sender.send(&Welcome::Refused { reason: reason.to_owned() }).await?;
    stream.sender.finish().await?;
    // Whether in time or not, the refusal stands.
    let _ = timeout(REFUSAL_LINGER, quinn.closed()).await;
    close(quinn, CloseCode::Refused, reason);
    Ok(())
}

async fn welcomed(shared: Shared, mut stream: FrameStream) -> Result<Connection, StreamError> {
    match shared.purpose {
        Purpose::Control => Ok(Connection::control(shared, stream)),
        Purpose::Data => {
            stream.sender.finish().await?;
            Ok(Connection::data(shared))
        }
    }
}

/// What somebody at `address` did to its handshake.
pub(crate) fn tls_failed(address: SocketAddr, error: quinn::ConnectionError) -> HandshakeError {
    let reason = crate::error::Closed::from(error).to_string();
    HandshakeError::Tls { address, reason }
}
