//! Modules: what is refused, by name, and how one build is made to serve driver and tasks.
//!
//! ```text
//!   submitted ──check──► features, limits, imports, exports
//!             ──rewrite─► no active data, no start function; mutable globals exported
//!             ──image───► the data that the host writes into the driver's memory itself
//! ```
//!
//! A fork must start with the driver's memory and globals: so data segments are written once, by
//! the host, and every mutable global, `__stack_pointer` among them, can be read and set.

mod check;
mod rewrite;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use check::{MAX_BODY_BYTES, MAX_FUNCTIONS, MAX_LOCALS, MAX_NESTING};

/// Name under which the rewritten module exports mutable global `n`.
pub fn global_export(index: usize) -> String {
    format!("offshoot:global:{index}")
}

/// Name under which the rewritten module exports its start function.
pub const START_EXPORT: &str = "offshoot:start";

/// A module that passed the checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The rewritten module, to be compiled.
    pub wasm: Vec<u8>,
    /// What the slot must know of it.
    pub info: ModuleInfo,
}

/// What a slot must know of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// Active data: offset in memory and bytes, in order.
    pub data: Vec<(u32, Vec<u8>)>,
    /// How many mutable globals it has.
    pub globals: usize,
    /// Whether it has a start function.
    pub has_start: bool,
    /// Whether it imports anything of `offshoot1`: otherwise it is a job without tasks.
    pub is_job: bool,
}

/// Why a module is refused. The text says what, where, the limit and the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ModuleError {
    /// Not a module at all.
    #[error("InvalidModule: {0}")]
    Invalid(String),
    /// A module that uses what jobs may not use.
    #[error("UnsupportedFeature: {0}")]
    Unsupported(String),
    /// Over a limit that keeps compilation bounded.
    #[error("ModuleTooLarge: {what} is {value}, limit {limit}")]
    TooLarge {
        /// What is measured, and where.
        what: String,
        /// Its value.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// An import that no host function answers.
    #[error("UnknownImport: {name}{}; available: {available}", more(.others))]
    UnknownImport {
        /// `module::name` of the first.
        name: String,
        /// How many more.
        others: usize,
        /// Where imports may come from.
        available: String,
    },
    /// An import that exists with another type.
    #[error("UnknownImport: {name} has type {found}; the host's has {expected}")]
    ImportType {
        /// `module::name`.
        name: String,
        /// In the module.
        found: String,
        /// In the host.
        expected: String,
    },
    /// An export that is missing or has another type.
    #[error("MissingExport: {expected}; the module {reason} and exports: {exports}")]
    MissingExport {
        /// Name and type.
        expected: String,
        /// Why it is needed.
        reason: String,
        /// What it exports instead.
        exports: String,
    },
}

/// Checks a submitted module and rewrites it.
pub fn prepare(wasm: &[u8]) -> Result<Prepared, ModuleError> {
    let facts = check::check(wasm)?;
    rewrite::rewrite(wasm, &facts)
}

fn more(others: &usize) -> String {
    if *others == 0 { String::new() } else { format!(" (+{others} more)") }
}
