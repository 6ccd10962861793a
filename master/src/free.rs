//! What workers have free, in the order in which a rule looks at them.
//!
//! Costs: a change O(log n) of workers. [`Free::fits`] is one step unless many workers have the
//! cores and not the memory; [`Free::offers`] a step a worker that is looked at.

use crate::placement::{Offer, Selection};
use crate::share::{covers, minus, plus};
use offshoot_proto::id::WorkerId;
use offshoot_proto::waiting::Size;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The free cores and memory of all workers that can be given work.
#[derive(Debug)]
pub struct Free {
    selection: Selection,
    workers: BTreeMap<Arc<WorkerId>, Size>,
    /// By the rule's key, then by id.
    order: BTreeSet<(u64, Arc<WorkerId>)>,
    by_cores: BTreeSet<(u32, Arc<WorkerId>)>,
    total: Size,
}

// === impl Free ===

impl Free {
    /// No workers yet; `selection` is the order of [`Self::offers`].
    pub fn new(selection: Selection) -> Self {
        Self {
            selection,
            workers: BTreeMap::new(),
            order: BTreeSet::new(),
            by_cores: BTreeSet::new(),
            total: Size::default(),
        }
    }

    /// What a worker has free from now on; none if it cannot be given work.
    pub fn set(&mut self, worker: &WorkerId, free: Option<Size>) {
        let known = self.workers.get_key_value(worker);
        let name = known.map_or_else(|| Arc::new(worker.clone()), |(name, _)| name.clone());
        if let Some(old) = self.workers.remove(worker) {
            self.order.remove(&(self.selection.key(old), name.clone()));
            self.by_cores.remove(&(old.cores, name.clone()));
            self.total = minus(self.total, old);
        }
        if let Some(free) = free {
            self.order.insert((self.selection.key(free), name.clone()));
            self.by_cores.insert((free.cores, name.clone()));
            self.total = plus(self.total, free);
            self.workers.insert(name, free);
        }
    }

    /// All that is free.
    pub fn total(&self) -> Size {
        self.total
    }

    /// Whether one worker that `may` be used has so much.
    pub fn fits(&self, size: Size, may: impl Fn(&WorkerId) -> bool) -> bool {
        // From the most cores down: where anything fits at all, it mostly fits there.
        let mut roomy = self.by_cores.iter().rev().take_while(|(cores, _)| *cores >= size.cores);
        let free = |name: &Arc<WorkerId>| self.workers.get(name).copied().unwrap_or_default();
        roomy.any(|(_, name)| covers(free(name), size) && may(name))
    }

    /// Every worker in the rule's order.
    pub fn offers(&self) -> impl Iterator<Item = Offer> {
        self.order.iter().map(|(_, name)| {
            let Size { cores, memory_bytes } = self.workers.get(name).copied().unwrap_or_default();
            Offer { worker: (**name).clone(), cores, memory_bytes }
        })
    }
}
