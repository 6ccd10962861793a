//! How a command fails: an exit code and one clear line.

use std::fmt::Display;
use std::process::ExitCode;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

/// What the job or this machine did wrong.
const FAILED: u8 = 1;

/// What the user wrote that cannot be meant.
const USAGE: u8 = 2;

/// What the cluster did not do.
const CLUSTER: u8 = 3;

// === impl Failure ===

impl Failure {
    /// This machine cannot do its part.
    pub(crate) fn local(message: impl Display) -> Self {
        Self { code: FAILED, message: message.to_string() }
    }

    /// The user asked for what cannot be meant.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { code: USAGE, message: message.to_string() }
    }

    /// The cluster cannot be reached, or refuses.
    pub(crate) fn cluster(message: impl Display) -> Self {
        Self { code: CLUSTER, message: message.to_string() }
    }

    /// Prints the line, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        eprintln!("offshoot: {}", offshoot_driver::one_line(&self.message));
        ExitCode::from(self.code)
    }
}
