//! How many connections one address or one identity may hold, and how many handshakes run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections (and handshakes) from one address. A machine of many executors, each with a control
/// and a data connection, stays below; a flood does not.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 1024;

/// Connections of one identity. A node holds two to a peer, and two more while it reconnects; a
/// tenant may run several commands at once.
pub const CONNECTIONS_PER_IDENTITY_MAX: usize = 64;

/// Handshakes that may run at once, whoever they are with.
pub(crate) const HANDSHAKES_MAX: usize = 1024;

/// Counts permits per key, at most `max` for each.
#[derive(Debug)]
pub(crate) struct Caps<K: Ord> {
    counts: Mutex<BTreeMap<K, usize>>,
    max: usize,
}

/// One counted thing; gives its place back when dropped.
#[derive(Debug)]
pub(crate) struct Permit<K: Ord + Clone> {
    caps: Arc<Caps<K>>,
    key: K,
}

// === impl Caps ===

impl<K: Ord + Clone> Caps<K> {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { counts: Mutex::default(), max })
    }

    /// A permit for `key`, unless `max` of them are out.
    pub(crate) fn take(self: &Arc<Self>, key: K) -> Option<Permit<K>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&key).copied().unwrap_or(0);
        if count == self.max {
            return None;
        }
        counts.insert(key.clone(), count + 1);
        Some(Permit { caps: self.clone(), key })
    }
}

// === impl Permit ===

impl<K: Ord + Clone> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut counts = self.caps.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_cap_and_forgets_nothing() {
        let caps = Caps::new(2);
        let held = [caps.take('a'), caps.take('a')];
        assert!(held.iter().all(Option::is_some));
        assert!(caps.take('a').is_none());
        assert!(caps.take('b').is_some());
        drop(held);
        assert!(caps.take('a').is_some());
        assert!(caps.counts.lock().is_ok_and(|counts| counts.is_empty()));
    }
}
