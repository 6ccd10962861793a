//! TLS 1.3 with certificates on both sides, for QUIC.
//!
//! The stock verifiers check chain, dates, signature and server name. Around each stands a thin
//! one that also reads the role, and that tells the peer nothing but "access denied": the reason
//! goes to this side's log, or to the caller that dialled.
//!
//! No tickets, no resumption, no 0-RTT: a resumed handshake does not verify certificates again.

mod verify;

pub(crate) use verify::{Rejection, RejectionNote};

use crate::complaints::Complaints;
use crate::credential::{Credential, NewKey};
use crate::error::BindError;
use crate::role::Expected;
use crate::token::TokenClaims;
use offshoot_proto::hello::{ALPN_CLUSTER, ALPN_JOIN};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::CertificateParams;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, SignatureScheme};
use std::sync::Arc;
use verify::{AnyKeyVerifier, ExpectedServerVerifier, MemberVerifier, PinnedAuthorityVerifier};

/// The name in the throw-away certificate of a process that joins.
const JOINING_NAME: &str = "joining.offshoot";

/// Everything that one credential needs to dial and to listen.
pub(crate) struct Tls {
    pub(crate) credential: Credential,
    pub(crate) server: Arc<QuicServerConfig>,
    pub(crate) join_server: Arc<QuicServerConfig>,
    client: rustls::ClientConfig,
    authority: Arc<WebPkiServerVerifier>,
}

// === impl Tls ===

impl Tls {
    pub(crate) fn new(credential: Credential) -> Result<Self, BindError> {
        credential.check()?;
        let provider = provider();
        let roots = Arc::new(roots(credential.authority_der())?);
        let chain = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| tls_error(&error))?;
        let members = Arc::new(MemberVerifier {
            chain,
            cluster: credential.cluster().clone(),
            complaints: Complaints::default(),
        });
        let anybody =
            Arc::new(AnyKeyVerifier { algorithms: provider.signature_verification_algorithms });
        let authority = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| tls_error(&error))?;
        Ok(Self {
            server: server_config(&credential, members, ALPN_CLUSTER)?,
            join_server: server_config(&credential, anybody, ALPN_JOIN)?,
            client: client_config(authority.clone(), &credential)?,
            authority,
            credential,
        })
    }

    /// A configuration for one dial: it knows whom to expect and where to note a rejection.
    pub(crate) fn client(
        &self,
        expected: &Expected,
    ) -> Result<(Arc<QuicClientConfig>, RejectionNote), BindError> {
        let note = RejectionNote::default();
        let mut client = self.client.clone();
        client.dangerous().set_certificate_verifier(Arc::new(ExpectedServerVerifier {
            chain: self.authority.clone(),
            cluster: self.credential.cluster().clone(),
            expected: expected.clone(),
            note: note.clone(),
        }));
        let client = QuicClientConfig::try_from(client).map_err(|error| tls_error(&error))?;
        Ok((Arc::new(client), note))
    }
}

/// The configuration of a client that has nothing but a token and a fresh key.
pub(crate) fn joining_client(
    claims: &TokenClaims,
    key: &NewKey,
) -> Result<(Arc<QuicClientConfig>, RejectionNote), BindError> {
    let provider = provider();
    let note = RejectionNote::default();
    let verifier = Arc::new(PinnedAuthorityVerifier { claims: claims.clone(), note: note.clone() });
    let certificate = CertificateParams::new(vec![JOINING_NAME.to_owned()])
        .and_then(|params| params.self_signed(key.pair()))
        .map_err(|error| tls_error(&error))?;
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| tls_error(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(vec![certificate.der().clone()], key.private().to_der())
        .map_err(|error| tls_error(&error))?;
    client.alpn_protocols = vec![ALPN_JOIN.to_vec()];
    client.resumption = rustls::client::Resumption::disabled();
    let client = QuicClientConfig::try_from(client).map_err(|error| tls_error(&error))?;
    Ok((Arc::new(client), note))
}

/// Whether `signature` is that of `public_key` (both raw) over `message`.
pub(crate) fn verify_ed25519(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let algorithms = provider().signature_verification_algorithms;
    algorithms
        .mapping
        .iter()
        .filter(|(scheme, _)| *scheme == SignatureScheme::ED25519)
        .flat_map(|(_, algorithms)| algorithms.iter())
        .any(|algorithm| algorithm.verify_signature(public_key, message, signature).is_ok())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(authority: CertificateDer<'static>) -> Result<RootCertStore, BindError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(|error| tls_error(&error))?;
    Ok(roots)
}

/// The server also sends the authority's certificate, which joining clients know by its digest.
fn server_config(
    credential: &Credential,
    verifier: Arc<dyn ClientCertVerifier>,
    alpn: &[u8],
) -> Result<Arc<QuicServerConfig>, BindError> {
    let chain = vec![credential.certificate_der(), credential.authority_der()];
    let mut server = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| tls_error(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, credential.key_der())
        .map_err(|error| tls_error(&error))?;
    server.alpn_protocols = vec![alpn.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    server.max_early_data_size = 0;
    let server = QuicServerConfig::try_from(server).map_err(|error| tls_error(&error))?;
    Ok(Arc::new(server))
}

fn client_config(
    authority: Arc<WebPkiServerVerifier>,
    credential: &Credential,
) -> Result<rustls::ClientConfig, BindError> {
    let mut client = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| tls_error(&error))?
        .with_webpki_verifier(authority)
        .with_client_auth_cert(vec![credential.certificate_der()], credential.key_der())
        .map_err(|error| tls_error(&error))?;
    client.alpn_protocols = vec![ALPN_CLUSTER.to_vec()];
    client.resumption = rustls::client::Resumption::disabled();
    client.enable_early_data = false;
    Ok(client)
}

fn tls_error(error: &dyn std::error::Error) -> BindError {
    BindError::Tls { reason: error.to_string() }
}
