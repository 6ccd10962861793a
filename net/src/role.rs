//! Who a process of the cluster is, and how a certificate says so.
//!
//! A role travels as one URI in the certificate's subject alternative names:
//!
//! ```text
//! offshoot://CLUSTER/master            offshoot://CLUSTER/app/app-1/driver
//! offshoot://CLUSTER/worker/ID         offshoot://CLUSTER/app/app-1/executor/0
//! offshoot://CLUSTER/tenant/NAME
//! ```
//!
//! Beside it stands one DNS name per kind of role, so that the stock verifiers of a TLS library
//! can check what a dialler expects.

use core::fmt;
use offshoot_proto::id::{AppId, ExecutorId, ExecutorNumber, WorkerId};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Characters of a cluster's name: 64 random bits in hexadecimal.
const CLUSTER_NAME_CHARACTERS: usize = 16;

/// Characters of a tenant's name at most, as of a worker's.
const TENANT_NAME_CHARACTERS_MAX: usize = 64;

const SCHEME: &str = "offshoot://";

/// The name of a cluster: random, so that two clusters never take each other's certificates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterName(String);

/// Who a peer is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// The cluster's manager.
    Master,
    /// The daemon of one machine.
    Worker(WorkerId),
    /// A user, by the name of the tenant that pays.
    Tenant(String),
    /// The driver of an application.
    Driver(AppId),
    /// One executor of an application.
    Executor(ExecutorId),
}

/// A [`Role`] without its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RoleKind {
    /// See [`Role::Master`].
    Master,
    /// See [`Role::Worker`].
    Worker,
    /// See [`Role::Tenant`].
    Tenant,
    /// See [`Role::Driver`].
    Driver,
    /// See [`Role::Executor`].
    Executor,
}

/// Whom a dialler wants to find at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Any peer of the kind.
    Kind(RoleKind),
    /// This peer and no other.
    Exactly(Role),
}

/// Text that names no role, or names one with an impossible id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RoleError {
    /// Not a URI of the scheme, or no such path.
    #[error("{uri:?} is not a role of the form offshoot://CLUSTER/worker/ID")]
    Malformed {
        /// What was found.
        uri: String,
    },
    /// The role is well-formed, but of another cluster.
    #[error("role of cluster {found}, this cluster is {expected}")]
    OtherCluster {
        /// The cluster of whoever asked.
        expected: ClusterName,
        /// The cluster in the URI.
        found: ClusterName,
    },
}

// === impl ClusterName ===

impl ClusterName {
    /// A name that no other cluster has.
    pub fn random() -> Self {
        Self(format!("{:016x}", rand::rng().next_u64()))
    }

    /// The name in `text`, if it has the form of one: 16 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == CLUSTER_NAME_CHARACTERS && text.bytes().all(digit))
            .then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Role ===

impl Role {
    /// What kind of role this is.
    pub fn kind(&self) -> RoleKind {
        match self {
            Self::Master => RoleKind::Master,
            Self::Worker(_) => RoleKind::Worker,
            Self::Tenant(_) => RoleKind::Tenant,
            Self::Driver(_) => RoleKind::Driver,
            Self::Executor(_) => RoleKind::Executor,
        }
    }

    /// The URI that a certificate of `cluster` carries for this role.
    pub fn uri(&self, cluster: &ClusterName) -> String {
        format!("{SCHEME}{cluster}/{self}")
    }

    /// Reads the URI of a certificate; the exact opposite of [`Role::uri`]: text that `uri` would
    /// not have produced (`app-01`, a trailing slash) names no role.
    pub fn from_uri(uri: &str) -> Result<(ClusterName, Self), RoleError> {
        let malformed = || RoleError::Malformed { uri: uri.escape_debug().to_string() };
        let rest = uri.strip_prefix(SCHEME).ok_or_else(malformed)?;
        let (cluster, path) = rest.split_once('/').ok_or_else(malformed)?;
        let cluster = ClusterName::parse(cluster).ok_or_else(malformed)?;
        let role = Self::from_path(path).ok_or_else(malformed)?;
        if role.uri(&cluster) == uri { Ok((cluster, role)) } else { Err(malformed()) }
    }

