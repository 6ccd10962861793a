//! How much of its worker's disk an application has: a counter, and a bound on it.
//!
//! ```text
//!   an attempt writes    grant, as it asks ──► end ──► release
//!   it is committed      commit(shuffle) ────────────► drop_shuffle
//! ```
//!
//! Slots ask before they write; what they hold unasked is bounded. An executor counts what
//! executors before it have left, and not what others write on the same worker at the same time.

use offshoot_proto::id::NodeId;
use std::collections::BTreeMap;
use thiserror::Error;

const KIB: u64 = 1 << 10;

/// What an attempt is given where there is room, so that it seldom asks.
const GRANT_KIB: u64 = 16 << 10;

/// Bytes of the application on this worker.
#[derive(Debug)]
pub(super) struct AppDisk {
    limit: u64,
    /// Promised to attempts that run.
    granted: u64,
    /// Committed, by the writer of the shuffle.
    committed: BTreeMap<NodeId, u64>,
    committed_bytes: u64,
    most: u64,
}

/// The application would have more than it may.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the application takes too much of this worker's disk: {asked} bytes of shuffle data, spilled \
     runs and output, limit {limit} (raise it with --conf app-disk-max=SIZE, use more workers, or \
     let go of datasets that are kept or shuffled)"
)]
pub(super) struct OverBudget {
    asked: u64,
    limit: u64,
}

// === impl AppDisk ===

impl AppDisk {
    /// With what is there already.
    pub(super) fn new(limit: u64, committed: BTreeMap<NodeId, u64>) -> Self {
        let committed_bytes = committed.values().sum();
        Self { limit, granted: 0, committed, committed_bytes, most: committed_bytes }
    }

    fn used(&self) -> u64 {
        self.granted.saturating_add(self.committed_bytes)
    }

    /// The most that there ever was at once.
    pub(super) fn most(&self) -> u64 {
        self.most
    }

    fn check(&mut self, more: u64) -> Result<(), OverBudget> {
        let asked = self.used().saturating_add(more);
        if asked > self.limit {
            return Err(OverBudget { asked, limit: self.limit });
        }
        self.most = self.most.max(asked);
        Ok(())
    }

    /// For an attempt that is going to write at least so many bytes: how many KiB it may.
    pub(super) fn grant(&mut self, least: u64) -> Result<u32, OverBudget> {
        // More than that is a lie, and more than any limit.
        let least = least.div_ceil(KIB).min(u64::from(u32::MAX));
        let kibibytes = match self.check(GRANT_KIB.max(least) * KIB) {
            Ok(()) => GRANT_KIB.max(least),
            Err(_) => self.check(least * KIB).map(|()| least)?,
        };
        self.granted += kibibytes * KIB;
        Ok(kibibytes as u32)
    }

    /// What was granted is not there any more, or is committed.
    pub(super) fn release(&mut self, bytes: u64) {
        self.granted = self.granted.saturating_sub(bytes);
    }

    /// A map output of this shuffle stays.
    pub(super) fn commit(&mut self, writer: NodeId, bytes: u64) -> Result<(), OverBudget> {
        self.check(bytes)?;
        *self.committed.entry(writer).or_default() += bytes;
        self.committed_bytes += bytes;
        Ok(())
    }

    /// A map output that was committed is gone, or was not written after all.
    pub(super) fn uncommit(&mut self, writer: NodeId, bytes: u64) {
        if let Some(committed) = self.committed.get_mut(&writer) {
            let gone = bytes.min(*committed);
            *committed -= gone;
            self.committed_bytes -= gone;
        }
    }

    /// The shuffle's files are gone.
    pub(super) fn drop_shuffle(&mut self, writer: NodeId) {
        self.committed_bytes -= self.committed.remove(&writer).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{AppDisk, GRANT_KIB, KIB, OverBudget};
    use offshoot_proto::id::NodeId;

    #[test]
    fn what_is_granted_committed_and_dropped() {
        let (one, two) = (NodeId(1), NodeId(2));
        let limit = 100 * KIB;
        let over = |asked| Err(OverBudget { asked, limit });
        let mut disk = AppDisk::new(limit, [(one, 30 * KIB)].into());
        assert_eq!(disk.grant(60 * KIB - 7), Ok(60), "less than is given where there is room");
        assert_eq!(disk.grant(10 * KIB + 1), over(101 * KIB).map(|()| 0));
        disk.release(60 * KIB);
        assert_eq!(disk.commit(two, 50 * KIB), Ok(()));
        assert_eq!(disk.commit(two, 20 * KIB), Ok(()));
        assert_eq!(disk.commit(one, 1), over(limit + 1));
        disk.uncommit(two, 20 * KIB);
        assert_eq!(disk.used(), 80 * KIB);
        disk.drop_shuffle(two);
        disk.uncommit(two, 1);
        disk.drop_shuffle(two);
        assert_eq!(disk.grant(70 * KIB), Ok(70));
        disk.drop_shuffle(one);
        assert_eq!((disk.used(), disk.most()), (70 * KIB, limit));
        assert!(
            AppDisk::new(1 << 40, [].into()).grant(u64::MAX).is_err(),
            "a slot may say anything"
        );
        let mut disk = AppDisk::new(1 << 40, [].into());
        assert_eq!([disk.grant(1), disk.grant(1 << 30)], [Ok(GRANT_KIB as u32), Ok(1 << 20)]);
    }

    #[test]
    fn what_is_said_names_setting_value_and_limit() {
        let text = OverBudget { asked: 101, limit: 100 }.to_string();
        assert!(text.contains("101 bytes") && text.contains("limit 100"), "{text}");
        assert!(text.contains("--conf app-disk-max=SIZE"), "{text}");
    }
}
