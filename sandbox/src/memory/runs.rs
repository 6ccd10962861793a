//! Sets of pages as runs, ascending and apart: what lets one system call serve many pages.

use std::ops::Range;

/// A run of pages.
pub(super) type Run = Range<u32>;

/// Puts runs in order and joins those that overlap or touch.
pub(super) fn normalize(runs: &mut Vec<Run>) {
    runs.retain(|run| !run.is_empty());
    runs.sort_unstable_by_key(|run| run.start);
    runs.dedup_by(|next, run| {
        let joined = next.start <= run.end;
        if joined {
            run.end = run.end.max(next.end);
        }
        joined
    });
}

/// Adds to `rest` what is in `runs` and not in `holes`; all of them normal.
pub(super) fn subtract(runs: &[Run], holes: &[Run], rest: &mut Vec<Run>) {
    let mut first = 0;
    for run in runs {
        let mut start = run.start;
        while first < holes.len() && holes[first].end <= run.start {
            first += 1;
        }
        for hole in holes[first..].iter().take_while(|hole| hole.start < run.end) {
            if start < hole.start {
                rest.push(start..hole.start);
            }
            start = start.max(hole.end);
        }
        if start < run.end {
            rest.push(start..run.end);
        }
    }
}

/// Adds to `spans` as few runs as cover `runs` and nothing of `holes`. All are normal and no page
/// is in both.
pub(super) fn cover(runs: &[Run], holes: &[Run], spans: &mut Vec<Run>) {
    let mut next = 0;
    let mut open: Option<Run> = None;
    for run in runs {
        let before = next;
        while next < holes.len() && holes[next].start < run.start {
            next += 1;
        }
        match &mut open {
            Some(span) if before == next => span.end = run.end,
            _ => spans.extend(open.replace(run.clone())),
        }
    }
    spans.extend(open);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn pages(runs: &[Run]) -> BTreeSet<u32> {
        runs.iter().flat_map(Clone::clone).collect()
    }

    fn is_normal(runs: &[Run]) -> bool {
        runs.iter().all(|run| !run.is_empty()) && runs.windows(2).all(|w| w[0].end < w[1].start)
    }

    fn runs() -> impl Strategy<Value = Vec<Run>> {
        prop::collection::vec((0_u32..200, 0_u32..12).prop_map(|(at, count)| at..at + count), 0..20)
    }

    proptest! {
        #[test]
        fn runs_are_sets(mut left in runs(), mut right in runs()) {
            let (before, holes) = (pages(&left), pages(&right));
            normalize(&mut left);
            normalize(&mut right);
            prop_assert!(is_normal(&left));
            prop_assert_eq!(pages(&left), before.clone());
            let mut rest = vec![];
            subtract(&left, &right, &mut rest);
            let expected: BTreeSet<u32> = before.difference(&holes).copied().collect();
            prop_assert_eq!(pages(&rest), expected.clone());
            let mut spans = vec![];
            cover(&rest, &right, &mut spans);
            prop_assert!(pages(&spans).is_superset(&expected));
            prop_assert!(pages(&spans).is_disjoint(&holes));
            // A span less would have to cross a hole.
            for pair in spans.windows(2) {
                prop_assert!((pair[0].end..pair[1].start).any(|page| holes.contains(&page)));
            }
        }
    }
}
