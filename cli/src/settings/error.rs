//! What is wrong with a setting: where, what, and what would be right.

use super::{Origin, Place, Table};
use offshoot_proto::settings::{SettingError, nearest};
use std::fmt::Display;
use std::io;
use std::path::PathBuf;

/// A setting that is not one, or has no effect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file is there and cannot be read.
    #[error("{}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    /// The file was found, and somebody else may have written it.
    #[error("{}: {why}; name it with --config to use it all the same", path.display())]
    Untrusted { path: PathBuf, why: &'static str },
    /// The file is longer than any that a person writes.
    #[error("{}: more than {limit} bytes; is it another file?", path.display())]
    TooLong { path: PathBuf, limit: u64 },
    /// What is there is no TOML; a key that stands twice is none.
    #[error("{origin}: {what}")]
    Syntax { origin: Origin, what: String },
    /// No such table.
    #[error("{origin}: [{name}]: no such table; {advice}")]
    UnknownTable { origin: Origin, name: String, advice: String },
    /// What is to be a table is none.
    #[error("{origin}: {name}: expected a table, [{name}] on a line of its own")]
    NoTable { origin: Origin, name: String },
    /// No such key or variable.
    #[error("{place}: no such {what}; {advice}")]
    Unknown { place: String, what: &'static str, advice: String },
    /// A key of another table.
    #[error("{place}: has no effect here; it belongs under [{}]", table.name())]
    Elsewhere { place: String, table: Table },
    /// A key that has no place in a file.
    #[error("{place}: does not belong in a file: {why}")]
    NotInFiles { place: String, why: &'static str },
    /// A cluster that is chosen by a file of the current directory.
    #[error(
        "{place}: a file that is found in the current directory may not choose the cluster; move \
         [client] to ~/.config/offshoot/offshoot.toml, or name the file with --config"
    )]
    ClientHere { place: String },
    /// A key in two spellings.
    #[error("{place}: is set already, by {other}")]
    Twice { place: String, other: Origin },
    /// A value that does not fit; `what` is place and value.
    #[error("{what}: expected {expected}")]
    Value { what: String, expected: String },
    /// A pair that is no setting.
    #[error(transparent)]
    Pair(SettingError),
    /// Two that exclude each other, of which one is set too large.
    #[error("{place}: {error}")]
    Contradiction { place: String, error: SettingError },
    /// Two of which one is enough.
    #[error("{place}: has no effect beside {other}; leave one of them out")]
    Both { place: String, other: String },
    /// What is turned off.
    #[error("{place}: has no effect while {needs} is {is} ({because})")]
    NoEffect { place: String, needs: &'static str, is: String, because: String },
    /// A default that is spelt as if it chose something.
    #[error("{place}: false chooses nothing; write consolidate = true instead")]
    NoChoice { place: String },
}

/// What else it could be.
pub(super) fn advice(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are {}", candidates.join(", ")),
    }
}

/// A value with its place, as its origin writes them.
pub(super) fn with_value(place: &Place, value: impl Display) -> String {
    match place.origin {
        Origin::File { .. } => format!("{place} = {value}"),
        _ => format!("{place}={value}"),
    }
}

/// The same error of the same value, with its place.
pub(super) fn misfit(place: &Place, value: &str, error: SettingError) -> Error {
    match error {
        SettingError::BadValue { expected, .. } => {
            Error::Value { what: with_value(place, value), expected }
        }
        other => Error::Pair(other),
    }
}
