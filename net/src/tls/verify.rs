//! Who is let in, and who is whom: the stock certificate verifiers, and the role on top.
//!
//! A peer that is turned away is told nothing but "access denied": the reason goes to this side's
//! log, or to the caller that dialled.

use super::{provider, roots};
use crate::certificate::{CertificateError, Identity};
use crate::complaints::Complaints;
use crate::role::{ClusterName, Expected, Role, RoleKind};
use crate::token::TokenClaims;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError as TlsCertificateError, DigitallySignedStruct, DistinguishedName, Error,
    PeerMisbehaved, SignatureScheme,
};
use std::sync::{Arc, Mutex, PoisonError};

/// Why this side turned away the server that it dialled.
#[derive(Clone, Debug)]
pub(crate) enum Rejection {
    /// A member of the cluster, but not the one that was expected.
    WrongPeer(Role),
    /// Not a member of the cluster.
    Untrusted(String),
}

/// Where a verifier leaves its reason for whoever dialled.
#[derive(Clone, Debug, Default)]
pub(crate) struct RejectionNote(Arc<Mutex<Option<Rejection>>>);

/// Lets in clients with a certificate of the cluster that names a role.
#[derive(Debug)]
pub(super) struct MemberVerifier {
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    pub(super) cluster: ClusterName,
    pub(super) complaints: Complaints,
}

/// Accepts the server only if it is whom the dialler expects.
#[derive(Debug)]
pub(super) struct ExpectedServerVerifier {
    pub(super) chain: Arc<WebPkiServerVerifier>,
    pub(super) cluster: ClusterName,
    pub(super) expected: Expected,
    pub(super) note: RejectionNote,
}

/// Lets in anybody who proves possession of the key in its certificate, whoever signed that: what
/// a joining client may then do is decided by its token.
#[derive(Debug)]
pub(super) struct AnyKeyVerifier {
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

/// Trusts the authority whose digest a join token carries, and only a master of it.
#[derive(Debug)]
pub(super) struct PinnedAuthorityVerifier {
    pub(super) claims: TokenClaims,
    pub(super) note: RejectionNote,
}

// === impl RejectionNote ===

impl RejectionNote {
    pub(crate) fn take(&self) -> Option<Rejection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, rejection: Rejection) -> Error {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(rejection);
        denied()
    }
}

// === impl MemberVerifier ===

impl ClientCertVerifier for MemberVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let refuse = |reason: &dyn std::fmt::Display| {
            self.complaints.warn(format_args!("refused a client's certificate: {reason}"));
            denied()
        };
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|error| refuse(&error))?;
        Identity::of(end_entity, &self.cluster).map_err(|error| refuse(&error))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

// === impl ExpectedServerVerifier ===

impl ExpectedServerVerifier {
    fn untrusted(&self, reason: impl ToString) -> Error {
        self.note.put(Rejection::Untrusted(reason.to_string()))
    }

    fn role_of(&self, certificate: &CertificateDer<'_>) -> Result<Role, CertificateError> {
        Ok(Identity::of(certificate, &self.cluster)?.role)
    }
}

impl ServerCertVerifier for ExpectedServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        // The name is checked after the chain: with a wrong one the certificate is still genuine.
        let wrong_name = matches!(
            verified,
            Err(Error::InvalidCertificate(
                TlsCertificateError::NotValidForName
                    | TlsCertificateError::NotValidForNameContext { .. }
            ))
        );
        if let (Err(error), false) = (&verified, wrong_name) {
            return Err(self.untrusted(error));
        }
        let role = self.role_of(end_entity).map_err(|error| self.untrusted(error))?;
        if wrong_name || !self.expected.admits(&role) {
            return Err(self.note.put(Rejection::WrongPeer(role)));
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

// === impl AnyKeyVerifier ===

impl ClientCertVerifier for AnyKeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

// === impl PinnedAuthorityVerifier ===

impl PinnedAuthorityVerifier {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, String> {
        let authority = intermediates
            .iter()
            .find(|certificate| self.claims.pins(certificate))
            .ok_or("it does not show the authority that issued the token")?;
        let roots = roots(authority.clone().into_owned()).map_err(|error| error.to_string())?;
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| error.to_string())?;
        let verified = chain
            .verify_server_cert(end_entity, &[], server_name, &[], now)
            .map_err(|error| error.to_string())?;
        let identity =
            Identity::of(end_entity, &self.claims.cluster).map_err(|error| error.to_string())?;
        match identity.role.kind() {
            RoleKind::Master => Ok(verified),
            other => Err(format!("it is a {other}, not a master")),
        }
    }
}

impl ServerCertVerifier for PinnedAuthorityVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, server_name, now)
            .map_err(|reason| self.note.put(Rejection::Untrusted(reason)))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What the peer is told, whatever the reason was.
fn denied() -> Error {
    Error::InvalidCertificate(TlsCertificateError::ApplicationVerificationFailure)
}

// TLS 1.3 is the only version offered, so this is never reached.
fn no_tls12() -> Error {
    Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedKxGroup)
}
