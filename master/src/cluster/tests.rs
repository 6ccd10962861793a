//! One event, the whole action list.
#![allow(clippy::unwrap_used)]

mod apps;
mod draining;
pub(crate) mod env;
mod large;
mod leases;
mod limits;
mod placement;
mod restarts;
mod rows;
mod sharing;
mod waiting;
