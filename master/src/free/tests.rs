//! The order against one that is made anew, whoever comes, goes and is given something.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const SELECTIONS: [Selection; 5] = [
    Selection::CoresFreeDesc,
    Selection::CoresFreeAsc,
    Selection::MemoryFreeDesc,
    Selection::MemoryFreeAsc,
    Selection::WorkerId,
];

/// Workers by id, with what they have free.
#[derive(Default)]
struct World {
    workers: BTreeMap<u16, (Seat, Option<Size>)>,
    next: u32,
}

impl World {
    fn join(&mut self, free: &mut Free, id: u16) {
        if self.workers.contains_key(&id) {
            return;
        }
        let seat = Seat(self.next);
        self.next += 1;
        let before = self.workers.range(..id).next_back().map(|(_, it)| it.0);
        let after = self.workers.range(id..).next().map(|(_, it)| it.0);
        free.join(seat, before, after);
        self.workers.insert(id, (seat, None));
    }

    fn check(&self, free: &mut Free, selection: Selection) {
        if free.is_stale() {
            free.settle(self.workers.values().map(|it| it.0));
        }
        let usable = self.workers.values().filter_map(|(seat, free)| Some((*seat, (*free)?)));
        let mut usable: Vec<_> = usable.collect();
        let total = usable.iter().fold(Size::default(), |sum, (_, free)| plus(sum, *free));
        usable.retain(|(_, free)| free.cores > 0);
        usable.sort_by_key(|(_, free)| selection.key(*free));
        assert_eq!(free.total(), total);
        for asked in [(0, 0), (1, 0), (2, 1), (3, 3), (1, 5), (5, 2)] {
            let asked = Size { cores: asked.0, memory_bytes: asked.1 };
            let enough: Vec<_> =
                usable.iter().copied().filter(|(_, free)| covers(*free, asked)).collect();
            let offers = free.offers(asked).map(|offer| (offer.worker, offer.size()));
            assert_eq!(offers.collect::<Vec<_>>(), enough, "{selection:?} {asked:?}");
            let odd = |seat: Seat| seat.0 % 2 == 1;
            let naive = usable.iter().any(|(seat, free)| covers(*free, asked) && odd(*seat));
            assert_eq!(free.fits(asked, odd), naive, "{asked:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn the_order_is_that_of_all_workers_sorted_anew(
        selection in (0..SELECTIONS.len()).prop_map(|index| SELECTIONS[index]),
        steps in vec((0..6_u8, 0..300_u16, 0..6_u32, 0..6_u64), 1..120),
    ) {
        let (mut world, mut free) = (World::default(), Free::new(selection));
        for (kind, id, cores, memory_bytes) in steps {
            match kind {
                0 | 1 => world.join(&mut free, id),
                2 => {
                    if let Some((seat, _)) = world.workers.remove(&id) {
                        free.leave(seat);
                    }
                }
                _ => {
                    let size = (kind > 3).then_some(Size { cores, memory_bytes });
                    let all = world.workers.range_mut(id..).take(usize::from(kind));
                    free.set_all(all.map(|(_, it)| {
                        it.1 = size;
                        (it.0, size)
                    }));
                }
            }
            world.check(&mut free, selection);
        }
    }

    #[test]
    fn workers_may_come_in_any_order(start in 0..3_usize, count in 1..400_u16) {
        let (mut world, mut free) = (World::default(), Free::new(Selection::WorkerId));
        for index in 0..count {
            let id = match start {
                0 => index,
                1 => 1000 - index,
                _ => 1000 + (index % 2) * index,
            };
            world.join(&mut free, id);
            let seat = world.workers[&id].0;
            let size = Size { cores: 1, memory_bytes: 1 };
            free.set(seat, Some(size));
            world.workers.insert(id, (seat, Some(size)));
        }
        world.check(&mut free, Selection::WorkerId);
    }
}
