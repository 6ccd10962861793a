//! How an application reaches object stores: where they are, and with whose credentials.

use core::fmt;
use serde::{Deserialize, Serialize};

/// Environment variables of `offshoot submit` that [`StoreOptions`] are made of.
pub const VARIABLES: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
];

/// What a client of an object store must know. Goes from the submitter to the driver and the
/// executors, in memory only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreOptions {
    /// `AWS_ACCESS_KEY_ID`. Without it requests are not signed, which public buckets accept.
    pub access_key_id: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Option<String>,
    /// `AWS_SESSION_TOKEN`, of temporary credentials.
    pub session_token: Option<String>,
    /// `AWS_REGION`; `us-east-1` if unset.
    pub region: Option<String>,
    /// `AWS_ENDPOINT_URL`: another store than Amazon's. Only one that begins with `http://` is
    /// spoken to without TLS.
    pub endpoint: Option<String>,
}

// === impl StoreOptions ===

impl StoreOptions {
    /// Takes [`VARIABLES`] from an environment; an empty one counts as unset.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let [access_key_id, secret_access_key, session_token, region, endpoint] =
            VARIABLES.map(|name| variable(name).filter(|value| !value.is_empty()));
        Self { access_key_id, secret_access_key, session_token, region, endpoint }
    }
}

/// Without the credentials: what is printed ends in a log.
impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("signed", &self.access_key_id.is_some())
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::StoreOptions;

    #[test]
    fn nothing_secret_is_printed() {
        let options = StoreOptions::from_environment(|name| {
            Some(if name.starts_with("AWS_R") { "here".into() } else { format!("secret {name}") })
        });
        let options = StoreOptions { endpoint: None, ..options };
        assert!(options.secret_access_key.is_some() && options.session_token.is_some());
        let printed = format!("{options:?} {options:#?}");
        assert!(printed.contains("here") && !printed.contains("secret AWS"), "{printed}");
    }
}
