//! Whose turn it is.

use super::*;
use crate::cluster::tests::env::{GIB, app, executor};
use std::sync::Arc;

fn push(launches: &mut Launches, app_id: u64, numbers: std::ops::Range<u32>) {
    let app = Arc::new(app(Some(1), None));
    for number in numbers {
        let executor = executor(app_id, number);
        let order = Order { executor, cores: 1, memory_bytes: GIB, app: app.clone() };
        launches.push(SessionId(1), order);
    }
}

fn next(launches: &mut Launches) -> Vec<(u64, u32)> {
    let next = launches.next().into_iter();
    next.map(|(_, order)| (order.executor.app.0, order.executor.number.0)).collect()
}

#[test]
fn applications_have_their_turn_and_each_its_order() {
    let mut launches = Launches::default();
    push(&mut launches, 10, 0..100_000);
    assert_eq!(next(&mut launches), (0..32).map(|number| (10, number)).collect::<Vec<_>>());
    push(&mut launches, 11, 0..1);
    push(&mut launches, 12, 0..2);
    let first = next(&mut launches);
    assert_eq!(first.len(), 32);
    assert_eq!(first[..6], [(10, 32), (11, 0), (12, 0), (10, 33), (12, 1), (10, 34)]);
    // Who had none left and has some again has a turn as before.
    push(&mut launches, 11, 1..2);
    assert_eq!(next(&mut launches)[..3], [(10, 61), (11, 1), (10, 62)]);
}

#[test]
fn all_come_and_then_none() {
    let mut launches = Launches::default();
    assert!(launches.is_empty());
    for app in 10..50 {
        push(&mut launches, app, 0..7);
    }
    let mut seen = std::collections::BTreeMap::<u64, Vec<u32>>::new();
    while !launches.is_empty() {
        for (app, number) in next(&mut launches) {
            seen.entry(app).or_default().push(number);
        }
    }
    assert_eq!(seen.len(), 40);
    assert!(seen.values().all(|numbers| *numbers == (0..7).collect::<Vec<_>>()));
    assert_eq!(next(&mut launches), []);
    assert!(launches.queues.is_empty(), "nothing is kept of who has none");
}
