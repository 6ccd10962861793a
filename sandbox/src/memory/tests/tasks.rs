//! What tasks write and the reset undoes: which pages are open, and what they hold.

use super::super::heat::CALM_RESETS_MAX;
use super::super::*;
use crate::engine;
use offshoot_proto::id::SnapshotId;
use offshoot_proto::link::{ForkImage, PageChange, PageSource};
use offshoot_proto::snapshot::{PageRun, SnapshotHeader};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use wasmtime::{Instance, Memory, Module, Store};

/// Pages of a wasm page.
const WASM_PAGE: usize = 65_536 / PAGE_BYTES;

struct Slot {
    memory: GuestMemory,
    store: Store<()>,
    linear: Memory,
    /// The snapshot.
    content: Vec<u8>,
    snapshots: u32,
    value: u8,
}

fn page_of(number: usize) -> Vec<u8> {
    vec![number as u8 | 1; PAGE_BYTES]
}

impl Slot {
    /// A slot with a snapshot of so many pages; those of odd number are holes.
    fn new(pages: usize) -> Self {
        let memory = GuestMemory::new().unwrap();
        let engine = engine::runner(memory.creator()).unwrap();
        let text = r#"(module (memory (export "memory") 1))"#;
        let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        let mut content = vec![0; pages * PAGE_BYTES];
        let file = File::from(memory_file("base").unwrap());
        file.set_len(content.len() as u64).unwrap();
        for page in (0..pages).step_by(2) {
            let start = page * PAGE_BYTES;
            content[start..start + PAGE_BYTES].copy_from_slice(&page_of(page));
            file.write_all_at(&page_of(page), start as u64).unwrap();
        }
        memory.apply(&image(0, pages, true, vec![]), vec![file.into()]).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let linear = instance.get_memory(&mut store, "memory").unwrap();
        Self { memory, store, linear, content, snapshots: 0, value: 0 }
    }

    fn pages(&self) -> usize {
        self.content.len() / PAGE_BYTES
    }

    /// A task that writes these pages, and its reset.
    fn task(&mut self, pages: impl IntoIterator<Item = usize>) {
        for page in pages {
            self.value = self.value.wrapping_add(2);
            let at = page * PAGE_BYTES + usize::from(self.value) * 16;
            self.linear.data_mut(&mut self.store)[at] ^= self.value | 1;
        }
        self.check_open();
        self.memory.reset().unwrap();
        self.check_open();
        assert!(self.memory.is_pristine());
        assert!(self.memory.copy_of(self.content.len()) == self.content, "as the snapshot");
    }

    /// The next snapshot, in which these pages have changed.
    fn follow(&mut self, first: usize, count: usize) {
        self.snapshots += 1;
        let bytes = vec![self.snapshots as u8; count * PAGE_BYTES];
        self.content[first * PAGE_BYTES..][..bytes.len()].copy_from_slice(&bytes);
        let run = PageRun { page: first as u32, count: count as u32 };
        let (source, descriptors) = if self.snapshots.is_multiple_of(2) {
            (PageSource::Inline(bytes), vec![])
        } else {
            let file = File::from(memory_file("changes").unwrap());
            file.write_all_at(&bytes, 0).unwrap();
            (PageSource::Descriptor { index: 0, offset: 0 }, vec![file.into()])
        };
        let changes = vec![PageChange { run, source }];
        let next = image(self.snapshots, self.pages(), false, changes);
        self.memory.apply(&next, descriptors).unwrap();
        self.check_open();
        assert!(self.memory.copy_of(self.content.len()) == self.content, "as the snapshot");
    }

    /// Exact dirty set: what is writable is noted, what is noted is writable.
    fn check_open(&self) {
        let mut inner = self.memory.lock();
        let noted: BTreeSet<usize> = if inner.tracker.opened() {
            (0..self.pages()).collect()
        } else {
            let notes = inner.tracker.notes().iter();
            notes.flat_map(|note| note.page..note.page + note.count).map(|p| p as usize).collect()
        };
        assert_eq!(writable(inner.live.base().addr(), self.content.len()), noted);
    }

    fn noted(&self) -> usize {
        self.memory.pages_noted()
    }

    /// Faults of a task that writes these pages.
    fn faults_of(&mut self, pages: impl IntoIterator<Item = usize>) -> usize {
        let before = self.memory.faults();
        self.task(pages);
        self.memory.faults() - before
    }
}

fn image(id: u32, pages: usize, base: bool, changes: Vec<PageChange>) -> ForkImage {
    let header = SnapshotHeader {
        id: SnapshotId(id),
        memory_bytes: (pages * PAGE_BYTES) as u64,
        globals: vec![],
        realtime_nanos: 0,
        monotonic_nanos: 0,
        seed: 0,
        first_free_descriptor: 3,
        runs: vec![],
    };
    ForkImage { header, base, changes }
}

/// The writable pages of a range, as the kernel sees it.
fn writable(base: usize, length: usize) -> BTreeSet<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut pages = BTreeSet::new();
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap_or(usize::MAX);
        let (start, end) = (number(start).max(base), number(end).min(base + length));
        if rest.as_bytes()[1] == b'w' && start < end {
            pages.extend((start - base) / PAGE_BYTES..(end - base) / PAGE_BYTES);
        }
    }
    pages
}

