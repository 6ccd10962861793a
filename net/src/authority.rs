//! The cluster's certificate authority: one Ed25519 key beside the master.
//!
//! Certificates say who a process is and until when; nothing is written down when one is issued.
//! A standby master is started with a copy of the authority's file, which never goes to a bucket.

use crate::certificate::{self, CertificateError};
use crate::credential::{Credential, CredentialError, NewKey, PrivateKey};
use crate::role::{ClusterName, Role};
use crate::secret_file::{self, Existing};
use rand::RngCore;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber, SigningKey,
};
use rustls::pki_types::CertificateSigningRequestDer;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use thiserror::Error;

/// The authority's file in the directory it is created in.
const FILE_NAME: &str = "authority.pem";

/// What follows the cluster's name in the authority's own URI.
const URI_PATH: &str = "/authority";

/// Certificates are valid from this long before they are issued, for machines whose clocks are
/// behind.
const CLOCK_SKEW: Duration = Duration::from_secs(2 * 60 * 60);

/// Life of a certificate of a master, worker, driver or executor; they renew at two thirds.
const NODE_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Life of a tenant's certificate: a person has to fetch the next one.
const TENANT_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Life of the authority itself.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);

/// Bytes of a serial number: random, and of one length so that certificates are too.
const SERIAL_BYTES: usize = 16;

/// Signs certificates and join tokens.
pub struct Authority {
    cluster: ClusterName,
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
}

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before this moment.
    pub not_before: SystemTime,
    /// Not after this moment.
    pub not_after: SystemTime,
}

/// Why the authority cannot be opened or will not sign.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// There is an authority in the directory already.
    #[error("{} exists already; open it, or choose another directory", path.display())]
    Exists {
        /// Its file.
        path: PathBuf,
    },
    /// There is none.
    #[error("no authority at {}", path.display())]
    Missing {
        /// Where its file would be.
        path: PathBuf,
    },
    /// The file cannot be read, written or understood.
    #[error(transparent)]
    File(#[from] CredentialError),
    /// The signing request is not signed with its own key, or is no request at all.
    #[error("the signing request is not valid: {reason}")]
    Request {
        /// The parser's word for it.
        reason: String,
    },
    /// The id in the role does not have the form that it must have.
    #[error("{role} is not a role that a certificate can name")]
    Role {
        /// The role asked for.
        role: Role,
    },
    /// The library refused to sign.
    #[error("cannot sign: {reason}")]
    Sign {
        /// The library's word for it.
        reason: String,
    },
}

// === impl Authority ===

impl Authority {
    /// An authority for a new cluster, kept nowhere: for clusters that live inside one process.
    pub fn generate(cluster: ClusterName, now: SystemTime) -> Result<Self, AuthorityError> {
        let key = NewKey::generate()?.into_pair();
        let params = authority_params(&cluster, now)?;
        let certificate = params.self_signed(&key).map_err(sign_error)?.der().to_vec();
        Ok(Self { cluster, issuer: Issuer::new(params, key), certificate })
    }

