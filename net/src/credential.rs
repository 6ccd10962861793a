//! What a process shows to prove who it is: a certificate of the cluster, its key, and the
//! authority's certificate to check others with.

use crate::certificate::{self, CertificateError, Identity};
use crate::role::{ClusterName, Role};
use crate::secret_file::{self, Existing};
use core::fmt;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use thiserror::Error;

/// A member's proof of identity.
///
/// It travels inside a launch order and lies in a file of mode 0600; whoever holds it *is* the
/// role. `Debug` does not print the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    cluster: ClusterName,
    role: Role,
    certificate: Vec<u8>,
    key: PrivateKey,
    authority: Vec<u8>,
}

/// A private key in PKCS #8 form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateKey(Vec<u8>);

/// A fresh key that has no certificate yet.
pub struct NewKey {
    pair: KeyPair,
}

/// Why a credential cannot be used.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than the owner can read the key.
    #[error(
        "{} has mode {mode:03o}: others could read the key in it; run chmod 600 on it",
        path.display()
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is there, but is not what it should be.
    #[error("{} is not a credential: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate names nobody.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Certificate, key and authority do not belong together.
    #[error("the credential is not consistent: {reason}")]
    Inconsistent {
        /// What does not fit.
        reason: String,
    },
    /// The key is not one that can be used.
    #[error("the private key cannot be used: {reason}")]
    Key {
        /// The library's word for it.
        reason: String,
    },
}

// === impl Credential ===

impl Credential {
    /// Puts a credential together and checks that its parts belong together: the certificate
    /// names a role, is signed by `authority` and is for `key`. An expired one is accepted here
    /// (and refused by whoever is dialled), so that its file can still be read and renewed.
    pub fn new(
        certificate: Vec<u8>,
        key: PrivateKey,
        authority: Vec<u8>,
    ) -> Result<Self, CredentialError> {
        let identity = Identity::of_any_cluster(&certificate)?;
        let Identity { cluster, role, .. } = identity;
        let credential = Self { cluster, role, certificate, key, authority };
        credential.check()?;
        Ok(credential)
    }

    /// The cluster that it belongs to.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Who the holder is.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// DER of the certificate.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// DER of the authority's certificate.
    pub fn authority(&self) -> &[u8] {
        &self.authority
    }

    /// When the certificate ends. Nodes renew when two thirds of its life are over.
    pub fn not_after(&self) -> Result<SystemTime, CredentialError> {
        Ok(self.identity()?.not_after)
    }

    /// Checks a credential that came from elsewhere (it is plain data, so a launch order could
    /// carry nonsense). Every endpoint does this before it uses one.
    pub fn check(&self) -> Result<(), CredentialError> {
        let identity = self.identity()?;
        let inconsistent = |reason: String| CredentialError::Inconsistent { reason };
        if identity.role != self.role {
            let Self { role, .. } = self;
            let found = identity.role;
            return Err(inconsistent(format!("role {role}, but the certificate is {found}'s")));
        }
        if NewKey::from_private(&self.key)?.public_key() != identity.public_key {
            return Err(inconsistent("the key is not the certificate's".to_owned()));
        }
        if !certificate::is_signed_by(&self.certificate, &self.authority)? {
            return Err(inconsistent("the certificate is not signed by the authority".to_owned()));
        }
        Ok(())
    }

    /// Writes the credential to `path`, replacing what is there, with mode 0600.
    pub fn save(&self, path: &Path) -> Result<(), CredentialError> {
        let uri = self.role.uri(&self.cluster);
        let mut text = format!("Offshoot credential of {uri}. Keep it secret.\n\n");
        secret_file::push_pem(&mut text, "CERTIFICATE", &self.certificate);
        secret_file::push_pem(&mut text, "PRIVATE KEY", &self.key.0);
        secret_file::push_pem(&mut text, "CERTIFICATE", &self.authority);
        secret_file::write(path, &text, Existing::Replace)
            .map_err(|source| CredentialError::Write { path: path.to_owned(), source })
    }

    /// Reads what [`Credential::save`] wrote.
    pub fn load(path: &Path) -> Result<Self, CredentialError> {
        let malformed = |reason| CredentialError::Malformed { path: path.to_owned(), reason };
        let bytes = secret_file::read(path)?;
        let blocks = secret_file::parse_pem(&bytes).map_err(malformed)?;
        let (certificates, keys) = (blocks.certificates.len(), blocks.keys.len());
        let Ok([certificate, authority]) = <[Vec<u8>; 2]>::try_from(blocks.certificates) else {
            return Err(malformed(format!("{certificates} CERTIFICATE blocks, 2 are needed")));
        };
        let Ok([key]) = <[Vec<u8>; 1]>::try_from(blocks.keys) else {
            return Err(malformed(format!("{keys} PRIVATE KEY blocks, 1 is needed")));
        };
        Self::new(certificate, PrivateKey(key), authority)
            .map_err(|error| malformed(error.to_string()))
    }

    pub(crate) fn certificate_der(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.certificate.clone())
    }

    pub(crate) fn authority_der(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.authority.clone())
    }

    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        self.key.to_der()
    }

    fn identity(&self) -> Result<Identity, CredentialError> {
        Ok(Identity::of(&self.certificate, &self.cluster)?)
    }
}

// === impl PrivateKey ===

impl PrivateKey {
    pub(crate) fn from_pkcs8(der: Vec<u8>) -> Self {
        Self(der)
    }

    pub(crate) fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.clone()))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

// === impl NewKey ===

impl NewKey {
    /// A fresh Ed25519 key.
    pub fn generate() -> Result<Self, CredentialError> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(key_error)?;
        Ok(Self { pair })
    }

    pub(crate) fn from_private(key: &PrivateKey) -> Result<Self, CredentialError> {
        let der = PrivatePkcs8KeyDer::from(key.0.as_slice());
        let pair =
            KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).map_err(key_error)?;
        Ok(Self { pair })
    }

    /// The raw public key.
    pub fn public_key(&self) -> &[u8] {
        self.pair.der_bytes()
    }

    /// DER of a signing request for [`Authority::issue`](crate::Authority::issue). It asks for
    /// nothing by name: who the holder becomes is the authority's decision.
    pub fn signing_request(&self) -> Result<Vec<u8>, CredentialError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.pair).map_err(key_error)?;
        Ok(request.der().to_vec())
    }

    /// Joins the key with the certificate that was issued for it.
    pub fn into_credential(
        self,
        certificate: Vec<u8>,
        authority: Vec<u8>,
    ) -> Result<Credential, CredentialError> {
        Credential::new(certificate, self.private(), authority)
    }

    pub(crate) fn private(&self) -> PrivateKey {
        PrivateKey(self.pair.serialize_der())
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    pub(crate) fn into_pair(self) -> KeyPair {
        self.pair
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewKey(..)")
    }
}

fn key_error(error: rcgen::Error) -> CredentialError {
    CredentialError::Key { reason: error.to_string() }
}
