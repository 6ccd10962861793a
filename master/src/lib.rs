//! The master of an Offshoot cluster: who belongs to it, and who may use what.
//!
//! ```text
//!                 ┌────────────── server ──────────────┐
//!   workers ─────►│ accept ─► sessions ─► core          │      state directory
//!   drivers ─────►│             (frames)   │ Event      │      authority, counters,
//!   tools ───────►│                        ▼            │◄───► redeemed tokens,
//!   joiners ─────►│           Action ◄─ cluster (pure)  │      modules
//!                 └─────────────────────────────────────┘
//! ```
//!
//! [`cluster`] decides and does nothing, and asks [`placement`] which worker gives what; [`server`]
//! does and decides nothing; [`state`] is what survives a restart. A master never sees a task:
//! running applications go on without it.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod free;
pub mod modules;
pub mod placement;
pub mod ports;
pub mod server;
pub mod share;
pub mod state;