#[test]
fn a_page_that_every_task_writes_faults_twice_and_never_again() {
    let mut slot = Slot::new(64);
    assert_eq!([(); 4].map(|()| slot.faults_of([3, 4])), [2, 2, 0, 0]);
    assert_eq!(slot.noted(), 2);
    // Left alone for long, it is closed; one write alone does not open it for others.
    for _ in 0..CALM_RESETS_MAX {
        slot.task([3]);
    }
    assert_eq!(slot.noted(), 1);
    assert_eq!([(); 3].map(|()| slot.faults_of([3, 4])), [1, 1, 0]);
}

#[test]
fn pages_that_tasks_pick_at_random_do_not_pile_up() {
    let mut slot = Slot::new(4096);
    for task in 0..128 {
        slot.task((0..16).map(|n| (task * 16 + n) * 1277 % 4096).chain([7]));
        assert_eq!(slot.noted(), usize::from(task > 0), "page 7 alone, after task {task}");
    }
}

#[test]
fn no_more_pages_stay_hot_than_are_worth_it() {
    let mut slot = Slot::new(12_288);
    for round in 0..8 {
        // Most of them in windows at first, but each task makes another hundred of them hot.
        slot.task((0..600).map(|n| n * 5));
        assert!(slot.noted() <= 256, "{} after task {round}", slot.noted());
    }
    assert_eq!(slot.noted(), 256);
    // Everywhere: the whole memory is opened, and closed again.
    slot.task(0..12_288);
    assert_eq!(slot.noted(), 0);
}

#[test]
fn the_kernel_may_write_to_more_pages_than_there_are_notes() {
    let mut slot = Slot::new(4096);
    slot.task([3]);
    slot.memory.make_writable(PAGE_BYTES, 3000 * PAGE_BYTES);
    let source = File::from(memory_file("input").unwrap());
    source.write_all_at(&vec![9; 3000 * PAGE_BYTES], 0).unwrap();
    let target = &mut slot.linear.data_mut(&mut slot.store)[PAGE_BYTES..][..3000 * PAGE_BYTES];
    source.read_exact_at(target, 0).unwrap();
    slot.task([]);
}

#[test]
fn the_kernel_may_write_from_the_snapshot_into_a_mapped_block_which_stays_as_it_is() {
    let mut slot = Slot::new(WASM_PAGE);
    slot.linear.grow(&mut slot.store, 1).unwrap();
    let block = File::from(memory_file("block").unwrap());
    block.write_all_at(&[7; WASM_PAGE * PAGE_BYTES], 0).unwrap();
    let end = WASM_PAGE * PAGE_BYTES;
    slot.memory.map_flat(end, &block.try_clone().unwrap().into(), end).unwrap();
    let source = File::from(memory_file("input").unwrap());
    source.write_all_at(&[9; 4 * PAGE_BYTES], 0).unwrap();
    let bytes = end - 2 * PAGE_BYTES..end + 2 * PAGE_BYTES;
    slot.memory.make_writable(bytes.start, bytes.len());
    let target = &mut slot.linear.data_mut(&mut slot.store)[bytes];
    source.read_exact_at(target, 0).unwrap();
    assert_eq!(target, [9; 4 * PAGE_BYTES]);
    let mut kept = vec![0; 4 * PAGE_BYTES];
    block.read_exact_at(&mut kept, 0).unwrap();
    assert_eq!(kept, [7; 4 * PAGE_BYTES]);
    slot.task([]);
}

#[derive(Clone, Debug)]
enum Step {
    /// A task that writes so many pages from a place on, so far apart, and the same one always.
    Task { first: usize, count: usize, step: usize },
    /// A task that writes through the kernel.
    Kernel { first: usize, count: usize },
    /// A task that grows by wasm pages and writes there.
    Grow { count: usize },
    /// Another snapshot.
    Follow { first: usize, count: usize },
}

const PAGES: usize = 1024;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let count = prop_oneof![8 => 1_usize..24, 2 => 100_usize..200, 1 => 600_usize..1000];
    let task = (0..PAGES, count.clone(), 1_usize..30);
    let step = prop_oneof![
        12 => task.prop_map(|(first, count, step)| Step::Task { first, count, step }),
        2 => (0..PAGES, count.clone()).prop_map(|(first, count)| Step::Kernel { first, count }),
        1 => (1_usize..5).prop_map(|count| Step::Grow { count }),
        2 => (0..PAGES, count).prop_map(|(first, count)| Step::Follow { first, count }),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_reset_restores_the_snapshot_whatever_came_before(steps in steps()) {
        let mut slot = Slot::new(PAGES);
        for step in steps {
            match step {
                Step::Task { first, count, step } => {
                    slot.task((0..count).map(|n| (first + n * step) % PAGES).chain([1, 500]));
                }
                Step::Kernel { first, count } => {
                    let bytes = first * PAGE_BYTES..(first + count).min(PAGES) * PAGE_BYTES;
                    slot.memory.make_writable(bytes.start, bytes.len());
                    let zeros = File::open("/dev/zero").unwrap();
                    let target = &mut slot.linear.data_mut(&mut slot.store)[bytes];
                    zeros.read_exact_at(target, 0).unwrap();
                    slot.task([1]);
                }
                Step::Grow { count } => {
                    slot.linear.grow(&mut slot.store, count as u64).unwrap();
                    let grown = PAGES..PAGES + count * WASM_PAGE;
                    slot.task(grown.step_by(3).chain([1]));
                }
                Step::Follow { first, count } => slot.follow(first, count.min(PAGES - first)),
            }
        }
    }
}
