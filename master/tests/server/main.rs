//! A real master over QUIC on loopback, with workers, drivers and tools that the tests play.
#![allow(clippy::unwrap_used)]

mod apps;
mod drains;
mod joining;
mod launches;
mod modules;
mod roles;
mod support;
mod tenants;
