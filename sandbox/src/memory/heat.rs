//! Which written pages stay writable from task to task: those that nearly every task writes.
//!
//! A *hot* page costs a comparison or a copy at every reset, whether a task wrote it or not. A
//! *cold* one costs its writer a fault and the reset a return of the page: about as much as
//! keeping it hot for [`CALM_RESETS_MAX`] resets. So a page is kept once it was written twice
//! within [`RECENT_RESETS`] and given back after it was left alone for [`CALM_RESETS_MAX`]; pages
//! that tasks pick at random stay cold, and the stack is hot from the second task on.

/// A hot page that so many resets in a row found unchanged is cold again.
pub(super) const CALM_RESETS_MAX: u32 = 64;

/// A cold page becomes hot if the task that wrote it before is at most so many resets ago.
const RECENT_RESETS: u32 = 16;

/// Places for the last writes of cold pages, found by page number: some tasks of a few hundred
/// pages each. Pages that share one forget each other, which costs a fault more.
const PLACES: usize = 4096;

/// The last writes of cold pages.
#[derive(Debug)]
pub(super) struct Heat {
    resets: u32,
    written: Box<[Written]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Written {
    page: u32,
    /// The number of the reset that found it; 0 for no page.
    reset: u32,
}

// === impl Heat ===

impl Heat {
    pub(super) fn new() -> Self {
        Self { resets: 0, written: vec![Written::default(); PLACES].into() }
    }

    /// Another task has ended.
    pub(super) fn next_reset(&mut self) {
        self.resets = self.resets.wrapping_add(1).max(1);
    }

    /// The task that has just ended wrote this cold page; whether it is hot from now on.
    pub(super) fn grows_hot(&mut self, page: u32) -> bool {
        let now = Written { page, reset: self.resets };
        let before = std::mem::replace(&mut self.written[page as usize % PLACES], now);
        let age = self.resets.wrapping_sub(before.reset);
        before.reset != 0 && before.page == page && age <= RECENT_RESETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the last of these resets, all of which find the page written, makes it hot.
    fn hot_after(resets: &[u32]) -> bool {
        let mut heat = Heat::new();
        let mut hot = false;
        for reset in 1..=*resets.last().expect("one at least") {
            heat.next_reset();
            if resets.contains(&reset) {
                hot = heat.grows_hot(7);
            }
        }
        hot
    }

    #[test]
    fn two_writes_close_together_make_a_page_hot() {
        assert!(!hot_after(&[1]));
        assert!(hot_after(&[1, 2]));
        assert!(hot_after(&[1, 1 + RECENT_RESETS]));
        assert!(!hot_after(&[1, 2 + RECENT_RESETS]));
        assert!(hot_after(&[1, 2 + RECENT_RESETS, 3 + RECENT_RESETS]));
    }

    #[test]
    fn pages_that_share_a_place_are_not_taken_for_each_other() {
        let mut heat = Heat::new();
        heat.next_reset();
        assert!(!heat.grows_hot(0), "an empty place is no write of page 0");
        assert!(!heat.grows_hot(PLACES as u32));
        heat.next_reset();
        assert!(!heat.grows_hot(0));
    }
}
