//! The program as a person runs it: real processes, real certificates, real files, on loopback.
#![allow(clippy::unwrap_used)]

mod allocation;
mod bad_input;
mod draining;
mod explain;
mod formats;
mod jobs;
mod keeping;
mod losses;
mod memory;
mod placement;
mod pools;
mod settings;
mod sharing;
mod stores;
mod support;
mod text;