    /// Creates the authority of a new cluster with a random name in `directory`.
    ///
    /// Of two processes that do this at once, one gets [`AuthorityError::Exists`].
    pub fn create(directory: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        let authority = Self::generate(ClusterName::random(), now)?;
        let path = directory.join(FILE_NAME);
        let cluster = &authority.cluster;
        let mut text = format!("Authority of the Offshoot cluster {cluster}. Keep it secret.\n\n");
        secret_file::push_pem(&mut text, "CERTIFICATE", &authority.certificate);
        secret_file::push_pem(&mut text, "PRIVATE KEY", &authority.issuer.key().serialize_der());
        match secret_file::write(&path, &text, Existing::Refuse) {
            Ok(()) => Ok(authority),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(AuthorityError::Exists { path })
            }
            Err(source) => Err(CredentialError::Write { path, source }.into()),
        }
    }

    /// Opens the authority that [`Authority::create`] left in `directory`.
    pub fn open(directory: &Path) -> Result<Self, AuthorityError> {
        let path = directory.join(FILE_NAME);
        let bytes = match secret_file::read(&path) {
            Err(CredentialError::Read { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                return Err(AuthorityError::Missing { path });
            }
            other => other?,
        };
        Self::from_pem(&bytes).map_err(|reason| CredentialError::Malformed { path, reason }.into())
    }

    /// Opens the authority in `directory`, or creates it if there is none.
    pub fn open_or_create(directory: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        match Self::open(directory) {
            Err(AuthorityError::Missing { .. }) => match Self::create(directory, now) {
                Err(AuthorityError::Exists { .. }) => Self::open(directory),
                other => other,
            },
            other => other,
        }
    }

    fn from_pem(bytes: &[u8]) -> Result<Self, String> {
        let blocks = secret_file::parse_pem(bytes)?;
        let (Ok([certificate]), Ok([key])) =
            (<[Vec<u8>; 1]>::try_from(blocks.certificates), <[Vec<u8>; 1]>::try_from(blocks.keys))
        else {
            return Err("it must have one CERTIFICATE and one PRIVATE KEY block".to_owned());
        };
        let key = NewKey::from_private(&PrivateKey::from_pkcs8(key)).map_err(|e| e.to_string())?;
        let public_key = certificate::public_key(&certificate).map_err(|e| e.to_string())?;
        if public_key != key.public_key() {
            return Err("the key is not the certificate's".to_owned());
        }
        let cluster = cluster_of(&certificate).map_err(|error| error.to_string())?;
        let issuer = Issuer::from_ca_cert_der(&certificate.as_slice().into(), key.into_pair())
            .map_err(|error| error.to_string())?;
        Ok(Self { cluster, issuer, certificate })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// DER of the authority's own certificate.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Issues a certificate (DER) for the key that signed `request`. Nothing else of the request
    /// is taken over.
    pub fn issue(
        &self,
        role: &Role,
        request: &[u8],
        validity: Validity,
    ) -> Result<Vec<u8>, AuthorityError> {
        let key = signing_request_key(request)?;
        self.sign(role, &key, validity)
    }

    /// A fresh key and its certificate: for processes that the cluster itself starts.
    pub fn mint(&self, role: &Role, validity: Validity) -> Result<Credential, AuthorityError> {
        let key = NewKey::generate()?;
        let certificate = self.sign(role, key.pair(), validity)?;
        Ok(key.into_credential(certificate, self.certificate.clone())?)
    }

    /// The raw public key of the authority.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.issuer.key().der_bytes()
    }

    pub(crate) fn sign_statement(&self, statement: &[u8]) -> Result<Vec<u8>, AuthorityError> {
        self.issuer.key().sign(statement).map_err(sign_error)
    }

    fn sign(
        &self,
        role: &Role,
        key: &impl PublicKeyData,
        validity: Validity,
    ) -> Result<Vec<u8>, AuthorityError> {
        if !role.is_valid() {
            return Err(AuthorityError::Role { role: role.clone() });
        }
        let params = leaf_params(role, &self.cluster, validity)?;
        let certificate = params.signed_by(key, &self.issuer).map_err(sign_error)?;
        Ok(certificate.der().to_vec())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// The key of a signing request, after checking that the request is signed with it.
pub(crate) fn signing_request_key(request: &[u8]) -> Result<rcgen::PublicKey, AuthorityError> {
    let der = CertificateSigningRequestDer::from(request);
    let parsed = CertificateSigningRequestParams::from_der(&der)
        .map_err(|error| AuthorityError::Request { reason: error.to_string() })?;
    if parsed.public_key.algorithm() != &rcgen::PKCS_ED25519 {
        return Err(AuthorityError::Request { reason: "the key is not Ed25519".to_owned() });
    }
    Ok(parsed.public_key)
}

/// The cluster that an authority's certificate names.
pub(crate) fn cluster_of(certificate: &[u8]) -> Result<ClusterName, CertificateError> {
    let uri = certificate::only_uri_of(certificate)?;
    uri.strip_prefix("offshoot://")
        .and_then(|rest| rest.strip_suffix(URI_PATH))
        .and_then(ClusterName::parse)
        .ok_or_else(|| crate::role::RoleError::Malformed { uri }.into())
}

fn authority_params(
    cluster: &ClusterName,
    now: SystemTime,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = base_params(&format!("Offshoot cluster {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names = vec![uri_name(format!("offshoot://{cluster}{URI_PATH}"))?];
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + AUTHORITY_LIFETIME).into();
    Ok(params)
}

fn leaf_params(
    role: &Role,
    cluster: &ClusterName,
    validity: Validity,
) -> Result<CertificateParams, AuthorityError> {
    let kind = role.kind();
    let mut params = base_params(&format!("Offshoot {kind}"));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let server_name = kind.server_name().try_into().map_err(sign_error)?;
    params.subject_alt_names = vec![SanType::DnsName(server_name), uri_name(role.uri(cluster))?];
    params.use_authority_key_identifier_extension = true;
    params.not_before = validity.not_before.into();
    params.not_after = validity.not_after.into();
    Ok(params)
}

fn base_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(random_serial());
    params
}

fn uri_name(uri: String) -> Result<SanType, AuthorityError> {
    Ok(SanType::URI(uri.try_into().map_err(sign_error)?))
}

/// Positive and without leading zeros, so that its encoding always has the same length.
fn random_serial() -> SerialNumber {
    let mut bytes = [0; SERIAL_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn sign_error(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Sign { reason: error.to_string() }
}

// === impl Validity ===

impl Validity {
    /// From two hours before `now` (clocks differ) until `lifetime` after it.
    pub fn lasting(lifetime: Duration, now: SystemTime) -> Self {
        Self { not_before: now - CLOCK_SKEW, not_after: now + lifetime }
    }

    /// 24 hours: masters, workers, drivers, executors.
    pub fn of_node(now: SystemTime) -> Self {
        Self::lasting(NODE_LIFETIME, now)
    }

    /// 365 days: the credential that a person keeps.
    pub fn of_tenant(now: SystemTime) -> Self {
        Self::lasting(TENANT_LIFETIME, now)
    }
}
