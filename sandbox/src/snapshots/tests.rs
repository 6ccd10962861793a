//! Snapshots against whole copies of the memory.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::memory::{GuestMemory, memory_file};
use offshoot_proto::snapshot::GlobalValue;

fn header(id: u32, pages: usize, runs: Vec<PageRun>) -> SnapshotHeader {
    SnapshotHeader {
        id: SnapshotId(id),
        memory_bytes: (pages * PAGE_BYTES) as u64,
        globals: vec![GlobalValue::I32(1)],
        realtime_nanos: 1,
        monotonic_nanos: 1,
        seed: 1,
        first_free_descriptor: 3,
        runs,
    }
}

/// A small generator, so that a failing seed can be run again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) as usize % limit
    }
}

/// A driver that writes at random, and what its memory was at each snapshot.
fn history(seed: u64, count: u32) -> (SnapshotStore, BTreeMap<SnapshotId, Vec<u8>>) {
    let mut numbers = Numbers(seed);
    let mut memory = vec![0u8; 64 * PAGE_BYTES];
    memory[5 * PAGE_BYTES..9 * PAGE_BYTES].fill(5);
    let file = File::from(memory_file("base").unwrap());
    file.set_len(memory.len() as u64).unwrap();
    file.write_all_at(&memory[5 * PAGE_BYTES..9 * PAGE_BYTES], 5 * PAGE).unwrap();
    let first = header(1, 64, vec![PageRun { page: 5, count: 4 }]);
    let mut store = SnapshotStore::new(first, file.into()).unwrap();
    let mut copies = BTreeMap::from([(SnapshotId(1), memory.clone())]);
    for id in 2..=count {
        if numbers.below(3) == 0 {
            memory.resize(memory.len() + 16 * PAGE_BYTES, 0);
        }
        let mut changed = BTreeSet::new();
        for _ in 0..=numbers.below(4) {
            let pages = memory.len() / PAGE_BYTES;
            let (first, value) = (numbers.below(pages), numbers.below(255) as u8 + 1);
            for page in first..(first + 1 + numbers.below(80)).min(pages) {
                memory[page * PAGE_BYTES..][..PAGE_BYTES].fill(value);
                changed.insert(page as u32);
            }
        }
        let mut runs = Vec::new();
        let mut bytes = Vec::new();
        for page in changed {
            push_page(&mut runs, page);
            bytes.extend_from_slice(&memory[page as usize * PAGE_BYTES..][..PAGE_BYTES]);
        }
        store.push(header(id, memory.len() / PAGE_BYTES, runs), bytes).unwrap();
        copies.insert(SnapshotId(id), memory.clone());
    }
    (store, copies)
}

#[test]
fn a_slot_reaches_any_snapshot_from_any_other() {
    for seed in 0..30 {
        let (store, copies) = history(seed, 8);
        let memory = GuestMemory::new().unwrap();
        let mut numbers = Numbers(seed + 1000);
        let mut mapped = None;
        for _ in 0..20 {
            let to = SnapshotId(1 + numbers.below(8) as u32);
            let (image, descriptors) = store.image(mapped, to).unwrap();
            memory.apply(&image, descriptors).unwrap();
            mapped = Some(to);
            assert!(memory.copy_of(memory.length()) == copies[&to], "seed {seed}, to {to}");
            assert!(memory.is_pristine());
        }
    }
}

#[test]
fn dropping_snapshots_changes_no_other() {
    for seed in 0..30 {
        let (mut store, copies) = history(seed, 8);
        let memory = GuestMemory::new().unwrap();
        let mut numbers = Numbers(seed + 2000);
        let mut mapped = None;
        let mut live: Vec<u32> = (1..=8).collect();
        while live.len() > 1 {
            let gone = live.remove(numbers.below(live.len()));
            store.drop_snapshot(SnapshotId(gone)).unwrap();
            let to = SnapshotId(live[numbers.below(live.len())]);
            let (image, descriptors) = store.image(mapped, to).unwrap();
            memory.apply(&image, descriptors).unwrap();
            mapped = Some(to);
            assert!(memory.copy_of(memory.length()) == copies[&to], "seed {seed}, to {to}");
        }
    }
}

