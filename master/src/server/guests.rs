//! Which tenants get a connection at all.

use crate::cluster::Tenants;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

/// The names of the tenants that are let in: written by the core, read at each handshake.
#[derive(Clone, Debug, Default)]
pub(super) struct Guests(Arc<RwLock<BTreeSet<String>>>);

// === impl Guests ===

impl Guests {
    /// These and no others from now on.
    pub(super) fn set(&self, tenants: &Tenants) {
        let names = tenants.rules().map(|(name, _)| name.to_owned()).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}
