//! Log lines that a peer can cause, at a bounded rate.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Lines in one [`PERIOD`]; enough to see what is wrong, too few to fill a disk.
const LINES_MAX: u32 = 10;

const PERIOD: Duration = Duration::from_secs(1);

/// Writes warnings, and counts those that were too many: ten a second for what shares one of these.
#[derive(Debug, Default)]
pub struct Complaints(Mutex<Period>);

#[derive(Debug, Default)]
struct Period {
    start: Option<Instant>,
    lines: u32,
    left_out: u64,
}

// === impl Complaints ===

impl Complaints {
    /// Writes a warning, unless too many have been written in this second; the next one that is
    /// written says how many were left out.
    pub fn warn(&self, line: fmt::Arguments<'_>) {
        match self.admit(Instant::now()) {
            Some(0) => tracing::warn!("{line}"),
            Some(left_out) => tracing::warn!("{line} ({left_out} such lines were left out)"),
            None => {}
        }
    }

    /// How many lines were left out before this one, or `None` if this one is left out too.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let current = period.start.is_some_and(|start| now.duration_since(start) < PERIOD);
        if !current {
            period.start = Some(now);
            period.lines = 0;
        }
        if period.lines == LINES_MAX {
            period.left_out += 1;
            return None;
        }
        period.lines += 1;
        Some(std::mem::take(&mut period.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_rate_are_counted_and_told_later() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let admitted: Vec<_> = (0..13).map(|_| complaints.admit(start)).collect();
        assert_eq!(admitted[..10], [Some(0); 10]);
        assert_eq!(admitted[10..], [None; 3]);
        assert_eq!(complaints.admit(start + PERIOD), Some(3));
        assert_eq!(complaints.admit(start + PERIOD), Some(0));
    }
}
