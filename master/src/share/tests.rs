//! The division of what is free, against a naive restatement of the rule.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const GIB: u64 = 1 << 30;

fn size(cores: u32, gib: u64) -> Size {
    Size { cores, memory_bytes: gib * GIB }
}

/// What one application has and wants: its tenant, its unit, executors held, units wanted, and
/// whether its executors are of any size.
type Part = (usize, (u32, u64), u32, u32, bool);

/// What so many units are that a pass gives: those of executors of any size take memory once.
fn units(part: &Part, count: u32) -> Size {
    let (cores, gib) = part.1;
    let memory = if part.4 { count.min(1) } else { count };
    size(cores * count, gib * u64::from(memory))
}

/// What an application has that has been given so many units.
fn has(part: &Part, given: u32) -> Size {
    let (cores, gib) = part.1;
    plus(size(cores * part.2, gib * u64::from(part.2)), units(part, given))
}

fn shares(rules: &[TenantRules], parts: &[Part], total: Size) -> Shares {
    let mut shares = Shares::default();
    shares.set_total(total);
    for (index, rules) in rules.iter().enumerate() {
        shares.set_rules(&format!("t{index}"), rules.clone());
    }
    for (index, (tenant, (cores, gib), held, wants, elastic)) in parts.iter().enumerate() {
        let id = AppId(index as u64);
        let unit = Unit { size: size(*cores, *gib), elastic: *elastic };
        shares.add_app(id, &format!("t{}", tenant % rules.len()), unit);
        for _ in 0..*held {
            shares.hold(id, 1, size(*cores, *gib));
        }
        shares.set_wants(id, *wants);
    }
    shares
}

#[test]
fn who_has_far_more_than_there_is_left_can_be_given_the_rest() {
    let mut shares = shares(&[TenantRules::default()], &[(0, (1, 0), 0, 4, false)], size(4, 1));
    // On workers that are to leave, and count for nothing.
    shares.hold(AppId(0), 1, size(1_280_000, 0));
    assert_eq!(allotted(&shares, size(4, 1)), BTreeMap::from([(AppId(0), 4)]));
}

fn allotted(shares: &Shares, free: Size) -> BTreeMap<AppId, u32> {
    let allotted = shares.allot(free, |_, _| true);
    allotted.into_iter().map(|it| (it.app, it.units)).collect()
}

/// One unit at a time, everybody looked at for each.
fn naive(
    rules: &[TenantRules],
    parts: &[Part],
    total: Size,
    mut free: Size,
) -> BTreeMap<AppId, u32> {
    let mut given = BTreeMap::<AppId, u32>::new();
    loop {
        let sum = |tenant: usize, given: &BTreeMap<AppId, u32>| {
            let mine = parts.iter().enumerate().filter(|(_, it)| it.0 % rules.len() == tenant);
            mine.fold((Size::default(), 0), |(used, running), (index, it)| {
                let given = *given.get(&AppId(index as u64)).unwrap_or(&0);
                (plus(used, has(it, given)), running + u32::from(it.2 + given > 0))
            })
        };
        let mut best = None;
        for (index, part) in parts.iter().enumerate() {
            let (id, tenant) = (AppId(index as u64), part.0 % rules.len());
            let got = *given.get(&id).unwrap_or(&0);
            let unit = minus(units(part, got + 1), units(part, got));
            let rules = &rules[tenant];
            let (used, running) = sum(tenant, &given);
            let after = plus(used, unit);
            let may = part.3 > got
                && covers(free, unit)
                && rules.cores_max.is_none_or(|max| after.cores <= max)
                && rules.memory_bytes_max.is_none_or(|max| after.memory_bytes <= max)
                && (part.2 + got > 0 || rules.running_max.is_none_or(|max| running < max));
            if !may {
                continue;
            }
            let guaranteed = is_guaranteed(guarantee(rules, total), used, total);
            let own = match rules.policy {
                TenantPolicy::Fair => Level::new(has(part, got), total, 1),
                TenantPolicy::Fifo => Level::default(),
            };
            let key = (guaranteed, Level::new(used, total, rules.weight), tenant, own, id);
            best = best.into_iter().chain([(key, unit)]).min_by_key(|it| it.0);
        }
        let Some(((.., id), unit)) = best else {
            return given;
        };
        *given.entry(id).or_default() += 1;
        free = minus(free, unit);
    }
}

#[test]
fn three_to_one_and_memory_counts_as_cores_do() {
    let rules = [1, 3].map(|weight| TenantRules { weight, ..TenantRules::default() });
    let parts = [(0, (1, 1), 0, 100, false), (1, (1, 1), 0, 100, false)];
    let shares = self::shares(&rules, &parts, size(8, 8));
    assert_eq!(allotted(&shares, size(8, 8)), BTreeMap::from([(AppId(0), 2), (AppId(1), 6)]));
    // The textbook's case: 9 cores and 18 GiB; tasks of 1 core and 4 GiB, of 3 cores and 1 GiB.
    let rules = [TenantRules::default(), TenantRules::default()];
    let parts = [(0, (1, 4), 0, 100, false), (1, (3, 1), 0, 100, false)];
    let shares = self::shares(&rules, &parts, size(9, 18));
    assert_eq!(allotted(&shares, size(9, 18)), BTreeMap::from([(AppId(0), 3), (AppId(1), 2)]));
}

