//! The wire between Offshoot's processes: QUIC with mutual TLS, typed frames, identities.
//!
//! ```text
//!   role ◄── certificate ◄── credential ◄── authority ──► token
//!                                │                          │
//!   network ──► endpoint ◄───── tls                        join (its own ALPN, no certificate yet)
//!                  │
//!        hello / welcome: version, cluster, purpose, authorisation
//!                  ▼
//!             connection ──► stream (frames and raw chunks)
//! ```
//!
//! An [`Endpoint`] both dials and listens. Two processes that exchange data hold two connections:
//! one for [`Purpose::Control`](offshoot_proto::hello::Purpose), one for `Data`, because QUIC's
//! flow control is per connection too and unread bulk data would starve heartbeats.
//!
//! Deliberately not here: what a role may do (the callback of [`Incoming::handshake`] decides),
//! reconnecting, heartbeats, and the single use of join tokens (the master's log).
#![forbid(unsafe_code)]

mod admission;
mod authority;
mod certificate;
mod complaints;
mod connection;
mod credential;
mod endpoint;
mod error;
mod handshake;
mod join;
mod network;
mod role;
mod run;
mod secret_file;
mod stream;
mod tls;
mod token;
mod transport;
mod windows;

pub use admission::{CONNECTIONS_PER_ADDRESS_MAX, CONNECTIONS_PER_IDENTITY_MAX};
pub use authority::{Authority, AuthorityError, Validity};
pub use certificate::CertificateError;
pub use complaints::Complaints;
pub use connection::{CloseCode, Connection, FrameStream};
pub use credential::{Credential, CredentialError, NewKey, PrivateKey};
pub use endpoint::{Accepts, Arrival, Endpoint, Incoming};
pub use error::{BindError, Closed, ConnectError, HandshakeError, JoinError, StreamError};
pub use join::{JOINS_CONCURRENT_MAX, Joining, join};
pub use network::{BindFuture, Network, UdpNetwork};
pub use role::{ClusterName, Expected, Role, RoleError, RoleKind};
pub use run::run_as_task;
pub use stream::{FrameReceiver, FrameSender, SEND_BACKLOG_BYTES_MAX};
pub use token::{JoinToken, TOKEN_LIFETIME, TokenClaims, TokenError};
pub use transport::{DATA_STREAMS_BY_ACCEPTOR, DATA_STREAMS_BY_DIALLER};
pub use windows::RECEIVE_WINDOWS_BYTES_MAX;
