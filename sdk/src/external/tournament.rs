//! Which of several sorted sources is next: a binary heap of their numbers.
//!
//! The items stay with the sources, so that they may be lent; the order is given with each call.

/// The numbers of the sources that are not at their end, the one with the least item first.
pub(crate) struct Tournament(Vec<u32>);

// === impl Tournament ===

impl Tournament {
    /// `less(a, b)`: the item of `a` comes before that of `b`; items that are equal come in the
    /// order of their sources, which `less` sees to.
    pub(crate) fn new(
        sources: impl IntoIterator<Item = u32>,
        less: impl Fn(u32, u32) -> bool,
    ) -> Self {
        let mut heap = Self(sources.into_iter().collect());
        for place in (0..heap.0.len() / 2).rev() {
            heap.sink(place, &less);
        }
        heap
    }

    /// The source with the least item.
    #[inline]
    pub(crate) fn least(&self) -> Option<u32> {
        self.0.first().copied()
    }

    /// The source that was the least has gone to its next item.
    #[inline]
    pub(crate) fn moved(&mut self, less: impl Fn(u32, u32) -> bool) {
        self.sink(0, &less);
    }

    /// The source that was the least is at its end.
    pub(crate) fn ended(&mut self, less: impl Fn(u32, u32) -> bool) {
        if !self.0.is_empty() {
            self.0.swap_remove(0);
            self.sink(0, &less);
        }
    }

    fn sink(&mut self, mut place: usize, less: &impl Fn(u32, u32) -> bool) {
        loop {
            let mut child = 2 * place + 1;
            if child >= self.0.len() {
                return;
            }
            if child + 1 < self.0.len() && less(self.0[child + 1], self.0[child]) {
                child += 1;
            }
            if !less(self.0[child], self.0[place]) {
                return;
            }
            self.0.swap(child, place);
            place = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tournament;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn merging_sorted_lists_sorts_stably(
            mut lists in proptest::collection::vec(proptest::collection::vec(0u8..9, 0..20), 0..9),
        ) {
            lists.iter_mut().for_each(|list| list.sort());
            let mut expected: Vec<(u8, u32)> = (0..)
                .zip(&lists)
                .flat_map(|(source, list)| list.iter().map(move |item| (*item, source)))
                .collect();
            expected.sort();
            let mut places = vec![0; lists.len()];
            let full = (0..lists.len() as u32).filter(|source| !lists[*source as usize].is_empty());
            let item = |places: &[usize], source: u32| {
                (lists[source as usize][places[source as usize]], source)
            };
            let mut heap = Tournament::new(full, |a, b| item(&places, a) < item(&places, b));
            let mut merged = Vec::new();
            while let Some(source) = heap.least() {
                merged.push(item(&places, source));
                places[source as usize] += 1;
                if places[source as usize] < lists[source as usize].len() {
                    heap.moved(|a, b| item(&places, a) < item(&places, b));
                } else {
                    heap.ended(|a, b| item(&places, a) < item(&places, b));
                }
            }
            prop_assert_eq!(merged, expected);
        }
    }
}
