//! URLs as stores and paths in them.

use crate::StoreError;
use crate::ports::Place;
use object_store::path::Path;
use offshoot_proto::grants::Access;
use std::fmt;

/// Bytes of a URL: an object's key has at most 1,024.
const URL_BYTES_MAX: usize = 2048;

/// Between a listed file's URL and its version. What follows the last one is the version, so a
/// key may have it, too.
const VERSION: &str = "#etag=";

/// Something in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) place: Place,
    pub(crate) path: Path,
    /// Whether the URL ends with a slash, so that it can only be a directory.
    pub(crate) is_directory: bool,
    /// Of a server, as it was written: its path is encoded.
    text: String,
}

// === impl Location ===

impl Location {
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        let bad = |reason: &str| StoreError::BadUrl { url: shown(url), reason: reason.to_owned() };
        if url.len() > URL_BYTES_MAX {
            return Err(bad("it is longer than 2048 bytes"));
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("it has no scheme"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (place, parsed) = match scheme {
            "s3" => {
                let letter = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
                if host.is_empty() || host.contains("..") || !host.chars().all(letter) {
                    return Err(bad("a bucket's name has letters, digits, dots and hyphens"));
                }
                (Place::Bucket(host.to_owned()), Path::parse(path))
            }
            "http" | "https" => {
                if host.is_empty() || host.contains('@') {
                    return Err(bad("a host is needed, without a name and a password"));
                }
                if path.contains(['?', '#']) || host.contains(['?', '#', '\\']) {
                    return Err(bad("it may have neither a query nor a fragment"));
                }
                let place = Place::Server(format!("{scheme}://{}", host.to_ascii_lowercase()));
                (place, Path::from_url_path(path))
            }
            _ => return Err(bad("only s3, http and https are known")),
        };
        let path_of = parsed.map_err(|error| bad(&error.to_string()))?;
        let is_directory = path.is_empty() || path.ends_with('/');
        Ok(Self { place, path: path_of, is_directory, text: url.to_owned() })
    }

    /// A listed file: where it is, and the version that was listed.
    pub(crate) fn of_input(path: &str) -> Result<(Self, Option<&str>), StoreError> {
        let (url, version) = match path.rsplit_once(VERSION) {
            Some((url, version)) => (url, Some(version)),
            None => (path, None),
        };
        Ok((Self::parse(url)?, version))
    }

    /// How a listing names this and its version.
    pub(crate) fn to_input(&self, version: Option<&str>) -> String {
        match version {
            Some(version) => format!("{self}{VERSION}{version}"),
            None => self.to_string(),
        }
    }

    /// Another path in the same store.
    pub(crate) fn with_path(&self, path: Path) -> Self {
        Self { place: self.place.clone(), path, is_directory: false, text: String::new() }
    }

    /// Something in this directory.
    pub(crate) fn join(&self, name: &str) -> Self {
        let join = |part| {
            if self.path.as_ref().is_empty() { part } else { format!("{}/{part}", self.path) }
        };
        // The names are ours, or from a listing, and have been looked at by then.
        let path = Path::parse(join(name.to_owned())).unwrap_or_else(|_| Path::from(name));
        self.with_path(path)
    }

    pub(crate) fn is_beneath(&self, grant: &Self) -> bool {
        self.place == grant.place && self.path.prefix_matches(&grant.path)
    }

    /// Whether a place of this kind can be written to at all.
    pub(crate) fn check_access(&self, access: Access) -> Result<(), StoreError> {
        match (&self.place, access) {
            (Place::Server(_), Access::Write) => {
                Err(StoreError::ReadOnly { url: self.to_string() })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Bucket(bucket) if self.path.as_ref().is_empty() => write!(f, "s3://{bucket}"),
            Place::Bucket(bucket) => write!(f, "s3://{bucket}/{}", self.path),
            Place::Server(_) => f.write_str(&self.text),
        }
    }
}

/// What a person may see of a URL that is none: no password, and not more than a line.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let after_user = rest.split_once('@').map_or(rest, |(_, host)| host);
    let without_query = after_user.split('?').next().unwrap_or_default();
    let short: String = without_query.chars().take(200).collect();
    format!("{scheme}://{short}").escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn location(url: &str) -> Location {
        Location::parse(url).unwrap()
    }

    #[test]
    fn a_grant_covers_what_begins_with_it_at_a_slash() {
        let grant = location("s3://bucket/data");
        for inside in ["s3://bucket/data", "s3://bucket/data/", "s3://bucket/data/a/b"] {
            assert!(location(inside).is_beneath(&grant), "{inside}");
        }
        for outside in
            ["s3://bucket/database", "s3://bucket", "s3://bucket2/data", "http://bucket/data"]
        {
            assert!(!location(outside).is_beneath(&grant), "{outside}");
        }
        assert!(location("s3://bucket/any").is_beneath(&location("s3://bucket/")));
        assert!(location("http://h:1/a%20b/c").is_beneath(&location("http://H:1/a b")));
        assert!(!location("http://h:2/a").is_beneath(&location("http://h:1/a")));
    }

    #[test]
    fn what_leads_elsewhere_is_no_url() {
        for url in [
            "s3://",
            "s3:///key",
            "s3://bucket/a/../b",
            "s3://bucket/./a",
            "s3://bucket/a//b",
            "s3://b/\n",
            "s3://b%2f/a",
            "s3://user@bucket/a",
            "http://u:p@h/a",
            "http://h/a?b=c",
            "http://h/a/%2e%2e/b",
            "http:///a",
            "ftp://h/a",
            "data/in.txt",
        ] {
            assert!(matches!(Location::parse(url), Err(StoreError::BadUrl { .. })), "{url}");
        }
        let error = Location::parse("http://me:hush@host/a?sig=hush").unwrap_err().to_string();
        assert!(error.contains("host/a") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn a_listed_file_carries_its_version() {
        let file = location("s3://bucket/a#etag=b c");
        let path = file.to_input(Some("\"v1\""));
        let (again, version) = Location::of_input(&path).unwrap();
        assert_eq!((again.path.as_ref(), version), ("a#etag=b c", Some("\"v1\"")));
        assert_eq!(Location::of_input("s3://bucket/a").unwrap().1, None);
    }
}