#[test]
fn what_one_cannot_use_others_get() {
    let rules = [1, 1000].map(|weight| TenantRules { weight, ..TenantRules::default() });
    let parts = [(0, (1, 1), 0, 100, false), (1, (4, 1), 0, 100, false)];
    let shares = self::shares(&rules, &parts, size(8, 8));
    assert_eq!(allotted(&shares, size(3, 8)), BTreeMap::from([(AppId(0), 3)]));
    let nowhere = shares.allot(size(8, 8), |app, _| app == AppId(0));
    assert_eq!(nowhere, [Allotment { app: AppId(0), units: 8 }]);
}

/// Rules whose quotas and guarantees are up to so many cores and GiB.
fn rules(most: u32) -> impl Strategy<Value = TenantRules> {
    let limit = |max| proptest::option::of(0..max);
    let weight = prop_oneof![1..5_u32, Just(1000)];
    let guaranteed = prop_oneof![Just(0), 0..most / 4];
    let policy = prop_oneof![3 => Just(TenantPolicy::Fair), 1 => Just(TenantPolicy::Fifo)];
    let numbers = (weight, policy, limit(most), limit(most), limit(4_u32), guaranteed);
    numbers.prop_map(|(weight, policy, cores_max, memory, running_max, cores_guaranteed)| {
        TenantRules {
            weight,
            policy,
            cores_max,
            memory_bytes_max: memory.map(|gib| u64::from(gib) * GIB),
            running_max,
            cores_guaranteed,
            ..TenantRules::default()
        }
    })
}

/// An application that has up to so many executors and wants up to as many more, or all there is.
fn part(most: u32) -> impl Strategy<Value = Part> {
    let held = prop_oneof![Just(0), 0..most];
    let wants = prop_oneof![0..most, Just(u32::MAX)];
    (0..4_usize, (1..5_u32, 1..5_u64), held, wants, any::<bool>())
}

/// What everybody is given unit by unit, and in rounds where that can be done.
fn both_ways(shares: &Shares, free: Size) -> (BTreeMap<AppId, u32>, Option<BTreeMap<AppId, u32>>) {
    // One in five fits nowhere.
    let fits = |app: AppId, _| app.0 % 5 != 3;
    let map = |given: Vec<Allotment>| given.into_iter().map(|it| (it.app, it.units)).collect();
    let singly = shares.allot_singly(free, fits);
    (map(singly), shares.allot_in_rounds(free, fits).map(map))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_pass_gives_what_one_look_at_everybody_for_each_unit_gives(
        rules in vec(rules(20), 1..4),
        parts in vec(part(4), 1..8),
        free in (0..40_u32, 0..40_u64),
    ) {
        let (total, free) = (size(40, 40), size(free.0, free.1));
        let shares = shares(&rules, &parts, total);
        prop_assert_eq!(allotted(&shares, free), naive(&rules, &parts, total, free));
    }

    #[test]
    fn a_large_pass_gives_what_one_look_at_everybody_for_each_unit_gives(
        rules in vec(rules(300), 1..4),
        parts in vec(part(40), 1..8),
        free in (0..600_u32, 0..600_u64),
    ) {
        let (total, free) = (size(600, 600), size(free.0, free.1));
        let shares = shares(&rules, &parts, total);
        prop_assert_eq!(allotted(&shares, free), naive(&rules, &parts, total, free));
    }

    #[test]
    fn rounds_give_what_units_one_by_one_give(
        rules in vec(rules(5000), 1..5),
        parts in vec(part(400), 1..40),
        free in (1..20_000_u32, 1..20_000_u64),
        all_alike in any::<bool>(),
    ) {
        let (mut rules, mut parts) = (rules, parts);
        if all_alike {
            rules.iter_mut().for_each(|it| *it = TenantRules::default());
            parts.iter_mut().for_each(|it| *it = (it.0, (1, 1), 0, it.3, false));
        }
        let shares = shares(&rules, &parts, size(20_000, 20_000));
        let (singly, in_rounds) = both_ways(&shares, size(free.0, free.1));
        if let Some(in_rounds) = in_rounds {
            prop_assert_eq!(in_rounds, singly);
        } else {
            prop_assert!(!all_alike, "nobody is ahead of anybody for long");
        }
    }

    #[test]
    fn the_queues_are_those_of_books_made_anew(
        rules in vec(rules(20), 1..4),
        parts in vec(part(4), 1..8),
        changes in vec((0..8_u64, 0..4_u8, 0..9_u32), 0..40),
    ) {
        let total = size(40, 40);
        let mut shares = shares(&rules, &parts, total);
        let mut parts = parts;
        for (app, kind, number) in changes {
            let Some(part) = parts.get_mut(app as usize) else { continue };
            let (id, unit) = (AppId(app), size(part.1.0, part.1.1));
            match kind {
                0 => {
                    part.3 = number;
                    shares.set_wants(id, number);
                }
                1 => {
                    part.2 += 1;
                    shares.hold(id, 1, unit);
                }
                2 if part.2 > 0 => {
                    part.2 -= 1;
                    shares.let_go(id, unit, false);
                }
                _ => {
                    shares.set_total(size(1 + number, 40));
                    shares.set_total(total);
                }
            }
        }
        let anew = self::shares(&rules, &parts, total);
        prop_assert_eq!(&shares.queue, &anew.queue);
        prop_assert_eq!(allotted(&shares, total), allotted(&anew, total));
    }
}
