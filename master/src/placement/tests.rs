//! Spark standalone's table, and the rule restated one unit at a time.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const GIB: u64 = 1 << 30;

fn offers(sizes: &[(u32, u64)]) -> Vec<Offer> {
    let offer = |(index, (cores, memory_bytes)): (usize, &(u32, u64))| Offer {
        worker: WorkerId(format!("w{index}")),
        cores: *cores,
        memory_bytes: *memory_bytes,
    };
    sizes.iter().enumerate().map(offer).collect()
}

fn request(executor_cores: Option<u32>, total_cores: Option<u32>) -> Request {
    Request {
        task_cores: 1,
        executor_cores,
        executor_memory_bytes: GIB,
        cores_left: total_cores.unwrap_or(u32::MAX),
        executors_left: u32::MAX,
    }
}

fn limited(executor_cores: Option<u32>, executors_left: u32) -> Request {
    Request { executors_left, ..request(executor_cores, None) }
}

fn sharing(sharing: Sharing) -> Rule {
    Rule { sharing, ..Rule::default() }
}

/// `W: CORES CORES` for each worker that gives something, in the order of the plan.
fn shown(grants: &[Grant]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for Grant { worker, cores } in grants {
        let start = format!("{worker}:");
        match lines.last_mut().filter(|line| line.starts_with(&start)) {
            Some(line) => line.push_str(&format!(" {cores}")),
            None => lines.push(format!("{start} {cores}")),
        }
    }
    lines
}

fn assert_plan(request: Request, rule: Rule, sizes: &[(u32, u64)], expected: &[&str]) {
    let found = shown(&plan(&request, rule, offers(sizes)));
    assert_eq!(found, expected, "{request:?} {rule:?} on {sizes:?}");
}

/// Five workers with 8 cores and 16 GiB each.
const FIVE: [(u32, u64); 5] = [(8, 16 * GIB); 5];

const NOTHING: &[&str] = &[];

#[test]
fn the_five_examples() {
    let spread = Rule::default();
    let all = ["w0: 8", "w1: 8", "w2: 8", "w3: 8", "w4: 8"];
    assert_plan(request(None, None), spread, &FIVE, &all);
    assert_plan(request(Some(10), Some(10)), spread, &FIVE, NOTHING);
    assert_plan(request(Some(10), Some(50)), spread, &FIVE, NOTHING);
    assert_plan(request(Some(50), Some(50)), spread, &FIVE, NOTHING);
    assert_plan(request(Some(50), Some(10)), spread, &FIVE, NOTHING);
}

#[test]
fn executors_of_any_size_have_whole_tasks_of_cores() {
    let threes = |total| Request { task_cores: 3, ..request(None, total) };
    let spread = Rule::default();
    assert_plan(threes(None), spread, &[(8, GIB), (2, GIB), (3, GIB)], &["w0: 6", "w2: 3"]);
    assert_plan(threes(Some(11)), spread, &FIVE, &["w0: 3", "w1: 3", "w2: 3"]);
    assert_plan(threes(Some(8)), sharing(Sharing::Consolidate), &FIVE, &["w0: 6"]);
}

#[test]
fn executors_of_one_size() {
    let (spread, consolidate) = (sharing(Sharing::Spread), sharing(Sharing::Consolidate));
    let fours = ["w0: 4 4", "w1: 4 4", "w2: 4 4", "w3: 4 4", "w4: 4 4"];
    assert_plan(request(Some(4), None), spread, &FIVE, &fours);
    assert_plan(request(Some(4), Some(8)), spread, &FIVE, &["w0: 4", "w1: 4"]);
    assert_plan(request(Some(4), Some(8)), consolidate, &FIVE, &["w0: 4 4"]);
    let threes = ["w0: 3 3", "w1: 3 3", "w2: 3 3", "w3: 3 3", "w4: 3 3"];
    assert_plan(request(Some(3), None), spread, &FIVE, &threes);
    assert_plan(request(Some(3), Some(10)), spread, &FIVE, &["w0: 3", "w1: 3", "w2: 3"]);
    assert_plan(request(Some(8), Some(7)), spread, &FIVE, NOTHING);
    // Not 12 cores on each of four workers, which would start nothing (SPARK-8881).
    let four = [(16, 64 * GIB); 4];
    assert_plan(request(Some(16), Some(48)), spread, &four, &["w0: 16", "w1: 16", "w2: 16"]);
}

#[test]
fn executors_of_any_size() {
    let (spread, consolidate) = (sharing(Sharing::Spread), sharing(Sharing::Consolidate));
    let even = ["w0: 3", "w1: 3", "w2: 2", "w3: 2", "w4: 2"];
    assert_plan(request(None, Some(12)), spread, &FIVE, &even);
    assert_plan(request(None, Some(12)), consolidate, &FIVE, &["w0: 8", "w1: 4"]);
    assert_plan(request(None, Some(2)), spread, &FIVE, &["w0: 1", "w1: 1"]);
    // What a small worker cannot give is shared by the rest.
    let uneven = [(8, GIB), (1, GIB), (8, GIB)];
    assert_plan(request(None, Some(9)), spread, &uneven, &["w0: 4", "w2: 4", "w1: 1"]);
}

#[test]
fn a_limit_of_executors() {
    let spread = Rule::default();
    assert_plan(limited(Some(2), 3), spread, &FIVE, &["w0: 2", "w1: 2", "w2: 2"]);
    // It is looked at where an executor is opened, not where it grows (SPARK-30299).
    assert_plan(limited(None, 2), spread, &FIVE, &["w0: 8", "w1: 8"]);
    assert_plan(limited(Some(2), 3), sharing(Sharing::Consolidate), &FIVE, &["w0: 2 2 2"]);
    assert_plan(limited(None, 0), spread, &FIVE, NOTHING);
}