#[test]
fn a_transfer_gives_another_owner_the_same_snapshots() {
    for seed in 0..20 {
        let (store, copies) = history(seed, 6);
        let start = 1 + seed as u32 % 5;
        let whole = store.transfer(SnapshotId(start), None).unwrap();
        let file = File::from(memory_file("received").unwrap());
        file.set_len(whole.header.memory_bytes).unwrap();
        let bytes: Vec<u8> = whole.pieces().flat_map(Result::unwrap).collect();
        let mut at = 0;
        for run in &whole.header.runs {
            let length = run.count as usize * PAGE_BYTES;
            file.write_all_at(&bytes[at..at + length], u64::from(run.page) * PAGE).unwrap();
            at += length;
        }
        let mut other = SnapshotStore::new(whole.header.clone(), file.into()).unwrap();
        for id in start + 1..=6 {
            let delta = store.transfer(SnapshotId(id), Some(SnapshotId(id - 1))).unwrap();
            let bytes: Vec<u8> = delta.pieces().flat_map(Result::unwrap).collect();
            assert_eq!(bytes.len() as u64, delta.bytes());
            other.push(delta.header.clone(), bytes).unwrap();
        }
        let memory = GuestMemory::new().unwrap();
        let mut mapped = None;
        for id in (start..=6).map(SnapshotId) {
            let (image, descriptors) = other.image(mapped, id).unwrap();
            memory.apply(&image, descriptors).unwrap();
            mapped = Some(id);
            assert!(memory.copy_of(memory.length()) == copies[&id], "seed {seed}, {id}");
        }
    }
}

#[test]
fn what_a_driver_touches_after_a_snapshot_does_not_travel() {
    let file = File::from(memory_file("base").unwrap());
    file.set_len(64 * PAGE).unwrap();
    file.write_all_at(&[5; 4 * PAGE_BYTES], 5 * PAGE).unwrap();
    let runs = vec![PageRun { page: 5, count: 4 }];
    let base = file.try_clone().unwrap().into();
    let store = SnapshotStore::new(header(1, 64, runs.clone()), base).unwrap();
    // Through a private mapping, to write a page that was a hole makes a page of zeros here.
    file.write_all_at(&[0; PAGE_BYTES], 30 * PAGE).unwrap();
    let whole = store.transfer(SnapshotId(1), None).unwrap();
    assert_eq!(whole.header.runs, runs);
    assert_eq!(whole.bytes(), 4 * PAGE);
    assert_eq!(store.bytes(), 4 * PAGE);
}

#[test]
fn a_base_that_is_shorter_than_its_header_says_is_refused() {
    let file = File::from(memory_file("base").unwrap());
    file.set_len(16 * PAGE).unwrap();
    let header = header(1, 64, vec![PageRun { page: 5, count: 12 }]);
    let refused = SnapshotStore::new(header, file.into()).unwrap_err().to_string();
    assert_eq!(refused, "snapshot 1 is malformed: it has fewer pages than runs");
}

#[test]
fn what_a_driver_grows_by_counts() {
    let (mut store, _) = history(1, 1);
    let before = store.bytes();
    assert_eq!(before, 4 * PAGE);
    let run = PageRun { page: 64, count: 48 };
    store.push(header(2, 112, vec![run]), vec![1; 48 * PAGE_BYTES]).unwrap();
    assert_eq!(store.bytes(), before + 48 * PAGE);
}

#[test]
fn a_snapshot_that_does_not_follow_is_refused() {
    let (mut store, _) = history(1, 3);
    let error = store.push(header(3, 64, vec![]), vec![]).unwrap_err();
    assert_eq!(error.to_string(), "snapshot 3 is malformed: it does not follow the last one");
    let run = vec![PageRun { page: 1, count: 2 }];
    assert!(store.push(header(4, 64, run), vec![0; PAGE_BYTES]).is_err());
}

#[test]
fn a_difference_is_turned_back_into_the_same_pages() {
    for seed in 0..20 {
        let (mut store, copies) = history(seed, 8);
        for gone in [1, 3, 4] {
            store.drop_snapshot(SnapshotId(gone)).unwrap();
        }
        for (at, to) in
            [(1, 2), (2, 5), (3, 6), (5, 8), (7, 8)].map(|(a, b)| (SnapshotId(a), SnapshotId(b)))
        {
            let transfer = store.transfer(to, Some(at)).unwrap();
            let pages: Vec<u8> = transfer.pieces().flat_map(Result::unwrap).collect();
            let runs = &transfer.header.runs;
            let mut changed = pages.clone();
            assert!(store.difference(at, runs, &mut changed).unwrap());
            let mut expected = Vec::new();
            for page in runs.iter().flat_map(|run| run.page..run.page + run.count) {
                let range = page as usize * PAGE_BYTES..(page as usize + 1) * PAGE_BYTES;
                let before = copies[&at].get(range.clone()).unwrap_or(&[0; PAGE_BYTES]);
                expected.extend(copies[&to][range].iter().zip(before).map(|(a, b)| a ^ b));
            }
            assert!(changed == expected, "seed {seed}, {at} to {to}");
            assert!(store.difference(at, runs, &mut changed).unwrap());
            assert!(changed == pages, "seed {seed}, {at} to {to}");
        }
    }
}

#[test]
fn there_is_no_difference_from_a_snapshot_that_was_merged() {
    let (mut store, _) = history(1, 8);
    for gone in 1..=6 {
        store.drop_snapshot(SnapshotId(gone)).unwrap();
    }
    assert!(!store.difference(SnapshotId(2), &[], &mut []).unwrap());
    assert!(store.difference(SnapshotId(7), &[], &mut []).unwrap());
}
