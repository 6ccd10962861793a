//! Values of flags.

use crate::failure::Failure;
use offshoot_net::{Credential, Role};
use offshoot_proto::settings::{parse_duration, parse_size};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A size as `512MiB`, `4g` or a number of bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| error.to_string())
}

/// A time as `100ms`, `1s`, `5min` or a number of seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// `HOST:PORT`, resolved once.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let hint = "write it as ADDR:PORT, such as 127.0.0.1:7077";
    let mut found = text.to_socket_addrs().map_err(|error| format!("{error}; {hint}"))?;
    found.next().ok_or_else(|| format!("no address is known for it; {hint}"))
}

/// `A-B`, both included.
pub(crate) fn port_range(text: &str) -> Result<(u16, u16), String> {
    let hint = "write it as A-B with A <= B, such as 40000-40100";
    let (first, last) = text.split_once('-').ok_or(hint)?;
    let port = |text: &str| text.parse::<u16>().map_err(|error| format!("{error}; {hint}"));
    let (first, last) = (port(first)?, port(last)?);
    if first == 0 || first > last { Err(hint.to_owned()) } else { Ok((first, last)) }
}

/// Where compiled modules of this user are kept.
pub(crate) fn cache_directory() -> Result<PathBuf, Failure> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = from("OFFSHOOT_CACHE") {
        return Ok(path.into());
    }
    if let Some(path) = from("XDG_CACHE_HOME") {
        return Ok(Path::new(&path).join("offshoot"));
    }
    let home = from("HOME").ok_or_else(|| {
        Failure::local("no place for compiled modules: set OFFSHOOT_CACHE to a directory")
    })?;
    Ok(Path::new(&home).join(".cache/offshoot"))
}

/// A credential from a flag or the environment.
pub(crate) fn credential(path: Option<&Path>) -> Result<Credential, Failure> {
    let path = path.ok_or_else(|| {
        Failure::usage(
            "a cluster needs a credential: add --credential FILE, set OFFSHOOT_CREDENTIAL, or \
             write [client] credential in offshoot.toml (the master writes one to \
             DIR/admin.credential)",
        )
    })?;
    let credential = Credential::load(path).map_err(Failure::usage)?;
    match credential.role() {
        Role::Tenant(_) => Ok(credential),
        role => Err(Failure::cluster(format!(
            "{}: role {role} may not use the cluster as a tenant does",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ports_are_checked() {
        assert_eq!(port_range("40000-40100"), Ok((40000, 40100)));
        for text in ["40000", "5-4", "0-9", "1-70000", "a-b"] {
            assert!(port_range(text).is_err(), "{text}");
        }
    }
}
