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
pub(super) struct Complaints(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

// === impl Complaints ===

impl Complaints {
    /// Writes a warning, unless too many have been written.
    pub(super) fn warn(&self, line: fmt::Arguments<'_>) {
        match self.count(Instant::now()) {
            Some(0) => tracing::warn!("{line}"),
            Some(left_out) => tracing::warn!("{line} ({left_out} more lines were left out)"),
            None => {}
        }
    }

    /// How many lines were left out before this one; `None` if this one is left out, too.
    fn count(&self, now: Instant) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.since.is_none_or(|since| now.duration_since(since) >= PERIOD) {
            (counts.since, counts.lines) = (Some(now), 0);
        }
        if counts.lines >= LINES_MAX {
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
    fn lines_over_the_rate_are_counted_and_the_next_says_how_many() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let counts: Vec<_> = (0..12).map(|_| complaints.count(start)).collect();
        assert_eq!(counts[..10], [Some(0); 10]);
        assert_eq!(counts[10..], [None, None]);
        assert_eq!(complaints.count(start + PERIOD), Some(2));
        assert_eq!(complaints.count(start + PERIOD), Some(0));
    }
}
