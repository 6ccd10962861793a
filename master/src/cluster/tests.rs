//! One event, the whole action list.
#![allow(clippy::unwrap_used)]

mod apps;
pub(crate) mod env;
mod leases;
mod limits;
mod placement;
mod rows;
mod sharing;
mod waiting;
