//! One event, the whole action list.
#![allow(clippy::unwrap_used)]

mod env;
mod executors;
mod link;
mod random;
