//! Reads what a verified certificate says about its holder.
//!
//! The chain, the dates and the signature are the business of the TLS library's own verifier.
//! What it leaves open is decided here: exactly one URI, of this cluster, that names a role, with
//! the DNS name of that role's kind, for use by both clients and servers.

use crate::role::{ClusterName, Role, RoleError};
use crate::tls;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// What a certificate of the cluster says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterName,
    pub(crate) role: Role,
    pub(crate) not_after: SystemTime,
    /// The raw public key.
    pub(crate) public_key: Vec<u8>,
}

/// Why a certificate names nobody of this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// The bytes are not a certificate.
    #[error("not an X.509 certificate: {reason}")]
    Malformed {
        /// The parser's word for it.
        reason: String,
    },
    /// A certificate of an authority is not one of a process.
    #[error("the certificate is an authority's, not a process's")]
    IsAuthority,
    /// There must be exactly one URI name.
    #[error("the certificate has {count} URI names, exactly 1 is needed")]
    UriNames {
        /// How many there are.
        count: usize,
    },
    /// The one URI names no role of this cluster.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// The DNS names must be the one of the role's kind.
    #[error("the certificate of {role} must have the one DNS name {expected}, found {found:?}")]
    ServerName {
        /// The role in the URI.
        role: Role,
        /// The only DNS name allowed.
        expected: &'static str,
        /// The DNS names found.
        found: Vec<String>,
    },
    /// The extended key usage must name both sides of TLS.
    #[error("the certificate is not for use by both TLS clients and TLS servers")]
    KeyUsage,
}

// === impl Identity ===

impl Identity {
    /// Reads a certificate of `cluster`.
    pub(crate) fn of(der: &[u8], cluster: &ClusterName) -> Result<Self, CertificateError> {
        let identity = Self::of_any_cluster(der)?;
        if identity.cluster != *cluster {
            let (expected, found) = (cluster.clone(), identity.cluster);
            return Err(RoleError::OtherCluster { expected, found }.into());
        }
        Ok(identity)
    }

    /// Reads a certificate without knowing its cluster, for files that say which one it is.
    pub(crate) fn of_any_cluster(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        if certificate.is_ca() {
            return Err(CertificateError::IsAuthority);
        }
        let (cluster, role) = Role::from_uri(&only_uri(&certificate)?)?;
        let expected = role.kind().server_name();
        let found = names(&certificate, |name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        if found != [expected] {
            return Err(CertificateError::ServerName { role, expected, found });
        }
        if !is_for_both_sides(&certificate) {
            return Err(CertificateError::KeyUsage);
        }
        let not_after = certificate.validity().not_after.timestamp().try_into().unwrap_or(0);
        Ok(Self {
            cluster,
            role,
            not_after: UNIX_EPOCH + Duration::from_secs(not_after),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
        })
    }
}

/// The raw public key of a certificate, whoever holds it.
pub(crate) fn public_key(der: &[u8]) -> Result<Vec<u8>, CertificateError> {
    Ok(parse(der)?.public_key().subject_public_key.data.to_vec())
}

/// The one URI name of a certificate.
pub(crate) fn only_uri_of(der: &[u8]) -> Result<String, CertificateError> {
    only_uri(&parse(der)?)
}

/// Whether `der` carries a signature of `authority`'s key. Dates and use are not looked at.
pub(crate) fn is_signed_by(der: &[u8], authority: &[u8]) -> Result<bool, CertificateError> {
    let certificate = parse(der)?;
    let signed = certificate.tbs_certificate.as_ref();
    Ok(tls::verify_ed25519(&public_key(authority)?, signed, &certificate.signature_value.data))
}

fn only_uri(certificate: &X509Certificate<'_>) -> Result<String, CertificateError> {
    let mut uris = names(certificate, |name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    let count = uris.len();
    uris.pop().filter(|_| count == 1).ok_or(CertificateError::UriNames { count })
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let malformed = |reason: String| CertificateError::Malformed { reason };
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|error| malformed(error.to_string()))?;
    if rest.is_empty() {
        Ok(certificate)
    } else {
        Err(malformed(format!("{} bytes left over", rest.len())))
    }
}

/// The names of one sort in every subject alternative name extension: a certificate that repeats
/// the extension must not hide a name in the second one.
fn names(
    certificate: &X509Certificate<'_>,
    pick: impl Fn(&GeneralName<'_>) -> Option<String>,
) -> Vec<String> {
    certificate
        .iter_extensions()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten()
        .filter_map(pick)
        .collect()
}

fn is_for_both_sides(certificate: &X509Certificate<'_>) -> bool {
    let usage = certificate.extended_key_usage();
    matches!(usage, Ok(Some(usage)) if usage.value.client_auth && usage.value.server_auth)
}
