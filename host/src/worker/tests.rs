//! The worker around its state machine, with a scripted master over real QUIC on loopback, and
//! executors that do as they are told.
#![allow(clippy::unwrap_used)]

mod config;
mod executors;
mod master;
mod support;
