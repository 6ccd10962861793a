//! Log lines that a peer can cause, at a bounded rate.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Lines in one [`PERIOD`]: enough to see what is wrong, too few to fill a disk.
const LINES_MAX: u32 = 10;

const PERIOD: Duration = Duration::from_secs(1);

/// Counts lines, and those that were left out.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

// === impl Complaints ===

impl Complaints {
    /// Writes a warning, unless too many have been written.
    pub(crate) fn warn(&self, line: fmt::Arguments<'_>) {
        match self.admit(Instant::now()) {
            Some(0) => tracing::warn!("{line}"),
            Some(left_out) => tracing::warn!("{line} ({left_out} such lines were left out)"),
            None => {}
        }
    }

    /// How many lines were left out before this one; `None` if this one is left out too.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |since: Instant| now.duration_since(since) >= PERIOD;
        if counts.since.is_none_or(over) {
            counts.since = Some(now);
            counts.lines = 0;
        }
        if counts.lines == LINES_MAX {
            counts.left_out += 1;
            return None;
        }
        counts.lines += 1;
        Some(std::mem::take(&mut counts.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_with_the_next_line() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let admitted = (0..25).filter_map(|_| complaints.admit(start)).count();
        assert_eq!(admitted, LINES_MAX as usize);
        assert_eq!(complaints.admit(start + PERIOD), Some(15));
        assert_eq!(complaints.admit(start + PERIOD), Some(0));
    }
}