#[test]
fn memory_counts_for_each_executor() {
    let narrow = [(8, GIB), (8, GIB - 1), (8, 3 * GIB)];
    let spread = Rule::default();
    assert_plan(request(Some(2), None), spread, &narrow, &["w0: 2", "w2: 2 2 2"]);
    assert_plan(request(None, None), spread, &narrow, &["w0: 8", "w2: 8"]);
}

#[test]
fn workers_in_the_order_that_is_asked_for() {
    let sizes = [(2, 9 * GIB), (4, 2 * GIB), (3, 5 * GIB)];
    let first = |selection| {
        let rule = Rule { sharing: Sharing::Consolidate, selection };
        shown(&plan(&request(Some(1), Some(1)), rule, offers(&sizes)))
    };
    assert_eq!(first(Selection::CoresFreeDesc), ["w1: 1"]);
    assert_eq!(first(Selection::CoresFreeAsc), ["w0: 1"]);
    assert_eq!(first(Selection::MemoryFreeDesc), ["w0: 1"]);
    assert_eq!(first(Selection::MemoryFreeAsc), ["w1: 1"]);
    assert_eq!(first(Selection::WorkerId), ["w0: 1"]);
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let huge = [(u32::MAX, u64::MAX); 3];
    let grants = plan(&request(None, None), Rule::default(), offers(&huge));
    let cores: u64 = grants.iter().map(|grant| u64::from(grant.cores)).sum();
    assert_eq!(cores, u64::from(u32::MAX));
}

/// One worker while units are dealt out one by one.
struct Hand {
    offer: Offer,
    executors: Vec<u32>,
}

/// The rule as it is written down, unit by unit.
struct Table {
    request: Request,
    hands: Vec<Hand>,
}

impl Table {
    fn new(request: Request, selection: Selection, offers: Vec<Offer>) -> Self {
        let mut hands: Vec<Hand> =
            offers.into_iter().map(|offer| Hand { offer, executors: vec![] }).collect();
        let key = |offer: &Offer| -> i128 {
            let (cores, bytes) = (i128::from(offer.cores), i128::from(offer.memory_bytes));
            match selection {
                Selection::CoresFreeDesc => -cores,
                Selection::CoresFreeAsc => cores,
                Selection::MemoryFreeDesc => -bytes,
                Selection::MemoryFreeAsc => bytes,
                Selection::WorkerId => 0,
            }
        };
        hands.sort_by_key(|hand| (key(&hand.offer), hand.offer.worker.clone()));
        Self { request, hands }
    }

    /// Gives one unit to a worker, if the rule allows that.
    fn deal(&mut self, index: usize) -> bool {
        let Request { executor_cores, task_cores, executor_memory_bytes, .. } = self.request;
        let unit = executor_cores.unwrap_or(task_cores);
        let hand = &mut self.hands[index];
        let opens = executor_cores.is_some() || hand.executors.is_empty();
        let enough = self.request.cores_left >= unit && hand.offer.cores >= unit;
        let may_open =
            hand.offer.memory_bytes >= executor_memory_bytes && self.request.executors_left > 0;
        if !enough || (opens && !may_open) {
            return false;
        }
        if opens {
            hand.executors.push(0);
            hand.offer.memory_bytes -= executor_memory_bytes;
            self.request.executors_left -= 1;
        }
        *hand.executors.last_mut().unwrap() += unit;
        hand.offer.cores -= unit;
        self.request.cores_left -= unit;
        true
    }

    fn play(mut self, sharing: Sharing) -> Vec<Grant> {
        let all = 0..self.hands.len();
        match sharing {
            Sharing::Spread => while all.clone().filter(|index| self.deal(*index)).count() > 0 {},
            Sharing::Consolidate => all.for_each(|index| while self.deal(index) {}),
        }
        let grants = self.hands.into_iter().flat_map(|hand| {
            let worker = hand.offer.worker;
            hand.executors.into_iter().map(move |cores| Grant { worker: worker.clone(), cores })
        });
        grants.collect()
    }
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let sharing = prop_oneof![Just(Sharing::Spread), Just(Sharing::Consolidate)];
    let selection = prop_oneof![
        Just(Selection::CoresFreeDesc),
        Just(Selection::CoresFreeAsc),
        Just(Selection::MemoryFreeDesc),
        Just(Selection::MemoryFreeAsc),
        Just(Selection::WorkerId),
    ];
    (sharing, selection).prop_map(|(sharing, selection)| Rule { sharing, selection })
}

fn any_request() -> impl Strategy<Value = Request> {
    let executor_cores = proptest::option::of(1..10u32);
    let cores_left = prop_oneof![0..80u32, Just(u32::MAX)];
    let executors_left = prop_oneof![0..12u32, Just(u32::MAX)];
    (executor_cores, 1..4u32, 1..5u64, cores_left, executors_left).prop_map(
        |(executor_cores, task_cores, executor_memory_bytes, cores_left, executors_left)| Request {
            executor_cores,
            task_cores,
            executor_memory_bytes,
            cores_left,
            executors_left,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn plans_are_those_of_the_rule_dealt_out_unit_by_unit(
        request in any_request(),
        rule in any_rule(),
        sizes in vec((0..20u32, 0..20u64), 0..9),
    ) {
        let table = Table::new(request, rule.selection, offers(&sizes));
        prop_assert_eq!(plan(&request, rule, offers(&sizes)), table.play(rule.sharing));
    }
}