    fn from_path(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        let role = match parts[..] {
            ["master"] => Self::Master,
            ["worker", id] => Self::Worker(WorkerId(id.to_owned())),
            ["tenant", name] => Self::Tenant(name.to_owned()),
            ["app", app, "driver"] => Self::Driver(app.parse().ok()?),
            ["app", app, "executor", number] => Self::Executor(ExecutorId {
                app: app.parse().ok()?,
                number: ExecutorNumber(number.parse().ok()?),
            }),
            _ => return None,
        };
        role.is_valid().then_some(role)
    }

    /// Whether the role's id has the form that it must have.
    pub fn is_valid(&self) -> bool {
        match self {
            Self::Worker(id) => id.is_valid(),
            Self::Tenant(name) => {
                let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                (1..=TENANT_NAME_CHARACTERS_MAX).contains(&name.len()) && name.bytes().all(allowed)
            }
            Self::Master | Self::Driver(_) | Self::Executor(_) => true,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master => f.write_str("master"),
            Self::Worker(id) => write!(f, "worker/{id}"),
            Self::Tenant(name) => write!(f, "tenant/{name}"),
            Self::Driver(app) => write!(f, "app/{app}/driver"),
            Self::Executor(id) => write!(f, "app/{}/executor/{}", id.app, id.number),
        }
    }
}

// === impl RoleKind ===

impl RoleKind {
    /// The DNS name in every certificate of the kind. It resolves nowhere.
    pub fn server_name(self) -> &'static str {
        match self {
            Self::Master => "master.offshoot",
            Self::Worker => "worker.offshoot",
            Self::Tenant => "tenant.offshoot",
            Self::Driver => "driver.offshoot",
            Self::Executor => "executor.offshoot",
        }
    }
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Worker => "worker",
            Self::Tenant => "tenant",
            Self::Driver => "driver",
            Self::Executor => "executor",
        })
    }
}

// === impl Expected ===

impl Expected {
    /// The kind that is expected in either case.
    pub fn kind(&self) -> RoleKind {
        match self {
            Self::Kind(kind) => *kind,
            Self::Exactly(role) => role.kind(),
        }
    }

    /// Whether `role` is whom the dialler wanted.
    pub fn admits(&self, role: &Role) -> bool {
        match self {
            Self::Kind(kind) => role.kind() == *kind,
            Self::Exactly(expected) => role == expected,
        }
    }
}

impl From<RoleKind> for Expected {
    fn from(kind: RoleKind) -> Self {
        Self::Kind(kind)
    }
}

impl From<Role> for Expected {
    fn from(role: Role) -> Self {
        Self::Exactly(role)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "any {kind}"),
            Self::Exactly(role) => role.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn roles() -> Vec<Role> {
        let executor = ExecutorId { app: AppId(7), number: ExecutorNumber(12) };
        vec![
            Role::Master,
            Role::Worker(WorkerId("w-1".into())),
            Role::Tenant("ada".into()),
            Role::Driver(AppId(7)),
            Role::Executor(executor),
        ]
    }

    #[test]
    fn every_role_survives_its_uri() {
        let cluster = ClusterName::random();
        for role in roles() {
            let uri = role.uri(&cluster);
            assert_eq!(Role::from_uri(&uri), Ok((cluster.clone(), role)), "{uri}");
        }
    }

    #[test]
    fn uris_have_one_spelling() {
        let paths = [
            "",
            "master/",
            "Master",
            "worker",
            "worker/",
            "worker/A",
            "worker/a/b",
            "tenant/",
            "tenant/../x",
            "app/1/driver",
            "app/app-01/driver",
            "app/app-1/executor/+1",
            "app/app-1/executor/01",
            "app/app-1/executor/",
            "app/app-1/master",
        ];
        for path in paths {
            let uri = format!("offshoot://0123456789abcdef/{path}");
            assert!(Role::from_uri(&uri).is_err(), "{uri}");
        }
        for uri in [
            "spiffe://0123456789abcdef/master",
            "offshoot://0123456789ABCDEF/master",
            "offshoot://short/master",
            "offshoot:///master",
            "offshoot://0123456789abcdef",
        ] {
            assert!(Role::from_uri(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn an_expectation_admits_only_its_role() {
        let worker = Role::Worker(WorkerId("w1".into()));
        let other = Role::Worker(WorkerId("w2".into()));
        assert!(Expected::from(RoleKind::Worker).admits(&worker));
        assert!(Expected::from(worker.clone()).admits(&worker));
        assert!(!Expected::from(worker).admits(&other));
        assert!(!Expected::from(RoleKind::Worker).admits(&Role::Master));
    }
}
