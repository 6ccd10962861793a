//! Inputs and outputs that are no files of this machine: `s3://bucket/key`, and, to read from,
//! `http(s)://host/path`.
//!
//! ```text
//!   driver:   list_inputs ─► InputFile { path: "s3://bucket/key#etag=VERSION", .. }
//!   executor: open_input  ─► Input: one get, pulled as its task reads; another version is an error
//!
//!   driver:   Output::begin ─► claims <out>, which must be empty
//!   executor: upload ─► a multipart upload, whole and not completed: nobody can see it
//!   driver:   Output::commit ─► <out>/_commits/<key>.json, put if absent: the moment of the commit
//!                               completes each upload, then <out>/_SUCCESS
//! ```
//!
//! Local paths stay files and descriptors (`offshoot_sandbox::broker`) and are not known here.
//! Whoever calls has no credential in hand: [`RemoteFiles`] keeps them and prints none.
#![forbid(unsafe_code)]

mod error;
mod input;
mod listing;
mod location;
mod manifest;
mod output;
mod ports;
#[cfg(test)]
mod tests;
mod upload;

pub use error::StoreError;
pub use input::Input;
pub use output::Output;
pub use ports::{Place, Store, Stores, SystemStores};

use location::Location;
use offshoot_proto::grants::{Access, Grants, is_remote};
use offshoot_proto::store::StoreOptions;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

/// What one application may reach in stores, and how.
#[derive(Clone)]
pub struct RemoteFiles {
    shared: Arc<Shared>,
}

struct Shared {
    stores: Arc<dyn Stores>,
    options: StoreOptions,
    read: Vec<Location>,
    write: Vec<Location>,
    /// Each keeps its connections.
    opened: Mutex<BTreeMap<Place, Store>>,
    uploads: upload::InFlight,
}

// === impl RemoteFiles ===

impl RemoteFiles {
    /// For an application; connects to nothing. Grants of local paths are left out.
    pub fn new(stores: Arc<dyn Stores>, grants: &Grants, options: StoreOptions) -> Self {
        let locations = |grants: &[offshoot_proto::grants::PathGrant]| {
            let remote = grants.iter().filter(|grant| is_remote(&grant.guest));
            // One that is none grants nothing; `submit` has refused it.
            remote.filter_map(|grant| Location::parse(&grant.guest).ok()).collect()
        };
        Self {
            shared: Arc::new(Shared {
                stores,
                options,
                read: locations(&grants.read),
                write: locations(&grants.write),
                opened: Mutex::default(),
                uploads: upload::InFlight::default(),
            }),
        }
    }

    /// Whether the application was granted what it asks for.
    fn check(&self, location: &Location, access: Access) -> Result<(), StoreError> {
        let readable = match access {
            Access::Read => self.shared.read.as_slice(),
            Access::Write => &[],
        };
        let mut granted = self.shared.write.iter().chain(readable);
        if granted.any(|grant| location.is_beneath(grant)) {
            return Ok(());
        }
        Err(StoreError::NotGranted { access, url: location.to_string() })
    }

    /// The client for a store; the same one each time.
    fn store(&self, location: &Location) -> Result<Store, StoreError> {
        let mut opened = self.shared.opened.lock().expect("no holder of the lock panics");
        if let Some(store) = opened.get(&location.place) {
            return Ok(store.clone());
        }
        let failed = |error| StoreError::failed(location.to_string(), "connecting", &error);
        let store =
            self.shared.stores.open(&location.place, &self.shared.options).map_err(failed)?;
        opened.insert(location.place.clone(), store.clone());
        Ok(store)
    }
}

/// Says of a URL that is to be granted why it is none.
///
/// # Errors
/// What is wrong with it; that an HTTP server is not written to.
pub fn check_grant(url: &str, access: Access) -> Result<(), StoreError> {
    Location::parse(url)?.check_access(access)
}

impl fmt::Debug for RemoteFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { read, write, .. } = &*self.shared;
        f.debug_struct("RemoteFiles").field("read", read).field("write", write).finish()
    }
}
