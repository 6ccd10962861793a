//! How many runs there may be at once: they are counted like digits.
//!
//! When as many runs of one level follow each other as are merged at once, they become one of the
//! next level. So a record is written again once for each level, few files are open at the end,
//! and the runs stay in the order in which they were begun.

use super::runs::BUFFER_BYTES;

/// Fewest and most runs that are merged at once.
const FAN_IN: (usize, usize) = (8, 256);

/// The runs of one table by number, each with its level.
pub(super) struct Levels {
    runs: Vec<(u32, u32)>,
    fan_in: usize,
}

// === impl Levels ===

impl Levels {
    /// With so many bytes for the buffers of the runs that are merged at once.
    pub(super) fn new(merge_bytes: usize) -> Self {
        Self { runs: Vec::new(), fan_in: (merge_bytes / BUFFER_BYTES).clamp(FAN_IN.0, FAN_IN.1) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The numbers of all runs, in order.
    pub(super) fn numbers(&self) -> Vec<u32> {
        self.runs.iter().map(|(_, number)| *number).collect()
    }

    /// Adds a run behind the others; then `merge` makes one of several, as long as it is due.
    pub(super) fn add(&mut self, number: u32, mut merge: impl FnMut(&[u32]) -> Option<u32>) {
        self.runs.push((0, number));
        while let Some(level) = self.due() {
            let tail = self.runs.split_off(self.runs.len() - self.fan_in);
            let tail: Vec<u32> = tail.into_iter().map(|(_, number)| number).collect();
            self.runs.extend(merge(&tail).map(|merged| (level + 1, merged)));
        }
    }

    /// The level of the last runs, if there are enough to be merged.
    fn due(&self) -> Option<u32> {
        let level = self.runs.last()?.0;
        let same = self.runs.iter().rev().take_while(|run| run.0 == level).count();
        (same >= self.fan_in).then_some(level)
    }
}

#[cfg(test)]
mod tests {
    use super::Levels;

    #[test]
    fn runs_are_few_and_in_order() {
        let mut levels = Levels::new(0);
        // What each run holds.
        let mut held: Vec<Vec<u32>> = Vec::new();
        let mut written = 0;
        for item in 0..1000 {
            held.push(vec![item]);
            levels.add(held.len() as u32 - 1, |tail| {
                let merged = tail.iter().flat_map(|run| held[*run as usize].clone()).collect();
                held.push(merged);
                written += held[held.len() - 1].len();
                Some(held.len() as u32 - 1)
            });
            assert!(levels.numbers().len() <= 7 * 4);
        }
        let all = levels.numbers().into_iter().flat_map(|run| held[run as usize].clone());
        assert!(all.eq(0..1000));
        assert!(written < 3 * 1000, "each item was written again {} times", written / 1000);
    }
}
