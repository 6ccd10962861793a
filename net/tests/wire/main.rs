//! The wire between real endpoints on loopback: who gets in, who does not, and what flows.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod hello;
mod identity;
mod joining;
mod retry;
mod secrets;
mod streams;
mod support;
