//! A cluster of endpoints on loopback, and peers that do not play by the rules.

use bytes::Bytes;
use offshoot_net::{
    Accepts, Arrival, Authority, ClusterName, Connection, Credential, Endpoint, HandshakeError,
    Role, UdpNetwork, Validity,
};
use offshoot_proto::frame;
use offshoot_proto::hello::{ALPN_CLUSTER, Purpose};
use offshoot_proto::id::WorkerId;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionId};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ED25519, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Serialize, de::DeserializeOwned};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// Long enough for anything that should happen at all.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An endpoint that runs every handshake and hands out the results.
pub struct Listener {
    pub address: SocketAddr,
    pub results: mpsc::UnboundedReceiver<Result<Connection, HandshakeError>>,
}

/// A certificate made by hand, with its key.
pub struct HandMade {
    pub certificate: Vec<u8>,
    pub key: KeyPair,
}

pub fn now() -> SystemTime {
    SystemTime::now()
}

pub fn authority() -> Authority {
    Authority::generate(ClusterName::random(), now()).unwrap()
}

pub fn worker(id: &str) -> Role {
    Role::Worker(WorkerId(id.to_owned()))
}

pub fn mint(authority: &Authority, role: Role) -> Credential {
    authority.mint(&role, Validity::of_node(now())).unwrap()
}

pub async fn dialler(authority: &Authority, role: Role) -> Endpoint {
    bind(mint(authority, role), Accepts::Nothing).await
}

pub async fn bind(credential: Credential, accepts: Accepts) -> Endpoint {
    Endpoint::bind(&UdpNetwork, LOOPBACK, credential, accepts).await.unwrap()
}

pub async fn listen(authority: &Authority, role: Role) -> Listener {
    listen_with(mint(authority, role), |_, _| Ok(())).await
}

pub async fn listen_with(
    credential: Credential,
    authorise: fn(&Role, Purpose) -> Result<(), String>,
) -> Listener {
    let endpoint = bind(credential, Accepts::Members).await;
    let address = endpoint.local_address().unwrap();
    let (send, results) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(arrival) = endpoint.accept().await {
            let Arrival::Member(incoming) = arrival else { panic!("joins are not served") };
            let send = send.clone();
            tokio::spawn(async move { send.send(incoming.handshake(authorise).await) });
        }
    });
    Listener { address, results }
}

impl Listener {
    pub async fn next(&mut self) -> Result<Connection, HandshakeError> {
        tokio::time::timeout(PATIENCE, self.results.recv()).await.unwrap().unwrap()
    }
}

/// Both ends of a welcomed connection between a dialling worker and a listening master.
pub async fn connected(purpose: Purpose) -> (Connection, Connection, Listener, Endpoint) {
    let authority = authority();
    let mut listener = listen(&authority, Role::Master).await;
    let dialler = dialler(&authority, worker("w1")).await;
    let dialled = dialler.connect(listener.address, Role::Master, purpose).await.unwrap();
    let accepted = listener.next().await.unwrap();
    (dialled, accepted, listener, dialler)
}

/// A certificate for a worker, signed by `issuer`, with `change` applied to its contents.
pub fn hand_made(
    issuer: &Issuer<'_, KeyPair>,
    cluster: &ClusterName,
    change: impl FnOnce(&mut CertificateParams),
) -> HandMade {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut params = CertificateParams::new(vec!["worker.offshoot".to_owned()]).unwrap();
    params.subject_alt_names.push(uri(&worker("w1").uri(cluster)));
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    change(&mut params);
    let certificate = params.signed_by(&key, issuer).unwrap().der().to_vec();
    HandMade { certificate, key }
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A bare QUIC client that trusts `authority` as servers and shows whatever it is told to.
pub struct BareClient {
    endpoint: quinn::Endpoint,
    config: ClientConfig,
}

impl BareClient {
    pub fn new(authority: &[u8], shown: Option<&HandMade>, alpn: &[u8]) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(authority.to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => {
                let chain = vec![CertificateDer::from(shown.certificate.clone())];
                let key = PrivatePkcs8KeyDer::from(shown.key.serialize_der());
                builder.with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(key)).unwrap()
            }
        };
        tls.alpn_protocols = vec![alpn.to_vec()];
        let crypto = Arc::new(QuicClientConfig::try_from(tls).unwrap());
        let endpoint = quinn::Endpoint::client(LOOPBACK).unwrap();
        let config = ClientConfig::new(crypto);
        Self { endpoint, config }.marked(b'C')
    }

    /// A client with a good certificate.
    pub fn member(authority: &Authority, issuer: &Issuer<'_, KeyPair>) -> Self {
        let good = hand_made(issuer, authority.cluster(), |_| {});
        Self::new(authority.certificate(), Some(&good), ALPN_CLUSTER)
    }

    /// Marks connections with the first byte of the id that starts them.
    pub fn marked(mut self, mark: u8) -> Self {
        self.config.initial_dst_cid_provider(Arc::new(move || {
            let mut id: [u8; 20] = rand::random();
            id[0] = mark;
            ConnectionId::new(&id)
        }));
        self
    }

    pub async fn dial(
        &self,
        address: SocketAddr,
    ) -> Result<quinn::Connection, quinn::ConnectionError> {
        let config = self.config.clone();
        self.endpoint.connect_with(config, address, "master.offshoot").unwrap().await
    }
}

/// Sends one frame on a new stream and reads the one that comes back.
pub async fn ask<Q: Serialize, A: DeserializeOwned>(
    connection: &quinn::Connection,
    question: &Q,
) -> A {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let mut bytes = Vec::new();
    frame::append(question, 1 << 20, &mut bytes).unwrap();
    send.write_chunk(Bytes::from(bytes)).await.unwrap();
    let mut header = [0; frame::HEADER_BYTES];
    receive.read_exact(&mut header).await.unwrap();
    let mut payload = vec![0; frame::payload_length(header, 1 << 20).unwrap()];
    receive.read_exact(&mut payload).await.unwrap();
    frame::from_bytes(&payload).unwrap()
}

/// An authority on disk and an issuer that has got hold of its key.
pub fn stolen_authority() -> (Authority, Issuer<'static, KeyPair>) {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::create(directory.path(), now()).unwrap();
    let text = std::fs::read_to_string(directory.path().join("authority.pem")).unwrap();
    let key = KeyPair::from_pem(&text[text.find("-----BEGIN PRIVATE KEY").unwrap()..]).unwrap();
    let issuer = Issuer::from_ca_cert_der(&authority.certificate().into(), key).unwrap();
    (authority, issuer)
}
